package room

import (
	"math"
	"slices"

	"github.com/stllm/stllm/node/kitchen/render"
)

// central places table and chairs, or island and stools, in the open floor.
func (f *furnisher) central() {
	r := f.r
	name, seatName := "table", "chair"
	if f.rm.Layout == "island" {
		name, seatName = "island", "stool"
	} else if chance(r, 0.15) {
		return
	}
	t := newThing(r, f.cat, name)
	for range 40 {
		t.Yaw = pick(r, 0, math.Pi/2)
		t.Pos = v3(between(r, 0.6, f.rm.W-0.6), between(r, 0.6, f.rm.D-0.6), 0)
		if !f.blocked(t, 0.85) && f.doorClear(t) {
			f.add(t)
			break
		}
	}
	if f.has[name] == 0 {
		return
	}
	n := pick(r, 1, 1, 2, 3)
	for range 12 {
		if f.has[seatName] >= n {
			break
		}
		s := newThing(r, f.cat, seatName)
		side := r.IntN(4)
		tx, ty := t.W/2, t.D/2
		var p render.Vec
		var yaw float64
		slide := between(r, -0.25, 0.25)
		out := between(r, 0.12, 0.3)
		switch side {
		case 0:
			p, yaw = v3(slide, -ty-out, 0), math.Pi
		case 1:
			p, yaw = v3(slide, ty+out, 0), 0
		case 2:
			p, yaw = v3(-tx-out, slide, 0), math.Pi/2
		default:
			p, yaw = v3(tx+out, slide, 0), -math.Pi/2
		}
		if name == "island" {
			if side == 0 {
				continue
			}
			p = p.Add(p.Unit().Scale(0.15))
		}
		s.Pos = t.Point(p)
		s.Yaw = t.Yaw + yaw + 0.12*r.NormFloat64()
		// Seats may reach under a table: only other things and walls count.
		probe := *s
		probe.H = 0.4
		if name == "table" {
			probe.Pos[2] = 0
		}
		clear := true
		for _, o := range f.rm.Things {
			if o == t && name == "table" {
				continue
			}
			ox, oy := o.Extent()
			ex, ey := s.Extent()
			if o.Pos[2] < 1 && abs(s.Pos[0]-o.Pos[0]) < ex+ox+0.05 && abs(s.Pos[1]-o.Pos[1]) < ey+oy+0.05 {
				clear = false
			}
		}
		if clear && s.Pos[0] > 0.5 && s.Pos[1] > 0.5 && s.Pos[0] < f.rm.W-0.5 && s.Pos[1] < f.rm.D-0.5 && f.doorClear(s) {
			f.add(s)
		}
	}
}

// along stands things at free stretches of wall.
func (f *furnisher) along() {
	r := f.r
	order := []string{"fridge", "shelf", "sofa", "bin", "plant", "lamp", "tv", "radiator", "bench", "washing machine", "cupboard", "chair", "stool"}
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	want := 3 + r.IntN(5)
	for _, name := range append([]string{"fridge"}, order...) {
		if f.has[name] > 0 {
			continue
		}
		if want == 0 {
			break
		}
		t := newThing(r, f.cat, name)
		for range 30 {
			wall := r.IntN(4)
			a := between(r, t.W/2+0.03, f.length(wall)-t.W/2-0.03)
			t.Pos, t.Yaw = f.onWall(wall, a, t.D)
			if !f.blocked(t, 0.06) && f.doorClear(t) && f.openBefore(t) {
				f.add(t)
				want--
				break
			}
		}
	}
}

// openBefore keeps a strip in front of a thing free, so that one can get at it.
func (f *furnisher) openBefore(t *Thing) bool {
	p := *t
	p.D = 0.5
	p.Pos = t.Point(v3(0, -t.D/2-0.26, 0))
	return !f.blocked(&p, 0)
}

// tops stands small appliances on worktops.
func (f *furnisher) tops() {
	names := countertop()
	f.r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	want := 2 + f.r.IntN(4)
	for _, name := range names {
		if want == 0 {
			break
		}
		for range 12 {
			i := f.r.IntN(len(f.rm.Things))
			s := f.rm.Things[i]
			if !slices.Contains([]string{"counter", "dishwasher", "oven", "island", "washing machine"}, s.Category) || len(s.Surfaces) == 0 {
				continue
			}
			t := newThing(f.r, f.cat, name)
			sf := s.Surfaces[0]
			if t.W > sf.X1-sf.X0 || t.D > sf.Y1-sf.Y0 {
				continue
			}
			// towards the back
			p := v3(between(f.r, sf.X0+t.W/2, sf.X1-t.W/2), sf.Y1-t.D/2-between(f.r, 0, 0.05), sf.Z)
			t.Pos, t.Yaw, t.On = s.Point(p), s.Yaw, i
			if f.blocked(t, 0.02) {
				continue
			}
			f.add(t)
			want--
			break
		}
	}
}

func (f *furnisher) lamps() {
	rm, r := f.rm, f.r
	bright := between(r, 0.75, 1.15)
	warm := jitter(r, render.Vec{1.05, 0.97, 0.84}, 0.04).Scale(bright)
	n := 1
	if rm.W > 4.6 || chance(r, 0.4) {
		n = 2
	}
	for i := range n {
		x := rm.W * (float32(i) + 0.5) / float32(n)
		rm.lights = append(rm.lights, lamp{v3(x, rm.D*between(r, 0.4, 0.6), rm.H-0.25), warm.Scale(2.6 / float32(n))})
	}
	for _, o := range rm.Openings {
		if o.Window {
			p, _ := f.onWall(o.Wall, (o.A+o.B)/2, 0.3)
			p[2] = (o.Z0 + o.Z1) / 2
			rm.lights = append(rm.lights, lamp{p, render.Vec{0.80, 0.95, 1.15}.Scale(between(r, 0.4, 1.3))})
		}
	}
}
