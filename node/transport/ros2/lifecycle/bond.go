package lifecycle

import (
	"crypto/rand"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// Of a bond: how often it tells that the node lives (nav2's default), and after how long without it the node counts as gone.
const (
	bondPeriod  = 250 * time.Millisecond
	bondTimeout = 4 * time.Second
)

// bondQoS is that of bondcpp's publisher.
var bondQoS = transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5}

// Bond tells a lifecycle manager that an active node lives (package bond): it publishes a heartbeat while it is joined. The
// other end is not listened to: that a manager is gone is no reason to stop.
type Bond struct {
	node     transport.Transport
	id       string // the node's name without its namespace
	instance string // of this process
	pubs     []transport.Publisher

	mu   sync.Mutex
	stop chan struct{} // nil: not joined
	done chan struct{}
}

// NewBond advertises the topics that nav2's lifecycle manager listens to: bond, and for each node its own in later releases.
func NewBond(t transport.Transport) (*Bond, error) {
	b := &Bond{node: t, id: path.Base(t.Name()), instance: rand.Text()}
	for _, topic := range []string{"bond", "bond/" + b.id} {
		p, err := t.Advertise(topic, &msgs.BondStatus{}, bondQoS)
		if err != nil {
			_ = b.Close()
			return nil, fmt.Errorf("bond: %w", err)
		}
		b.pubs = append(b.pubs, p)
	}
	return b, nil
}

// Join begins the heartbeat.
func (b *Bond) Join() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		return
	}
	b.stop, b.done = make(chan struct{}), make(chan struct{})
	go b.beat(b.stop, b.done)
}

func (b *Bond) beat(stop, done chan struct{}) {
	defer close(done)
	ticks := time.NewTicker(bondPeriod)
	defer ticks.Stop()
	b.tell(true)
	for {
		select {
		case <-ticks.C:
			b.tell(true)
		case <-stop:
			b.tell(false)
			return
		}
	}
}

// tell publishes. What a transport refuses is missed like a lost message: the next one comes soon.
func (b *Bond) tell(active bool) {
	m := &msgs.BondStatus{
		Header: msgs.Header{Stamp: msgs.TimeFromNanos(b.node.Clock().Now())}, ID: b.id, InstanceID: b.instance, Active: active,
		HeartbeatTimeout: float32(bondTimeout.Seconds()), HeartbeatPeriod: float32(bondPeriod.Seconds()),
	}
	for _, p := range b.pubs {
		_ = p.Publish(m)
	}
}

// Break says that the node leaves, and ends the heartbeat.
func (b *Bond) Break() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop == nil {
		return
	}
	close(b.stop)
	<-b.done
	b.stop = nil
}

// Close breaks the bond and takes its topics away.
func (b *Bond) Close() error {
	b.Break()
	for _, p := range b.pubs {
		_ = p.Close() // on the way out; nothing can be done about it
	}
	return nil
}
