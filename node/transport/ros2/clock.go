package ros2

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// clock is wall time, or /clock with use_sim_time. Simulated time is 0 until the first message.
type clock struct {
	sim   bool
	now   atomic.Int64
	jumps chan transport.Jump
}

// forwardJump is the forward step that counts as a jump: a bag that was wound on, not a slow publisher.
const forwardJump = int64(time.Minute)

// clockQoS is rclcpp::ClockQoS but for its depth of 1, so that no jump is missed when several messages come at once.
var clockQoS = transport.QoS{Reliability: transport.BestEffort, Durability: transport.Volatile, Depth: 10}

// follow subscribes to /clock where the time is simulated.
func (c *clock) follow(n *Node) error {
	if !c.sim {
		return nil
	}
	_, err := n.Subscribe("/clock", &msgs.Clock{}, clockQoS, func(r transport.Received) {
		if m, ok := r.Msg.(*msgs.Clock); ok {
			c.set(m.Clock.UnixNano())
		}
	})
	if err != nil {
		return fmt.Errorf("simulated time: %w", err)
	}
	return nil
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

// Simulated tells whether /clock drives the time.
func (c *clock) Simulated() bool { return c.sim }

// Jumps delivers discontinuities.
func (c *clock) Jumps() <-chan transport.Jump { return c.jumps }
