package peers_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// A node of each discovery range that stays on this machine, and a peer that uses 127.0.0.1 alone, or the ordinary addresses as
// nodes with ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST do.
func TestDiscoveryRanges(t *testing.T) {
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	domain := peers.Domain()
	in := func(t *testing.T, discovery string, loopback bool) transport.Publisher {
		n, err := ros2.New(ros2.Config{Name: "eyes", Domain: &domain, Range: discovery, Loopback: loopback, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return advertise(t, n, "/answer", &msgs.String{}, transport.StaticQoS())
	}
	reader := peers.Message(t, "/answer", &msgs.String{}, wire(transport.StaticQoS()))
	for name, c := range map[string]struct {
		loopback bool
		peer     func(testing.TB, int) *peers.Peer
	}{"range": {false, peers.FastDDSOpen}, "loopback": {true, peers.FastDDS}, "loopback node, ordinary peer": {true, peers.FastDDSOpen},
		"range, CycloneDDS 0.10":             {false, peers.CycloneCOpen},
		"range, CycloneDDS 11 with loopback": {false, peers.CycloneOpen}} {
		t.Run(name, func(t *testing.T) {
			pub := in(t, "LOCALHOST", c.loopback)
			if err := pub.Publish(&msgs.String{Data: "here"}); err != nil {
				t.Fatal(err)
			}
			var m msgs.String
			if c.peer(t, domain).Reader(reader).Into(&m); m.Data != "here" {
				t.Errorf("%q", m.Data)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		pub := in(t, "OFF", false)
		p := peers.FastDDSOpen(t, domain)
		p.Reader(reader)
		// A peer that has found a node of another range has had the time to find this one.
		other := in(t, "LOCALHOST", false)
		eventually(t, "the other node is found", func() bool { return other.Stats().Peers == 1 })
		time.Sleep(time.Second)
		if n := pub.Stats().Peers; n != 0 {
			t.Errorf("%d peers found a node with discovery off", n)
		}
	})
}
