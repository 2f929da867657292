package ros1

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/apiparam"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// clock is wall time, or /clock when /use_sim_time is set. Simulated time is 0 until the first message.
type clock struct {
	sim   bool
	now   atomic.Int64
	jumps chan transport.Jump
}

// forwardJump is the forward step that counts as a jump: a bag that was wound on, not a slow publisher.
const forwardJump = int64(time.Minute)

func newClock(n *Node) (*clock, error) {
	c := &clock{jumps: make(chan transport.Jump, 16)}
	n.clock = c
	if n.cfg.UseSimTime != nil {
		c.sim = *n.cfg.UseSimTime
	} else if sim, err := apiparam.NewClient(n.masterAt, n.Name(), n.http).GetParamBool("/use_sim_time"); err == nil {
		c.sim = sim
	}
	if !c.sim {
		return c, nil
	}
	_, err := n.Subscribe("/clock", &msgs.Clock{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100}, func(r transport.Received) {
		if m, ok := r.Msg.(*msgs.Clock); ok {
			c.set(m.Clock.UnixNano())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("simulated time: %w", err)
	}
	return c, nil
}

func (c *clock) set(t int64) {
	before := c.now.Swap(t)
	if before != 0 && (t < before || t-before > forwardJump) {
		select {
		case c.jumps <- transport.Jump{From: before, To: t}:
		default: // sixteen unread jumps say enough
		}
	}
}

// Now is the graph's time in ns.
func (c *clock) Now() int64 {
	if c.sim {
		return c.now.Load()
	}
	return time.Now().UnixNano()
}

// received stamps a message on arrival. It is called before New has returned, too.
func (c *clock) received() int64 {
	if c == nil {
		return time.Now().UnixNano()
	}
	return c.Now()
}

// Simulated tells whether /clock drives the time.
func (c *clock) Simulated() bool { return c.sim }

// Jumps delivers discontinuities.
func (c *clock) Jumps() <-chan transport.Jump { return c.jumps }
