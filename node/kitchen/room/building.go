package room

import "github.com/stllm/stllm/node/kitchen/render"

// decorate adds what belongs to no piece of furniture: a rug, pictures, an extractor hood, jars and boards on worktops.
func (f *furnisher) decorate() {
	rm, r := f.rm, f.r
	clutter := func() uint16 { return pick(r, rm.style.clutter...) }
	if chance(r, 0.4) {
		w, d := between(r, 0.9, 1.6), between(r, 0.6, 1.0)
		x, y := between(r, w/2+0.7, rm.W-w/2-0.7), between(r, d/2+0.7, rm.D-d/2-0.7)
		rm.rug = &box{v3(x-w/2, y-d/2, 0), v3(x+w/2, y+d/2, 0.012)}
	}
	for range 1 + r.IntN(4) {
		wall := r.IntN(4)
		a := between(r, 0.4, f.length(wall)-0.4)
		probe := &Thing{W: 0.6, D: 0.3, H: 0.8}
		probe.Pos, probe.Yaw = f.onWall(wall, a, 0.3)
		probe.Pos[2] = 1.3
		if f.blocked(probe, 0) || f.inDoorway(wall, a-0.3, a+0.3) || f.inWindow(wall, a-0.35, a+0.35) {
			continue
		}
		p, yaw := f.onWall(wall, a, 0.03)
		p[2] = between(r, 1.4, 1.6)
		rm.decor = append(rm.decor, decor{pos: p, yaw: yaw, kind: decorPicture, size: v3(between(r, 0.25, 0.5), 0.03, between(r, 0.3, 0.5)), mat: clutter()})
	}
	for i, t := range rm.Things {
		if t.Category == "hob" && t.Pos[2] == 0 {
			rm.decor = append(rm.decor, decor{pos: t.Point(v3(0, t.D/2-0.25, 0)), yaw: t.Yaw, kind: decorHood, size: v3(min(t.W, 0.6), 0.45, 0)})
		}
		if t.Category != "counter" && t.Category != "dishwasher" && t.Category != "oven" || len(t.Surfaces) == 0 {
			continue
		}
		s := t.Surfaces[0]
		for range r.IntN(3) {
			size := v3(between(r, 0.05, 0.09), between(r, 0.05, 0.09), between(r, 0.1, 0.2))
			p := v3(between(r, s.X0, s.X1), s.Y1-between(r, 0, 0.06), s.Z)
			at := t.Point(p)
			if f.onTop(i, at, 0.12) {
				continue
			}
			rm.decor = append(rm.decor, decor{pos: at, yaw: t.Yaw, kind: pick(r, decorJar, decorBox), size: size, mat: clutter()})
		}
	}
}

const (
	decorPicture = iota
	decorHood
	decorJar
	decorBox
)

func (f *furnisher) inWindow(wall int, a, b float32) bool {
	for _, o := range f.rm.Openings {
		if o.Window && o.Wall == wall && a < o.B && b > o.A {
			return true
		}
	}
	return false
}

// onTop tells whether something stands near a place on thing i.
func (f *furnisher) onTop(i int, p render.Vec, gap float32) bool {
	for _, o := range f.rm.Things {
		if o.On != i {
			continue
		}
		ex, ey := o.Extent()
		if abs(p[0]-o.Pos[0]) < ex+gap && abs(p[1]-o.Pos[1]) < ey+gap {
			return true
		}
	}
	for _, d := range f.rm.decor {
		if abs(p[0]-d.pos[0]) < gap && abs(p[1]-d.pos[1]) < gap && abs(p[2]-d.pos[2]) < 0.1 {
			return true
		}
	}
	return false
}

// building adds floor, ceiling, walls with their openings, lamps and decoration.
func (r *Room) building(k *kit) {
	b, s := k.b, &r.style
	b.Place(v3(0, 0, 0), 0)
	b.Object = ObjFloor
	b.Quad(s.floor, v3(0, 0, 0), v3(r.W, 0, 0), v3(0, r.D, 0))
	b.Object = ObjWall
	b.MaxEdge = 0.8
	b.Quad(s.ceiling, v3(0, r.D, r.H), v3(r.W, 0, 0), v3(0, -r.D, 0))
	b.MaxEdge = 0.42
	for wall := range 4 {
		r.wall(k, wall)
	}
	b.Object = ObjWall
	for _, l := range r.lights {
		if l.pos[2] > r.H-0.4 {
			b.Place(v3(l.pos[0], l.pos[1], 0), 0)
			b.Lathe(s.lampGlow, v3(0, 0, r.H-0.14), 14, [2]float32{0, 0}, [2]float32{0.13, 0.03}, [2]float32{0.16, 0.14})
		}
	}
	b.Object = ObjClutter
	if r.rug != nil {
		b.Place(v3(0, 0, 0), 0)
		b.Box(s.fabric, r.rug.lo, r.rug.hi, render.Bottom)
	}
	for _, d := range r.decor {
		b.Place(d.pos, d.yaw)
		w, h := d.size[0]/2, d.size[2]
		switch d.kind {
		case decorPicture:
			k.box(s.darkwood, -w, -0.015, 0, w, 0.015, h)
			k.box(s.paper, -w+0.02, -0.018, 0.02, w-0.02, -0.015, h-0.02)
			k.box(d.mat, -w*0.6, -0.021, h*0.2, w*0.5, -0.018, h*0.75)
		case decorHood:
			k.box(s.steel, -w, -0.25, 1.55, w, 0.25, 1.63)
			k.box(s.steel, -0.14, -0.02, 1.63, 0.14, 0.24, r.H-0.01)
		case decorJar:
			b.Cylinder(d.mat, v3(0, 0, 0), w, h*0.85, 10)
			b.Cylinder(s.darkwood, v3(0, 0, h*0.85), w*0.9, h*0.15, 10)
		case decorBox:
			k.box(d.mat, -w, -d.size[1]/2, 0, w, d.size[1]/2, h)
		}
	}
}

