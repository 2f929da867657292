package room

import "github.com/stllm/stllm/node/kitchen/render"

// The functions here build the pieces of a kitchen run. All work in the piece's own frame, front towards −y.

const (
	plinthHigh = 0.10
	slab       = 0.04 // thickness of a worktop
	panel      = 0.02 // thickness of a front
)

// handle puts a handle on a front at y: a bar of length l along x (or z when upright), or a knob.
func (k *kit) handle(x, y, z, l float32, upright bool) {
	m := k.style.handle
	switch k.style.handleKind {
	case 0:
		if upright {
			k.box(m, x-0.008, y-0.035, z-l/2, x+0.008, y-0.02, z+l/2)
			k.box(m, x-0.006, y-0.02, z-l/2+0.01, x+0.006, y, z-l/2+0.03)
			k.box(m, x-0.006, y-0.02, z+l/2-0.03, x+0.006, y, z+l/2-0.01)
		} else {
			k.box(m, x-l/2, y-0.035, z-0.008, x+l/2, y-0.02, z+0.008)
			k.box(m, x-l/2+0.01, y-0.02, z-0.006, x-l/2+0.03, y, z+0.006)
			k.box(m, x+l/2-0.03, y-0.02, z-0.006, x+l/2-0.01, y, z+0.006)
		}
	case 1:
		k.b.Rod(m, render.Vec{x, y, z}, render.Vec{x, y - 0.03, z}, 0.016, 8)
	default:
		if upright {
			k.box(m, x-0.012, y-0.006, z-l/2, x+0.012, y, z+l/2)
		} else {
			k.box(m, x-l/2, y-0.006, z-0.012, x+l/2, y, z+0.012)
		}
	}
}

// base is the body of a unit under a worktop, without fronts.
func (k *kit) base(t *Thing, m uint16) {
	w, d := t.W/2, t.D/2
	k.box(k.style.plinth, -w, -d+0.06, 0, w, d, plinthHigh)
	k.box(m, -w, -d+panel, plinthHigh, w, d, t.H-slab)
}

func (k *kit) worktop(t *Thing) {
	k.box(k.style.top, -t.W/2, -t.D/2-0.02, t.H-slab, t.W/2, t.D/2, t.H)
}

// fronts are n columns of doors or drawers between two heights.
func (k *kit) fronts(t *Thing, z0, z1 float32, columns, rows int, drawers bool) {
	const gap = 0.004
	w := t.W / float32(columns)
	h := (z1 - z0) / float32(rows)
	for i := range columns {
		for j := range rows {
			x0, y := -t.W/2+float32(i)*w, -t.D/2
			z := z0 + float32(j)*h
			k.box(k.style.front, x0+gap, y, z+gap, x0+w-gap, y+panel, z+h-gap)
			if drawers {
				k.handle(x0+w/2, y, z+h*0.7, min(0.3, w*0.5), false)
			} else {
				side := x0 + w - 0.05
				if i%2 == 1 {
					side = x0 + 0.05
				}
				k.handle(side, y, z+h*0.75, min(0.2, h*0.4), true)
			}
		}
	}
}

func buildCounter(k *kit, t *Thing) {
	k.base(t, k.style.front)
	columns := max(1, int(t.W/0.55+0.5))
	if t.variant%3 == 0 {
		k.fronts(t, plinthHigh, t.H-slab, columns, 3, true)
	} else {
		z := t.H - slab - 0.16
		k.fronts(t, plinthHigh, z, columns, 1, false)
		k.fronts(t, z, t.H-slab, columns, 1, true)
	}
	k.worktop(t)
}

// buildCorner is a counter whose front is blind.
func buildCorner(k *kit, t *Thing) {
	k.base(t, k.style.front)
	k.worktop(t)
}

func buildIsland(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.plinth, -w+0.05, -d+0.06, 0, w-0.05, d-0.06, plinthHigh)
	k.box(k.style.front, -w, -d+panel, plinthHigh, w, d, t.H-slab)
	k.fronts(t, plinthHigh, t.H-slab, max(2, int(t.W/0.5)), 1, false)
	k.box(k.style.top, -w-0.04, -d-0.04, t.H-slab, w+0.04, d+0.04, t.H)
}

