package kitchen

import (
	"math"
	"math/rand/v2"

	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
	"github.com/stllm/stllm/node/scene"
)

// Classes are the names of dense labels: furniture, then items, then the rest. A class number is a place in this list.
func Classes() []string {
	return append(append(room.Categories(), room.ItemKinds()...), "floor", "wall", "clutter", "hand")
}

// Usable are the classes of things that can be seen in use: furniture with doors, a tap or a ring, and whatever a hand can
// hold. See [SampleFrame.InUse].
func Usable() []string { return append(room.Usable(), room.ItemKinds()...) }

// classes maps object numbers of id pictures to class numbers.
func (k *Kitchen) classes() func(id int16) uint8 {
	number := map[string]uint8{}
	for i, c := range Classes() {
		number[c] = uint8(i)
	}
	things := make([]uint8, len(k.room.Things))
	for i, t := range k.room.Things {
		things[i] = number[t.Category]
	}
	items := make([]uint8, len(k.tour.Items))
	for i, it := range k.tour.Items {
		items[i] = number[it.Item.Kind]
	}
	return func(id int16) uint8 {
		switch {
		case id >= room.FirstItem:
			return items[id-room.FirstItem]
		case id >= room.FirstThing:
			return things[id-room.FirstThing]
		case id == room.ObjFloor:
			return number["floor"]
		case id == room.ObjClutter:
			return number["clutter"]
		case id == room.ObjHand:
			return number["hand"]
		}
		return number["wall"]
	}
}

// mapTop is the height up to which the map reaches, metres: what a camera at eye height has seen of walls.
const mapTop = 2.25

// Cloud is the map in the map frame with a class for every point: surfaces that can be seen, one point a cell, with noise and
// holes. Doors are closed and small items are not there.
func (k *Kitchen) Cloud() (*scene.Cloud, []uint8) {
	r := rand.New(rand.NewPCG(k.Options.Seed, 0x6d6170))
	edge := k.Options.MapEdge
	class := k.classes()
	m := k.room.Static(nil)
	c := &scene.Cloud{HasColor: true}
	var classes []uint8
	type key [3]int32
	taken := map[key]bool{}
	holes := k.holes(r)
	matrix := k.ToMap.Matrix()
	for i := range m.Tris {
		t := &m.Tris[i]
		a, b, d := &m.Verts[t.V[0]], &m.Verts[t.V[1]], &m.Verts[t.V[2]]
		u, v := b.P.Sub(a.P), d.P.Sub(a.P)
		n := float64(u.Cross(v).Norm()) / 2 / (edge * edge) * 2.2
		count := int(n)
		if r.Float64() < n-float64(count) {
			count++
		}
		mat := &m.Materials[t.Material]
		normal := a.N.Scale(0.02)
		for range count {
			s, q := float32(r.Float64()), float32(r.Float64())
			if s+q > 1 {
				s, q = 1-s, 1-q
			}
			p := a.P.Add(u.Scale(s)).Add(v.Scale(q))
			cell := key{int32(math.Floor(float64(p[0]) / edge)), int32(math.Floor(float64(p[1]) / edge)), int32(math.Floor(float64(p[2]) / edge))}
			if p[2] > mapTop || taken[cell] || k.room.Buried(p.Add(normal)) {
				continue
			}
			taken[cell] = true
			if holes(p) {
				continue
			}
			tu, tv := a.U+s*(b.U-a.U)+q*(d.U-a.U), a.V+s*(b.V-a.V)+q*(d.V-a.V)
			light := a.Light.Add(b.Light.Sub(a.Light).Scale(s)).Add(d.Light.Sub(a.Light).Scale(q)).Add(render.Vec{mat.Glow, mat.Glow, mat.Glow})
			rgb := render.Encode(mat.At(tu, tv, float32(edge)).Mul(light))
			x, y, z := float64(p[0]), float64(p[1]), float64(p[2])
			if sd := k.Options.MapNoise; sd > 0 {
				x, y, z = x+sd*r.NormFloat64(), y+sd*r.NormFloat64(), z+sd*r.NormFloat64()
			}
			for axis := range 3 {
				c.XYZ = append(c.XYZ, float64(float32(matrix[4*axis]*x+matrix[4*axis+1]*y+matrix[4*axis+2]*z+matrix[4*axis+3])))
			}
			shade := 5 * r.NormFloat64()
			for _, v := range rgb {
				c.RGB = append(c.RGB, uint8(min(255, max(0, float64(v)+shade+3*r.NormFloat64()))))
			}
			classes = append(classes, class(t.Object))
		}
	}
	return c, classes
}

// holes draws balls in which the map has nothing, about a share MapHoles of the surfaces, and a rule that thins the rest.
func (k *Kitchen) holes(r *rand.Rand) func(p render.Vec) bool {
	type ball struct {
		c render.Vec
		r float32
	}
	var balls []ball
	share := k.Options.MapHoles
	if share == 0 {
		return func(render.Vec) bool { return false }
	}
	// Surfaces lie mostly at the sides of the room: balls of 10 to 30 cm on the sides and the floor.
	area := 2*(k.Width+k.Depth)*mapTop + 2*k.Width*k.Depth
	for gone := 0.0; gone < share*area; {
		rad := 0.08 + 0.22*r.Float64()
		p := render.Vec{float32(r.Float64() * k.Width), float32(r.Float64() * k.Depth), float32(r.Float64() * mapTop)}
		axis := r.IntN(3)
		if axis < 2 {
			depth := float32(0.6 * r.Float64())
			side := []float64{k.Width, k.Depth}[axis]
			if r.IntN(2) == 0 {
				p[axis] = depth
			} else {
				p[axis] = float32(side) - depth
			}
		} else {
			p[2] = float32(r.Float64())
		}
		balls = append(balls, ball{p, float32(rad)})
		gone += math.Pi * rad * rad * 0.6
	}
	return func(p render.Vec) bool {
		for _, b := range balls {
			if d := p.Sub(b.c); d.Dot(d) < b.r*b.r {
				return true
			}
		}
		return r.Float64() < 0.03
	}
}
