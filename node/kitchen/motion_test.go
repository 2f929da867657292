package kitchen

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"
)

// A picture's pose is what TF messages on both sides of it give, wherever they fall and also at the last picture, where a walk
// is cut off in the middle of a step or a turn.
func TestTFInterpolatesToTheTruth(t *testing.T) {
	const h = 1.0 / tfRate
	for _, o := range []Options{
		{Seed: 5, Seconds: 2}, {Seed: 5, Seconds: 2.5}, {Seed: 6, Seconds: 3.1}, {Seed: 7, Seconds: 4.3}, {Seed: 8, Seconds: 5.2}, {Seed: 3},
	} {
		o.Width, o.Height = 96, 72
		k, err := Generate(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range k.Frames {
			for _, early := range []float64{0.25, 0.5, 0.75} {
				a, truth, b := k.Camera(f.Time-early*h), k.Camera(f.Time), k.Camera(f.Time+(1-early)*h)
				mid := r3.Add(r3.Scale(1-early, a.Translation), r3.Scale(early, b.Translation))
				if d := r3.Norm(r3.Sub(mid, truth.Translation)); d > 0.005 {
					t.Errorf("seed %d, %g s, frame at %.2f s of %.2f s: place off by %.4f m", o.Seed, o.Seconds, f.Time, k.Seconds(), d)
				}
				turn := quat.Mul(quat.Conj(a.Rotation), b.Rotation)
				if turn.Real < 0 {
					turn = quat.Scale(-1, turn)
				}
				off := quat.Mul(quat.Conj(quat.Mul(a.Rotation, quat.Pow(turn, quat.Number{Real: early}))), truth.Rotation)
				if d := 2 * math.Atan2(math.Hypot(math.Hypot(off.Imag, off.Jmag), off.Kmag), math.Abs(off.Real)) * 180 / math.Pi; d > 0.2 {
					t.Errorf("seed %d, %g s, frame at %.2f s of %.2f s: turn off by %.2f°", o.Seed, o.Seconds, f.Time, k.Seconds(), d)
				}
			}
		}
	}
}
