// Package room furnishes synthetic kitchens: rooms of several layouts with furniture made of simple solids, and small items
// that lie about.
//
// Everything here is in the room's own frame: x and y along the walls from the corner at the origin, z up, metres. How the
// map lies over the room is the business of package kitchen. A piece's own frame has its origin on the floor in the middle of
// its footprint, with the front towards −y and the back towards +y.
package room

import (
	"math"
	"math/rand/v2"

	"github.com/stllm/stllm/node/kitchen/render"
)

// Objects in an id buffer below FirstThing are parts of the building.
const (
	ObjFloor int16 = iota
	ObjWall
	ObjClutter
	ObjHand
	FirstThing // thing i is FirstThing + i
	FirstItem  = 1000
)

// Thing is a piece of furniture or an appliance, in the map and at rest.
type Thing struct {
	Category string
	Pos      render.Vec // room frame: middle of the footprint, bottom
	W, D, H  float32    // along its own x, y, z
	Yaw      float64    // turn about z, radians
	On       int        // index of the thing that it stands on, -1 for the floor or the wall
	Doors    []Door
	Surfaces []Surface
	Tap      *render.Vec // own frame: where water leaves, for a sink
	Ring     *render.Vec // own frame: middle of the ring that glows, for a hob

	solids  []box // own frame; occlude light. Empty: the whole box
	build   func(k *kit, t *Thing)
	variant int
	seed    uint64
}

// Door is a part that turns: Angle radians when fully open about the hinge. Axis 'z' is a side hinge (the sign of Angle says
// which side), 'x' a hinge at the bottom.
type Door struct {
	Hinge render.Vec // own frame of the thing
	Axis  byte
	Angle float64
	// Grip is where a hand takes it, relative to the hinge when closed.
	Grip  render.Vec
	build func(k *kit)
}

// Surface is a rectangle that things can stand on, in the thing's own frame.
type Surface struct{ X0, Y0, X1, Y1, Z float32 }

type box struct{ lo, hi render.Vec }

// Opening is a window or a door in a wall: along the wall from A to B, Z0 to Z1.
type Opening struct {
	Wall         int
	A, B, Z0, Z1 float32
	Window       bool
}

// Room is a furnished room.
type Room struct {
	W, D, H  float32 // inside, metres
	Layout   string
	Things   []*Thing
	Openings []Opening
	// Materials are shared by all meshes of the room.
	Materials []render.Material

	style  style
	lights []lamp
	occ    []box // room frame
	rug    *box
	decor  []decor
}

type lamp struct {
	pos   render.Vec
	color render.Vec
}

type decor struct {
	pos  render.Vec
	yaw  float64
	kind int
	size render.Vec
	mat  uint16
}

// Point takes a point of the thing's own frame into the room.
func (t *Thing) Point(p render.Vec) render.Vec {
	s, c := math.Sincos(t.Yaw)
	return render.Vec{t.Pos[0] + float32(c)*p[0] - float32(s)*p[1], t.Pos[1] + float32(s)*p[0] + float32(c)*p[1], t.Pos[2] + p[2]}
}

// Center is the middle of the bounding box, room frame.
func (t *Thing) Center() render.Vec { return t.Pos.Add(render.Vec{0, 0, t.H / 2}) }

// Front is the unit vector, room frame, that the front looks along.
func (t *Thing) Front() render.Vec {
	s, c := math.Sincos(t.Yaw)
	return render.Vec{float32(s), float32(-c), 0}
}

// Extent is half the size of the axis-aligned box around the footprint, room frame.
func (t *Thing) Extent() (x, y float32) {
	s, c := math.Sincos(t.Yaw)
	as, ac := float32(math.Abs(s)), float32(math.Abs(c))
	return (ac*t.W + as*t.D) / 2, (as*t.W + ac*t.D) / 2
}

