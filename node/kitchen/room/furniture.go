package room

import (
	"math"
	"math/rand/v2"

	"github.com/stllm/stllm/node/kitchen/render"
)

func (k *kit) legs(t *Thing, m uint16, inset, thick, h float32) {
	for _, s := range [4][2]float32{{-1, -1}, {1, -1}, {-1, 1}, {1, 1}} {
		x, y := s[0]*(t.W/2-inset-thick/2), s[1]*(t.D/2-inset-thick/2)
		k.box(m, x-thick/2, y-thick/2, 0, x+thick/2, y+thick/2, h)
	}
}

func buildTable(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	m := k.style.wood
	if t.variant%3 == 1 { // one column
		k.b.Cylinder(m, render.Vec{}, min(w, d)*0.6, 0.03, 16)
		k.b.Cylinder(m, render.Vec{0, 0, 0.03}, 0.05, t.H-0.06, 10)
	} else {
		k.legs(t, m, 0.03, 0.06, t.H-0.035)
		k.box(m, -w+0.08, -d+0.06, t.H-0.11, w-0.08, -d+0.08, t.H-0.035)
		k.box(m, -w+0.08, d-0.08, t.H-0.11, w-0.08, d-0.06, t.H-0.035)
	}
	k.box(m, -w, -d, t.H-0.035, w, d, t.H)
}

func buildChair(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	m := k.style.darkwood
	seat := float32(0.45)
	k.legs(t, m, 0.01, 0.035, seat-0.03)
	k.box(m, -w, -d, seat-0.03, w, d, seat-0.005)
	k.box(k.style.red, -w+0.02, -d+0.01, seat-0.005, w-0.02, d-0.04, seat+0.02)
	k.box(m, -w, d-0.035, seat, -w+0.035, d, t.H)
	k.box(m, w-0.035, d-0.035, seat, w, d, t.H)
	for i := range 3 {
		z := seat + (t.H-seat)*(0.3+0.3*float32(i))
		k.box(m, -w+0.035, d-0.03, z-0.035, w-0.035, d-0.01, min(t.H, z+0.035))
	}
}

func buildStool(k *kit, t *Thing) {
	m := k.style.steel
	k.b.Cylinder(k.style.clutter[1], render.Vec{0, 0, t.H - 0.05}, t.W/2, 0.05, 16)
	for i := range 4 {
		s, c := math.Sincos(math.Pi/4 + float64(i)*math.Pi/2)
		x, y := float32(c)*t.W/2, float32(s)*t.W/2
		k.b.Rod(m, render.Vec{x * 0.95, y * 0.95, 0}, render.Vec{x * 0.6, y * 0.6, t.H - 0.05}, 0.013, 6)
	}
	k.b.Lathe(m, render.Vec{0, 0, t.H * 0.35}, 12, [2]float32{t.W * 0.40, 0}, [2]float32{t.W * 0.42, 0.01}, [2]float32{t.W * 0.40, 0.02})
}

func buildSofa(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	m := k.style.fabric
	k.box(k.style.darkwood, -w+0.05, -d+0.05, 0, w-0.05, d-0.05, 0.08)
	k.box(m, -w, -d, 0.08, w, d, 0.26)
	k.box(m, -w, -d, 0.26, -w+0.16, d, 0.58)
	k.box(m, w-0.16, -d, 0.26, w, d, 0.58)
	k.box(m, -w+0.16, d-0.2, 0.26, w-0.16, d, t.H)
	for i := range 2 {
		x0 := -w + 0.165 + float32(i)*(w-0.16)
		k.box(m, x0, -d+0.01, 0.26, x0+w-0.17, d-0.2, 0.42)
		k.box(m, x0+0.02, d-0.34, 0.42, x0+w-0.19, d-0.2, t.H-0.06)
	}
}

func buildShelf(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	m := k.style.wood
	k.box(m, -w, -d, 0, -w+0.025, d, t.H)
	k.box(m, w-0.025, -d, 0, w, d, t.H)
	k.box(m, -w+0.025, d-0.01, 0.05, w-0.025, d, t.H)
	r := rand.New(rand.NewPCG(t.seed, 5))
	for i := range shelfLevels {
		z := shelfAt(t, i)
		k.box(m, -w+0.025, -d, z-0.02, w-0.025, d-0.01, z)
		if i == shelfFree || i == shelfLevels-1 {
			continue // kept for items
		}
		for x := -w + 0.06; x < w-0.12; {
			bw, bh := between(r, 0.03, 0.14), between(r, 0.10, 0.24)
			if chance(r, 0.75) {
				c := k.style.clutter[r.IntN(len(k.style.clutter))]
				if chance(r, 0.4) {
					k.b.Cylinder(c, render.Vec{x + bw/2, 0, z}, min(bw/2, d*0.7), bh*0.7, 10)
				} else {
					k.box(c, x, -d*0.6, z, x+bw, d*0.7, z+bh)
				}
			}
			x += bw + 0.02
		}
	}
}

