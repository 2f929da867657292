package ros1

import (
	"github.com/bluenviron/goroslib/v2/pkg/apiparam"

	"github.com/stllm/stllm/node/transport"
)

// clockQoS keeps what comes in a burst, so that no jump is missed.
var clockQoS = transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100}

// simulated tells whether the time is that of /clock: as configured, or else as the node's own use_sim_time or /use_sim_time say.
func (n *Node) simulated() bool {
	if n.cfg.UseSimTime != nil {
		return *n.cfg.UseSimTime
	}
	c := apiparam.NewClient(n.masterAt, n.Name(), n.http)
	for _, key := range []string{join(n.Name(), "use_sim_time"), "/use_sim_time"} {
		if sim, err := c.GetParamBool(key); err == nil && sim {
			return true
		}
	}
	return false
}