// wall builds one wall in a frame with x along it, −y into the room: strips around the openings, tiles between worktop and
// cabinets.
func (r *Room) wall(k *kit, wall int) {
	b, s := k.b, &r.style
	length := r.W
	switch wall {
	case 0:
		b.Place(v3(0, r.D, 0), 0)
	case 1:
		b.Frame(v3(0, 1, 0), v3(-1, 0, 0), v3(0, 0, 1), v3(0, 0, 0))
		length = r.D
	case 2:
		b.Frame(v3(-1, 0, 0), v3(0, -1, 0), v3(0, 0, 1), v3(r.W, 0, 0))
	case 3:
		b.Frame(v3(0, -1, 0), v3(1, 0, 0), v3(0, 0, 1), v3(r.W, r.D, 0))
		length = r.D
	}
	b.Object = ObjWall
	flip := wall >= 2 // the frame runs against the along coordinate
	strip := func(a, c, z0, z1 float32) {
		if c-a < 1e-4 || z1-z0 < 1e-4 {
			return
		}
		b.Quad(s.wall, v3(a, 0, z0), v3(c-a, 0, 0), v3(0, 0, z1-z0))
	}
	at := float32(0)
	for _, o := range r.sorted(wall, flip, length) {
		strip(at, o.A, 0, r.H)
		strip(o.A, o.B, 0, o.Z0)
		strip(o.A, o.B, o.Z1, r.H)
		at = o.B
		m := s.trim
		const deep = 0.09
		// the reveal around the opening
		b.Quad(m, v3(o.A, 0, o.Z0), v3(0, deep, 0), v3(0, 0, o.Z1-o.Z0))
		b.Quad(m, v3(o.B, deep, o.Z0), v3(0, -deep, 0), v3(0, 0, o.Z1-o.Z0))
		b.Quad(m, v3(o.A, 0, o.Z0), v3(o.B-o.A, 0, 0), v3(0, deep, 0))
		b.Quad(m, v3(o.A, deep, o.Z1), v3(o.B-o.A, 0, 0), v3(0, -deep, 0))
		if o.Window {
			b.Quad(s.daylight, v3(o.A, deep, o.Z0), v3(o.B-o.A, 0, 0), v3(0, 0, o.Z1-o.Z0))
			mid := (o.A + o.B) / 2
			for _, x := range []float32{o.A + 0.02, mid, o.B - 0.02} {
				k.box(m, x-0.02, deep-0.04, o.Z0, x+0.02, deep-0.005, o.Z1)
			}
			k.box(m, o.A, deep-0.04, o.Z0, o.B, deep-0.005, o.Z0+0.04)
			k.box(m, o.A, deep-0.04, o.Z1-0.04, o.B, deep-0.005, o.Z1)
		} else {
			b.Quad(s.wood, v3(o.A, deep, o.Z0), v3(o.B-o.A, 0, 0), v3(0, 0, o.Z1-o.Z0))
			k.box(s.steel, o.A+0.06, deep-0.05, 1.0, o.A+0.18, deep-0.02, 1.02)
		}
		k.box(m, o.A-0.06, -0.012, max(0, o.Z0-0.06), o.A, 0, o.Z1+0.06)
		k.box(m, o.B, -0.012, max(0, o.Z0-0.06), o.B+0.06, 0, o.Z1+0.06)
		k.box(m, o.A, -0.012, o.Z1, o.B, 0, o.Z1+0.06)
	}
	strip(at, length, 0, r.H)
	// tiles behind the worktops of this wall
	for _, t := range r.Things {
		if t.Pos[2] > 0 || t.H > 1.2 || t.H < 0.8 || t.On >= 0 || t.wallOf(r) != wall {
			continue
		}
		along := t.Pos[0]
		if wall%2 == 1 {
			along = t.Pos[1]
		}
		if flip {
			along = length - along
		}
		z1 := float32(1.45)
		for _, o := range r.sorted(wall, flip, length) {
			if o.Window && along+t.W/2 > o.A-0.06 && along-t.W/2 < o.B+0.06 {
				z1 = min(z1, o.Z0-0.06)
			}
		}
		if z1 > t.H+0.05 {
			b.Quad(s.splash, v3(along-t.W/2, -0.006, t.H), v3(t.W, 0, 0), v3(0, 0, z1-t.H))
		}
	}
}

// sorted are the openings of a wall in the wall's own direction.
func (r *Room) sorted(wall int, flip bool, length float32) []Opening {
	var out []Opening
	for _, o := range r.Openings {
		if o.Wall != wall {
			continue
		}
		if flip {
			o.A, o.B = length-o.B, length-o.A
		}
		out = append(out, o)
	}
	if len(out) == 2 && out[0].A > out[1].A {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// wallOf is the wall that a thing's back stands at, -1 for none. Only units of a run count: what stands free has no tiles.
func (t *Thing) wallOf(r *Room) int {
	switch t.Category {
	case "counter", "sink", "hob", "oven", "dishwasher":
	default:
		return -1
	}
	const touch = 0.02
	back := t.Point(v3(0, t.D/2, 0))
	f := t.Front()
	switch {
	case f[1] < -0.9 && r.D-back[1] < touch:
		return 0
	case f[0] > 0.9 && back[0] < touch:
		return 1
	case f[1] > 0.9 && back[1] < touch:
		return 2
	case f[0] < -0.9 && r.W-back[0] < touch:
		return 3
	}
	return -1
}
