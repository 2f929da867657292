package ros2

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// counters are what endpoints count; peers are those that DDS has matched.
type counters struct {
	messages, bytes, dropped, errors atomic.Uint64
	peers                            atomic.Int64
}

func (c *counters) stats(topic, typ string) transport.EndpointStats {
	return transport.EndpointStats{Topic: topic, Type: typ, Peers: int(c.peers.Load()), Messages: c.messages.Load(), Bytes: c.bytes.Load(),
		Dropped: c.dropped.Load(), Errors: c.errors.Load()}
}

// wired is one end of a topic as it is on the wire.
type wired struct {
	name, wire string // "/a/b", "rt/a/b"
	typ        string // "std_msgs/String"
	wireType   string
	hash       string
	qos        dds.QoS
}

// wired resolves a name and looks up the type. kind is "msg", or "action" for what belongs to one.
func (n *Node) wired(name string, sample msgs.Message, kind string, qos transport.QoS) (wired, error) {
	if sample == nil || sample.ROSType() == "" {
		return wired{}, fmt.Errorf("%q: the sample message has no type", name)
	}
	full, err := n.Resolve(name)
	if err != nil {
		return wired{}, err
	}
	if err := qos.Validate(); err != nil {
		return wired{}, fmt.Errorf("%s: %w", full, err)
	}
	typ := sample.ROSType()
	if _, ok := msgs.New(typ); !ok {
		return wired{}, fmt.Errorf("%s: type %s is not known", full, typ)
	}
	w := wired{name: full, wire: wireTopic(full), typ: typ, wireType: wireType(typ, kind), hash: hashOf(typ, kind)}
	w.qos = dds.QoS{Reliable: qos.Reliability == transport.Reliable, TransientLocal: qos.Durability == transport.TransientLocal, Depth: qos.Depth}
	if w.hash != "" {
		w.qos.UserData = "typehash=" + w.hash + ";"
	}
	return w, nil
}

// status makes the callback of an endpoint, which only takes notes.
func (n *Node) status(kind dds.Kind, wire string, qos dds.QoS, c *counters) func(dds.Status) {
	return func(s dds.Status) {
		switch s.Kind {
		case dds.Matched:
			c.peers.Store(int64(s.Count))
		case dds.Incompatible:
			// Who it is and what it offers is known a little later.
			time.AfterFunc(300*time.Millisecond, func() { n.incompatible(kind, wire, qos, s.Policy) })
		case dds.Lost:
			c.dropped.Add(uint64(s.Count))
			if wire == "rt/clock" {
				return // the newest time is all that counts
			}
			why := "lost on the way (big ones need a large net.core.rmem_max; or ask for reliable), or came faster than they are taken"
			if qos.Reliable {
				why = "replaced by newer ones before they were taken here, or given up by their sender; raise the depth of both"
			}
			n.events.add(transport.EventLost, rosName(wire), fmt.Sprintf("%s: messages were %s", rosName(wire), why), uint64(s.Count))
		}
	}
}

// policies in ROS's words.
func policies(reliable, transientLocal bool) string {
	r, d := transport.BestEffort, transport.Volatile
	if reliable {
		r = transport.Reliable
	}
	if transientLocal {
		d = transport.TransientLocal
	}
	return string(r) + " " + string(d)
}

// incompatible reports who does not fit, and why.
func (n *Node) incompatible(kind dds.Kind, wire string, qos dds.QoS, policy int) {
	if n.ctx.Err() != nil {
		return
	}
	own := policies(qos.Reliable, qos.TransientLocal)
	other := dds.KindWriter
	if kind == dds.KindWriter {
		other = dds.KindReader
	}
	told := false
	for _, d := range n.graph.on(wire, other) {
		offered, wanted := d, qos
		if kind == dds.KindWriter {
			offered.Reliable, offered.TransientLocal = qos.Reliable, qos.TransientLocal
			wanted.Reliable, wanted.TransientLocal = d.Reliable, d.TransientLocal
		}
		if (offered.Reliable || !wanted.Reliable) && (offered.TransientLocal || !wanted.TransientLocal) {
			continue
		}
		who := n.graph.nodeOf(d.GUID)
		if who == "" {
			who = "a node"
		}
		message := fmt.Sprintf("%s: %s offers %s, this node wants %s", rosName(wire), who, policies(d.Reliable, d.TransientLocal), own)
		if kind == dds.KindWriter {
			message = fmt.Sprintf("%s: %s wants %s, this node offers %s", rosName(wire), who, policies(d.Reliable, d.TransientLocal), own)
		}
		n.events.add(transport.EventIncompatibleQoS, rosName(wire), message+": incompatible "+dds.PolicyName(policy)+"; make one of the two fit (this node's are its qos_ parameters)", 1)
		told = true
	}
	if !told {
		n.events.add(transport.EventIncompatibleQoS, rosName(wire), fmt.Sprintf(
			"%s: another node's %s is incompatible with this node's (%s)", rosName(wire), dds.PolicyName(policy), own), 1)
	}
}

