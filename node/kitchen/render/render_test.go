package render

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// down looks from height h at a floor: optical z is world −z, x is world x, y is world −y.
func down(h float64) geometry.Transform {
	t, err := geometry.FromMatrix([16]float64{1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, h, 0, 0, 0, 1})
	if err != nil {
		panic(err)
	}
	return t
}

// tilted looks along +y and 30° down from (0, 0, 1.5).
func tilted() geometry.Transform {
	s, c := math.Sincos(math.Pi / 6)
	t, err := geometry.FromMatrix([16]float64{1, 0, 0, 0, 0, -s, c, 0, 0, -c, -s, 1.5, 0, 0, 0, 1})
	if err != nil {
		panic(err)
	}
	return t
}

var camera = Camera{Width: 64, Height: 48, FX: 50, FY: 50, CX: 32, CY: 24}

func floor(size float32, m Material, edge float32) *Mesh {
	mesh := &Mesh{Materials: []Material{m}}
	b := &Builder{Mesh: mesh, Object: 7, MaxEdge: edge}
	b.Place(Vec{}, 0)
	b.Quad(0, Vec{-size / 2, -size / 2, 0}, Vec{size, 0, 0}, Vec{0, size, 0})
	for i := range mesh.Verts {
		mesh.Verts[i].Light = Vec{1, 1, 1}
	}
	return mesh
}

func TestDepthAndIDs(t *testing.T) {
	var r Renderer
	var pic Picture
	mesh := floor(1, Material{Color: Vec{0.5, 0.5, 0.5}}, 0)
	box := &Builder{Mesh: mesh, Object: 9}
	box.Place(Vec{0.3, 0, 0}, 0.4)
	box.Box(0, Vec{-0.1, -0.1, 0}, Vec{0.1, 0.1, 0.5}, 0)
	r.Identify(View{Camera: camera, Pose: down(2)}, []*Mesh{mesh}, &pic)
	counts := map[int16]int{}
	for i, id := range pic.ID {
		counts[id]++
		switch z := pic.Depth[i]; id {
		case 7:
			if math.Abs(float64(z)-2) > 1e-4 {
				t.Fatalf("floor at %g m, expected 2", z)
			}
		case 9:
			if z < 1.49 || z > 2.001 {
				t.Fatalf("box at %g m, expected 1.5 to 2", z)
			}
		case -1:
			if !math.IsInf(float64(z), 1) {
				t.Fatalf("nothing at %g m", z)
			}
		}
	}
	// The floor of 1 m at 2 m is 25 × 25 pixels, and one more where centres lie on its edges; the top of the box, 0.2 m at
	// 1.5 m, is 6.7 × 6.7 and reaches beyond the floor.
	if n := counts[7] + counts[9]; n < 625 || n > 720 || counts[9] < 40 || counts[9] > 90 {
		t.Errorf("pixels by object: %v", counts)
	}
}

// Texture coordinates are those of the ray's meeting with the plane: perspective-correct, with clipping at the near plane.
func TestPerspective(t *testing.T) {
	mat := Material{Texture: NewTexture(64, 64, func(u, v float32) Vec { return Vec{u, v, 0} })}
	for name, mesh := range map[string]*Mesh{"one quad": floor(12, mat, 0), "split": floor(12, mat, 0.4)} {
		var r Renderer
		pose := tilted()
		r.visit(View{Camera: camera, Pose: pose}, []*Mesh{mesh})
		n := 0
		r.shade(func(i int, c Vec) {
			if r.top[i] < 0 {
				return
			}
			x, y := float64(i%64)+0.5, float64(i/64)+0.5
			d := pose.Rotate(r3.Vec{X: (x - 32) / 50, Y: (y - 24) / 50, Z: 1})
			s := -pose.Translation.Z / d.Z
			p := r3.Add(pose.Translation, r3.Scale(s, d))
			if math.Abs(p.X) > 5 || math.Abs(p.Y) > 5 {
				return
			}
			n++
			if z := 1 / float64(r.inv[i]); math.Abs(z-s) > 1e-3*s {
				t.Fatalf("%s: depth %g at pixel %d, expected %g", name, z, i, s)
			}
			// The tile is 64 m wide: its colour is the place, apart from where it repeats.
			u, v := math.Mod(p.X+64, 64)/64, math.Mod(p.Y+64, 64)/64
			if math.Abs(p.X) > 1 && math.Abs(p.Y) > 1 && (math.Abs(float64(c[0])-u) > 0.004 || math.Abs(float64(c[1])-v) > 0.004) {
				t.Fatalf("%s: texture (%g, %g) at (%g, %g), expected (%g, %g)", name, c[0], c[1], p.X, p.Y, u, v)
			}
		})
		if n < 1500 {
			t.Errorf("%s: only %d pixels show the floor", name, n)
		}
	}
}

