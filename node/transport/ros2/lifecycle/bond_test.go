package lifecycle

import (
	"sync"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

func TestBond(t *testing.T) {
	g := mem.NewGraph(mem.StrictQoS(), mem.WallTime())
	node, err := g.Node("/ns/eyes", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	manager, err := g.Node("/ns/manager", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	var mu sync.Mutex
	got := map[string][]msgs.BondStatus{}
	for _, topic := range []string{"/ns/bond", "/ns/bond/eyes"} {
		if _, err := manager.Subscribe(topic, &msgs.BondStatus{}, transport.DefaultQoS(), func(r transport.Received) {
			mu.Lock()
			defer mu.Unlock()
			got[topic] = append(got[topic], *r.Msg.(*msgs.BondStatus))
		}); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got["/ns/bond"])
	}
	b, err := NewBond(node)
	if err != nil {
		t.Fatal(err)
	}
	b.Break() // of none
	for range 2 {
		before := count()
		b.Join()
		b.Join() // once is enough
		for deadline := time.Now().Add(20 * time.Second); count() < before+3; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no heartbeat")
			}
		}
		b.Break()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got["/ns/bond"]) != len(got["/ns/bond/eyes"]) {
		t.Errorf("%d and %d heartbeats", len(got["/ns/bond"]), len(got["/ns/bond/eyes"]))
	}
	var ends int
	for i, s := range got["/ns/bond"] {
		if s.ID != "eyes" || s.InstanceID == "" || s.InstanceID != got["/ns/bond"][0].InstanceID || s.HeartbeatTimeout != 4 || s.HeartbeatPeriod != 0.25 || s.Header.Stamp.Sec == 0 {
			t.Errorf("%d: %+v", i, s)
		}
		if !s.Active {
			ends++
		}
	}
	if last := got["/ns/bond"][len(got["/ns/bond"])-1]; ends != 2 || last.Active {
		t.Errorf("%d ends, the last %+v", ends, last)
	}
}
