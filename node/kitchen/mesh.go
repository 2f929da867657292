package kitchen

import (
	"math"

	"github.com/stllm/stllm/node/kitchen/render"
)

// roomHeight is the height of the walls, metres.
const roomHeight = 2.5

// mesh builds the room and its furniture. Object numbers: −1 room, i box i.
func (k *Kitchen) mesh() *render.Mesh {
	m := &render.Mesh{}
	material := func(c [3]uint8, shine float32) uint16 {
		m.Materials = append(m.Materials, render.Material{Color: render.Linear(c[0], c[1], c[2]), Shine: shine})
		return uint16(len(m.Materials) - 1)
	}
	m.Materials = append(m.Materials,
		render.Material{Texture: render.NewTexture(64, 0.6, tiles(render.Linear(176, 158, 134), render.Linear(120, 104, 88)))},
		render.Material{Texture: render.NewTexture(64, 0.3, tiles(render.Linear(222, 222, 214), render.Linear(188, 188, 180)))},
		render.Material{Color: render.Linear(240, 238, 232)})
	const floor, wall, plaster = 0, 1, 2
	b := &render.Builder{Mesh: m, Object: -1, MaxEdge: 0.4}
	w, d := float32(k.Width), float32(k.Depth)
	v := func(x, y, z float32) render.Vec { return render.Vec{x, y, z} }
	b.Place(v(0, 0, 0), 0)
	b.Quad(floor, v(0, 0, 0), v(w, 0, 0), v(0, d, 0))
	b.Quad(plaster, v(0, 0, roomHeight), v(0, d, 0), v(w, 0, 0))
	const splash = 1.5 // tiles up to here, plaster above
	for _, part := range []struct {
		mat    uint16
		lo, hi float32
	}{{wall, 0, splash}, {plaster, splash, roomHeight}} {
		up := v(0, 0, part.hi-part.lo)
		b.Quad(part.mat, v(w, 0, part.lo), v(-w, 0, 0), up)
		b.Quad(part.mat, v(0, d, part.lo), v(w, 0, 0), up)
		b.Quad(part.mat, v(0, 0, part.lo), v(0, d, 0), up)
		b.Quad(part.mat, v(w, d, part.lo), v(0, -d, 0), up)
	}
	dark, steel := material([3]uint8{40, 40, 44}, 0.4), material([3]uint8{180, 186, 192}, 0.8)
	for i, box := range k.Boxes {
		b.Object = int16(i)
		b.Place(render.Vec{float32(box.X), float32(box.Y), float32(box.Z)}, box.Yaw)
		furnish(b, box, material(box.color, 0.15), dark, steel)
	}
	light(m, k)
	return m
}

func tiles(body, joint render.Vec) func(u, v float32) render.Vec {
	return func(u, v float32) render.Vec {
		if u < 0.04 || v < 0.04 {
			return joint
		}
		return body
	}
}

// furnish builds one piece in its own frame: front towards +y.
func furnish(b *render.Builder, box Box, mat, dark, steel uint16) {
	w, d, h := float32(box.Width)/2, float32(box.Depth)/2, float32(box.Height)
	v := func(x, y, z float32) render.Vec { return render.Vec{x, y, z} }
	body := func(lo, hi render.Vec, m uint16) { b.Box(m, lo, hi, 0) }
	switch box.Name {
	case "table":
		body(v(-w, -d, h-0.04), v(w, d, h), mat)
		for _, s := range [4][2]float32{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
			x, y := s[0]*(w-0.05), s[1]*(d-0.05)
			body(v(x-0.03, y-0.03, 0), v(x+0.03, y+0.03, h-0.04), mat)
		}
	case "shelf":
		body(v(-w, -d, 0), v(-w+0.03, d, h), mat)
		body(v(w-0.03, -d, 0), v(w, d, h), mat)
		for z := float32(0.05); z < h; z += 0.36 {
			body(v(-w, -d, z), v(w, d, z+0.025), mat)
		}
	case "sink":
		body(v(-w, -d, 0), v(w, d, h), mat)
		body(v(-w*0.6, -d*0.5, h), v(w*0.6, d*0.6, h+0.015), steel)
		b.Cylinder(steel, v(0, -d*0.7, h), 0.02, 0.28, 10)
		b.Rod(steel, v(0, -d*0.7, h+0.27), v(0, -d*0.1, h+0.24), 0.016, 8)
	case "hob":
		body(v(-w, -d, 0), v(w, d, h), steel)
		body(v(-w*0.95, -d*0.95, h), v(w*0.95, d*0.95, h+0.01), dark)
		for _, s := range [4][2]float32{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
			b.Cylinder(steel, v(s[0]*w*0.5, s[1]*d*0.5, h+0.01), 0.08, 0.012, 14)
		}
		body(v(-w*0.8, d, 0.15), v(w*0.8, d+0.01, h-0.2), dark)
	case "bin":
		b.Cylinder(mat, v(0, 0, 0), w, h, 18)
		b.Cylinder(dark, v(0, 0, h), w*0.96, 0.03, 18)
	case "washing machine":
		body(v(-w, -d, 0), v(w, d, h), mat)
		b.Rod(dark, v(0, d, h*0.45), v(0, d+0.02, h*0.45), 0.19, 20)
	default:
		body(v(-w, -d, 0), v(w, d, h), mat)
		// doors: a dark gap in the middle and handles
		body(v(-0.004, d, 0.06), v(0.004, d+0.004, h-0.03), dark)
		for _, s := range []float32{-1, 1} {
			body(v(s*0.07-0.008, d, h*0.5-0.09), v(s*0.07+0.008, d+0.03, h*0.5+0.09), steel)
		}
		if box.Name == "counter" {
			body(v(-w, -d, h), v(w, d+0.02, h+0.03), steel)
		}
	}
}

// light bakes an even room light with a lamp in the middle of the ceiling.
func light(m *render.Mesh, k *Kitchen) {
	lamp := render.Vec{float32(k.Width / 2), float32(k.Depth / 2), roomHeight - 0.2}
	for i := range m.Verts {
		vert := &m.Verts[i]
		to := lamp.Sub(vert.P)
		dist := to.Norm()
		lambert := max(0, to.Unit().Dot(vert.N))
		// corners near the floor and the walls get less of the sky
		near := float32(math.Min(1, 0.55+0.45*float64(vert.P[2])/1.2))
		l := 0.42*near + 1.5*lambert/(1+0.25*dist*dist)
		vert.Light = render.Vec{l, l * 0.985, l * 0.95}
	}
}