func buildSink(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.plinth, -w, -d+0.06, 0, w, d, plinthHigh)
	k.box(k.style.front, -w, -d+panel, plinthHigh, w, d, t.H-0.17) // below the bowl; fronts and neighbours hide the rest
	k.fronts(t, plinthHigh, t.H-slab, 2, 1, false)
	k.box(k.style.front, -w, -d+panel, t.H-0.17, -w+0.02, d, t.H-slab)
	k.box(k.style.front, w-0.02, -d+panel, t.H-0.17, w, d, t.H-slab)
	// The worktop leaves a bowl open: four strips and a sunken steel bowl.
	bx0, bx1, by0, by1 := -w*0.62, w*0.62, -d+0.09, d-0.16
	if t.variant%2 == 0 {
		bx1 = w * 0.2 // a drainer to the right
	}
	top := k.style.top
	z0, z1 := t.H-slab, t.H
	k.box(top, -w, -d-0.02, z0, w, by0, z1)
	k.box(top, -w, by1, z0, w, d, z1)
	k.box(top, -w, by0, z0, bx0, by1, z1)
	k.box(top, bx1, by0, z0, w, by1, z1)
	s, deep := k.style.steel, float32(0.16)
	b := k.b
	b.Quad(s, render.Vec{bx0, by0, z1 - deep}, render.Vec{bx1 - bx0, 0, 0}, render.Vec{0, by1 - by0, 0})
	b.Quad(s, render.Vec{bx0, by1, z1 - deep}, render.Vec{bx1 - bx0, 0, 0}, render.Vec{0, 0, deep})
	b.Quad(s, render.Vec{bx1, by0, z1 - deep}, render.Vec{bx0 - bx1, 0, 0}, render.Vec{0, 0, deep})
	b.Quad(s, render.Vec{bx0, by0, z1 - deep}, render.Vec{0, by1 - by0, 0}, render.Vec{0, 0, deep})
	b.Quad(s, render.Vec{bx1, by1, z1 - deep}, render.Vec{0, by0 - by1, 0}, render.Vec{0, 0, deep})
	// rim and drainer
	k.box(s, bx0-0.015, by0-0.015, z1, bx1+0.015, by0, z1+0.006)
	k.box(s, bx0-0.015, by1, z1, bx1+0.015, by1+0.015, z1+0.006)
	k.box(s, bx0-0.015, by0, z1, bx0, by1, z1+0.006)
	k.box(s, bx1, by0, z1, bx1+0.015, by1, z1+0.006)
	if t.variant%2 == 0 {
		for i := range 6 {
			x := w*0.3 + float32(i)*w*0.11
			k.box(s, x, by0, z1, x+0.012, by1, z1+0.006)
		}
	}
	// tap: a column, a bow and a lever
	x := (bx0 + bx1) / 2
	y := by1 + 0.07
	b.Cylinder(s, render.Vec{x, y, z1}, 0.022, 0.26, 8)
	b.Rod(s, render.Vec{x, y, z1 + 0.25}, render.Vec{x, y - 0.10, z1 + 0.30}, 0.014, 6)
	b.Rod(s, render.Vec{x, y - 0.10, z1 + 0.30}, render.Vec{x, y - 0.18, z1 + 0.27}, 0.014, 6)
	b.Rod(s, render.Vec{x, y - 0.18, z1 + 0.28}, render.Vec{x, y - 0.18, z1 + 0.22}, 0.014, 6)
	b.Rod(s, render.Vec{x + 0.02, y, z1 + 0.16}, render.Vec{x + 0.10, y - 0.02, z1 + 0.20}, 0.009, 6)
}

// tapPoint is where the water of buildSink leaves the tap.
func tapPoint(t *Thing) *render.Vec {
	w, d := t.W/2, t.D/2
	bx0, bx1 := -w*0.62, w*0.62
	if t.variant%2 == 0 {
		bx1 = w * 0.2
	}
	return &render.Vec{(bx0 + bx1) / 2, d - 0.09 - 0.18, t.H + 0.22}
}