const (
	shelfLevels = 5
	shelfFree   = 2 // the level at table height stays free for items
)

func shelfAt(t *Thing, i int) float32 { return 0.08 + (t.H-0.08)*float32(i)/float32(shelfLevels-1) }

func buildBin(k *kit, t *Thing) {
	r := min(t.W, t.D) / 2
	c := k.style.clutter[2]
	if t.variant%2 == 0 {
		c = k.style.steel
	}
	k.b.Lathe(c, render.Vec{}, 18, [2]float32{0, 0}, [2]float32{r * 0.82, 0}, [2]float32{r, t.H - 0.08}, [2]float32{r, t.H - 0.06})
	k.b.Lathe(k.style.black, render.Vec{0, 0, t.H - 0.06}, 18, [2]float32{r, 0}, [2]float32{r * 0.85, 0.05}, [2]float32{0, 0.06})
	k.box(k.style.black, -0.05, -r-0.05, 0.01, 0.05, -r*0.8, 0.03)
}

func buildPlant(k *kit, t *Thing) {
	r := t.W / 2
	pot := t.H * 0.3
	k.b.Lathe(k.style.pot, render.Vec{}, 14, [2]float32{0, 0}, [2]float32{r * 0.5, 0}, [2]float32{r * 0.66, pot}, [2]float32{r * 0.58, pot})
	k.b.Cylinder(k.style.soil, render.Vec{0, 0, pot - 0.03}, r*0.58, 0.012, 14)
	g := rand.New(rand.NewPCG(t.seed, 7))
	for i := range 22 {
		s, c := math.Sincos(float64(i)*2.4 + g.Float64())
		tilt := between(g, 0.15, 0.95)
		l := between(g, 0.6, 1.0) * (t.H - pot)
		dir := render.Vec{float32(c) * tilt, float32(s) * tilt, 1}.Unit()
		tip := dir.Scale(l)
		tip[0], tip[1] = max(-r, min(r, tip[0])), max(-r, min(r, tip[1]))
		side := render.Vec{float32(-s), float32(c), 0}.Scale(between(g, 0.02, 0.05))
		foot := render.Vec{0, 0, pot - 0.02}
		mid := foot.Add(tip.Scale(0.55)).Add(render.Vec{0, 0, 0.05})
		end := foot.Add(tip)
		k.b.Quad(k.style.leaf, foot.Sub(side.Scale(0.3)), side.Scale(0.6), mid.Sub(foot).Sub(side.Scale(0.7)))
		k.b.Quad(k.style.leaf, mid.Sub(side), side.Scale(2), end.Sub(mid))
	}
}

func buildLamp(k *kit, t *Thing) {
	k.b.Cylinder(k.style.black, render.Vec{}, t.W*0.42, 0.025, 16)
	k.b.Cylinder(k.style.steel, render.Vec{0, 0, 0.025}, 0.014, t.H-0.25, 8)
	k.b.Lathe(k.style.shade, render.Vec{0, 0, t.H - 0.30}, 18, [2]float32{t.W / 2, 0}, [2]float32{t.W * 0.32, 0.30})
}

func buildTV(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.darkwood, -w, -d, 0.04, w, d, 0.45)
	k.box(k.style.black, -0.12, -0.08, 0.45, 0.12, 0.08, 0.465)
	k.box(k.style.black, -0.03, 0, 0.465, 0.03, 0.03, 0.55)
	k.box(k.style.black, -w*0.94, 0, 0.52, w*0.94, 0.05, t.H)
	k.box(k.style.screen, -w*0.92, -0.004, 0.54, w*0.92, 0, t.H-0.02)
}

func buildRadiator(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	n := int(t.W / 0.06)
	for i := range n {
		x := -w + t.W*(float32(i)+0.5)/float32(n)
		k.box(k.style.white, x-0.022, -d, 0.12, x+0.022, d*0.5, t.H)
	}
	k.box(k.style.white, -w, -d*0.5, 0.16, w, d*0.2, 0.20)
	k.box(k.style.white, -w, -d*0.5, t.H-0.08, w, d*0.2, t.H-0.04)
}

