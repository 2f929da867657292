package room

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/stllm/stllm/node/kitchen/render"
)

func v3(x, y, z float32) render.Vec { return render.Vec{x, y, z} }

// Walls: 0 is y = D (backs stand at it), 1 is x = 0, 2 is y = 0, 3 is x = W.

// Layouts are the ways in which the units of a kitchen stand along its walls.
func Layouts() []string { return []string{"one-wall", "L", "U", "galley", "island"} }

type run struct {
	wall     int
	from, to float32
	corner   int // -1: at from, 1: at to, 0: none
	units    []*Thing
}

// New furnishes a room. It fails when too little fits; the caller draws again.
func New(r *rand.Rand, layout string) (*Room, error) {
	if !slices.Contains(Layouts(), layout) {
		return nil, fmt.Errorf("room layout is %q, expected one of %v", layout, Layouts())
	}
	rm := &Room{W: between(r, 3.5, 6.0), D: between(r, 3.3, 5.4), H: between(r, 2.4, 2.8), Layout: layout}
	switch layout {
	case "galley":
		rm.D = between(r, 3.0, 3.8)
	case "island":
		rm.W, rm.D = between(r, 4.6, 6.2), between(r, 4.2, 5.6)
	case "U":
		rm.W = between(r, 4.0, 5.6)
	}
	rm.furbish(r)
	f := &furnisher{r: r, rm: rm, cat: catalog(), has: map[string]int{}}
	f.doorway()
	runs := f.runs()
	f.fill(runs)
	f.hang(runs)
	f.window(runs)
	f.central()
	f.along()
	f.tops()
	f.lamps()
	f.decorate()
	rm.illuminate()
	if len(rm.Things) < 9 || len(f.has) < 8 {
		return nil, fmt.Errorf("only %d pieces of %d categories fit into a room of %.1f × %.1f m", len(rm.Things), len(f.has), rm.W, rm.D)
	}
	return rm, nil
}

type furnisher struct {
	r   *rand.Rand
	rm  *Room
	cat map[string]kind
	has map[string]int
	use [][]render.Vec // by thing: what is taken of its surface (x, y, radius), own frame
}

func (f *furnisher) length(wall int) float32 {
	if wall%2 == 0 {
		return f.rm.W
	}
	return f.rm.D
}

// onWall gives place and turn of something of depth d with its back at a wall and its middle at along.
func (f *furnisher) onWall(wall int, along, d float32) (render.Vec, float64) {
	off := d/2 + 0.005
	switch wall {
	case 0:
		return v3(along, f.rm.D-off, 0), 0
	case 1:
		return v3(off, along, 0), math.Pi / 2
	case 2:
		return v3(along, off, 0), math.Pi
	}
	return v3(f.rm.W-off, along, 0), -math.Pi / 2
}

func (f *furnisher) add(t *Thing) int {
	t.finish(f.cat[t.Category])
	f.rm.Things = append(f.rm.Things, t)
	f.use = append(f.use, nil)
	f.has[t.Category]++
	return len(f.rm.Things) - 1
}

// doorway leaves a piece of the south or of a side wall free for the way in.
func (f *furnisher) doorway() {
	wall := pick(f.r, 2, 2, 1, 3)
	a := between(f.r, 0.1, 0.5)
	if chance(f.r, 0.5) && wall == 2 {
		a = f.length(wall) - a - 0.9
	}
	f.rm.Openings = append(f.rm.Openings, Opening{Wall: wall, A: a, B: a + 0.9, Z0: 0, Z1: 2.03})
}

func (f *furnisher) runs() []*run {
	r, w, d := f.r, f.rm.W, f.rm.D
	deep := float32(0.66)
	main := &run{wall: 0, from: 0.02, to: w - 0.02}
	out := []*run{main}
	side := func(wall int) *run {
		main.corner = map[int]int{1: -1, 3: 1}[wall]
		low := max(d-deep-between(r, 1.2, 2.4), 0.2)
		for _, o := range f.rm.Openings {
			if o.Wall == wall {
				low = max(low, o.B+0.15)
			}
		}
		return &run{wall: wall, from: low, to: d - deep, corner: 0}
	}
	switch f.rm.Layout {
	case "one-wall":
		cut := max(0, w-between(r, 3.2, 4.6))
		if chance(r, 0.5) {
			main.from += cut
		} else {
			main.to -= cut
		}
	case "L", "island":
		if f.rm.Layout == "L" || chance(r, 0.5) {
			out = append(out, side(pick(r, 1, 3)))
		}
	case "U":
		out = append(out, side(1), side(3))
		main.corner = 2
	case "galley":
		s := &run{wall: 2, from: 0.02, to: w - 0.02}
		for _, o := range f.rm.Openings {
			if o.Wall == 2 {
				if o.A > w/2 {
					s.to = o.A - 0.1
				} else {
					s.from = o.B + 0.1
				}
			}
		}
		out = append(out, s)
	}
	return slices.DeleteFunc(out, func(x *run) bool { return x.to-x.from < 0.7 })
}

