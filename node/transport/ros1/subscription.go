package ros1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/apislave"
	"github.com/bluenviron/goroslib/v2/pkg/prototcp"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// subscription is one topic that we hear. Each publisher has a connection of its own, which comes back after a break as long
// as the master lists it.
type subscription struct {
	node    *Node
	topic   string
	typ     string
	md5     string
	deliver func(transport.Received)
	queue   *queue[raw]
	ctx     context.Context
	cancel  context.CancelFunc

	messages, bytes, errors atomic.Uint64

	mu    sync.Mutex
	conns map[string]*inbound // by slave URI
}

type raw struct {
	data     []byte
	received int64
	source   string
}

type inbound struct {
	cancel    context.CancelFunc
	connected atomic.Bool
	peer      atomic.Value // string: the publisher's name
}

// Subscribe hears a topic. One node has one subscription a topic.
func (n *Node) Subscribe(topic string, sample msgs.Message, qos transport.QoS, deliver func(transport.Received)) (transport.Subscription, error) {
	full, err := n.Resolve(topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := qos.Validate(); err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", full, err)
	}
	md5, err := msgs.MD5(sample.ROSType())
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", full, err)
	}
	s := &subscription{
		node: n, topic: full, typ: sample.ROSType(), md5: md5, deliver: deliver,
		queue: newQueue[raw](qos.Depth), conns: map[string]*inbound{},
	}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	n.mu.Lock()
	if _, dup := n.subs[full]; dup {
		n.mu.Unlock()
		s.cancel()
		return nil, fmt.Errorf("subscribe %s: this node subscribes to it already", full)
	}
	n.subs[full] = s
	n.mu.Unlock()
	n.goDo(s.dispatch)
	if err := s.register(); err != nil {
		s.forget()
		return nil, err
	}
	return s, nil
}

func (s *subscription) register() error {
	urls, err := s.node.master.RegisterSubscriber(s.topic, s.typ, s.node.uri)
	if err != nil {
		return fmt.Errorf("register as a subscriber of %s: %w", s.topic, err)
	}
	s.update(urls)
	return nil
}

func (s *subscription) forget() {
	s.cancel()
	s.node.mu.Lock()
	delete(s.node.subs, s.topic)
	s.node.mu.Unlock()
}

// Close leaves the topic.
func (s *subscription) Close() error {
	s.forget()
	return s.node.master.UnregisterSubscriber(s.topic, s.node.uri)
}

// update takes the master's list of publishers.
func (s *subscription) update(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	want := make(map[string]bool, len(urls))
	for _, u := range urls {
		want[u] = true
		if s.conns[u] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(s.ctx)
		in := &inbound{cancel: cancel}
		in.peer.Store(u)
		s.conns[u] = in
		s.node.goDo(func() { s.follow(ctx, u, in) })
	}
	for u, in := range s.conns {
		if !want[u] {
			in.cancel()
			delete(s.conns, u)
		}
	}
}

// errMismatch ends the attempts on a publisher: it will not change its type on its own, and logging it again is no use.
var errMismatch = errors.New("type mismatch")

