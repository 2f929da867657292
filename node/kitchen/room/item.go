package room

import (
	"math/rand/v2"

	"github.com/stllm/stllm/node/kitchen/render"
)

// Item is a small thing that people carry about; the map lacks it. Its frame has the origin at the middle of its underside.
type Item struct {
	Kind    string
	W, D, H float32
	mat     [2]uint16
	build   func(k *kit, it *Item)
}

// ItemKinds are the kinds of items in a fixed order: the class numbers of dense labels.
func ItemKinds() []string {
	return []string{"mug", "bowl", "plate", "bottle", "pan", "teapot", "book", "towel", "cereal box", "jug", "lunch box", "jar", "apple", "banana"}
}

type itemKind struct {
	w, d, h [2]float32
	c, c2   [3]int
	build   func(k *kit, it *Item)
}

func itemCatalog() map[string]itemKind {
	type f = [2]float32
	type c = [3]int
	return map[string]itemKind{
		"mug":        {f{0.09, 0.11}, f{0.09, 0.11}, f{0.10, 0.13}, c{16, 190, 205}, c{230, 250, 250}, buildMug},
		"bowl":       {f{0.17, 0.22}, f{0.17, 0.22}, f{0.08, 0.10}, c{250, 214, 20}, c{255, 244, 190}, buildBowl},
		"plate":      {f{0.23, 0.28}, f{0.23, 0.28}, f{0.02, 0.03}, c{244, 244, 250}, c{40, 70, 190}, buildPlate},
		"bottle":     {f{0.08, 0.10}, f{0.08, 0.10}, f{0.26, 0.33}, c{20, 150, 60}, c{240, 240, 220}, buildBottle},
		"pan":        {f{0.24, 0.30}, f{0.24, 0.30}, f{0.06, 0.08}, c{24, 22, 24}, c{60, 60, 64}, buildPan},
		"teapot":     {f{0.15, 0.19}, f{0.15, 0.19}, f{0.14, 0.18}, c{126, 50, 170}, c{236, 200, 250}, buildTeapot},
		"book":       {f{0.17, 0.22}, f{0.23, 0.28}, f{0.03, 0.05}, c{28, 54, 210}, c{245, 240, 226}, buildBook},
		"towel":      {f{0.24, 0.32}, f{0.18, 0.24}, f{0.05, 0.08}, c{245, 140, 184}, c{255, 226, 238}, buildTowel},
		"cereal box": {f{0.18, 0.22}, f{0.06, 0.08}, f{0.26, 0.31}, c{240, 96, 20}, c{255, 236, 120}, buildCereal},
		"jug":        {f{0.11, 0.14}, f{0.11, 0.14}, f{0.20, 0.25}, c{120, 176, 250}, c{240, 246, 255}, buildJug},
		"lunch box":  {f{0.18, 0.23}, f{0.13, 0.16}, f{0.08, 0.10}, c{226, 24, 150}, c{250, 220, 240}, buildLunchBox},
		"jar":        {f{0.09, 0.12}, f{0.09, 0.12}, f{0.12, 0.16}, c{206, 128, 22}, c{190, 30, 30}, buildJar},
		"apple":      {f{0.09, 0.11}, f{0.09, 0.11}, f{0.085, 0.10}, c{216, 18, 26}, c{90, 60, 30}, buildApple},
		"banana":     {f{0.20, 0.24}, f{0.12, 0.14}, f{0.06, 0.08}, c{242, 236, 60}, c{110, 90, 30}, buildBanana},
	}
}

// NewItem draws an item of a kind; its materials join the room's.
func (r *Room) NewItem(g *rand.Rand, kindName string) *Item {
	k := itemCatalog()[kindName]
	it := &Item{Kind: kindName, build: k.build,
		W: between(g, k.w[0], k.w[1]), D: between(g, k.d[0], k.d[1]), H: between(g, k.h[0], k.h[1])}
	if k.w == k.d {
		it.D = it.W
	}
	it.mat[0] = r.flat(jitter(g, rgb(k.c[0], k.c[1], k.c[2]), 0.07), 0.15)
	it.mat[1] = r.flat(jitter(g, rgb(k.c2[0], k.c2[1], k.c2[2]), 0.05), 0.1)
	return it
}

