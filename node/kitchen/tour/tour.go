package tour

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
)

// Rate is the number of stored poses a second; between them poses are interpolated.
const Rate = 60

// Verbs of events.
const (
	Open    = "open"
	Close   = "close"
	TurnOn  = "turn on"
	TurnOff = "turn off"
	Take    = "take"
	Put     = "put"
)

// Event is an action of the person who carries the camera.
type Event struct {
	Verb        string
	Thing       int // what is opened, turned on, taken from or put on: index of the room's things
	Door        int
	Item        int // index of Items, -1 for none
	Start, Stop float64
	place       place // of an item put down
}

// Object is the noun of an event: what is handled.
func (t *Tour) Object(e Event) string {
	switch {
	case e.Item >= 0:
		return t.Items[e.Item].Item.Kind
	case e.Verb == TurnOn || e.Verb == TurnOff:
		if t.Room.Things[e.Thing].Category == "sink" {
			return "tap"
		}
	}
	return t.Room.Things[e.Thing].Category
}

// place is where an item lies.
type place struct {
	pos   render.Vec
	yaw   float64
	thing int
}

// Stay is a stretch of time in which an item lies on a thing; Held stretches have Thing -1.
type Stay struct {
	From, To float64
	Thing    int
	Pos      render.Vec
	Yaw      float64
}

// ItemTrack is an item and where it is over time, without gaps.
type ItemTrack struct {
	Item  *room.Item
	Stays []Stay
}

// At is the stay at a time.
func (it *ItemTrack) At(t float64) Stay {
	for _, s := range it.Stays {
		if t < s.To {
			return s
		}
	}
	return it.Stays[len(it.Stays)-1]
}

// Tour is a walk with what happens on it.
type Tour struct {
	Room     *room.Room
	Duration float64
	Items    []*ItemTrack
	Events   []Event
	samples  []sample
}

type sample struct{ x, y, z, yaw, pitch, roll float64 }

// Options of a tour.
type Options struct {
	Duration float64 // wished length, seconds
	Items    int     // number of items
	Quiet    bool    // nothing is done on the way
}

// New draws a walk. It fails where the room leaves no valid path or nothing can be reached; the caller draws another room.
func New(r *rand.Rand, rm *room.Room, o Options) (*Tour, error) {
	g := newGrid(rm)
	if a := g.settle(); a < 0.8 {
		return nil, fmt.Errorf("no valid path: only %.1f m² of the floor can be walked on, expected 0.8 or more", a)
	}
	s := &script{r: r, t: &Tour{Room: rm}, g: g, limit: o.Duration}
	if err := s.begin(o); err != nil {
		return nil, err
	}
	s.play(o)
	if s.t.Duration = s.now; s.now < min(o.Duration, 8)-0.5 {
		return nil, fmt.Errorf("no valid path: the walk came to an end after %.1f s of %.1f s", s.now, o.Duration)
	}
	s.smooth()
	return s.t, nil
}

// Camera is the pose of the optical frame in the room.
func (t *Tour) Camera(at float64) geometry.Transform {
	f := min(max(at, 0)*Rate, float64(len(t.samples)-1))
	i := min(int(f), len(t.samples)-2)
	f -= float64(i)
	a, b := t.samples[i], t.samples[i+1]
	mix := func(p, q float64) float64 { return p + f*(q-p) }
	yaw := a.yaw + f*(b.yaw-a.yaw)
	return lookAlong(r3.Vec{X: mix(a.x, b.x), Y: mix(a.y, b.y), Z: mix(a.z, b.z)}, yaw, mix(a.pitch, b.pitch), mix(a.roll, b.roll))
}

// lookAlong is an optical frame at p that looks along yaw (about z) and pitch (up is positive), tilted by roll about its axis.
func lookAlong(p r3.Vec, yaw, pitch, roll float64) geometry.Transform {
	sy, cy := math.Sincos(yaw / 2)
	sp, cp := math.Sincos(-pitch / 2)
	sr, cr := math.Sincos(roll / 2)
	// Body axes (x ahead, y left, z up) turned by yaw, then pitch about y, then roll about x; then to optical axes.
	q := quat.Mul(quat.Number{Real: cy, Kmag: sy}, quat.Number{Real: cp, Jmag: sp})
	q = quat.Mul(q, quat.Number{Real: cr, Imag: sr})
	q = quat.Mul(q, quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5})
	return geometry.Transform{Translation: p, Rotation: q}
}

// smoothstep eases from 0 to 1.
func smoothstep(f float64) float64 {
	f = min(1, max(0, f))
	return f * f * (3 - 2*f)
}

// held is where a carried item is: in front of the camera, to the right and low.
func (t *Tour) held(at float64) render.Vec {
	p := t.Camera(at).Apply(r3.Vec{X: 0.10, Y: 0.16, Z: 0.50})
	return render.Vec{float32(p.X), float32(p.Y), float32(p.Z)}
}

// moving is the event that moves an item at a time, and how far it is from 0 to 1; nil for none.
func (t *Tour) moving(item int, at float64) (e *Event, f float64) {
	for i := range t.Events {
		if e := &t.Events[i]; e.Item == item && at >= e.Start && at < e.Stop {
			return e, (at - e.Start) / (e.Stop - e.Start)
		}
	}
	return nil, 0
}