func buildHob(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.base(t, k.style.front)
	k.fronts(t, plinthHigh, t.H-slab, 1, 3, true)
	k.worktop(t)
	p := min(w-0.02, 0.30)
	z := t.H
	if t.variant%2 == 0 { // glass with rings
		k.box(k.style.glass, -p, -d+0.05, z, p, d-0.06, z+0.008)
		for i, c := range hobRings(t) {
			r := float32(0.075 + 0.02*float32(i%2))
			k.b.Lathe(k.style.steel, render.Vec{c[0], c[1], z + 0.008}, 16, [2]float32{r, 0}, [2]float32{r, 0.002}, [2]float32{r - 0.012, 0.002})
			k.b.Lathe(k.style.red, render.Vec{c[0], c[1], z + 0.008}, 12, [2]float32{r * 0.5, 0.001}, [2]float32{r*0.5 - 0.006, 0.0012})
		}
	} else { // gas with grates
		k.box(k.style.steel, -p, -d+0.05, z, p, d-0.06, z+0.012)
		for _, c := range hobRings(t) {
			k.b.Cylinder(k.style.black, render.Vec{c[0], c[1], z + 0.012}, 0.05, 0.016, 12)
			k.box(k.style.black, c[0]-0.10, c[1]-0.006, z+0.03, c[0]+0.10, c[1]+0.006, z+0.042)
			k.box(k.style.black, c[0]-0.006, c[1]-0.10, z+0.03, c[0]+0.006, c[1]+0.10, z+0.042)
		}
	}
	for i := range 4 {
		k.b.Cylinder(k.style.black, render.Vec{-0.12 + 0.08*float32(i), -d + 0.075, z + 0.008}, 0.016, 0.02, 8)
	}
}

func hobRings(t *Thing) [4]render.Vec {
	p, d := min(t.W/2-0.02, 0.30), t.D/2
	return [4]render.Vec{{-p * 0.5, -d*0.3 + 0.02, 0}, {p * 0.5, -d*0.3 + 0.02, 0}, {-p * 0.5, d * 0.45, 0}, {p * 0.5, d * 0.45, 0}}
}

// openBox is a carcass that is hollow: back, sides, floor, ceiling and shelves; the front is a door.
func (k *kit) openBox(out uint16, x0, y0, z0, x1, y1, z1, wall float32, shelves int) {
	in := k.style.interior
	k.box(out, x0, y0, z0, x0+wall, y1, z1)
	k.box(out, x1-wall, y0, z0, x1, y1, z1)
	k.box(out, x0+wall, y0, z0, x1-wall, y1, z0+wall)
	k.box(out, x0+wall, y0, z1-wall, x1-wall, y1, z1)
	k.box(out, x0+wall, y1-wall, z0+wall, x1-wall, y1, z1-wall)
	const e = 0.001 // a lining over the outer material
	b := k.b
	ax0, ax1, az0, az1, ay1 := x0+wall+e, x1-wall-e, z0+wall+e, z1-wall-e, y1-wall-e
	b.Quad(in, render.Vec{ax0, ay1, az0}, render.Vec{ax1 - ax0, 0, 0}, render.Vec{0, 0, az1 - az0})
	b.Quad(in, render.Vec{ax0, y0, az0}, render.Vec{0, ay1 - y0, 0}, render.Vec{0, 0, az1 - az0})
	b.Quad(in, render.Vec{ax1, ay1, az0}, render.Vec{0, y0 - ay1, 0}, render.Vec{0, 0, az1 - az0})
	b.Quad(in, render.Vec{ax0, y0, az0}, render.Vec{ax1 - ax0, 0, 0}, render.Vec{0, ay1 - y0, 0})
	for i := range shelves {
		z := az0 + (az1-az0)*float32(i+1)/float32(shelves+1)
		k.box(in, ax0, y0+0.04, z, ax1, ay1, z+0.012)
		for j := range 3 {
			m := k.style.clutter[(i*3+j)%len(k.style.clutter)]
			x := ax0 + (ax1-ax0)*(0.2+0.28*float32(j))
			k.box(m, x-0.04, y0+0.12, z+0.012, x+0.04, y0+0.24, z+0.012+0.09+0.03*float32((i+j)%3))
		}
	}
}

