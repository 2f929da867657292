package geometry

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"
)

func random(r *rand.Rand) Transform {
	t := Transform{
		Translation: r3.Vec{X: r.NormFloat64(), Y: r.NormFloat64(), Z: r.NormFloat64()},
		Rotation:    quat.Number{Real: r.NormFloat64(), Imag: r.NormFloat64(), Jmag: r.NormFloat64(), Kmag: r.NormFloat64()},
	}
	return t.Normalized()
}

func TestTransformProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		a, b := random(r), random(r)
		p := r3.Vec{X: r.NormFloat64(), Y: r.NormFloat64(), Z: r.NormFloat64()}
		if d := r3.Norm(r3.Sub(a.Mul(b).Apply(p), a.Apply(b.Apply(p)))); d > 1e-12 {
			t.Fatalf("chained transform differs from two steps by %g", d)
		}
		if d := r3.Norm(r3.Sub(a.Inverse().Apply(a.Apply(p)), p)); d > 1e-12 {
			t.Fatalf("inverse misses by %g", d)
		}
		back, err := FromMatrix(a.Matrix())
		if err != nil {
			t.Fatal(err)
		}
		if Angle(back, a) > 1e-9 || r3.Norm(r3.Sub(back.Translation, a.Translation)) > 1e-12 {
			t.Fatalf("matrix round trip: %v became %v", a, back)
		}
		m := a.Matrix()
		q := a.Apply(p)
		if x := m[0]*p.X + m[1]*p.Y + m[2]*p.Z + m[3]; math.Abs(x-q.X) > 1e-12 {
			t.Fatalf("matrix gives x %g, Apply %g", x, q.X)
		}
	}
}

func TestFromMatrixRefuses(t *testing.T) {
	id := Identity().Matrix()
	for name, change := range map[string]func(*[16]float64){
		"nan":      func(m *[16]float64) { m[3] = math.NaN() },
		"scaled":   func(m *[16]float64) { m[0] = 1.1 },
		"mirrored": func(m *[16]float64) { m[0] = -1 },
		"last row": func(m *[16]float64) { m[12] = 0.5 },
	} {
		m := id
		change(&m)
		if _, err := FromMatrix(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
