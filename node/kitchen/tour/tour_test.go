package tour

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
)

func walk(t *testing.T, seed uint64, layout string) *Tour {
	t.Helper()
	for try := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, try))
		rm, err := room.New(r, layout)
		if err != nil {
			continue
		}
		if tr, err := New(r, rm, Options{Duration: 18, Items: 7}); err == nil {
			return tr
		}
	}
	t.Fatalf("seed %d: no walk in ten rooms", seed)
	return nil
}

// A walk is one that a person could do: no jumps, no leaps, nothing beyond a head's turning; items move with the hand only.
func TestWalksAreContinuous(t *testing.T) {
	verbs := map[string]int{}
	for seed := range uint64(15) {
		tr := walk(t, seed, room.Layouts()[seed%5])
		const dt = 1.0 / 60
		for at := dt; at < tr.Duration; at += dt {
			a, b := tr.Camera(at-dt), tr.Camera(at)
			if v := r3.Norm(r3.Sub(b.Translation, a.Translation)) / dt; v > 2.2 {
				t.Fatalf("seed %d: %.1f m/s at %.2f s", seed, v, at)
			}
			if w := geometry.Angle(a, b) / dt; w > 3.2 {
				t.Fatalf("seed %d: %.1f rad/s at %.2f s", seed, w, at)
			}
			if q := b.Rotation; math.Abs(q.Real*q.Real+q.Imag*q.Imag+q.Jmag*q.Jmag+q.Kmag*q.Kmag-1) > 1e-9 {
				t.Fatalf("seed %d: not a unit quaternion", seed)
			}
			for i := range tr.Items {
				p, _, _ := tr.ItemPlace(i, at-dt)
				q, _, _ := tr.ItemPlace(i, at)
				if d := q.Sub(p).Norm(); d > 0.12 {
					t.Fatalf("seed %d: the %s jumps %.2f m at %.2f s", seed, tr.Items[i].Item.Kind, d, at)
				}
			}
		}
		last := 0.0
		for _, e := range tr.Events {
			verbs[e.Verb]++
			if e.Start < last-1e-9 || e.Stop <= e.Start || e.Stop > tr.Duration+1e-9 {
				t.Errorf("seed %d: %s from %.2f to %.2f s, after %.2f", seed, e.Verb, e.Start, e.Stop, last)
			}
			last = e.Stop
		}
		for _, it := range tr.Items {
			for k := 1; k < len(it.Stays); k++ {
				if it.Stays[k].From != it.Stays[k-1].To {
					t.Errorf("seed %d: the %s is nowhere for a while", seed, it.Item.Kind)
				}
			}
		}
	}
	for _, v := range []string{Open, Close, TurnOn, Take, Put} {
		if verbs[v] == 0 {
			t.Errorf("nobody did %q in 15 walks: %v", v, verbs)
		}
	}
}

func TestDoorsAndTaps(t *testing.T) {
	for seed := range uint64(20) {
		tr := walk(t, 100+seed, "U")
		for _, e := range tr.Events {
			switch e.Verb {
			case Open:
				if a, b := tr.share(e.Thing, e.Door, e.Start-0.1), tr.share(e.Thing, e.Door, e.Stop); a != 0 || b < 0.99 {
					t.Errorf("open: from %g to %g", a, b)
				}
			case Close:
				if b := tr.share(e.Thing, e.Door, e.Stop); b > 0.01 {
					t.Errorf("close: at %g in the end", b)
				}
			case TurnOn:
				if tr.running(e.Thing, e.Start-0.1) || !tr.running(e.Thing, e.Stop) {
					t.Error("turned on, but it does not run")
				}
			}
		}
	}
}

// A room without space to walk is refused, and the error says why.
func TestNoPath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	rm, err := room.New(r, "L")
	if err != nil {
		t.Fatal(err)
	}
	full := &room.Thing{Category: "island", Pos: render.Vec{rm.W / 2, rm.D / 2, 0}, W: rm.W - 0.2, D: rm.D - 0.2, H: 1, On: -1}
	rm.Things = append(rm.Things, full)
	if _, err := New(r, rm, Options{Duration: 10, Items: 3}); err == nil || !strings.Contains(err.Error(), "no valid path") {
		t.Errorf("a full room gave %v", err)
	}
}

func TestGridPath(t *testing.T) {
	g := &grid{nx: 60, ny: 40, free: make([]bool, 2400)}
	for i := range g.free {
		g.free[i] = true
	}
	g.block(1.7, 0, 1.9, 1.8, 0.1) // a wall with a gap at its far end
	way := g.path(point{0.5, 0.5}, point{3, 0.5})
	if way == nil {
		t.Fatal("no way round the wall")
	}
	for i := 1; i < len(way); i++ {
		if !g.clear(way[i-1], way[i]) {
			t.Errorf("the way goes through the wall between %v and %v", way[i-1], way[i])
		}
	}
	g.block(1.7, 1.8, 1.9, 2.4, 0.1)
	if g.path(point{0.5, 0.5}, point{3, 0.5}) != nil {
		t.Error("a way through a closed wall")
	}
	if g.path(point{-1, 0}, point{1, 1}) != nil || g.path(point{math.NaN(), 0}, point{1, 1}) != nil {
		t.Error("a way from outside")
	}
}