// sideDoor adds a door over (x0..x1, z0..z1) with a side hinge. left says that the hinge is at x0.
func (t *Thing) sideDoor(x0, x1, z0, z1, thick float32, left bool, mat func(k *kit) uint16, angle float64, extra func(k *kit, w, h float32)) {
	w, h := x1-x0, z1-z0
	d := Door{Axis: 'z'}
	if left {
		d.Hinge, d.Angle, d.Grip = render.Vec{x0, -t.D / 2, z0}, -angle, render.Vec{w - 0.05, -0.03, h * 0.5}
	} else {
		d.Hinge, d.Angle, d.Grip = render.Vec{x1, -t.D / 2, z0}, angle, render.Vec{-w + 0.05, -0.03, h * 0.5}
	}
	d.build = func(k *kit) {
		lo, hi := float32(0.003), w-0.003
		grip := w - 0.05
		if !left {
			lo, hi, grip = -w+0.003, -0.003, -w+0.05
		}
		k.box(mat(k), lo, 0, 0.003, hi, thick, h-0.003)
		k.handle(grip, 0, h*0.5, min(0.35, h*0.4), true)
		if extra != nil {
			extra(k, w, h)
		}
	}
	t.Doors = append(t.Doors, d)
}

// flap adds a door over (x0..x1, z0..z1) that turns about its lower edge.
func (t *Thing) flap(x0, x1, z0, z1, thick float32, angle float64, build func(k *kit, w, h float32)) {
	w, h := x1-x0, z1-z0
	t.Doors = append(t.Doors, Door{Axis: 'x', Hinge: render.Vec{x0, -t.D / 2, z0}, Angle: angle, Grip: render.Vec{w / 2, -0.03, h - 0.06},
		build: func(k *kit) { build(k, w, h) }})
}

func appliance(k *kit) uint16 { return k.style.appliance }
func front(k *kit) uint16     { return k.style.front }

func buildFridge(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	split := t.H * 0.36
	k.box(k.style.plinth, -w+0.02, -d+0.06, 0, w-0.02, d, 0.05)
	if t.variant%2 == 0 { // freezer below
		k.box(k.style.appliance, -w, -d+0.05, 0.05, w, d, split)
		k.box(k.style.appliance, -w+0.003, -d, 0.055, w-0.003, -d+0.05, split-0.004)
		k.handle(w-0.06, -d, split-0.12, 0.18, true)
	} else {
		split = 0.05
	}
	k.openBox(k.style.appliance, -w, -d+0.055, split, w, d, t.H, 0.04, 3)
}

func doorsFridge(t *Thing) {
	split := t.H * 0.36
	if t.variant%2 != 0 {
		split = 0.05
	}
	t.sideDoor(-t.W/2, t.W/2, split, t.H, 0.05, t.variant%4 < 2, appliance, 1.75, nil)
}

func buildCupboard(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.plinth, -w, -d+0.06, 0, w, d, plinthHigh)
	k.openBox(k.style.front, -w, -d+panel, plinthHigh, w, d, t.H, panel, 4)
}

func doorsCupboard(t *Thing) {
	if t.W > 0.7 {
		t.sideDoor(-t.W/2, 0, plinthHigh, t.H, panel, true, front, 1.9, nil)
		t.sideDoor(0, t.W/2, plinthHigh, t.H, panel, false, front, 1.9, nil)
		return
	}
	t.sideDoor(-t.W/2, t.W/2, plinthHigh, t.H, panel, t.variant%2 == 0, front, 1.9, nil)
}

func buildCabinet(k *kit, t *Thing) {
	k.openBox(k.style.front, -t.W/2, -t.D/2+panel, 0, t.W/2, t.D/2, t.H, panel, 1)
}

func doorsCabinet(t *Thing) {
	n := max(1, int(t.W/0.5+0.5))
	for i := range n {
		x := -t.W/2 + t.W*float32(i)/float32(n)
		t.sideDoor(x, x+t.W/float32(n), 0, t.H, panel, i%2 == 0, front, 1.9, nil)
	}
}

// ovenZone is where the oven door lies: in a tall housing at breast height, or under the worktop.
func ovenZone(t *Thing) (z0, z1 float32) {
	if t.H > 1.2 {
		return 0.75, 1.30
	}
	return plinthHigh, t.H - slab - 0.13
}

