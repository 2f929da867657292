package ros1

import (
	"github.com/bluenviron/goroslib/v2/pkg/apiparam"

	"github.com/stllm/stllm/node/transport"
)

// clockQoS keeps what comes in a burst, so that no jump is missed.
var clockQoS = transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100}

// simulated tells whether the time is that of /clock: as configured, or else as /use_sim_time says.
func (n *Node) simulated() bool {
	if n.cfg.UseSimTime != nil {
		return *n.cfg.UseSimTime
	}
	sim, err := apiparam.NewClient(n.masterAt, n.Name(), n.http).GetParamBool("/use_sim_time")
	return err == nil && sim
}