func buildBench(k *kit, t *Thing) {
	k.legs(t, k.style.darkwood, 0.03, 0.06, t.H-0.04)
	k.box(k.style.darkwood, -t.W/2, -t.D/2, t.H-0.04, t.W/2, t.D/2, t.H)
}

func buildKettle(k *kit, t *Thing) {
	r := t.W * 0.36
	m := k.style.steel
	if t.variant%2 == 0 {
		m = k.style.red
	}
	k.b.Cylinder(k.style.black, render.Vec{}, r*1.1, 0.025, 14)
	k.b.Lathe(m, render.Vec{0, 0, 0.025}, 14, [2]float32{r, 0}, [2]float32{r * 0.72, t.H - 0.07}, [2]float32{r * 0.3, t.H - 0.045})
	k.b.Cylinder(k.style.black, render.Vec{0, 0, t.H - 0.05}, r*0.3, 0.045, 8)
	k.b.Rod(m, render.Vec{-r * 0.7, 0, t.H * 0.6}, render.Vec{-r * 1.35, 0, t.H * 0.85}, 0.022, 6)
	k.b.Rod(k.style.black, render.Vec{r * 0.8, 0, t.H * 0.85}, render.Vec{r * 1.3, 0, t.H * 0.8}, 0.014, 6)
	k.b.Rod(k.style.black, render.Vec{r * 1.3, 0, t.H * 0.8}, render.Vec{r * 1.2, 0, t.H * 0.25}, 0.014, 6)
}

func buildToaster(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.steel, -w, -d, 0.015, w, d, t.H)
	k.box(k.style.black, -w+0.03, -d*0.55, t.H, w-0.03, -d*0.2, t.H+0.002)
	k.box(k.style.black, -w+0.03, d*0.2, t.H, w-0.03, d*0.55, t.H+0.002)
	k.box(k.style.paper, -w+0.06, -d*0.5, t.H-0.03, w-0.06, -d*0.25, t.H+0.03)
	k.box(k.style.black, w, -0.02, t.H*0.55, w+0.02, 0.02, t.H*0.65)
}

func buildCoffee(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	m := k.style.black
	k.box(m, -w, -d, 0, w, d, 0.05)
	k.box(m, -w, d*0.2, 0.05, w, d, t.H)
	k.box(m, -w, -d, t.H-0.13, w, d*0.2, t.H)
	k.b.Lathe(k.style.glass, render.Vec{0, -d * 0.4, 0.05}, 12, [2]float32{w * 0.6, 0}, [2]float32{w * 0.75, 0.07}, [2]float32{w * 0.4, 0.15})
	k.box(k.style.red, -0.02, -d-0.004, t.H-0.08, 0.02, -d, t.H-0.05)
}

func buildBlender(k *kit, t *Thing) {
	r := t.W / 2
	k.b.Lathe(k.style.clutter[3], render.Vec{}, 12, [2]float32{r, 0}, [2]float32{r * 0.7, 0.12})
	k.b.Lathe(k.style.water, render.Vec{0, 0, 0.12}, 12, [2]float32{r * 0.55, 0}, [2]float32{r * 0.8, t.H - 0.17})
	k.b.Lathe(k.style.black, render.Vec{0, 0, t.H - 0.05}, 12, [2]float32{r * 0.82, 0}, [2]float32{r * 0.8, 0.035}, [2]float32{0, 0.05})
}

func buildRack(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.steel, -w, -d, 0, w, d, 0.015)
	for i := range 7 {
		x := -w + 0.03 + float32(i)*(t.W-0.06)/6
		k.b.Rod(k.style.steel, render.Vec{x, -d, 0.02}, render.Vec{x, d * 0.4, t.H}, 0.005, 5)
		if i%2 == 0 {
			k.box(k.style.white, x+0.01, -d*0.8, 0.02, x+0.02, d*0.6, t.H*0.95)
		}
	}
}

func buildBread(k *kit, t *Thing) {
	w, d := t.W/2, t.D/2
	k.box(k.style.wood, -w, -d, 0, w, d, t.H*0.55)
	k.box(k.style.wood, -w, -d*0.55, t.H*0.55, w, d, t.H)
	k.box(k.style.darkwood, -0.05, -d-0.01, t.H*0.35, 0.05, -d, t.H*0.42)
}