// A closed box around the camera leaves no pixel open, whatever the direction: no cracks between triangles.
func TestNoCracks(t *testing.T) {
	mesh := &Mesh{Materials: []Material{{Color: Vec{1, 1, 1}, TwoSided: true}}}
	b := &Builder{Mesh: mesh, MaxEdge: 0.21}
	b.Place(Vec{0.1, 0.2, 0.3}, 0.7)
	b.Box(0, Vec{-1, -1, -1}, Vec{1, 1.3, 1}, 0)
	var r Renderer
	var pic Picture
	for i := range 60 {
		a, e := float64(i)*0.37, math.Sin(float64(i))*1.2
		sa, ca := math.Sincos(a)
		se, ce := math.Sincos(e)
		f := r3.Vec{X: ca * ce, Y: sa * ce, Z: se}
		right := r3.Vec{X: sa, Y: -ca}
		dn := r3.Cross(f, right)
		pose, err := geometry.FromMatrix([16]float64{right.X, dn.X, f.X, 0.1, right.Y, dn.Y, f.Y, 0.2, right.Z, dn.Z, f.Z, 0.3, 0, 0, 0, 1})
		if err != nil {
			t.Fatal(err)
		}
		r.Identify(View{Camera: camera, Pose: pose}, []*Mesh{mesh}, &pic)
		for p, id := range pic.ID {
			if id < 0 {
				t.Fatalf("direction %d: pixel %d is open", i, p)
			}
		}
	}
}

// Shapes are closed and their triangles face outwards: by the divergence theorem their volume is positive and right.
func TestSolids(t *testing.T) {
	for name, c := range map[string]struct {
		build func(b *Builder)
		want  float64
	}{
		"box":      {func(b *Builder) { b.Box(0, Vec{0, 0, 0}, Vec{1, 2, 3}, 0) }, 6},
		"cylinder": {func(b *Builder) { b.Cylinder(0, Vec{1, 1, 1}, 0.5, 2, 128) }, math.Pi / 2},
		"rod":      {func(b *Builder) { b.Rod(0, Vec{0, 0, 0}, Vec{1, 1, 0}, 0.1, 128) }, math.Pi * 0.01 * math.Sqrt2},
		"cone":     {func(b *Builder) { b.Lathe(0, Vec{}, 128, [2]float32{0, 0}, [2]float32{1, 0}, [2]float32{0, 3}) }, math.Pi},
	} {
		m := &Mesh{Materials: []Material{{}}}
		b := &Builder{Mesh: m, MaxEdge: 0.3}
		b.Place(Vec{3, 2, 1}, 1.1)
		c.build(b)
		v := 0.0
		for _, tri := range m.Tris {
			p, q, s := m.Verts[tri.V[0]].P, m.Verts[tri.V[1]].P, m.Verts[tri.V[2]].P
			v += float64(p.Dot(q.Cross(s))) / 6
			if n := q.Sub(p).Cross(s.Sub(p)); n.Dot(m.Verts[tri.V[0]].N) < -1e-9 {
				t.Errorf("%s: a normal points inwards", name)
			}
		}
		if math.Abs(v-c.want) > 0.01*c.want {
			t.Errorf("%s: volume %g, expected %g", name, v, c.want)
		}
	}
}

func TestSupersampleIsTheMean(t *testing.T) {
	mesh := floor(1.03, Material{Color: Vec{0.4, 0.4, 0.4}}, 0)
	var r Renderer
	var one, four Picture
	view := View{Camera: camera, Pose: down(2)}
	r.Draw(view, []*Mesh{mesh}, 1, &one)
	r.Draw(view, []*Mesh{mesh}, 4, &four)
	sum := func(p Picture) (n float64) {
		for _, v := range p.RGB {
			n += float64(srgb.linear[v])
		}
		return n
	}
	if a, b := sum(one), sum(four); math.Abs(a-b) > 0.08*a || len(one.RGB) != len(four.RGB) {
		t.Errorf("light of the picture is %g with one sample, %g with sixteen", a, b)
	}
}

func TestCamera(t *testing.T) {
	if err := camera.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(c *Camera){
		func(c *Camera) { c.Width = 0 }, func(c *Camera) { c.Height = 1 << 20 }, func(c *Camera) { c.FX = 0 },
		func(c *Camera) { c.FY = math.NaN() }, func(c *Camera) { c.CX = -1 }, func(c *Camera) { c.CY = math.Inf(1) },
	} {
		c := camera
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	s := camera.Scaled(32, 48)
	if s.FX != 25 || s.FY != 50 || s.CX != 16 || s.CY != 24 {
		t.Errorf("scaled: %+v", s)
	}
}
