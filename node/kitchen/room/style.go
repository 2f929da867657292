package room

import (
	"math"
	"math/rand/v2"

	"github.com/stllm/stllm/node/kitchen/render"
)

// style holds the materials of one room, by use.
type style struct {
	front, top, plinth, handle, appliance, interior, glass, black, steel uint16
	white, wood, darkwood, fabric, leaf, soil, pot, shade, screen        uint16
	water, glow, skin, sleeve, paper, red, cord                          uint16
	floor, wall, splash, ceiling, trim, daylight, lampGlow               uint16
	handleKind                                                           int // 0 bar, 1 knob, 2 none
	clutter                                                              []uint16
}

func rgb(r, g, b int) render.Vec { return render.Linear(uint8(r), uint8(g), uint8(b)) }

// jitter shifts a colour's brightness and tint a little.
func jitter(r *rand.Rand, c render.Vec, amount float32) render.Vec {
	f := 1 + amount*float32(r.NormFloat64())
	for i := range c {
		c[i] = min(0.95, max(0.004, c[i]*f*(1+amount*0.5*float32(r.NormFloat64()))))
	}
	return c
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// noise is smooth value noise with period n in both directions.
type noise struct {
	n int
	v []float32
}

func newNoise(r *rand.Rand, n int) noise {
	v := make([]float32, n*n)
	for i := range v {
		v[i] = float32(r.Float64())
	}
	return noise{n, v}
}

func (g noise) at(u, v float32) float32 {
	x, y := u*float32(g.n), v*float32(g.n)
	fx, fy := float32(math.Floor(float64(x))), float32(math.Floor(float64(y)))
	mod := func(i int) int { return ((i % g.n) + g.n) % g.n }
	x0, y0 := mod(int(fx)), mod(int(fy))
	x1, y1 := mod(x0+1), mod(y0+1)
	dx, dy := x-fx, y-fy
	dx, dy = dx*dx*(3-2*dx), dy*dy*(3-2*dy)
	a, b := g.v[y0*g.n+x0], g.v[y0*g.n+x1]
	c, d := g.v[y1*g.n+x0], g.v[y1*g.n+x1]
	return a + (b-a)*dx + (c+(d-c)*dx-a-(b-a)*dx)*dy
}

const tile = 128 // texels a side

// woodTexture has rings stretched along v.
func woodTexture(r *rand.Rand, c render.Vec, edge float32) *render.Texture {
	coarse, fine := newNoise(r, 8), newNoise(r, 64)
	rings := float32(3 + r.IntN(4))
	return render.NewTexture(tile, edge, func(u, v float32) render.Vec {
		w := coarse.at(u, v*0.25) // the tile repeats: quarter rates keep the period
		s := float32(math.Sin(float64(2*math.Pi*(rings*u+1.6*w))))*0.5 + 0.5
		f := 0.74 + 0.24*s + 0.16*(fine.at(u, v*0.125)-0.5)
		return c.Scale(f)
	})
}

// tileTexture is n×n tiles with joints; check alternates two colours.
func tileTexture(r *rand.Rand, c, other, joint render.Vec, edge float32, n int, width float32) *render.Texture {
	shade := make([]float32, n*n)
	for i := range shade {
		shade[i] = 1 + 0.06*float32(r.NormFloat64())
	}
	grain := newNoise(r, 32)
	return render.NewTexture(tile, edge, func(u, v float32) render.Vec {
		x, y := u*float32(n), v*float32(n)
		i, j := int(x), int(y)
		fx, fy := x-float32(i), y-float32(j)
		if fx < width || fy < width {
			return joint
		}
		col := c
		if (i+j)%2 == 1 {
			col = other
		}
		return col.Scale(shade[j*n+i] * (0.94 + 0.12*grain.at(u, v)))
	})
}

// plankTexture is a floor of boards along v.
func plankTexture(r *rand.Rand, c render.Vec, edge float32, n int) *render.Texture {
	shade, shift := make([]float32, n), make([]float32, n)
	for i := range shade {
		shade[i], shift[i] = 1+0.12*float32(r.NormFloat64()), float32(r.Float64())
	}
	grain, fine := newNoise(r, 16), newNoise(r, 64)
	return render.NewTexture(tile, edge, func(u, v float32) render.Vec {
		i := int(u * float32(n))
		fx := u*float32(n) - float32(i)
		fv := float32(math.Mod(float64(v+shift[i]), 1))
		if fx < 0.03 || fv < 0.012 {
			return c.Scale(0.35)
		}
		return c.Scale(shade[i] * (0.8 + 0.25*grain.at(u, v*0.125+shift[i]) + 0.2*(fine.at(u, v*0.25)-0.5)))
	})
}

// speckTexture is stone: dots on a ground.
func speckTexture(r *rand.Rand, c, dot render.Vec, edge float32) *render.Texture {
	fine, coarse := newNoise(r, 64), newNoise(r, 16)
	return render.NewTexture(tile, edge, func(u, v float32) render.Vec {
		f := fine.at(u, v)
		col := c.Scale(0.88 + 0.24*coarse.at(u, v))
		if f > 0.72 {
			return col.Lerp(dot, (f-0.72)/0.28)
		}
		return col
	})
}

// steelTexture is brushed along u.
func steelTexture(r *rand.Rand, c render.Vec) *render.Texture {
	lines := newNoise(r, 64)
	return render.NewTexture(tile, 0.4, func(u, v float32) render.Vec { return c.Scale(0.9 + 0.2*lines.at(u*0.0625, v)) })
}

// clothTexture is a weave with stripes.
func clothTexture(r *rand.Rand, c, stripe render.Vec) *render.Texture {
	grain := newNoise(r, 64)
	bands := pick(r, 0, 2, 4)
	return render.NewTexture(tile, 0.5, func(u, v float32) render.Vec {
		col := c
		if bands > 0 && math.Mod(float64(u)*float64(bands), 1) < 0.3 {
			col = stripe
		}
		return col.Scale(0.85 + 0.3*grain.at(u, v))
	})
}

func (r *Room) material(m render.Material) uint16 {
	r.Materials = append(r.Materials, m)
	return uint16(len(r.Materials) - 1)
}

func (r *Room) flat(c render.Vec, shine float32) uint16 {
	return r.material(render.Material{Color: c, Shine: shine})
}

func (r *Room) textured(t *render.Texture, shine float32) uint16 {
	return r.material(render.Material{Texture: t, Shine: shine})
}

// furbish draws the materials of a room.
func (r *Room) furbish(g *rand.Rand) {
	s := &r.style
	switch g.IntN(3) {
	case 0:
		s.front = r.textured(woodTexture(g, jitter(g, pick(g, rgb(176, 128, 78), rgb(122, 78, 46), rgb(205, 170, 122)), 0.12), 0.8), 0.06)
	case 1:
		s.front = r.flat(jitter(g, pick(g, rgb(238, 236, 228), rgb(220, 214, 200), rgb(206, 212, 216)), 0.05), 0.12)
	default:
		s.front = r.flat(jitter(g, pick(g, rgb(84, 112, 104), rgb(66, 84, 116), rgb(150, 70, 60), rgb(128, 140, 104), rgb(92, 92, 98), rgb(176, 196, 190)), 0.1), 0.1)
	}
	switch g.IntN(3) {
	case 0:
		s.top = r.textured(woodTexture(g, jitter(g, rgb(186, 138, 88), 0.15), 0.6), 0.08)
	case 1:
		s.top = r.textured(speckTexture(g, jitter(g, rgb(74, 74, 80), 0.2), rgb(170, 170, 170), 0.5), 0.2)
	default:
		s.top = r.textured(speckTexture(g, jitter(g, rgb(206, 202, 194), 0.08), rgb(120, 112, 104), 0.5), 0.2)
	}
	s.plinth = r.flat(jitter(g, rgb(52, 50, 50), 0.15), 0)
	s.steel = r.textured(steelTexture(g, rgb(176, 180, 184)), 0.5)
	s.handle = pick(g, s.steel, r.flat(rgb(34, 34, 36), 0.2), r.flat(jitter(g, rgb(176, 142, 80), 0.1), 0.4))
	s.handleKind = g.IntN(3)
	s.white = r.flat(jitter(g, rgb(236, 238, 240), 0.03), 0.15)
	s.black = r.flat(rgb(26, 26, 29), 0.35)
	s.glass = r.flat(rgb(18, 22, 26), 0.7)
	s.appliance = pick(g, s.white, s.white, s.steel, r.flat(jitter(g, rgb(52, 54, 60), 0.1), 0.3))
	s.interior = r.material(render.Material{Color: rgb(214, 218, 222), Glow: 0.30})
	s.wood = r.textured(woodTexture(g, jitter(g, pick(g, rgb(182, 132, 82), rgb(150, 100, 62)), 0.12), 0.7), 0.08)
	s.darkwood = r.textured(woodTexture(g, jitter(g, rgb(98, 62, 40), 0.15), 0.7), 0.08)
	c := jitter(g, pick(g, rgb(62, 84, 140), rgb(140, 60, 66), rgb(104, 116, 90), rgb(128, 122, 116)), 0.15)
	s.fabric = r.textured(clothTexture(g, c, c.Scale(1.5)), 0)
	s.leaf = r.material(render.Material{Color: jitter(g, rgb(52, 130, 54), 0.15), TwoSided: true})
	s.soil = r.flat(rgb(70, 48, 34), 0)
	s.pot = r.flat(jitter(g, pick(g, rgb(178, 96, 62), rgb(226, 222, 214), rgb(70, 80, 96)), 0.12), 0.05)
	s.shade = r.material(render.Material{Color: jitter(g, rgb(244, 226, 168), 0.06), Glow: 0.55, TwoSided: true})
	s.screen = r.flat(rgb(12, 14, 20), 0.8)
	s.water = r.material(render.Material{Color: rgb(176, 214, 240), Glow: 0.45, Shine: 0.5})
	s.glow = r.material(render.Material{Color: rgb(255, 70, 24), Glow: 1.0})
	s.skin = r.flat(jitter(g, pick(g, rgb(224, 172, 140), rgb(190, 134, 100), rgb(120, 80, 58)), 0.06), 0.03)
	s.sleeve = r.textured(clothTexture(g, jitter(g, pick(g, rgb(60, 70, 110), rgb(130, 130, 134), rgb(40, 90, 80)), 0.2), rgb(230, 230, 230)), 0)
	s.paper = r.flat(rgb(238, 234, 220), 0)
	s.red = r.flat(rgb(186, 40, 36), 0.1)
	s.cord = r.flat(rgb(60, 60, 60), 0)
	switch g.IntN(4) {
	case 0:
		s.floor = r.textured(plankTexture(g, jitter(g, pick(g, rgb(170, 126, 84), rgb(128, 92, 62), rgb(196, 168, 132)), 0.1), 1.2, 8), 0.06)
	case 1:
		c := jitter(g, rgb(206, 202, 192), 0.06)
		s.floor = r.textured(tileTexture(g, c, jitter(g, rgb(92, 92, 96), 0.15), rgb(120, 118, 112), 0.8, 2, 0.02), 0.15)
	case 2:
		c := jitter(g, pick(g, rgb(188, 170, 146), rgb(150, 152, 156), rgb(176, 110, 84)), 0.1)
		s.floor = r.textured(tileTexture(g, c, c, c.Scale(0.55), 1.2, 3, 0.025), 0.15)
	default:
		c := jitter(g, pick(g, rgb(150, 148, 142), rgb(120, 134, 126), rgb(178, 160, 130)), 0.1)
		s.floor = r.textured(speckTexture(g, c, c.Scale(0.6), 1.0), 0.1)
	}
	wall := jitter(g, pick(g, rgb(232, 228, 216), rgb(222, 226, 230), rgb(226, 212, 180), rgb(196, 210, 198), rgb(204, 212, 226), rgb(224, 200, 188)), 0.04)
	s.wall = r.flat(wall, 0)
	s.ceiling = r.flat(rgb(240, 240, 236), 0)
	s.trim = r.flat(rgb(240, 240, 238), 0.08)
	c = jitter(g, pick(g, rgb(226, 228, 226), rgb(150, 186, 196), rgb(214, 190, 150), rgb(96, 124, 120), rgb(190, 120, 100)), 0.06)
	s.splash = r.textured(tileTexture(g, c, c, rgb(214, 212, 206), 0.6, pick(g, 4, 6), 0.05), 0.25)
	s.daylight = r.material(render.Material{Color: rgb(214, 232, 250), Glow: 1.15})
	s.lampGlow = r.material(render.Material{Color: rgb(255, 246, 226), Glow: 1.4})
	for range 6 {
		s.clutter = append(s.clutter, r.flat(jitter(g, pick(g, rgb(150, 120, 90), rgb(120, 126, 134), rgb(176, 168, 150), rgb(96, 110, 96), rgb(150, 96, 84), rgb(90, 96, 120)), 0.15), 0.1))
	}
}
