package points

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func TestGoldenSets(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "encoder_*.safetensors") {
		t.Run(name(path), func(t *testing.T) {
			x, meta := testdata.Tensors(t, path)
			xyz := x["xyz"].Float32s()
			var features []float32
			if f, ok := x["features"]; ok {
				features = f.Float32s()
			} else {
				var normals []float32
				nh := x["normals_height"].Float32s()
				for i := 0; i < len(nh); i += 4 {
					normals = append(normals, nh[i:i+3]...)
				}
				var err error
				if features, err = ColorNormalHeight(xyz, x["colors"].Data, normals, 0); err != nil {
					t.Fatal(err)
				}
				for i := 3; i < len(nh); i += 4 {
					features[i/4*EncoderFeatures+6] = nh[i]
				}
			}
			c := PublishedSets()
			c.Tokens, _ = strconv.Atoi(meta["npoint"])
			c.Kept = c.Tokens / 2
			s, err := NewSets(xyz, features, EncoderFeatures, c)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "fps1", s.KeptOf, x["fps1"].Int32s())
			equal(t, "out_xyz", s.KeptXYZ, x["out_xyz"].Float32s())
			if len(s.Groups) != c.Tokens*c.Samples*10 || len(s.Local) != c.Kept*c.Samples2*3 || len(s.Masks) != 3 {
				t.Errorf("%d numbers of groups, %d of places, %d masks", len(s.Groups), len(s.Local), len(s.Masks))
			}
			for i := 0; i < len(s.Groups); i += 10 {
				if r := squared(s.Groups[i], s.Groups[i+1], s.Groups[i+2]); r > 1.0001 {
					t.Fatalf("a grouped point is %g radii from its centre", math.Sqrt(float64(r)))
				}
			}
		})
	}
}

func TestFloorIsNumpysPercentile(t *testing.T) {
	var xyz []float32
	for i := range 201 { // z = 0, 0.5, … 100, shuffled by a step that covers all
		xyz = append(xyz, 0, 0, float32(i*77%201)/2)
	}
	if got := Floor(xyz); math.Abs(got-0.99) > 1e-9 { // rank 1.98 of 200
		t.Errorf("floor is %g, expected 0.99", got)
	}
	if got := Floor([]float32{1, 2, 3}); got != 3 {
		t.Errorf("floor of one point is %g, expected 3", got)
	}
}

func TestSample(t *testing.T) {
	for _, c := range [][2]int{{10, 3}, {10, 10}, {3, 10}, {1, 1}, {1000, 400}} {
		a, err := Sample(c[0], c[1], 5)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := Sample(c[0], c[1], 5)
		if !slices.Equal(a, b) || len(a) != c[1] || !slices.IsSorted(a) || a[0] < 0 || int(a[len(a)-1]) >= c[0] {
			t.Errorf("%d of %d: %v", c[1], c[0], a)
		}
		if distinct := len(slices.Compact(slices.Clone(a))); distinct != min(c[0], c[1]) {
			t.Errorf("%d of %d: %d distinct", c[1], c[0], distinct)
		}
	}
	if _, err := Sample(0, 1, 1); err == nil {
		t.Error("one of no points was accepted")
	}
}

func TestNormalsOfARoom(t *testing.T) {
	xyz := room32(60000)
	query := slices.Clone(xyz[:3*2000])
	normals, err := Normals(xyz, query, 0.12, [3]float64{3, 2.5, 1.5})
	if err != nil {
		t.Fatal(err)
	}
	good, inner := 0, 0
	for i := range 2000 {
		p, n := query[3*i:3*i+3], normals[3*i:3*i+3]
		var want [3]float32
		margin := float32(0.15)
		near := func(v, size float32) bool { return v > margin && v < size-margin }
		switch { // only points well inside one wall
		case (p[0] == 0 || p[0] == 6) && near(p[1], 5) && near(p[2], 3):
			want[0] = 1 - 2*p[0]/6
		case (p[1] == 0 || p[1] == 5) && near(p[0], 6) && near(p[2], 3):
			want[1] = 1 - 2*p[1]/5
		case (p[2] == 0 || p[2] == 3) && near(p[0], 6) && near(p[1], 5):
			want[2] = 1 - 2*p[2]/3
		default:
			continue
		}
		inner++
		if n[0]*want[0]+n[1]*want[1]+n[2]*want[2] > 0.999 {
			good++
		}
	}
	if inner < 500 || good != inner {
		t.Errorf("%d of %d normals are right", good, inner)
	}
	line := []float32{0, 0, 0, 0.01, 0, 0, 0.02, 0, 0, 0.03, 0, 0}
	if n, err := Normals(line, line, 1, [3]float64{}); err != nil || n[0] != 0 || n[1] != 0 || n[2] != 0 {
		t.Errorf("normal of a line is %v (%v), expected 0", n[:3], err)
	}
}

func TestLeastSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 0))
	for range 500 {
		// A matrix with known eigenvectors: a random frame.
		var b [3][3]float64
		for k := range b {
			for j := range b[k] {
				b[k][j] = r.NormFloat64()
			}
			for j := range k {
				d := b[k][0]*b[j][0] + b[k][1]*b[j][1] + b[k][2]*b[j][2]
				for i := range 3 {
					b[k][i] -= d * b[j][i]
				}
			}
			n := math.Sqrt(b[k][0]*b[k][0] + b[k][1]*b[k][1] + b[k][2]*b[k][2])
			for i := range 3 {
				b[k][i] /= n
			}
		}
		values := [3]float64{1 + r.Float64(), 0.1 * r.Float64(), 0.5 + 0.4*r.Float64()}
		var a [3][3]float64
		for i := range 3 {
			for j := range 3 {
				for k := range 3 {
					a[i][j] += values[k] * b[k][i] * b[k][j]
				}
			}
		}
		v, ok := leastSpread(a)
		if d := v[0]*b[1][0] + v[1]*b[1][1] + v[2]*b[1][2]; !ok || math.Abs(math.Abs(d)-1) > 1e-9 {
			t.Fatalf("direction %v, expected %v", v, b[1])
		}
	}
}

func TestSetsErrors(t *testing.T) {
	xyz := room32(100)
	small := SetConfig{Tokens: 10, Radius: 0.2, Samples: 4, Kept: 5, Radius2: 0.4, Samples2: 3, MaskRadii: []float64{1}}
	for want, change := range map[string]func(c *SetConfig){
		"tokens: farthest points: 200": func(c *SetConfig) { c.Tokens = 200 },
		"kept tokens: farthest":        func(c *SetConfig) { c.Kept = 11 },
		"no mask radii":                func(c *SetConfig) { c.MaskRadii = nil },
		"radii are 0":                  func(c *SetConfig) { c.Radius = 0 },
		"0 samples":                    func(c *SetConfig) { c.Samples = 0 },
	} {
		c := small
		change(&c)
		if _, err := NewSets(xyz, nil, 0, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
	if _, err := NewSets(xyz, xyz, 2, small); err == nil || !strings.Contains(err.Error(), "features") {
		t.Errorf("features of another size: %v", err)
	}
}