// fill puts units into the runs.
func (f *furnisher) fill(runs []*run) {
	r := f.r
	bases := []*Thing{newThing(r, f.cat, "sink"), newThing(r, f.cat, "hob")}
	var talls []*Thing
	for _, o := range []struct {
		name string
		p    float64
	}{{"oven", 0.8}, {"dishwasher", 0.65}, {"washing machine", 0.35}} {
		if !chance(r, o.p) {
			continue
		}
		t := newThing(r, f.cat, o.name)
		if t.H > 1.2 {
			talls = append(talls, t)
		} else {
			bases = append(bases, t)
		}
	}
	for _, name := range []string{"fridge", "cupboard"} {
		if chance(r, 0.85) {
			talls = append(talls, newThing(r, f.cat, name))
		}
	}
	r.Shuffle(len(bases), func(i, j int) { bases[i], bases[j] = bases[j], bases[i] })
	r.Shuffle(len(talls), func(i, j int) { talls[i], talls[j] = talls[j], talls[i] })
	high, deep := between(r, 0.86, 0.93), between(r, 0.58, 0.62)
	room := make([]float32, len(runs))
	ends := make([][2]*Thing, len(runs)) // talls at from and to
	for i, x := range runs {
		room[i] = x.to - x.from
		for _, c := range []int{-1, 1} {
			if x.corner == c || x.corner == 2 {
				room[i] -= deep
			}
		}
	}
	for _, t := range talls {
		for _, i := range r.Perm(len(runs)) {
			end := pick(r, 0, 1)
			free := func(e int) bool {
				c := runs[i].corner
				return ends[i][e] == nil && c != 2 && c != 2*e-1 && !(len(runs) > 1 && runs[i].wall%2 == 1 && e == 1)
			}
			if !free(end) {
				end = 1 - end
			}
			if free(end) && room[i] > t.W+0.9 {
				ends[i][end] = t
				room[i] -= t.W
				break
			}
		}
	}
	for _, t := range bases {
		best := -1
		for i := range runs {
			if room[i] >= t.W && (best < 0 || room[i] > room[best]) {
				best = i
			}
		}
		if best >= 0 {
			runs[best].units = append(runs[best].units, t)
			room[best] -= t.W
		}
	}
	for i, x := range runs {
		n := 0
		if room[i] >= 0.3 {
			n = int(math.Ceil(float64(room[i]) / 1.15))
		}
		for range n {
			t := newThing(r, f.cat, "counter")
			t.W = room[i] / float32(n)
			x.units = slices.Insert(x.units, r.IntN(len(x.units)+1), t)
		}
		corner := func() *Thing {
			t := newThing(r, f.cat, "corner")
			t.W = deep
			return t
		}
		if x.corner == -1 || x.corner == 2 {
			x.units = slices.Insert(x.units, 0, corner())
		}
		if x.corner == 1 || x.corner == 2 {
			x.units = append(x.units, corner())
		}
		if ends[i][0] != nil {
			x.units = slices.Insert(x.units, 0, ends[i][0])
		}
		if ends[i][1] != nil {
			x.units = append(x.units, ends[i][1])
		}
		at := x.from
		for _, t := range x.units {
			if t.H < 1.2 {
				t.H, t.D = high, deep
				if t.Category == "washing machine" {
					t.H = min(t.H, 0.88)
				}
			}
			t.Pos, t.Yaw = f.onWall(x.wall, at+t.W/2, t.D)
			at += t.W
			f.add(t)
		}
	}
}