// ItemMesh builds an item at a place with a turn about z. light false leaves the shading out: for id pictures.
func (r *Room) ItemMesh(it *Item, object int16, pos render.Vec, yaw float64, light bool) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, Object: object}, style: &r.style}
	k.b.Place(pos, yaw)
	it.build(k, it)
	if light {
		r.glance(m)
	}
	return m
}

// ArmMesh is a forearm with a hand from a shoulder-side point to what it reaches for.
func (r *Room) ArmMesh(from, to render.Vec, light bool) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, Object: ObjHand}, style: &r.style}
	k.b.Place(render.Vec{}, 0)
	wrist := from.Lerp(to, 0.72)
	k.b.Rod(r.style.sleeve, from, wrist, 0.045, 8)
	k.b.Rod(r.style.skin, wrist, to, 0.034, 8)
	d := to.Sub(from).Unit()
	side := d.Cross(v3(0, 0, 1)).Unit()
	for i := range 4 {
		f := to.Add(side.Scale(0.03 * (float32(i) - 1.5)))
		k.b.Rod(r.style.skin, f.Sub(d.Scale(0.02)), f.Add(d.Scale(0.055)), 0.011, 6)
	}
	if light {
		r.glance(m)
	}
	return m
}

// WaterMesh is the stream of a running tap; RingMesh is a ring that glows.
func (r *Room) WaterMesh(t *Thing, object int16) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, Object: object}, style: &r.style}
	k.b.Place(t.Pos, t.Yaw)
	p := *t.Tap
	k.b.Cylinder(r.style.water, v3(p[0], p[1], t.H-0.155), 0.016, p[2]-t.H+0.155, 8)
	k.b.Lathe(r.style.water, v3(p[0], p[1], t.H-0.155), 12, [2]float32{0.15, 0}, [2]float32{0, 0.008})
	r.glance(m)
	return m
}

// RingMesh is the hob's ring that glows while it is on.
func (r *Room) RingMesh(t *Thing, object int16) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, Object: object}, style: &r.style}
	k.b.Place(t.Pos, t.Yaw)
	k.b.Lathe(r.style.glow, *t.Ring, 18, [2]float32{0.10, 0}, [2]float32{0.10, 0.008}, [2]float32{0.0, 0.010})
	r.glance(m)
	return m
}

func buildMug(k *kit, it *Item) {
	r := it.W / 2 * 0.82
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 12, [2]float32{0, 0}, [2]float32{r * 0.9, 0}, [2]float32{r, it.H}, [2]float32{r * 0.85, it.H})
	k.b.Lathe(it.mat[1], v3(0, 0, it.H*0.55), 12, [2]float32{r * 0.85, it.H * 0.45}, [2]float32{r * 0.8, 0}, [2]float32{0, 0})
	k.b.Rod(it.mat[0], v3(r, 0, it.H*0.75), v3(r*1.6, 0, it.H*0.7), 0.009, 5)
	k.b.Rod(it.mat[0], v3(r*1.6, 0, it.H*0.72), v3(r*1.55, 0, it.H*0.3), 0.009, 5)
	k.b.Rod(it.mat[0], v3(r*1.55, 0, it.H*0.3), v3(r*0.95, 0, it.H*0.25), 0.009, 5)
}

func buildBowl(k *kit, it *Item) {
	r := it.W / 2
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 16, [2]float32{0, 0}, [2]float32{r * 0.5, 0}, [2]float32{r * 0.85, it.H * 0.5}, [2]float32{r, it.H}, [2]float32{r * 0.93, it.H})
	k.b.Lathe(it.mat[1], v3(0, 0, 0.012), 16, [2]float32{r * 0.93, it.H - 0.012}, [2]float32{r * 0.78, it.H * 0.45}, [2]float32{r * 0.4, 0}, [2]float32{0, 0})
}

