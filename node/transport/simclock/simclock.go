// Package simclock is the clock of a transport: wall time, or the time that /clock tells.
package simclock

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// ForwardJump is the forward step, ns, beyond which time has jumped: a bag that was wound on, not a slow publisher.
const ForwardJump = int64(time.Minute)

// unread is how many jumps wait to be read; more are not kept, as so many unread ones say enough.
const unread = 16

// Jumped tells whether the step between two times, ns, is a jump: backwards, or forward by more than [ForwardJump]. The
// first step, from 0, is none.
func Jumped(before, now int64) bool {
	return before != 0 && (now < before || now-before > ForwardJump)
}

// Jumps makes the channel that [Tell] writes to.
func Jumps() chan transport.Jump { return make(chan transport.Jump, unread) }

// Tell puts a jump into a channel of [Jumps], unless it is full.
func Tell(jumps chan<- transport.Jump, before, now int64) {
	select {
	case jumps <- transport.Jump{From: before, To: now}:
	default:
	}
}

// Clock implements [transport.Clock]. Simulated time is 0 until the first message of /clock.
type Clock struct {
	sim   bool
	now   atomic.Int64
	jumps chan transport.Jump
}

var _ transport.Clock = (*Clock)(nil)

// New makes a clock of wall time, or of simulated time for [Clock.Follow] to drive.
func New(simulated bool) *Clock { return &Clock{sim: simulated, jumps: Jumps()} }

// Follow subscribes to /clock where the time is simulated.
func (c *Clock) Follow(t transport.Transport, qos transport.QoS) error {
	if !c.sim {
		return nil
	}
	_, err := t.Subscribe("/clock", &msgs.Clock{}, qos, func(r transport.Received) {
		if m, ok := r.Msg.(*msgs.Clock); ok {
			c.set(m.Clock.UnixNano())
		}
	})
	if err != nil {
		return fmt.Errorf("simulated time: %w", err)
	}
	return nil
}

func (c *Clock) set(now int64) {
	if before := c.now.Swap(now); Jumped(before, now) {
		Tell(c.jumps, before, now)
	}
}

// Now is the graph's time in ns.
func (c *Clock) Now() int64 {
	if c.sim {
		return c.now.Load()
	}
	return time.Now().UnixNano()
}

// Simulated tells whether /clock drives the time.
func (c *Clock) Simulated() bool { return c.sim }

// Jumps delivers discontinuities.
func (c *Clock) Jumps() <-chan transport.Jump { return c.jumps }