// hang puts wall cabinets over stretches of low units, not over the hob.
func (f *furnisher) hang(runs []*run) {
	for _, x := range runs {
		if !chance(f.r, 0.75) {
			continue
		}
		best, bestFrom := float32(0), float32(0)
		at, from := x.from, float32(-1)
		flush := func(to float32) {
			if from >= 0 && to-from > best {
				best, bestFrom = to-from, from
			}
			from = -1
		}
		for _, t := range x.units {
			if t.H > 1.2 || t.Category == "hob" || (t.Category == "sink" && chance(f.r, 0.6)) {
				flush(at)
			} else if from < 0 {
				from = at
			}
			at += t.W
		}
		flush(at)
		if best < 0.6 {
			continue
		}
		t := newThing(f.r, f.cat, "cabinet")
		if t.W > best {
			t.W = best
		}
		along := bestFrom + t.W/2 + float32(f.r.Float64())*(best-t.W)
		t.Pos, t.Yaw = f.onWall(x.wall, along, t.D)
		t.Pos[2] = between(f.r, 1.42, 1.52)
		if !f.blocked(t, 0) {
			f.add(t)
		}
	}
}

// window goes over the sink where nothing hangs, else into a free stretch of wall.
func (f *furnisher) window(runs []*run) {
	low, high := between(f.r, 1.05, 1.2), between(f.r, 1.9, 2.15)
	for _, x := range runs {
		at := x.from
		for _, t := range x.units {
			mid := at + t.W/2
			at += t.W
			if t.Category != "sink" {
				continue
			}
			probe := &Thing{W: 1.0, D: 0.4, H: 0.8}
			probe.Pos, probe.Yaw = f.onWall(x.wall, mid, 0.4)
			probe.Pos[2] = low
			if mid > 0.55 && mid < f.length(x.wall)-0.55 && !f.blocked(probe, 0) {
				f.rm.Openings = append(f.rm.Openings, Opening{Wall: x.wall, A: mid - 0.5, B: mid + 0.5, Z0: low, Z1: high, Window: true})
				return
			}
		}
	}
	for range 20 {
		wall := f.r.IntN(4)
		a := between(f.r, 0.3, f.length(wall)-1.5)
		probe := &Thing{W: 1.2, D: 0.6, H: 0.8}
		probe.Pos, probe.Yaw = f.onWall(wall, a+0.6, 0.6)
		probe.Pos[2] = low
		if !f.blocked(probe, 0) && !f.inDoorway(wall, a, a+1.2) {
			f.rm.Openings = append(f.rm.Openings, Opening{Wall: wall, A: a, B: a + 1.2, Z0: low, Z1: high, Window: true})
			return
		}
	}
}

func (f *furnisher) inDoorway(wall int, a, b float32) bool {
	for _, o := range f.rm.Openings {
		if !o.Window && o.Wall == wall && a < o.B+0.05 && b > o.A-0.05 {
			return true
		}
	}
	return false
}

// blocked tells whether a thing would stand in another one or nearer to it than gap, or in the doorway.
func (f *furnisher) blocked(t *Thing, gap float32) bool {
	ex, ey := t.Extent()
	if t.Pos[0]-ex < 0 || t.Pos[1]-ey < 0 || t.Pos[0]+ex > f.rm.W || t.Pos[1]+ey > f.rm.D {
		return true
	}
	for _, o := range f.rm.Things {
		ox, oy := o.Extent()
		if t.Pos[2] < o.Pos[2]+o.H-0.001 && o.Pos[2] < t.Pos[2]+t.H-0.001 &&
			abs(t.Pos[0]-o.Pos[0]) < ex+ox+gap-0.001 && abs(t.Pos[1]-o.Pos[1]) < ey+oy+gap-0.001 {
			return true
		}
	}
	return false
}

func abs(v float32) float32 {
	if v < 0 {
		return -v
	}
	return v
}

// doorClear keeps the floor before the doorway free.
func (f *furnisher) doorClear(t *Thing) bool {
	ex, ey := t.Extent()
	for _, o := range f.rm.Openings {
		if o.Window {
			continue
		}
		p, _ := f.onWall(o.Wall, (o.A+o.B)/2, 0.7)
		if abs(t.Pos[0]-p[0]) < ex+0.5 && abs(t.Pos[1]-p[1]) < ey+0.5 {
			return false
		}
	}
	return true
}
