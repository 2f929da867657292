package ros2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// A subscription that does not keep up loses messages, reliable or not, and counts every one of them.
func TestSlowSubscriptionCountsWhatItLoses(t *testing.T) {
	for _, reliability := range []transport.Reliability{transport.Reliable, transport.BestEffort} {
		t.Run(string(reliability), func(t *testing.T) {
			n, other := testNode(t, Config{Name: "slow"}), testNode(t, Config{Name: "fast"})
			first, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
			begun := false
			const sent = 40
			last := fmt.Sprint(sent - 1)
			s, err := n.Subscribe("/chat", &msgs.String{}, transport.QoS{Reliability: reliability, Durability: transport.Volatile, Depth: 3}, func(r transport.Received) {
				if !begun {
					begun = true
					close(first)
					<-goOn
				}
				if r.Msg.(*msgs.String).Data == last {
					close(ended)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			p := speak(t, other, "/chat", &msgs.String{}, transport.QoS{Reliability: reliability, Durability: transport.Volatile, Depth: 100})
			eventually(t, "matched", func() bool { return p.Stats().Peers == 1 && s.Stats().Peers == 1 })
			say(t, p, &msgs.String{Data: "0"})
			next(t, "the first message", first)
			for i := 1; i < sent; i++ {
				say(t, p, &msgs.String{Data: fmt.Sprint(i)})
			}
			if reliability == transport.Reliable {
				eventually(t, "all have been acknowledged", func() bool { return p.(*publisher).writer.Acknowledged() })
			}
			close(goOn)
			next(t, "the last message", ended)
			st := s.Stats()
			if st.Messages+st.Dropped != sent || reliability == transport.Reliable && st.Dropped < sent-1-3 {
				t.Errorf("%d messages and %d dropped of %d", st.Messages, st.Dropped, sent)
			}
			for told := uint64(0); told < st.Dropped; {
				e := event(t, n, transport.EventLost)
				if told += e.Count; e.Topic != "/chat" || !strings.Contains(e.Message, "/chat") {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}
