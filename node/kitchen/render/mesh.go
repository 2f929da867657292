package render

import "math"

// Material is how a surface looks. Colour is linear light.
type Material struct {
	Color    Vec
	Texture  *Texture // overrides Color
	Shine    float32  // strength of the highlight, 0 to 1
	Glow     float32  // light of its own
	TwoSided bool
}

// Vertex is a corner with its normal, texture place in metres and the light that falls on it.
type Vertex struct {
	P, N  Vec
	U, V  float32
	Light Vec
}

// Tri is a triangle, counter-clockwise seen from outside. Object is the number that goes into the id buffer.
type Tri struct {
	V        [3]int32
	Material uint16
	Object   int16
}

// Mesh is a set of triangles in the world's frame.
type Mesh struct {
	Verts     []Vertex
	Tris      []Tri
	Materials []Material
}

// Builder adds solids to a mesh in a local frame that is turned about z and moved into the world. Faces are split so that
// no edge is longer than MaxEdge: light is baked at corners.
type Builder struct {
	Mesh    *Mesh
	Object  int16
	MaxEdge float32 // metres; 0: faces are not split
	place   affine
}

type affine struct {
	rot [9]float32
	pos Vec
}

func (a affine) apply(p Vec) Vec { return a.turn(p).Add(a.pos) }
func (a affine) turn(p Vec) Vec {
	return Vec{
		a.rot[0]*p[0] + a.rot[1]*p[1] + a.rot[2]*p[2],
		a.rot[3]*p[0] + a.rot[4]*p[1] + a.rot[5]*p[2],
		a.rot[6]*p[0] + a.rot[7]*p[1] + a.rot[8]*p[2],
	}
}

// Place sets the local frame: turned by yaw about z (radians, counter-clockwise) with its origin at pos.
func (b *Builder) Place(pos Vec, yaw float64) {
	s, c := math.Sincos(yaw)
	b.place = affine{rot: [9]float32{float32(c), float32(-s), 0, float32(s), float32(c), 0, 0, 0, 1}, pos: pos}
}

// Frame sets the local frame by its three axes and origin in the world.
func (b *Builder) Frame(x, y, z, pos Vec) {
	b.place = affine{rot: [9]float32{x[0], y[0], z[0], x[1], y[1], z[1], x[2], y[2], z[2]}, pos: pos}
}

// Point takes a local point into the world.
func (b *Builder) Point(p Vec) Vec { return b.place.apply(p) }

// Quad adds a flat face with corners p, p+du, p+du+dv, p+dv, counter-clockwise from outside. Texture runs along du and dv.
func (b *Builder) Quad(mat uint16, p, du, dv Vec) {
	lu, lv := du.Norm(), dv.Norm()
	if lu == 0 || lv == 0 {
		return
	}
	nu, nv := 1, 1
	if b.MaxEdge > 0 {
		nu, nv = int(lu/b.MaxEdge)+1, int(lv/b.MaxEdge)+1
	}
	normal := b.place.turn(du.Cross(dv).Unit())
	first := int32(len(b.Mesh.Verts))
	for j := range nv + 1 {
		for i := range nu + 1 {
			s, t := float32(i)/float32(nu), float32(j)/float32(nv)
			q := p.Add(du.Scale(s)).Add(dv.Scale(t))
			// The place on the face plus the place in the world keeps patterns apart from one face to the next.
			b.Mesh.Verts = append(b.Mesh.Verts, Vertex{P: b.place.apply(q), N: normal,
				U: s*lu + p.Dot(du)/lu, V: t*lv + p.Dot(dv)/lv})
		}
	}
	row := int32(nu + 1)
	for j := range int32(nv) {
		for i := range int32(nu) {
			a := first + j*row + i
			b.Mesh.Tris = append(b.Mesh.Tris,
				Tri{[3]int32{a, a + 1, a + row + 1}, mat, b.Object}, Tri{[3]int32{a, a + row + 1, a + row}, mat, b.Object})
		}
	}
}

