package quiz

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/label"
)

func thresholds(t *testing.T) Thresholds {
	t.Helper()
	o, err := Options{}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return o.Thresholds
}

func TestDirection(t *testing.T) {
	th := thresholds(t)
	for want, p := range map[string][2]float64{
		"front": {0.2, 3}, "back": {-0.69, -1.2}, "left": {-2, 0.5}, "right": {1.01, -0.6}, "front-left": {-0.71, 1.01},
		"front-right": {1.5, 1.5}, "back-left": {-1.01, -0.71}, "back-right": {0.8, -4}, "here": {1.0, -1.0},
	} {
		if got := th.Direction(p[0], p[1]); got != want {
			t.Errorf("%v is %s, expected %s", p, got, want)
		}
	}
	th.Main, th.Side = 2, 1.8
	if got := th.Direction(1.9, 1.9); got != "here" {
		t.Errorf("with wider thresholds: %s", got)
	}
}

func TestWay(t *testing.T) {
	th := thresholds(t)
	for want, p := range map[string][2]float64{
		"walk one step": {0, 1}, "turn right; walk two steps": {1.5, 0}, "turn left; walk four steps": {-3, 1},
		"turn around; walk two steps": {0.1, -1.5}, "walk four steps": {1, 4},
	} {
		if got := (label.Label{Steps: th.way(p[0], p[1])}).String(); got != want {
			t.Errorf("%v: %s, expected %s", p, got, want)
		}
	}
}

// The ego frame is gravity-aligned: looking down does not shorten what lies ahead.
func TestEgo(t *testing.T) {
	for _, tilt := range []float64{0, 0.3, 0.8, math.Pi / 2} {
		level := quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5} // looks along +x
		pitch := quat.Number{Real: math.Cos(tilt / 2), Jmag: math.Sin(tilt / 2)}
		c := geometry.Transform{Translation: r3.Vec{X: 1, Y: 2, Z: 1.5}, Rotation: quat.Mul(pitch, level)}
		right, ahead := Ego(c, r3.Vec{X: 3, Y: 1, Z: 0})
		if math.Abs(ahead-2) > 1e-9 || math.Abs(right-1) > 1e-9 {
			t.Errorf("tilted by %g: %g to the right and %g ahead, expected 1 and 2", tilt, right, ahead)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Count: -1}, {Windows: 99}, {Frames: 1}, {Span: 1}, {Margin: -0.1}, {Margin: math.NaN()}, {Forms: 9},
		{Abstention: 2}, {Thresholds: Thresholds{Main: -1}}, {Thresholds: Thresholds{Two: 0.2}}} {
		if _, err := o.WithDefaults(); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// With a margin no answer changes when the place is off by less.
func TestMargin(t *testing.T) {
	w := &World{Duration: 10, Frames: []float64{0, 5, 10}, Absent: []string{"lamp"}, Kinds: []string{"mug"},
		Camera: func(at float64) geometry.Transform {
			s, c := math.Sincos(0.2 * at)
			yaw := quat.Number{Real: c, Kmag: s}
			return geometry.Transform{Translation: r3.Vec{X: 0.2 * at, Z: 1.5}, Rotation: quat.Mul(yaw, quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5})}
		}}
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{"sink", "fridge", "table", "oven", "plant", "tv", "sofa", "bin"} {
		w.Things = append(w.Things, Thing{Category: name, Place: r3.Vec{X: 6*r.Float64() - 2, Y: 6*r.Float64() - 3, Z: 0.5}})
	}
	const margin = 0.2
	qs, err := Make(w, r, Options{Count: 200, Margin: margin, Windows: 3})
	if err != nil {
		t.Fatal(err)
	}
	th := thresholds(t)
	n := 0
	for _, q := range qs {
		if q.Kind != "direction" {
			continue
		}
		n++
		x, z := Ego(w.Camera(q.At), q.Targets[0])
		for _, d := range [][2]float64{{margin, 0}, {-margin, 0}, {0, margin}, {0, -margin}} {
			if got := th.Direction(x+d[0], z+d[1]); got != q.Label.Direction {
				t.Errorf("%s: %s, but %s when off by %v", q.Text, q.Label.Direction, got, d)
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d questions about directions", n)
	}
}