// ItemPlace is the place of an item at a time; carried tells that a hand has it.
func (t *Tour) ItemPlace(item int, at float64) (pos render.Vec, yaw float64, carried bool) {
	it := t.Items[item]
	if e, f := t.moving(item, at); e != nil {
		if e.Verb == Take {
			lie := it.At(e.Start - 1e-6)
			return lie.Pos.Lerp(t.held(at), float32(smoothstep(2*f-1))), lie.Yaw, f > 0.5
		}
		return t.held(at).Lerp(e.place.pos, float32(smoothstep(2*f))), e.place.yaw, f < 0.5
	}
	s := it.At(at)
	if s.Thing < 0 {
		return t.held(at), 0, true
	}
	return s.Pos, s.Yaw, false
}

// share is how far a door is open.
func (t *Tour) share(thing, door int, at float64) float64 {
	v := 0.0
	for _, e := range t.Events {
		if e.Thing != thing || e.Door != door || e.Item >= 0 || at < e.Start {
			continue
		}
		f := smoothstep((at - e.Start) / (e.Stop - e.Start))
		switch e.Verb {
		case Open:
			v = f
		case Close:
			v = 1 - f
		}
	}
	return v
}

// running tells whether a tap or ring is on.
func (t *Tour) running(thing int, at float64) bool {
	on := false
	for _, e := range t.Events {
		if e.Thing == thing && e.Item < 0 && at >= e.Start+0.5*(e.Stop-e.Start) {
			switch e.Verb {
			case TurnOn:
				on = true
			case TurnOff:
				on = false
			}
		}
	}
	return on
}

// InUse tells whether one can see that a thing is used: a door of it stands open, its tap runs or its ring is lit.
func (t *Tour) InUse(thing int, at float64) bool {
	for d := range t.Room.Things[thing].Doors {
		if t.share(thing, d, at) > 0.3 {
			return true
		}
	}
	return t.running(thing, at)
}

// Handled tells whether one can see that a hand has an item: it is carried, or the hand is just at it.
func (t *Tour) Handled(item int, at float64) bool {
	const near = 0.3 // of an event: the hand comes until half of a take, and goes from half of a put on
	if e, f := t.moving(item, at); e != nil {
		return e.Verb == Take && f > near || e.Verb == Put && f < 1-near
	}
	return t.Items[item].At(at).Thing < 0
}

// Moving lists the things with a door that moves at some time.
func (t *Tour) Moving() map[int]bool {
	m := map[int]bool{}
	for _, e := range t.Events {
		if e.Verb == Open {
			m[e.Thing] = true
		}
	}
	return m
}

// Meshes are what moves, as it is at a time. light false leaves out the shading.
func (t *Tour) Meshes(at float64, light bool) []*render.Mesh {
	var out []*render.Mesh
	rm := t.Room
	moving := t.Moving()
	for i, th := range rm.Things {
		if moving[i] {
			for d := range th.Doors {
				out = append(out, rm.DoorMesh(i, d, t.share(i, d, at), light))
			}
		}
		if th.Tap != nil && t.running(i, at) {
			out = append(out, rm.WaterMesh(th, room.FirstThing+int16(i)))
		}
		if th.Ring != nil && t.running(i, at) {
			out = append(out, rm.RingMesh(th, room.FirstThing+int16(i)))
		}
	}
	hand := func(to render.Vec) {
		if t.Camera(at).Inverse().Apply(r3.Vec{X: float64(to[0]), Y: float64(to[1]), Z: float64(to[2])}).Z < 0.3 {
			return // beside the head: the arm would fill the picture
		}
		p := t.Camera(at).Apply(r3.Vec{X: 0.26, Y: 0.42, Z: 0.12})
		out = append(out, rm.ArmMesh(render.Vec{float32(p.X), float32(p.Y), float32(p.Z)}, to, light))
	}
	for i, it := range t.Items {
		pos, yaw, carried := t.ItemPlace(i, at)
		out = append(out, rm.ItemMesh(it.Item, room.FirstItem+int16(i), pos, yaw, light))
		if carried {
			hand(pos.Add(render.Vec{0, 0, it.Item.H * 0.3}))
		}
	}
	for _, e := range t.Events {
		if at < e.Start || at >= e.Stop {
			continue
		}
		f := (at - e.Start) / (e.Stop - e.Start)
		th := rm.Things[e.Thing]
		rest := t.held(at)
		switch {
		case e.Item >= 0:
			place := e.place.pos
			if e.Verb == Take && f < 0.5 {
				lie := t.Items[e.Item].At(e.Start - 1e-6).Pos
				hand(rest.Lerp(lie, float32(smoothstep(2*f))))
			} else if e.Verb == Put && f >= 0.5 {
				hand(place.Lerp(rest, float32(smoothstep(2*f-1))))
			}
		case e.Verb == Open || e.Verb == Close:
			hand(th.Grip(&th.Doors[e.Door], t.share(e.Thing, e.Door, at)))
		default:
			var to render.Vec
			if th.Tap != nil {
				to = th.Point(th.Tap.Add(render.Vec{0.10, 0.17, -0.02}))
			} else {
				to = th.Point(render.Vec{0, -th.D/2 + 0.06, th.H + 0.03})
			}
			hand(rest.Lerp(to, float32(math.Sin(math.Pi*f))))
		}
	}
	return out
}
