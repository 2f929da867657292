// Package geometry holds rigid transforms as the rest of the program uses them: metres, unit quaternions, REP-103 axes.
package geometry

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"
)

// Transform is a rigid transform: it takes points given in the source (child) frame into the target (parent) frame.
// Translation is in metres, Rotation is a unit quaternion. The zero value is not valid; use [Identity].
type Transform struct {
	Translation r3.Vec
	Rotation    quat.Number
}

// Identity returns the transform that leaves every point where it is.
func Identity() Transform { return Transform{Rotation: quat.Number{Real: 1}} }

// FromXYZW builds a transform from a translation and a quaternion in ROS order (x, y, z, w). It does not normalise.
func FromXYZW(t r3.Vec, x, y, z, w float64) Transform {
	return Transform{Translation: t, Rotation: quat.Number{Real: w, Imag: x, Jmag: y, Kmag: z}}
}

// Rotate applies the rotation alone.
func (t Transform) Rotate(v r3.Vec) r3.Vec {
	// v + 2w(q×v) + 2 q×(q×v): half the products of the sandwich, and exact for the identity.
	q := r3.Vec{X: t.Rotation.Imag, Y: t.Rotation.Jmag, Z: t.Rotation.Kmag}
	u := r3.Scale(2, r3.Cross(q, v))
	return r3.Add(v, r3.Add(r3.Scale(t.Rotation.Real, u), r3.Cross(q, u)))
}

// Apply takes a point of the source frame into the target frame.
func (t Transform) Apply(p r3.Vec) r3.Vec { return r3.Add(t.Rotate(p), t.Translation) }

// Mul chains transforms: t.Mul(u) first applies u, then t (a_T_b.Mul(b_T_c) = a_T_c).
func (t Transform) Mul(u Transform) Transform {
	return Transform{Translation: t.Apply(u.Translation), Rotation: quat.Mul(t.Rotation, u.Rotation)}
}

// Inverse returns the transform from target to source.
func (t Transform) Inverse() Transform {
	inv := Transform{Rotation: quat.Conj(t.Rotation)}
	inv.Translation = r3.Scale(-1, inv.Rotate(t.Translation))
	return inv
}

// Normalized returns t with a unit quaternion.
func (t Transform) Normalized() Transform {
	t.Rotation = quat.Scale(1/quat.Abs(t.Rotation), t.Rotation)
	return t
}

// Finite reports whether every component is a finite number.
func (t Transform) Finite() bool {
	for _, v := range []float64{t.Translation.X, t.Translation.Y, t.Translation.Z,
		t.Rotation.Real, t.Rotation.Imag, t.Rotation.Jmag, t.Rotation.Kmag} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// Matrix returns the 4×4 homogeneous matrix in row-major order.
func (t Transform) Matrix() [16]float64 {
	w, x, y, z := t.Rotation.Real, t.Rotation.Imag, t.Rotation.Jmag, t.Rotation.Kmag
	return [16]float64{
		1 - 2*(y*y+z*z), 2 * (x*y - z*w), 2 * (x*z + y*w), t.Translation.X,
		2 * (x*y + z*w), 1 - 2*(x*x+z*z), 2 * (y*z - x*w), t.Translation.Y,
		2 * (x*z - y*w), 2 * (y*z + x*w), 1 - 2*(x*x+y*y), t.Translation.Z,
		0, 0, 0, 1,
	}
}

// FromMatrix reads a row-major 4×4 rigid transform. It refuses a matrix whose rotation part is not orthonormal with
// determinant +1 to within 1e-3 (text files of poses carry about six digits) or whose last row is not 0 0 0 1.
func FromMatrix(m [16]float64) (Transform, error) {
	for i, v := range m {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Transform{}, fmt.Errorf("pose matrix: element [%d][%d] is %v, expected a finite number", i/4, i%4, v)
		}
	}
	if m[12] != 0 || m[13] != 0 || m[14] != 0 || math.Abs(m[15]-1) > 1e-9 {
		return Transform{}, fmt.Errorf("pose matrix: last row is %v, expected [0 0 0 1]", m[12:])
	}
	row := func(i int) r3.Vec { return r3.Vec{X: m[4*i], Y: m[4*i+1], Z: m[4*i+2]} }
	const tol = 1e-3
	for i := range 3 {
		for j := i; j < 3; j++ {
			want := 0.0
			if i == j {
				want = 1
			}
			if d := r3.Dot(row(i), row(j)); math.Abs(d-want) > tol {
				return Transform{}, fmt.Errorf("pose matrix: rows %d and %d of the rotation have product %.6g, expected %g", i, j, d, want)
			}
		}
	}
	if det := r3.Dot(row(0), r3.Cross(row(1), row(2))); det < 0 {
		return Transform{}, fmt.Errorf("pose matrix: rotation has determinant %.3g, expected +1 (a mirrored frame)", det)
	}
	t := Transform{Translation: r3.Vec{X: m[3], Y: m[7], Z: m[11]}, Rotation: quaternionOf(m)}
	return t.Normalized(), nil
}

// quaternionOf uses the largest of the four squared components as pivot, so no division is by a small number.
func quaternionOf(m [16]float64) quat.Number {
	xx, yy, zz := m[0], m[5], m[10]
	switch tr := xx + yy + zz; {
	case tr > 0:
		s := 2 * math.Sqrt(tr+1)
		return quat.Number{Real: s / 4, Imag: (m[9] - m[6]) / s, Jmag: (m[2] - m[8]) / s, Kmag: (m[4] - m[1]) / s}
	case xx > yy && xx > zz:
		s := 2 * math.Sqrt(1+xx-yy-zz)
		return quat.Number{Real: (m[9] - m[6]) / s, Imag: s / 4, Jmag: (m[1] + m[4]) / s, Kmag: (m[2] + m[8]) / s}
	case yy > zz:
		s := 2 * math.Sqrt(1+yy-xx-zz)
		return quat.Number{Real: (m[2] - m[8]) / s, Imag: (m[1] + m[4]) / s, Jmag: s / 4, Kmag: (m[6] + m[9]) / s}
	default:
		s := 2 * math.Sqrt(1+zz-xx-yy)
		return quat.Number{Real: (m[4] - m[1]) / s, Imag: (m[2] + m[8]) / s, Jmag: (m[6] + m[9]) / s, Kmag: s / 4}
	}
}

// Angle returns the rotation angle between two transforms in radians, in [0, π]; q and −q are the same rotation.
func Angle(a, b Transform) float64 {
	d := quat.Mul(quat.Conj(a.Rotation), b.Rotation)
	v := math.Sqrt(d.Imag*d.Imag + d.Jmag*d.Jmag + d.Kmag*d.Kmag)
	return 2 * math.Atan2(v, math.Abs(d.Real))
}