// bounds is the axis-aligned box of a box of the own frame, room frame.
func (t *Thing) bounds(b box) box {
	out := box{render.Vec{math.MaxFloat32, math.MaxFloat32, math.MaxFloat32}, render.Vec{-math.MaxFloat32, -math.MaxFloat32, -math.MaxFloat32}}
	for i := range 8 {
		p := b.lo
		for k := range 3 {
			if i>>k&1 == 1 {
				p[k] = b.hi[k]
			}
		}
		p = t.Point(p)
		for k := range 3 {
			out.lo[k], out.hi[k] = min(out.lo[k], p[k]), max(out.hi[k], p[k])
		}
	}
	return out
}

// Solids are the axis-aligned boxes, room frame, that a thing is made of roughly.
func (t *Thing) Solids() []([2]render.Vec) {
	own := t.solids
	if len(own) == 0 {
		own = []box{{render.Vec{-t.W / 2, -t.D / 2, 0}, render.Vec{t.W / 2, t.D / 2, t.H}}}
	}
	out := make([][2]render.Vec, len(own))
	for i, b := range own {
		w := t.bounds(b)
		out[i] = [2]render.Vec{w.lo, w.hi}
	}
	return out
}

// DoorFrame gives the axes and origin, room frame, of a door that is open by a share (0 closed, 1 fully open).
func (t *Thing) DoorFrame(d *Door, share float64) (x, y, z, origin render.Vec) {
	s, c := math.Sincos(t.Yaw)
	turn := func(p render.Vec) render.Vec {
		return render.Vec{float32(c)*p[0] - float32(s)*p[1], float32(s)*p[0] + float32(c)*p[1], p[2]}
	}
	ds, dc := math.Sincos(d.Angle * share)
	fs, fc := float32(ds), float32(dc)
	if d.Axis == 'z' {
		return turn(render.Vec{fc, fs, 0}), turn(render.Vec{-fs, fc, 0}), render.Vec{0, 0, 1}, t.Point(d.Hinge)
	}
	return turn(render.Vec{1, 0, 0}), turn(render.Vec{0, fc, fs}), turn(render.Vec{0, -fs, fc}), t.Point(d.Hinge)
}

// Grip is the room-frame place of a door's handle at a share of opening.
func (t *Thing) Grip(d *Door, share float64) render.Vec {
	x, y, z, o := t.DoorFrame(d, share)
	return o.Add(x.Scale(d.Grip[0])).Add(y.Scale(d.Grip[1])).Add(z.Scale(d.Grip[2]))
}

// kit is what building a solid needs: a builder and the room's materials.
type kit struct {
	b     *render.Builder
	style *style
}

func (k *kit) box(mat uint16, x0, y0, z0, x1, y1, z1 float32) {
	k.b.Box(mat, render.Vec{x0, y0, z0}, render.Vec{x1, y1, z1}, 0)
}

// between draws from a range.
func between(r *rand.Rand, lo, hi float32) float32 { return lo + float32(r.Float64())*(hi-lo) }

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// Static builds the building and all things, doors closed; the doors of things in without are left out, for they move.
// Light is baked.
func (r *Room) Static(without map[int]bool) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, MaxEdge: 0.42}, style: &r.style}
	r.building(k)
	k.b.MaxEdge = 0.5
	for i, t := range r.Things {
		k.b.Object = FirstThing + int16(i)
		k.b.Place(t.Pos, t.Yaw)
		t.build(k, t)
		if !without[i] {
			for j := range t.Doors {
				r.door(k, t, j, 0)
			}
		}
	}
	r.bake(m)
	return m
}

func (r *Room) door(k *kit, t *Thing, j int, share float64) {
	x, y, z, o := t.DoorFrame(&t.Doors[j], share)
	k.b.Frame(x, y, z, o)
	t.Doors[j].build(k)
}

// DoorMesh builds one door at a share of opening. light false leaves the shading out: for id pictures.
func (r *Room) DoorMesh(thing, door int, share float64, light bool) *render.Mesh {
	m := &render.Mesh{Materials: r.Materials}
	k := &kit{b: &render.Builder{Mesh: m, Object: FirstThing + int16(thing)}, style: &r.style}
	r.door(k, r.Things[thing], door, share)
	if light {
		r.glance(m)
	}
	return m
}