type subscription struct {
	wired
	node    *Node
	deliver func(transport.Received)
	reader  *dds.Reader
	id      dds.GUID
	once    sync.Once
	counters
}

// Subscribe hears a topic. deliver is called from a goroutine of this subscription; it must not close it.
func (n *Node) Subscribe(topic string, sample msgs.Message, qos transport.QoS, deliver func(transport.Received)) (transport.Subscription, error) {
	w, err := n.wired(topic, sample, "msg", qos)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	done, err := n.making()
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", w.name, err)
	}
	defer done()
	s := &subscription{wired: w, node: n, deliver: deliver}
	s.reader, err = n.participant.NewReader(w.wire, w.wireType, w.qos, n.status(dds.KindReader, w.wire, w.qos, &s.counters), s.take)
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", w.name, err)
	}
	s.id = s.reader.GUID()
	if err := n.enter(s, w.wire, dds.KindReader, w.wireType, w.hash, s.id); err != nil {
		s.end()
		return nil, fmt.Errorf("subscribe %s: %w", w.name, err)
	}
	return s, nil
}

func (s *subscription) take(d dds.Sample) {
	s.messages.Add(1)
	s.bytes.Add(uint64(len(d.Data)))
	source := s.node.graph.nodeOf(d.Writer)
	m, _ := msgs.New(s.typ) // known: Subscribe looked
	if err := msgs.CDR.Unmarshal(d.Data, m); err != nil {
		s.errors.Add(1)
		s.node.events.add(transport.EventDecode, s.name, fmt.Sprintf("message of %s from %q is dropped: %v", s.name, source, err), 1)
		return
	}
	s.deliver(transport.Received{Msg: m, Received: s.node.clock.Now(), Source: source})
}

func (s *subscription) end() {
	s.once.Do(func() {
		s.reader.Close()
		s.node.leave(s, s.wire, dds.KindReader, s.id)
	})
}

// Close leaves the topic; nothing is delivered any more when it returns.
func (s *subscription) Close() error {
	s.end()
	return nil
}

// Stats counts what was received.
func (s *subscription) Stats() transport.EndpointStats { return s.stats(s.name, s.typ) }

type publisher struct {
	wired
	node *Node
	id   dds.GUID
	once sync.Once
	counters

	mu     sync.Mutex
	writer *dds.Writer // nil: closed
	buf    []byte
}

// Advertise announces a topic. What a reliable subscriber has not taken when the depth is exceeded, it misses.
func (n *Node) Advertise(topic string, sample msgs.Message, qos transport.QoS) (transport.Publisher, error) {
	return n.advertise(topic, sample, "msg", qos)
}

func (n *Node) advertise(topic string, sample msgs.Message, kind string, qos transport.QoS) (*publisher, error) {
	w, err := n.wired(topic, sample, kind, qos)
	if err != nil {
		return nil, fmt.Errorf("advertise: %w", err)
	}
	done, err := n.making()
	if err != nil {
		return nil, fmt.Errorf("advertise %s: %w", w.name, err)
	}
	defer done()
	p := &publisher{wired: w, node: n}
	if p.writer, err = n.participant.NewWriter(w.wire, w.wireType, w.qos, n.status(dds.KindWriter, w.wire, w.qos, &p.counters)); err != nil {
		return nil, fmt.Errorf("advertise %s: %w", w.name, err)
	}
	p.id = p.writer.GUID()
	if err := n.enter(p, w.wire, dds.KindWriter, w.wireType, w.hash, p.id); err != nil {
		p.end()
		return nil, fmt.Errorf("advertise %s: %w", w.name, err)
	}
	return p, nil
}

// Publish encodes and hands over to Fast DDS, which sends from a thread of its own.
func (p *publisher) Publish(m msgs.Message) error {
	if m == nil || m.ROSType() != p.typ {
		p.errors.Add(1)
		return fmt.Errorf("publish on %s: the message is %T, expected %s", p.name, m, p.typ)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writer == nil {
		return fmt.Errorf("publish on %s: it is closed", p.name)
	}
	data, err := msgs.CDR.AppendMarshal(p.buf[:0], m)
	if err != nil {
		p.errors.Add(1)
		return fmt.Errorf("publish on %s: %w", p.name, err)
	}
	data = padded(data)
	p.buf = data
	if _, err := p.writer.Write(data); err != nil {
		p.dropped.Add(1)
		return fmt.Errorf("publish on %s: %w", p.name, err)
	}
	p.messages.Add(1)
	p.bytes.Add(uint64(len(data)))
	return nil
}

// padded fills a payload up to a multiple of 4, as other implementations do.
func padded(data []byte) []byte {
	return append(data, make([]byte, -len(data)&3)...)
}

func (p *publisher) end() {
	p.once.Do(func() {
		p.mu.Lock()
		w := p.writer
		p.writer = nil
		p.mu.Unlock()
		w.Close()
		p.node.leave(p, p.wire, dds.KindWriter, p.id)
	})
}

// Close takes the topic back.
func (p *publisher) Close() error {
	p.end()
	return nil
}

// Stats counts what was published.
func (p *publisher) Stats() transport.EndpointStats { return p.stats(p.name, p.typ) }
