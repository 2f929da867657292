package mem

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

type counters struct{ messages, dropped, errors atomic.Uint64 }

type subscription struct {
	node    *Node
	topic   string
	typ     string
	qos     transport.QoS
	deliver func(transport.Received)
	closed  atomic.Bool
	counters
}

type publisher struct {
	node   *Node
	topic  string
	typ    string
	qos    transport.QoS
	closed atomic.Bool
	kept   []transport.Received // for late subscribers, under the graph's lock
	counters
}

// Subscribe delivers messages in the goroutine that publishes them. A message may go to several subscribers: it is not
// copied, and must not be changed.
func (n *Node) Subscribe(name string, sample msgs.Message, qos transport.QoS, deliver func(transport.Received)) (transport.Subscription, error) {
	full, err := n.check("subscribe to", name, sample, qos)
	if err != nil {
		return nil, err
	}
	s := &subscription{node: n, topic: full, typ: sample.ROSType(), qos: qos, deliver: deliver}
	g := n.graph
	g.mu.Lock()
	t := g.topic(full)
	t.subs = append(t.subs, s)
	var late []transport.Received
	var told []*publisher
	for _, p := range t.pubs {
		if g.match(p, s) && qos.Durability == transport.TransientLocal {
			late = append(late, p.kept...)
		}
		told = append(told, p)
	}
	g.mu.Unlock()
	n.own(s)
	for _, p := range told {
		g.report(p, s)
	}
	for _, r := range late {
		s.take(r)
	}
	return s, nil
}

// Advertise announces a topic.
func (n *Node) Advertise(name string, sample msgs.Message, qos transport.QoS) (transport.Publisher, error) {
	full, err := n.check("advertise", name, sample, qos)
	if err != nil {
		return nil, err
	}
	p := &publisher{node: n, topic: full, typ: sample.ROSType(), qos: qos}
	g := n.graph
	g.mu.Lock()
	t := g.topic(full)
	t.pubs = append(t.pubs, p)
	told := slices.Clone(t.subs)
	g.mu.Unlock()
	n.own(p)
	for _, s := range told {
		g.report(p, s)
	}
	return p, nil
}

func (n *Node) check(what, name string, sample msgs.Message, qos transport.QoS) (string, error) {
	select {
	case <-n.done:
		return "", fmt.Errorf("%s %q: the node is closed", what, name)
	default:
	}
	if err := checkSample(what, name, sample); err != nil {
		return "", err
	}
	if err := qos.Validate(); err != nil {
		return "", fmt.Errorf("%s %q: %w", what, name, err)
	}
	full, err := n.Resolve(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return full, nil
}

// match tells whether messages flow.
func (g *Graph) match(p *publisher, s *subscription) bool {
	return p.typ == s.typ && (!g.strict || compatible(p.qos, s.qos))
}

func compatible(offered, wanted transport.QoS) bool {
	return (offered.Reliability == transport.Reliable || wanted.Reliability == transport.BestEffort) &&
		(offered.Durability == transport.TransientLocal || wanted.Durability == transport.Volatile)
}

// report tells both ends why nothing flows between them.
func (g *Graph) report(p *publisher, s *subscription) {
	var e transport.Event
	switch {
	case g.match(p, s):
		return
	case p.typ != s.typ:
		e = transport.Event{Kind: transport.EventTypeMismatch, Topic: s.topic, Count: 1,
			Message: fmt.Sprintf("%s: %s publishes %s, %s expects %s; remap one of them", s.topic, p.node.name, p.typ, s.node.name, s.typ)}
	default:
		e = transport.Event{Kind: transport.EventIncompatibleQoS, Topic: s.topic, Count: 1,
			Message: fmt.Sprintf("%s: %s offers %s %s, %s wants %s %s; change the qos_ parameters", s.topic, p.node.name, p.qos.Reliability, p.qos.Durability, s.node.name, s.qos.Reliability, s.qos.Durability)}
	}
	s.errors.Add(1)
	p.node.event(e)
	s.node.event(e)
}

func (s *subscription) take(r transport.Received) {
	if !s.closed.Load() {
		s.messages.Add(1)
		s.deliver(r)
	}
}

// Publish hands a message to every subscriber before it returns.
func (p *publisher) Publish(m msgs.Message) error {
	if p.closed.Load() {
		return fmt.Errorf("publish on %s: %w", p.topic, errClosed)
	}
	if m == nil || m.ROSType() != p.typ {
		p.errors.Add(1)
		return fmt.Errorf("publish on %s: the message is %T, expected %s", p.topic, m, p.typ)
	}
	g := p.node.graph
	r := transport.Received{Msg: m, Received: g.time(), Source: p.node.name}
	g.mu.Lock()
	var to []*subscription
	for _, s := range g.topic(p.topic).subs {
		if g.match(p, s) {
			to = append(to, s)
		}
	}
	if p.qos.Durability == transport.TransientLocal {
		p.kept = append(p.kept, r)
		if extra := len(p.kept) - p.qos.Depth; extra > 0 {
			p.kept = slices.Delete(p.kept, 0, extra)
		}
	}
	g.mu.Unlock()
	p.messages.Add(1)
	for _, s := range to {
		s.take(r)
	}
	return nil
}

var errClosed = errors.New("it is closed")

// Stats counts messages; bytes are unknown, since nothing is serialised.
func (s *subscription) Stats() transport.EndpointStats {
	g := s.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	return transport.EndpointStats{Topic: s.topic, Type: s.typ, Peers: len(g.topic(s.topic).pubs), Messages: s.messages.Load(), Dropped: s.dropped.Load(), Errors: s.errors.Load()}
}

func (p *publisher) Stats() transport.EndpointStats {
	g := p.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	return transport.EndpointStats{Topic: p.topic, Type: p.typ, Peers: len(g.topic(p.topic).subs), Messages: p.messages.Load(), Dropped: p.dropped.Load(), Errors: p.errors.Load()}
}

func (s *subscription) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	g := s.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topic(s.topic)
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(o *subscription) bool { return o == s })
	return nil
}

func (p *publisher) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	g := p.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.topic(p.topic)
	t.pubs = slices.DeleteFunc(slices.Clone(t.pubs), func(o *publisher) bool { return o == p })
	return nil
}
