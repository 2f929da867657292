package tour

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
)

// script writes a tour second by second: where the person stands, and what the eyes want to see.
type script struct {
	r      *rand.Rand
	t      *Tour
	g      *grid
	now    float64
	pos    point
	want   []wish // one per sample
	limit  float64
	height float64
	pitch  float64
	holds  int        // item in the hand, -1
	last   render.Vec // what was looked at last
}

// wish is where the person is and where the eyes want to be.
type wish struct {
	p     point
	yaw   float64
	pitch float64
	walk  bool
}

func (s *script) begin(o Options) error {
	rm := s.t.Room
	s.height, s.pitch, s.holds = 1.32+0.36*s.r.Float64(), -0.18-0.2*s.r.Float64(), -1
	s.last = render.Vec{rm.W / 2, rm.D / 2, 1}
	spot, ok := s.anywhere()
	if !ok {
		return fmt.Errorf("no valid path: no place to stand")
	}
	s.pos = spot
	kinds := room.ItemKinds()
	s.r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, kind := range kinds {
		if len(s.t.Items) == o.Items {
			break
		}
		it := rm.NewItem(s.r, kind)
		if p, ok := s.free(it, -1); ok {
			s.t.Items = append(s.t.Items, &ItemTrack{Item: it, Stays: []Stay{{0, math.Inf(1), p.thing, p.pos, p.yaw}}})
		}
	}
	if len(s.t.Items) == 0 && o.Items > 0 {
		return fmt.Errorf("no room for any of %d items", o.Items)
	}
	return nil
}

func (s *script) anywhere() (point, bool) {
	for range 400 {
		p := point{s.r.Float64() * float64(s.t.Room.W), s.r.Float64() * float64(s.t.Room.D)}
		if s.g.at(p) {
			return p, true
		}
	}
	return point{}, false
}

// free finds a place for an item on some surface, not on the thing except.
func (s *script) free(it *room.Item, except int) (place, bool) {
	rm := s.t.Room
	for range 60 {
		i := s.r.IntN(len(rm.Things))
		t := rm.Things[i]
		if i == except || len(t.Surfaces) == 0 {
			continue
		}
		sf := t.Surfaces[s.r.IntN(len(t.Surfaces))]
		half := max(it.W, it.D) / 2
		span := func(lo, hi float32) (float32, bool) {
			if hi-lo < 2*half-0.08 {
				return 0, false
			}
			m := min(half, (hi-lo)/2)
			return lo + m + float32(s.r.Float64())*(hi-lo-2*m), true
		}
		x, okx := span(sf.X0, sf.X1)
		y, oky := span(sf.Y0, sf.Y1)
		if !okx || !oky {
			continue
		}
		p := place{pos: t.Point(render.Vec{x, y, sf.Z}), yaw: 2 * math.Pi * s.r.Float64(), thing: i}
		if s.taken(p.pos, half, i) {
			continue
		}
		if _, ok := s.reachable(p.pos, 1.25); !ok {
			continue
		}
		return p, true
	}
	return place{}, false
}

func (s *script) taken(p render.Vec, half float32, on int) bool {
	near := func(q render.Vec, r float32) bool {
		dx, dy := p[0]-q[0], p[1]-q[1]
		return dx*dx+dy*dy < (half+r+0.02)*(half+r+0.02)
	}
	for _, o := range s.t.Room.Things {
		if o.On == on {
			ex, ey := o.Extent()
			if near(o.Pos, max(ex, ey)) {
				return true
			}
		}
	}
	for _, it := range s.t.Items {
		for _, st := range it.Stays {
			if st.Thing == on && near(st.Pos, max(it.Item.W, it.Item.D)/2) {
				return true
			}
		}
	}
	return false
}

// reachable finds a place to stand from which p is within an arm's and a step's reach.
func (s *script) reachable(p render.Vec, far float64) (point, bool) {
	target := point{float64(p[0]), float64(p[1])}
	best, bestCost := point{}, math.Inf(1)
	for range 60 {
		a, d := 2*math.Pi*s.r.Float64(), 0.45+s.r.Float64()*(far-0.45)
		q := point{target.x + d*math.Cos(a), target.y + d*math.Sin(a)}
		if s.g.at(q) {
			if cost := math.Abs(d - 0.8); cost < bestCost {
				best, bestCost = q, cost
			}
		}
	}
	return best, bestCost < math.Inf(1)
}

// facing finds a place in front of a thing, dist metres and more from its front.
func (s *script) facing(t *room.Thing, lo, hi float64) (point, bool) {
	for range 80 {
		d, side := lo+s.r.Float64()*(hi-lo), (s.r.Float64()-0.5)*0.9
		q := t.Point(render.Vec{float32(side), -t.D/2 - float32(d), 0})
		if p := (point{float64(q[0]), float64(q[1])}); s.g.at(p) {
			return p, true
		}
	}
	return point{}, false
}