// follow keeps one publisher connected, with growing pauses between attempts.
func (s *subscription) follow(ctx context.Context, slaveURI string, in *inbound) {
	pause := 200 * time.Millisecond
	for ctx.Err() == nil {
		got, err := s.receive(ctx, slaveURI, in)
		in.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		if got {
			pause = 200 * time.Millisecond
		}
		if errors.Is(err, errMismatch) {
			s.errors.Add(1)
			pause = 10 * time.Second
		} else if err != nil && !errors.Is(err, io.EOF) {
			s.node.events.add(transport.EventPeerLost, s.topic, fmt.Sprintf("connection to the publisher of %s at %s: %v; trying again", s.topic, slaveURI, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// receive connects to one publisher and reads until something breaks; got tells whether a message came.
func (s *subscription) receive(ctx context.Context, slaveURI string, in *inbound) (got bool, err error) {
	address, err := s.ask(slaveURI)
	if err != nil {
		return false, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return false, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := writeHeader(c, &prototcp.HeaderSubscriber{
		Callerid: s.node.Name(), Topic: s.topic, Type: s.typ, Md5sum: s.md5, TcpNodelay: 1,
	}); err != nil {
		return false, err
	}
	r := bufio.NewReaderSize(c, 256<<10)
	h, err := readHeader(c, r)
	if err != nil {
		return false, err
	}
	if why := s.mismatch(h); why != "" {
		s.node.events.add(transport.EventTypeMismatch, s.topic, why)
		return false, errMismatch
	}
	in.peer.Store(h["callerid"])
	in.connected.Store(true)
	for {
		data, err := readFrame(r)
		if err != nil {
			return got, err
		}
		got = true
		s.messages.Add(1)
		s.bytes.Add(uint64(len(data)))
		before := s.queue.dropped.Load()
		s.queue.push(raw{data, s.node.clock.Now(), h["callerid"]})
		if s.queue.dropped.Load() != before {
			s.node.events.add(transport.EventLost, s.topic, fmt.Sprintf("messages of %s come faster than they are taken; the oldest are dropped (queue of %d)", s.topic, cap(s.queue.ch)))
		}
	}
}

// ask finds out where a publisher's TCPROS port is.
func (s *subscription) ask(slaveURI string) (string, error) {
	u, err := url.Parse(slaveURI)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("the master names a publisher at %q, which is no address", slaveURI)
	}
	p, err := apislave.NewClient(u.Host, s.node.Name(), s.node.http).RequestTopic(s.topic, [][]any{{"TCPROS"}})
	if err != nil {
		return "", fmt.Errorf("request topic: %w", err)
	}
	if len(p) < 3 || p[0] != "TCPROS" {
		return "", fmt.Errorf("publisher offers %v, expected [TCPROS host port]", p)
	}
	host, okHost := p[1].(string)
	port, okPort := p[2].(int)
	if !okHost || !okPort {
		return "", fmt.Errorf("publisher offers %v, expected [TCPROS host port]", p)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

func (s *subscription) mismatch(h map[string]string) string {
	if e := h["error"]; e != "" {
		return fmt.Sprintf("the publisher of %s refuses us: %s (we ask for %s, md5 %s)", s.topic, e, s.typ, s.md5)
	}
	if t := h["type"]; t != s.typ && t != "*" {
		return fmt.Sprintf("%s publishes %s as %s, expected %s; remap the topic to one of that type", h["callerid"], s.topic, t, s.typ)
	}
	if m := h["md5sum"]; m != s.md5 && m != "*" {
		return fmt.Sprintf("%s publishes %s (%s) with md5 %s, expected %s; its definition of %s is another version", h["callerid"], s.topic, s.typ, m, s.md5, s.typ)
	}
	return ""
}

// dispatch decodes and hands over in one goroutine, so messages of a topic keep their order.
func (s *subscription) dispatch() {
	for {
		m, ok := s.queue.pop(s.ctx)
		if !ok {
			return
		}
		msg, known := msgs.New(s.typ)
		if !known {
			return // the sample came from this table
		}
		if err := msgs.ROS1.Unmarshal(m.data, msg); err != nil {
			s.errors.Add(1)
			s.node.events.add(transport.EventDecode, s.topic, fmt.Sprintf("message of %s from %s: %v", s.topic, m.source, err))
			continue
		}
		s.deliver(transport.Received{Msg: msg, Received: m.received, Source: m.source})
	}
}

func (s *subscription) peers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, in := range s.conns {
		if in.connected.Load() {
			names = append(names, in.peer.Load().(string))
		}
	}
	return names
}

// Stats counts what was received.
func (s *subscription) Stats() transport.EndpointStats {
	return transport.EndpointStats{
		Topic: s.topic, Type: s.typ, Peers: len(s.peers()), Messages: s.messages.Load(), Bytes: s.bytes.Load(),
		Dropped: s.queue.dropped.Load(), Errors: s.errors.Load(),
	}
}
