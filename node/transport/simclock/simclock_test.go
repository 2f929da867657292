package simclock_test

import (
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
	"github.com/stllm/stllm/node/transport/simclock"
)

func join(t *testing.T, g *mem.Graph, name string) *mem.Node {
	t.Helper()
	n, err := g.Node(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestFollow(t *testing.T) {
	g := mem.NewGraph()
	a, b := join(t, g, "/a"), join(t, g, "/b")
	c := simclock.New(true)
	if err := c.Follow(a, transport.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	p, err := b.Advertise("/clock", &msgs.Clock{}, transport.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	set := func(now int64) {
		t.Helper()
		if err := p.Publish(&msgs.Clock{Clock: msgs.TimeFromNanos(now)}); err != nil {
			t.Fatal(err)
		}
	}
	if !c.Simulated() || c.Now() != 0 {
		t.Fatalf("before the first message: simulated %v, now %d", c.Simulated(), c.Now())
	}
	first := simclock.ForwardJump * 5
	for _, s := range []struct {
		now  int64
		jump bool
	}{
		{first, false}, {first, false}, {first + simclock.ForwardJump, false}, {first + 2*simclock.ForwardJump + 1, true}, {first, true}, {first + 1, false},
	} {
		before := c.Now()
		set(s.now)
		if c.Now() != s.now {
			t.Errorf("now is %d, expected %d", c.Now(), s.now)
		}
		select {
		case j := <-c.Jumps():
			if want := (transport.Jump{From: before, To: s.now}); !s.jump || j != want {
				t.Errorf("step to %d: jump %+v, expected %v (%+v)", s.now, j, s.jump, want)
			}
		default:
			if s.jump {
				t.Errorf("step from %d to %d: no jump", before, s.now)
			}
		}
	}
	for range 100 { // nobody reads: a bounded number waits, and the newest time stands
		set(first)
		set(1)
	}
	if n := len(c.Jumps()); n == 0 || n >= 100 || c.Now() != 1 {
		t.Errorf("%d unread jumps, now %d; expected a few and 1", n, c.Now())
	}
}

func TestWallTime(t *testing.T) {
	g := mem.NewGraph()
	c := simclock.New(false)
	if err := c.Follow(join(t, g, "/a"), transport.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	before := time.Now().UnixNano()
	if now := c.Now(); c.Simulated() || now < before || now > time.Now().UnixNano() {
		t.Errorf("simulated %v, now %d, expected wall time from %d", c.Simulated(), now, before)
	}
}