func buildPlate(k *kit, it *Item) {
	r := it.W / 2
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 18, [2]float32{0, 0}, [2]float32{r * 0.6, 0}, [2]float32{r, it.H})
	k.b.Lathe(it.mat[1], v3(0, 0, 0), 18, [2]float32{r, it.H}, [2]float32{r * 0.88, it.H * 0.8})
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 18, [2]float32{r * 0.88, it.H * 0.8}, [2]float32{r * 0.62, it.H * 0.35}, [2]float32{0, it.H * 0.3})
}

func buildBottle(k *kit, it *Item) {
	r := it.W / 2
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 12, [2]float32{0, 0}, [2]float32{r, 0}, [2]float32{r, it.H * 0.2})
	k.b.Lathe(it.mat[1], v3(0, 0, it.H*0.2), 12, [2]float32{r, 0}, [2]float32{r, it.H * 0.3})
	k.b.Lathe(it.mat[0], v3(0, 0, it.H*0.5), 12, [2]float32{r, 0}, [2]float32{r, it.H * 0.12}, [2]float32{r * 0.4, it.H * 0.27}, [2]float32{r * 0.38, it.H * 0.42})
	k.b.Cylinder(it.mat[1], v3(0, 0, it.H*0.92), r*0.42, it.H*0.08, 8)
}

func buildPan(k *kit, it *Item) {
	r := it.W / 2
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 18, [2]float32{0, 0}, [2]float32{r * 0.85, 0}, [2]float32{r, it.H}, [2]float32{r * 0.96, it.H})
	k.b.Lathe(it.mat[1], v3(0, 0, 0.01), 18, [2]float32{r * 0.96, it.H - 0.01}, [2]float32{r * 0.82, 0}, [2]float32{0, 0})
	k.b.Rod(it.mat[0], v3(r*0.95, 0, it.H*0.8), v3(r*2.1, 0, it.H*1.1), 0.015, 6)
}

func buildTeapot(k *kit, it *Item) {
	r := it.W / 2 * 0.78
	h := it.H
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 14, [2]float32{0, 0}, [2]float32{r * 0.6, 0}, [2]float32{r, h * 0.35}, [2]float32{r * 0.85, h * 0.65}, [2]float32{r * 0.4, h * 0.82}, [2]float32{0, h * 0.85})
	k.b.Cylinder(it.mat[1], v3(0, 0, h*0.83), r*0.16, h*0.16, 8)
	k.b.Rod(it.mat[0], v3(r*0.8, 0, h*0.35), v3(r*1.6, 0, h*0.72), r*0.16, 6)
	k.b.Rod(it.mat[0], v3(-r*0.8, 0, h*0.65), v3(-r*1.5, 0, h*0.6), 0.01, 5)
	k.b.Rod(it.mat[0], v3(-r*1.5, 0, h*0.6), v3(-r*0.9, 0, h*0.25), 0.01, 5)
}

func buildBook(k *kit, it *Item) {
	w, d, h := it.W/2, it.D/2, it.H
	k.box(it.mat[1], -w+0.006, -d+0.006, 0.005, w-0.006, d-0.006, h-0.005)
	k.box(it.mat[0], -w, -d, 0, w, d, 0.005)
	k.box(it.mat[0], -w, -d, h-0.005, w, d, h)
	k.box(it.mat[0], -w-0.003, -d, 0, -w+0.004, d, h)
	k.box(it.mat[1], -w*0.5, d*0.2, h, w*0.6, d*0.5, h+0.001)
}