// look is the direction from a place to a point.
func (s *script) look(from point, at render.Vec) (yaw, pitch float64) {
	dx, dy, dz := float64(at[0])-from.x, float64(at[1])-from.y, float64(at[2])-s.height
	return math.Atan2(dy, dx), min(0.25, max(-0.72, math.Atan2(dz, math.Hypot(dx, dy))))
}

func (s *script) add(w wish) {
	s.want = append(s.want, w)
	s.now = float64(len(s.want)) / Rate
}

// gaze stands still and looks at a point.
func (s *script) gaze(at render.Vec, seconds float64) {
	yaw, pitch := s.look(s.pos, at)
	for range int(seconds * Rate) {
		s.add(wish{s.pos, yaw, pitch, false})
	}
	s.last = at
}

// walk goes to a place, the eyes on the way, on the goal, on what was seen last (so it goes backwards), or to the side.
func (s *script) walk(to point, goal render.Vec) bool {
	way := s.g.path(s.pos, to)
	if way == nil {
		return false
	}
	length := 0.0
	for i := 1; i < len(way); i++ {
		length += way[i-1].to(way[i])
	}
	speed := 0.65 + 0.45*s.r.Float64()
	n := int(max(0.3, length/speed+0.3) * Rate)
	mode := s.r.IntN(5)
	back := s.last
	for k := 1; k <= n; k++ {
		d := length * smoothstep(float64(k)/float64(n))
		p, dir := along(way, d)
		w := wish{p: p, walk: true, yaw: dir, pitch: s.pitch}
		switch mode {
		case 2, 3:
			w.yaw, w.pitch = s.look(p, goal)
		case 4:
			w.yaw, w.pitch = s.look(p, back)
		}
		if length < 0.25 {
			w.yaw, w.pitch = s.look(p, goal)
		}
		s.add(w)
	}
	s.pos = to
	return true
}

// along is the point and direction at a distance along a way.
func along(way []point, d float64) (point, float64) {
	dir := 0.0
	for i := 1; i < len(way); i++ {
		l := way[i-1].to(way[i])
		if l < 1e-9 {
			continue
		}
		dir = math.Atan2(way[i].y-way[i-1].y, way[i].x-way[i-1].x)
		if d <= l {
			return way[i-1].lerp(way[i], d/l), dir
		}
		d -= l
	}
	return way[len(way)-1], dir
}

// settled waits until the eyes have arrived.
func (s *script) settled(at render.Vec) { s.gaze(at, 0.6+0.3*s.r.Float64()) }

func (s *script) event(e Event, at render.Vec, seconds float64) {
	e.Start = s.now
	s.gaze(at, seconds)
	e.Stop = s.now
	s.t.Events = append(s.t.Events, e)
}

// play goes on until the time is up. What would not fit is undone and something else is tried.
func (s *script) play(o Options) {
	s.gaze(s.somewhere(), 0.8)
	for misses := 0; s.now < o.Duration-1.2 && misses < 60; {
		save := s.save()
		done := false
		if o.Quiet || s.r.Float64() < 0.32 {
			done = s.glimpse()
		} else {
			done = s.act()
		}
		if !done || s.now > o.Duration+2.5 || s.now > 30 {
			s.restore(save)
			misses++
			continue
		}
	}
	for s.now < o.Duration-0.02 && s.now < 8 {
		s.gaze(s.somewhere(), min(1.5, o.Duration-s.now)+0.02)
	}
}

type saved struct {
	want   int
	pos    point
	events int
	stays  [][]Stay
	holds  int
	last   render.Vec
}

func (s *script) save() saved {
	v := saved{want: len(s.want), pos: s.pos, events: len(s.t.Events), holds: s.holds, last: s.last}
	for _, it := range s.t.Items {
		v.stays = append(v.stays, slices.Clone(it.Stays))
	}
	return v
}

func (s *script) restore(v saved) {
	s.want, s.pos, s.t.Events, s.holds, s.last = s.want[:v.want], v.pos, s.t.Events[:v.events], v.holds, v.last
	s.now = float64(len(s.want)) / Rate
	for i, it := range s.t.Items {
		it.Stays = v.stays[i]
	}
}

// somewhere is something worth a look: an item or a thing.
func (s *script) somewhere() render.Vec {
	if len(s.t.Items) > 0 && s.r.Float64() < 0.7 {
		st := s.t.Items[s.r.IntN(len(s.t.Items))].At(s.now)
		if st.Thing >= 0 {
			return st.Pos.Add(render.Vec{0, 0, 0.05})
		}
	}
	return s.t.Room.Things[s.r.IntN(len(s.t.Room.Things))].Center()
}

// glimpse walks somewhere, or turns where one is, and looks at something for a while.
func (s *script) glimpse() bool {
	at := s.somewhere()
	if s.r.Float64() < 0.6 {
		for range 20 {
			p, ok := s.anywhere()
			if d := p.to(s.pos); ok && d > 0.5 && d < 2.8 {
				if !s.walk(p, at) {
					return false
				}
				break
			}
		}
	}
	s.gaze(at, 1.0+0.7*s.r.Float64())
	return true
}

