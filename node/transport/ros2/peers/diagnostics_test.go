package peers_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// A reliable subscription that does not keep up with a foreign publisher counts all that it never gets to.
func TestSlowSubscription(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		first, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		const sent = 60
		begun := false
		s, err := n.Subscribe("/chat", &msgs.String{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5}, func(r transport.Received) {
			if !begun {
				begun = true
				close(first)
				<-goOn
			}
			if r.Msg.(*msgs.String).Data == strconv.Itoa(sent-1) {
				close(ended)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		w := start().Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Reliable: true, Depth: 100}))
		w.Matched(1)
		eventually(t, "the writer is known", func() bool { return s.Stats().Peers == 1 })
		w.Send(&msgs.String{Data: "0"})
		receive(t, "the first message", first)
		for i := 1; i < sent; i++ {
			w.Send(&msgs.String{Data: strconv.Itoa(i)})
		}
		close(goOn)
		receive(t, "the last message", ended)
		if st := s.Stats(); st.Messages+st.Dropped != sent || st.Errors != 0 {
			t.Errorf("%d messages and %d dropped of %d", st.Messages, st.Dropped, sent)
		} else {
			t.Logf("%d messages, %d dropped", st.Messages, st.Dropped)
		}
	})
}

// What a robot says of trouble with foreign peers reaches them by /diagnostics: who offers what, who has its name.
func TestDiagnostics(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		p := params.Default()
		p.DiagnosticsRate = 5
		r, err := robot.New(robot.Config{Transport: n, Params: p, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		peer := start()
		peer.Writer(peers.Message(t, "/eyes/map_points", &msgs.PointCloud2{}, dds.QoS{Depth: 1}))
		peer.Reader(peers.Message(t, "/eyes/answer_text", &msgs.String{}, dds.QoS{Reliable: true, TransientLocal: true, Depth: 1}))
		info := peer.Writer(discoveryInfo(t, 16))
		twin := entities{gid: peer.GUID(), nodes: []nodeInfo{{"/", "eyes", nil, nil}}}
		info.Write(twin.write(16))
		diagnostics := peer.Reader(peers.Message(t, "/diagnostics", &msgs.DiagnosticArray{}, dds.QoS{Reliable: true, Depth: 10}))
		wants := map[string][]string{
			"last name_taken /eyes":                   {"another node of the name /eyes"},
			"last incompatible_qos /eyes/map_points":  {"offers best_effort volatile", "this node wants reliable transient_local"},
			"last incompatible_qos /eyes/answer_text": {"wants reliable transient_local", "this node offers reliable volatile", "incompatible durability"},
		}
		for len(wants) > 0 {
			var m msgs.DiagnosticArray
			diagnostics.Into(&m)
			for _, s := range m.Status {
				for _, kv := range s.Values {
					if parts, ok := wants[kv.Key]; ok && s.Name == "eyes: transport" {
						contains(t, kv.Value, parts...)
						delete(wants, kv.Key)
					} else if strings.HasPrefix(kv.Key, "last ") && s.Name != "eyes: transport" {
						t.Errorf("%s is told in %s", kv.Key, s.Name)
					}
				}
			}
		}
	})
}