func buildTowel(k *kit, it *Item) {
	w, d, h := it.W/2, it.D/2, it.H
	for i := range 3 {
		z := h * float32(i) / 3
		s := 1 - 0.05*float32(i)
		k.box(it.mat[i%2], -w*s, -d*s, z, w*s, d*s, z+h/3)
	}
	k.box(it.mat[0], -w*0.9, -d*0.9, h, w*0.9, d*0.9, h+0.002)
}

func buildCereal(k *kit, it *Item) {
	w, d, h := it.W/2, it.D/2, it.H
	k.box(it.mat[0], -w, -d, 0, w, d, h)
	for _, y := range []float32{-d - 0.001, d} {
		k.box(it.mat[1], -w*0.7, y, h*0.35, w*0.7, y+0.001, h*0.75)
	}
}

func buildJug(k *kit, it *Item) {
	r := it.W / 2 * 0.85
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 12, [2]float32{0, 0}, [2]float32{r * 0.85, 0}, [2]float32{r, it.H * 0.45}, [2]float32{r * 0.7, it.H * 0.8}, [2]float32{r * 0.9, it.H}, [2]float32{r * 0.75, it.H})
	k.b.Lathe(it.mat[1], v3(0, 0, 0), 12, [2]float32{r * 0.75, it.H}, [2]float32{r * 0.6, it.H * 0.8}, [2]float32{0, it.H * 0.75})
	k.b.Rod(it.mat[0], v3(-r*0.7, 0, it.H*0.85), v3(-r*1.5, 0, it.H*0.75), 0.01, 5)
	k.b.Rod(it.mat[0], v3(-r*1.5, 0, it.H*0.75), v3(-r*0.95, 0, it.H*0.3), 0.01, 5)
}

func buildLunchBox(k *kit, it *Item) {
	w, d, h := it.W/2, it.D/2, it.H
	k.box(it.mat[0], -w, -d, 0, w, d, h*0.7)
	k.box(it.mat[1], -w-0.005, -d-0.005, h*0.7, w+0.005, d+0.005, h*0.78)
	k.box(it.mat[0], -w-0.003, -d-0.003, h*0.78, w+0.003, d+0.003, h)
}

func buildJar(k *kit, it *Item) {
	r := it.W / 2
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 12, [2]float32{0, 0}, [2]float32{r, 0}, [2]float32{r, it.H * 0.7}, [2]float32{r * 0.75, it.H * 0.8})
	k.b.Cylinder(it.mat[1], v3(0, 0, it.H*0.8), r*0.85, it.H*0.2, 12)
}

func buildApple(k *kit, it *Item) {
	r := it.W / 2
	h := it.H * 0.9
	k.b.Lathe(it.mat[0], v3(0, 0, 0), 12, [2]float32{0, 0}, [2]float32{r * 0.55, 0}, [2]float32{r * 0.92, h * 0.3}, [2]float32{r, h * 0.6}, [2]float32{r * 0.75, h * 0.92}, [2]float32{r * 0.2, h * 0.95}, [2]float32{0, h * 0.85})
	k.b.Rod(it.mat[1], v3(0, 0, h*0.85), v3(0.01, 0, it.H*1.1), 0.004, 5)
}

func buildBanana(k *kit, it *Item) {
	w, d := it.W/2, it.D/2
	for i := range 3 {
		y := (float32(i) - 1) * d * 0.5
		z := it.H * 0.45
		k.b.Rod(it.mat[0], v3(-w, y+d*0.3, z), v3(-w*0.4, y-d*0.2, z*0.8), it.H*0.3, 6)
		k.b.Rod(it.mat[0], v3(-w*0.4, y-d*0.2, z*0.8), v3(w*0.4, y-d*0.2, z*0.8), it.H*0.34, 6)
		k.b.Rod(it.mat[0], v3(w*0.4, y-d*0.2, z*0.8), v3(w*0.95, y+d*0.3, z), it.H*0.3, 6)
	}
	k.b.Rod(it.mat[1], v3(w*0.9, -d*0.3, it.H*0.5), v3(w, d*0.4, it.H*0.6), it.H*0.25, 6)
}