// act does one action, or carries an item to another place.
func (s *script) act() bool {
	rm := s.t.Room
	if s.holds >= 0 {
		return s.putDown()
	}
	if s.r.Float64() < 0.5 && len(s.t.Items) > 0 {
		if !s.pickUp() {
			return false
		}
		if s.r.Float64() < 0.25 {
			s.glimpse()
		}
		return s.putDown()
	}
	for range 30 {
		i := s.r.IntN(len(rm.Things))
		t := rm.Things[i]
		switch {
		case t.Pos[2] > 0.5 && s.r.Float64() < 0.6:
			// wall cabinets are seldom out of reach and would be opened all the time
		case len(t.Doors) > 0 && !s.done(i):
			return s.door(i)
		case (t.Tap != nil || t.Ring != nil) && !s.done(i):
			return s.swtch(i)
		}
	}
	return false
}

// done tells whether a thing was handled before: things are used once, so that an action names one moment.
func (s *script) done(thing int) bool {
	return slices.ContainsFunc(s.t.Events, func(e Event) bool { return e.Thing == thing && e.Item < 0 })
}

func (s *script) door(i int) bool {
	t := s.t.Room.Things[i]
	j := s.r.IntN(len(t.Doors))
	d := &t.Doors[j]
	reach := 0.75
	if d.Axis == 'z' {
		reach = float64(abs32(d.Grip[0])) + 0.30
	}
	if t.Pos[2] > 0.5 {
		reach = 0.55
	}
	spot, ok := s.facing(t, reach, reach+0.5)
	if !ok {
		return false
	}
	at := t.Grip(d, 0)
	mid := t.Grip(d, 0.4)
	if !s.walk(spot, at) {
		return false
	}
	s.settled(at)
	s.event(Event{Verb: Open, Thing: i, Door: j, Item: -1}, mid.Lerp(t.Center(), 0.4), 1.0+0.5*s.r.Float64())
	s.gaze(t.Center(), 0.8+0.8*s.r.Float64())
	if t.Pos[2] > 0.5 && s.r.Float64() < 0.4 {
		return true // a wall cabinet may stay open: it is in nobody's way
	}
	s.event(Event{Verb: Close, Thing: i, Door: j, Item: -1}, mid, 0.9+0.4*s.r.Float64())
	s.gaze(at, 0.2)
	return true
}

func abs32(v float32) float32 { return float32(math.Abs(float64(v))) }

func (s *script) swtch(i int) bool {
	t := s.t.Room.Things[i]
	spot, ok := s.facing(t, 0.28, 0.8)
	if !ok {
		return false
	}
	at := t.Point(render.Vec{0, 0, t.H + 0.06})
	if !s.walk(spot, at) {
		return false
	}
	s.settled(at)
	s.event(Event{Verb: TurnOn, Thing: i, Item: -1}, at, 0.9)
	s.gaze(at, 1.0+0.8*s.r.Float64())
	if s.r.Float64() < 0.6 {
		s.event(Event{Verb: TurnOff, Thing: i, Item: -1}, at, 0.8)
	}
	return true
}

func (s *script) pickUp() bool {
	var may []int
	for i, it := range s.t.Items {
		if len(it.Stays) == 1 {
			may = append(may, i)
		}
	}
	if len(may) == 0 {
		return false
	}
	i := may[s.r.IntN(len(may))]
	it := s.t.Items[i]
	st := it.Stays[0]
	spot, ok := s.reachable(st.Pos, 1.25)
	if !ok || !s.walk(spot, st.Pos) {
		return false
	}
	s.settled(st.Pos)
	s.event(Event{Verb: Take, Thing: st.Thing, Item: i}, st.Pos, 1.1+0.4*s.r.Float64())
	it.Stays[0].To = s.now
	it.Stays = append(it.Stays, Stay{From: s.now, To: math.Inf(1), Thing: -1})
	s.holds = i
	return true
}

func (s *script) putDown() bool {
	it := s.t.Items[s.holds]
	p, ok := s.free(it.Item, it.Stays[0].Thing)
	if !ok {
		return false
	}
	spot, ok := s.reachable(p.pos, 1.2)
	if !ok || !s.walk(spot, p.pos) {
		return false
	}
	s.settled(p.pos)
	s.event(Event{Verb: Put, Thing: p.thing, Item: s.holds, place: p}, p.pos, 1.0+0.4*s.r.Float64())
	it.Stays[len(it.Stays)-1].To = s.now
	it.Stays = append(it.Stays, Stay{From: s.now, To: math.Inf(1), Thing: p.thing, Pos: p.pos, Yaw: p.yaw})
	s.gaze(p.pos, 0.7+0.5*s.r.Float64())
	s.holds = -1
	return true
}
