package room

import (
	"math"

	"github.com/stllm/stllm/node/kitchen/render"
)

// reach is how far ambient occlusion looks, metres.
const reach = 0.6

// hemisphere holds directions over +z, cosine-weighted: each counts the same.
var hemisphere = makeHemisphere(14)

func makeHemisphere(n int) []render.Vec {
	out := make([]render.Vec, n)
	for i := range out {
		// A spiral: even steps in the squared radius, golden angle between.
		rr := (float64(i) + 0.5) / float64(n)
		s, c := math.Sincos(float64(i) * 2.399963)
		out[i] = render.Vec{float32(math.Sqrt(rr) * c), float32(math.Sqrt(rr) * s), float32(math.Sqrt(1 - rr))}
	}
	return out
}

// hit tells whether a segment from p along d (of length far) meets a box.
func (b *box) hit(p, inv render.Vec, far float32) bool {
	t0, t1 := float32(0.0), far
	if p[0] > b.lo[0] && p[0] < b.hi[0] && p[1] > b.lo[1] && p[1] < b.hi[1] && p[2] > b.lo[2] && p[2] < b.hi[2] {
		return false // inside something hollow: it does not shade its own shelves
	}
	for k := range 3 {
		a, c := (b.lo[k]-p[k])*inv[k], (b.hi[k]-p[k])*inv[k]
		if a > c {
			a, c = c, a
		}
		t0, t1 = max(t0, a), min(t1, c)
		if t0 > t1 {
			return false
		}
	}
	return true
}

func inverse(d render.Vec) render.Vec {
	for k := range d {
		if d[k] > -1e-6 && d[k] < 1e-6 {
			d[k] = 1e-6
		}
		d[k] = 1 / d[k]
	}
	return d
}

// illuminate collects what casts shadows.
func (r *Room) illuminate() {
	r.occ = r.occ[:0]
	for _, t := range r.Things {
		for _, s := range t.Solids() {
			b := box{s[0], s[1]}
			// A little smaller, so that a surface does not shade itself.
			for k := range 3 {
				b.lo[k] += 0.006
				b.hi[k] -= 0.006
			}
			if b.lo[0] < b.hi[0] && b.lo[1] < b.hi[1] && b.lo[2] < b.hi[2] {
				r.occ = append(r.occ, b)
			}
		}
	}
}

// bake computes the light at every vertex: ambient light with occlusion, and the lamps with shadows.
func (r *Room) bake(m *render.Mesh) {
	var nearby []*box
	for i := range m.Verts {
		v := &m.Verts[i]
		p := v.P.Add(v.N.Scale(0.015))
		nearby = nearby[:0]
		for j := range r.occ {
			b := &r.occ[j]
			if p[0] > b.lo[0]-reach && p[0] < b.hi[0]+reach && p[1] > b.lo[1]-reach && p[1] < b.hi[1]+reach && p[2] > b.lo[2]-reach && p[2] < b.hi[2]+reach {
				nearby = append(nearby, b)
			}
		}
		v.Light = r.light(p, v.N, nearby, r.occ)
	}
}

// glance lights a mesh that moves: no shadows, a little occlusion from the floor side.
func (r *Room) glance(m *render.Mesh) {
	for i := range m.Verts {
		v := &m.Verts[i]
		v.Light = r.light(v.P, v.N, nil, nil).Scale(0.88)
	}
}

func (r *Room) light(p, n render.Vec, nearby []*box, occ []box) render.Vec {
	open := 1.0
	if len(nearby) > 0 || r.nearWall(p) {
		// An orthonormal frame about the normal.
		t := render.Vec{1, 0, 0}
		if n[0] > 0.7 || n[0] < -0.7 {
			t = render.Vec{0, 1, 0}
		}
		b := n.Cross(t).Unit()
		t = b.Cross(n)
		free := 0
		for _, h := range hemisphere {
			d := t.Scale(h[0]).Add(b.Scale(h[1])).Add(n.Scale(h[2]))
			e := p.Add(d.Scale(reach))
			if e[0] < 0 || e[1] < 0 || e[2] < 0 || e[0] > r.W || e[1] > r.D || e[2] > r.H {
				// Walls are bright: they take away only half.
				free++
				continue
			}
			inv := inverse(d)
			blocked := false
			for _, o := range nearby {
				if o.hit(p, inv, reach) {
					blocked = true
					break
				}
			}
			if !blocked {
				free += 2
			}
		}
		open = float64(free) / float64(2*len(hemisphere))
	}
	// Upward faces see the lit ceiling, downward ones the darker floor.
	amb := float32(0.12 + 0.88*open*open)
	sky := 0.30 + 0.07*n[2]
	out := render.Vec{0.97, 0.99, 1.04}.Scale(amb * sky)
	for _, l := range r.lights {
		d := l.pos.Sub(p)
		dist := d.Norm()
		d = d.Scale(1 / dist)
		cos := d.Dot(n)
		if cos <= 0 {
			continue
		}
		inv := inverse(d)
		shadow := false
		for j := range occ {
			if occ[j].hit(p, inv, dist-0.05) {
				shadow = true
				break
			}
		}
		if !shadow {
			out = out.Add(l.color.Scale(cos / (0.6 + dist*dist)))
		}
	}
	return out
}

func (r *Room) nearWall(p render.Vec) bool {
	return p[0] < reach || p[1] < reach || p[0] > r.W-reach || p[1] > r.D-reach || p[2] < reach || p[2] > r.H-reach
}

// Buried tells whether a point lies inside furniture or outside the room, where no camera can look.
func (r *Room) Buried(p render.Vec) bool {
	if p[0] < 0 || p[1] < 0 || p[2] < 0 || p[0] > r.W || p[1] > r.D || p[2] > r.H {
		return true
	}
	for i := range r.occ {
		b := &r.occ[i]
		if p[0] > b.lo[0] && p[0] < b.hi[0] && p[1] > b.lo[1] && p[1] < b.hi[1] && p[2] > b.lo[2] && p[2] < b.hi[2] {
			return true
		}
	}
	return false
}