func buildOven(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	z0, z1 := ovenZone(t)
	k.box(k.style.plinth, -w, -d+0.06, 0, w, d, plinthHigh)
	k.openBox(k.style.black, -w, -d+0.03, z0, w, d, z1, 0.04, 1)
	k.box(k.style.steel, -w, -d, z1, w, d, z1+0.13)
	for i := range 4 {
		x := -w + t.W*(0.2+0.2*float32(i))
		k.b.Rod(k.style.black, render.Vec{x, -d, z1 + 0.065}, render.Vec{x, -d - 0.025, z1 + 0.065}, 0.022, 10)
	}
	k.box(k.style.screen, -0.06, -d-0.003, z1+0.04, 0.06, -d, z1+0.09)
	if t.H > 1.2 {
		k.box(k.style.front, -w, -d+panel, plinthHigh, w, d, z0)
		k.box(k.style.front, -w, -d+panel, z1+0.13, w, d, t.H)
		save := *t
		k.fronts(&save, plinthHigh, z0, 1, 2, true)
		k.fronts(&save, z1+0.13, t.H, 1, 1, false)
		return
	}
	k.worktop(t)
}

func doorsOven(t *Thing) {
	z0, z1 := ovenZone(t)
	t.flap(-t.W/2, t.W/2, z0, z1, 0.03, 1.45, func(k *kit, w, h float32) {
		k.box(k.style.steel, 0.004, 0, 0.004, w-0.004, 0.03, h-0.004)
		k.box(k.style.glass, 0.07, -0.004, 0.08, w-0.07, 0, h-0.12)
		k.box(k.style.steel, 0.08, -0.045, h-0.075, w-0.08, -0.03, h-0.055)
		k.box(k.style.steel, 0.09, -0.03, h-0.072, 0.11, 0, h-0.058)
		k.box(k.style.steel, w-0.11, -0.03, h-0.072, w-0.09, 0, h-0.058)
	})
}

func buildDishwasher(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.plinth, -w, -d+0.06, 0, w, d, plinthHigh)
	k.openBox(k.style.steel, -w, -d+0.03, plinthHigh, w, d, t.H-slab, 0.03, 1)
	k.worktop(t)
}

func doorsDishwasher(t *Thing) {
	t.flap(-t.W/2, t.W/2, plinthHigh, t.H-slab, 0.03, 1.4, func(k *kit, w, h float32) {
		k.box(k.style.appliance, 0.004, 0, 0.004, w-0.004, 0.03, h-0.004)
		k.box(k.style.black, 0.004, -0.003, h-0.11, w-0.004, 0, h-0.01)
		k.box(k.style.steel, 0.12, -0.03, h-0.16, w-0.12, -0.012, h-0.14)
	})
}

func buildWasher(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.white, -w, -d, 0.02, w, d, t.H)
	k.box(k.style.plinth, -w+0.02, -d+0.03, 0, w-0.02, d, 0.02)
	k.b.Rod(k.style.steel, render.Vec{0, -d, t.H * 0.46}, render.Vec{0, -d - 0.03, t.H * 0.46}, 0.20, 20)
	k.b.Rod(k.style.glass, render.Vec{0, -d - 0.03, t.H * 0.46}, render.Vec{0, -d - 0.036, t.H * 0.46}, 0.15, 20)
	k.box(k.style.clutter[0], -w, -d-0.004, t.H-0.13, -w+0.17, -d, t.H-0.02)
	k.b.Rod(k.style.steel, render.Vec{w * 0.3, -d, t.H - 0.075}, render.Vec{w * 0.3, -d - 0.03, t.H - 0.075}, 0.035, 12)
	k.box(k.style.screen, w*0.55, -d-0.003, t.H-0.10, w*0.9, -d, t.H-0.05)
}

func buildMicrowave(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	side := t.W * 0.27
	k.openBox(k.style.black, -w, -d+0.025, 0.01, w-side, d, t.H, 0.02, 0)
	k.box(k.style.black, w-side, -d, 0.01, w, d, t.H)
	k.box(k.style.screen, w-side+0.015, -d-0.003, t.H-0.07, w-0.015, -d, t.H-0.03)
	for i := range 9 {
		x, z := w-side+0.02+float32(i%3)*side*0.27, t.H-0.11-float32(i/3)*0.035
		k.box(k.style.white, x, -d-0.003, z, x+0.018, -d, z+0.018)
	}
}

func doorsMicrowave(t *Thing) {
	t.sideDoor(-t.W/2, t.W/2-t.W*0.27, 0.01, t.H, 0.025, true, func(k *kit) uint16 { return k.style.steel }, 1.7, func(k *kit, w, h float32) {
		k.box(k.style.glass, 0.04, -0.003, 0.04, w-0.06, 0, h-0.04)
	})
}
