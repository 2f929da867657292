package stllm

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// Two heaps of looked-at voxels among many that are not: two regions, each at its heap's centre of weight, with its spread.
func TestRegions(t *testing.T) {
	m := &mapFeatures{size: 0.1, min: [3]int64{-5, 0, 2}}
	var weights []float32
	for x := range int32(60) {
		w := float32(0)
		switch x {
		case 9, 11:
			w = 0.1
		case 10:
			w = 0.2
		case 50:
			w = 0.6
		}
		m.coords = append(m.coords, x, 0, 0)
		weights = append(weights, w)
	}
	got := regions(weights, m, topRegions)
	if len(got) != 2 {
		t.Fatalf("%+v, expected two regions", got)
	}
	for i, want := range []struct {
		voxel          int
		weight, radius float64
	}{{50, 0.6, 0}, {10, 0.4, 0.05}} {
		x, y, z := m.place(want.voxel)
		r := got[i]
		if math.Hypot(math.Hypot(r.X-x, r.Y-y), r.Z-z) > 1e-6 || math.Abs(r.Weight-want.weight) > 1e-6 || math.Abs(r.Radius-want.radius) > 1e-6 {
			t.Errorf("region %d is %+v, expected weight %g and radius %g at %g %g %g", i, r, want.weight, want.radius, x, y, z)
		}
	}
	if got := regions(make([]float32, 60), m, topRegions); len(got) != 0 {
		t.Errorf("%+v of a map that nothing looked at", got)
	}
}

// Without evidence nothing is made for it: no session, no weights. With it the answer is the same, shares are falling and at
// most one together, and places lie in the map.
func TestGoldenEvidence(t *testing.T) {
	n := golden(t)
	for i, c := range goldenCases(t) {
		x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
		req := request(t, n, c, x)
		req.Decoding.MaxNewTokens = 8
		plain, err := n.Answer(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain.Evidence != nil || i == 0 && n.looker != nil {
			t.Errorf("%s: evidence was made unasked", c.Name)
		}
		req.Evidence = true
		ans, err := n.Answer(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ans.Text != plain.Text {
			t.Errorf("%s: %q with evidence, %q without", c.Name, ans.Text, plain.Text)
		}
		sum, last := 0.0, 1.0
		for _, f := range ans.Evidence.Frames {
			if f.Index < 0 || f.Index >= len(req.Frames) || f.Weight < 0 || f.Weight > last+1e-9 {
				t.Errorf("%s: frame %+v after %g", c.Name, f, last)
			}
			sum, last = sum+f.Weight, f.Weight
		}
		if len(req.Frames) <= topFrames && math.Abs(sum-1) > 1e-6 || sum > 1+1e-6 {
			t.Errorf("%s: weights of frames sum to %g", c.Name, sum)
		}
		places, sum := req.Map.(*mapFeatures), 0.0
		low, high := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}, [3]float64{math.Inf(-1), math.Inf(-1), math.Inf(-1)}
		for v := range places.Voxels() {
			px, py, pz := places.place(v)
			for a, p := range [3]float64{px, py, pz} {
				low[a], high[a] = min(low[a], p), max(high[a], p)
			}
		}
		for _, r := range ans.Evidence.Regions {
			for a, p := range [3]float64{r.X, r.Y, r.Z} {
				if p < low[a]-1e-6 || p > high[a]+1e-6 {
					t.Errorf("%s: region %+v is outside of the map", c.Name, r)
				}
			}
			if r.Radius < 0 || r.Radius > 2*regionSize || !(r.Weight > 0) {
				t.Errorf("%s: region %+v", c.Name, r)
			}
			sum += r.Weight
		}
		if sum > 1+1e-6 {
			t.Errorf("%s: weights of regions sum to %g", c.Name, sum)
		}
	}
}

// A word that looks at one place stands before those that look everywhere, two words that look at one place give one region,
// and the shares are of all that a word looked at; rows before the words do not count.
func TestWordRegions(t *testing.T) {
	m := &mapFeatures{size: 1}
	for x := range int32(3) {
		m.coords = append(m.coords, x, 0, 0)
	}
	last := []float32{
		0, 0, 2, 0, // a latent query
		0.8, 0, 0.4, 0.8, // of two heads
		0, 1.8, 0, 0.2,
		0.2, 1.2, 0.2, 0.4,
		0.6, 0.5, 0.5, 0.4,
		0, 0, 0, 2,
	}
	for name, c := range map[string]struct {
		memory, words int
		at            []int // voxels of the regions; nil with no shares: an error
		shares        []float64
	}{
		"five words":  {4, 5, []int{1, 0}, []float64{0.9, 0.4}},
		"two words":   {4, 2, []int{0}, []float64{0.3}},
		"no words":    {4, 0, nil, []float64{}},
		"more words":  {4, 7, nil, nil},
		"other rows":  {5, 3, nil, nil},
		"no memory":   {0, 3, nil, nil},
		"more voxels": {2, 3, nil, nil},
	} {
		got, err := wordRegions(last, c.memory, c.words, m)
		if (err != nil) != (c.shares == nil) || len(got) != len(c.at) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		for i, r := range got {
			x, y, z := m.place(c.at[i])
			if math.Abs(r.X-x)+math.Abs(r.Y-y)+math.Abs(r.Z-z) > 1e-6 || math.Abs(r.Weight-c.shares[i]) > 1e-6 {
				t.Errorf("%s: region %d is %+v, expected %g at voxel %d", name, i, r, c.shares[i], c.at[i])
			}
		}
	}
}