// Faces of a box, for leaving some out.
const (
	Left uint8 = 1 << iota // −x
	Right
	Front // −y
	Back
	Bottom
	Top
)

// Box adds an axis-aligned box of the local frame without the faces in skip.
func (b *Builder) Box(mat uint16, lo, hi Vec, skip uint8) {
	d := hi.Sub(lo)
	x, y, z := Vec{d[0]}, Vec{0, d[1]}, Vec{0, 0, d[2]}
	if skip&Left == 0 {
		b.Quad(mat, Vec{lo[0], hi[1], lo[2]}, y.Scale(-1), z)
	}
	if skip&Right == 0 {
		b.Quad(mat, Vec{hi[0], lo[1], lo[2]}, y, z)
	}
	if skip&Front == 0 {
		b.Quad(mat, lo, x, z)
	}
	if skip&Back == 0 {
		b.Quad(mat, Vec{hi[0], hi[1], lo[2]}, x.Scale(-1), z)
	}
	if skip&Bottom == 0 {
		b.Quad(mat, Vec{lo[0], hi[1], lo[2]}, x, y.Scale(-1))
	}
	if skip&Top == 0 {
		b.Quad(mat, Vec{lo[0], lo[1], hi[2]}, x, y)
	}
}

// Lathe turns a profile of (radius, height) pairs, from the bottom up on the outside, about a line along +z through the
// local point c. A radius of 0 closes the solid.
func (b *Builder) Lathe(mat uint16, c Vec, sides int, profile ...[2]float32) {
	for k := 1; k < len(profile); k++ {
		r0, z0, r1, z1 := profile[k-1][0], profile[k-1][1], profile[k][0], profile[k][1]
		// Normal of the cone: across the profile.
		nr, nz := z1-z0, r0-r1
		if l := float32(math.Hypot(float64(nr), float64(nz))); l > 0 {
			nr, nz = nr/l, nz/l
		} else {
			continue
		}
		first := int32(len(b.Mesh.Verts))
		for i := range sides + 1 {
			s, co := math.Sincos(2 * math.Pi * float64(i) / float64(sides))
			x, y := float32(co), float32(s)
			n := b.place.turn(Vec{x * nr, y * nr, nz})
			u := float32(i) / float32(sides) * 2 * math.Pi * max(r0, r1)
			b.Mesh.Verts = append(b.Mesh.Verts,
				Vertex{P: b.place.apply(c.Add(Vec{x * r0, y * r0, z0})), N: n, U: u, V: z0 + r0},
				Vertex{P: b.place.apply(c.Add(Vec{x * r1, y * r1, z1})), N: n, U: u, V: z1 + r0 - r1})
		}
		for i := range int32(sides) {
			a := first + 2*i
			if r0 > 0 {
				b.Mesh.Tris = append(b.Mesh.Tris, Tri{[3]int32{a, a + 2, a + 3}, mat, b.Object})
			}
			if r1 > 0 {
				b.Mesh.Tris = append(b.Mesh.Tris, Tri{[3]int32{a, a + 3, a + 1}, mat, b.Object})
			}
		}
	}
}

// Cylinder is an upright closed cylinder standing on the local point c.
func (b *Builder) Cylinder(mat uint16, c Vec, radius, height float32, sides int) {
	b.Lathe(mat, c, sides, [2]float32{0, 0}, [2]float32{radius, 0}, [2]float32{radius, height}, [2]float32{0, height})
}

// Rod is a cylinder between two local points.
func (b *Builder) Rod(mat uint16, from, to Vec, radius float32, sides int) {
	axis := to.Sub(from)
	h := axis.Norm()
	if h == 0 {
		return
	}
	z := axis.Scale(1 / h)
	ref := Vec{1, 0, 0}
	if z[0] > 0.8 || z[0] < -0.8 {
		ref = Vec{0, 1, 0}
	}
	y := z.Cross(ref).Unit()
	x := y.Cross(z)
	old := b.place
	b.Frame(old.turn(x), old.turn(y), old.turn(z), old.apply(from))
	b.Cylinder(mat, Vec{}, radius, h, sides)
	b.place = old
}
