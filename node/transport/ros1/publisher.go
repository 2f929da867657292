package ros1

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/prototcp"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// publisher is one topic that we tell. Every subscriber has a queue of its own, so a slow one loses its oldest messages and
// holds up nobody.
type publisher struct {
	node       *Node
	topic      string
	typ        string
	md5        string
	definition string
	latch      bool
	depth      int
	ctx        context.Context
	cancel     context.CancelFunc

	messages, bytes, dropped atomic.Uint64

	mu   sync.Mutex
	last []byte // framed, when latched
	outs map[*outbound]struct{}
}

type outbound struct {
	peer  string
	queue *queue[[]byte]
}

// Advertise announces a topic; durability transient_local makes it latched.
func (n *Node) Advertise(topic string, sample msgs.Message, qos transport.QoS) (transport.Publisher, error) {
	full, err := n.Resolve(topic)
	if err != nil {
		return nil, fmt.Errorf("advertise: %w", err)
	}
	if err := qos.Validate(); err != nil {
		return nil, fmt.Errorf("advertise %s: %w", full, err)
	}
	typ := sample.ROSType()
	md5, err := msgs.MD5(typ)
	if err != nil {
		return nil, fmt.Errorf("advertise %s: %w", full, err)
	}
	definition, err := msgs.Definition(typ, msgs.ROS1)
	if err != nil {
		return nil, fmt.Errorf("advertise %s: %w", full, err)
	}
	p := &publisher{
		node: n, topic: full, typ: typ, md5: md5, definition: definition,
		latch: qos.Durability == transport.TransientLocal, depth: qos.Depth, outs: map[*outbound]struct{}{},
	}
	p.ctx, p.cancel = context.WithCancel(n.ctx)
	n.mu.Lock()
	if _, dup := n.pubs[full]; dup {
		n.mu.Unlock()
		p.cancel()
		return nil, fmt.Errorf("advertise %s: this node advertises it already", full)
	}
	n.pubs[full] = p
	n.mu.Unlock()
	if err := p.register(); err != nil {
		p.forget()
		return nil, err
	}
	return p, nil
}

func (p *publisher) register() error {
	if _, err := p.node.master.RegisterPublisher(p.topic, p.typ, p.node.uri); err != nil {
		return fmt.Errorf("register as a publisher of %s: %w", p.topic, err)
	}
	return nil
}

func (p *publisher) forget() {
	p.cancel()
	p.node.mu.Lock()
	delete(p.node.pubs, p.topic)
	p.node.mu.Unlock()
}

// Close takes the topic back.
func (p *publisher) Close() error {
	p.forget()
	return p.node.master.UnregisterPublisher(p.topic, p.node.uri)
}

// Publish encodes once and queues for every subscriber.
func (p *publisher) Publish(m msgs.Message) error {
	if m.ROSType() != p.typ {
		return fmt.Errorf("publish on %s: message is a %s, the topic is %s", p.topic, m.ROSType(), p.typ)
	}
	payload, err := msgs.ROS1.Marshal(m)
	if err != nil {
		return fmt.Errorf("publish on %s: %w", p.topic, err)
	}
	data := frame(payload)
	p.messages.Add(1)
	p.bytes.Add(uint64(len(payload)))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.latch {
		p.last = data
	}
	for o := range p.outs {
		before := o.queue.dropped.Load()
		o.queue.push(data)
		p.dropped.Add(o.queue.dropped.Load() - before)
	}
	return nil
}

// serve feeds one subscriber until it leaves.
func (p *publisher) serve(c net.Conn, r *bufio.Reader, h map[string]string, refuse func(string, ...any)) {
	if m := h["md5sum"]; m != p.md5 && m != "*" {
		refuse("topic %s is %s with md5 %s; %s asked for %s with md5 %s", p.topic, p.typ, p.md5, h["callerid"], h["type"], m)
		return
	}
	if t := h["type"]; t != p.typ && t != "*" && t != "" {
		refuse("topic %s is %s; %s asked for %s", p.topic, p.typ, h["callerid"], t)
		return
	}
	latching := 0
	if p.latch {
		latching = 1
	}
	if err := writeHeader(c, &prototcp.HeaderPublisher{
		Callerid: p.node.Name(), Topic: p.topic, Type: p.typ, Md5sum: p.md5, Latching: latching, MessageDefinition: p.definition,
	}); err != nil {
		return
	}
	if tcp, ok := c.(*net.TCPConn); ok && h["tcp_nodelay"] == "1" {
		_ = tcp.SetNoDelay(true)
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	o := &outbound{peer: h["callerid"], queue: newQueue[[]byte](p.depth)}
	p.mu.Lock()
	p.outs[o] = struct{}{}
	if p.last != nil {
		o.queue.push(p.last)
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.outs, o)
		p.mu.Unlock()
	}()
	// A subscriber sends nothing more: a read that returns means that it has gone.
	p.node.goDo(func() {
		defer cancel()
		_, _ = r.ReadByte()
	})
	for {
		data, ok := o.queue.pop(ctx)
		if !ok {
			return
		}
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return
		}
		if _, err := c.Write(data); err != nil {
			if ctx.Err() == nil {
				p.node.events.add(transport.EventPeerLost, p.topic, fmt.Sprintf("subscriber %s of %s: %v", o.peer, p.topic, err))
			}
			return
		}
	}
}

func (p *publisher) peers() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.outs))
	for o := range p.outs {
		names = append(names, o.peer)
	}
	return names
}

// Stats counts what was published.
func (p *publisher) Stats() transport.EndpointStats {
	return transport.EndpointStats{
		Topic: p.topic, Type: p.typ, Peers: len(p.peers()), Messages: p.messages.Load(), Bytes: p.bytes.Load(), Dropped: p.dropped.Load(),
	}
}
