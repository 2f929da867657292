package scene

import (
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/testdata"
)

func TestIDDependsOnContentAlone(t *testing.T) {
	a, b := randomCloud(1, 2000, true), randomCloud(1, 2000, true)
	if a.ID() != b.ID() || len(a.ID()) != 32 {
		t.Fatalf("equal clouds have the names %s and %s", a.ID(), b.ID())
	}
	seen := map[string]string{a.ID(): "the cloud itself"}
	for name, change := range map[string]func(c *Cloud){
		"a coordinate":    func(c *Cloud) { c.XYZ[4000] = math.Nextafter(c.XYZ[4000], 9) },
		"a colour":        func(c *Cloud) { c.RGB[5999]++ },
		"two points":      func(c *Cloud) { c.XYZ[0], c.XYZ[3] = c.XYZ[3], c.XYZ[0] },
		"colours or none": func(c *Cloud) { c.HasColor = false },
		"a point less":    func(c *Cloud) { c.XYZ, c.RGB = c.XYZ[:5997], c.RGB[:5997] },
	} {
		c := randomCloud(1, 2000, true)
		change(c)
		if was, ok := seen[c.ID()]; ok {
			t.Errorf("changing %s gives the name of %s", name, was)
		}
		seen[c.ID()] = name
	}
}

func TestTransform(t *testing.T) {
	c := randomCloud(2, 100, true)
	tf := geometry.Transform{Translation: r3.Vec{X: 1, Y: -2, Z: 3}, Rotation: quat.Number{Real: 0.5, Imag: 0.5, Jmag: -0.5, Kmag: 0.5}}
	moved, err := c.Transform(tf)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Len() {
		if d := r3.Norm(r3.Sub(moved.Point(i), tf.Apply(c.Point(i)))); d > 1e-12 {
			t.Fatalf("point %d is %g m off", i, d)
		}
	}
	back, err := moved.Transform(tf.Inverse())
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.XYZ {
		if math.Abs(back.XYZ[i]-c.XYZ[i]) > 1e-12 {
			t.Fatalf("coordinate %d comes back as %g, was %g", i, back.XYZ[i], c.XYZ[i])
		}
	}
	tf.Translation.X = math.NaN()
	if _, err := c.Transform(tf); err == nil {
		t.Error("a transform that is not a number was accepted")
	}
	huge := &Cloud{XYZ: []float64{1.7e308, 1.7e308, 1.7e308}, RGB: make([]uint8, 3)}
	tf = geometry.Transform{Rotation: quat.Number{Real: math.Cos(0.4), Kmag: math.Sin(0.4)}}
	if _, err := huge.Transform(tf); err == nil || !strings.Contains(err.Error(), "range") {
		t.Errorf("a point beyond float64: %v", err)
	}
}

func TestThinKeepsTheExtent(t *testing.T) {
	c := randomCloud(3, 20000, true)
	for _, max := range []int{1, 2, 10, 500, 5000, 19999} {
		thin, edge, err := c.Thin(max)
		if err != nil {
			t.Fatal(err)
		}
		if n := thin.Len(); n > max || n < 1 || max >= 500 && n < max*8/10 {
			t.Errorf("at most %d: %d points kept", max, n)
		}
		if err := thin.Validate(); err != nil {
			t.Fatal(err)
		}
		// Every point of the cloud has a kept one in the same cell, so within its diagonal.
		if max == 500 {
			for i := 0; i < c.Len(); i += 97 {
				best := math.Inf(1)
				for j := range thin.Len() {
					best = math.Min(best, r3.Norm(r3.Sub(c.Point(i), thin.Point(j))))
				}
				if best > edge*math.Sqrt(3) {
					t.Fatalf("point %d is %g m from any kept one, cells are %g m", i, best, edge)
				}
			}
		}
		again, _, err := c.Thin(max)
		if err != nil || again.ID() != thin.ID() {
			t.Errorf("at most %d: another result the second time (%v)", max, err)
		}
	}
	same, edge, err := c.Thin(20000)
	if err != nil || same != c || edge != 0 {
		t.Errorf("a cloud that fits is changed: %v %v", edge, err)
	}
}

func TestThinOddClouds(t *testing.T) {
	for name, xyz := range map[string][]float64{
		"one place":  slices.Repeat([]float64{1, 2, 3}, 100),
		"a line":     line(1000, 1),
		"far away":   line(1000, 1e12),
		"very small": line(1000, 1e-300),
		"two places": append(slices.Repeat([]float64{0, 0, 0}, 50), slices.Repeat([]float64{1e6, 0, 0}, 50)...),
		"too large":  {-1.7e308, 0, 0, 1.7e308, 0, 0, 0, 0, 0},
	} {
		c := &Cloud{XYZ: xyz, RGB: make([]uint8, len(xyz))}
		thin, _, err := c.Thin(2)
		if name == "too large" {
			if err == nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		if err != nil || thin.Len() < 1 || thin.Len() > 2 {
			t.Errorf("%s: %v, %v", name, thin, err)
		}
	}
	if _, _, err := (&Cloud{XYZ: make([]float64, 3), RGB: make([]uint8, 3)}).Thin(0); err == nil {
		t.Error("at most 0 points was accepted")
	}
}

func line(n int, scale float64) (xyz []float64) {
	for i := range n {
		xyz = append(xyz, scale*float64(i), 0, 0)
	}
	return xyz
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]Cloud{
		"XYZ has":            {XYZ: make([]float64, 4), RGB: make([]uint8, 4)},
		"RGB has":            {XYZ: make([]float64, 3)},
		"y of point 1 is +I": {XYZ: []float64{0, 0, 0, 0, math.Inf(1), 0}, RGB: make([]uint8, 6)},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
}

func room(n int) *Cloud {
	return &Cloud{XYZ: testdata.Room(n), RGB: make([]uint8, 3*n), HasColor: true}
}

func BenchmarkThin1M(b *testing.B) {
	c := room(1_000_000)
	for b.Loop() {
		if _, _, err := c.Thin(200_000); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkID1M(b *testing.B) {
	c := room(1_000_000)
	for b.Loop() {
		c.ID()
	}
}
