package ros2

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

const (
	maxCalls   = 256                    // of one service at a time; more are dropped with an event
	meetTime   = 3 * time.Second        // how long an answer waits until its reader has matched
	settleTime = 250 * time.Millisecond // and how long from then until it has acknowledged something
)

// serviceQoS has a greater depth than rmw's 10, which nobody can see, so that many answers at once are not lost.
var serviceQoS = dds.QoS{Reliable: true, Depth: 100}

// headerSize is that of what rmw_cyclonedds puts before requests and responses: u64 client, i64 number.
const headerSize = 16

// call is how a request came, which says how its answer goes out.
type call struct {
	from     dds.GUID // the request's writer
	sequence int64
	related  dds.GUID // of the client's response reader; zero: not told
	header   []byte   // Cyclone's, as little-endian; nil: the identity goes beside the payload
}

// handler answers a request; then, when it is not nil, runs after the answer has gone out.
type handler func(ctx context.Context, req msgs.Message) (res msgs.Message, then func(), err error)

// server answers clients of every middleware on one pair of topics.
type server struct {
	node             *Node
	name             string
	asked, told      string // wire topics
	request          func() msgs.Message
	handle           handler
	reader           *dds.Reader
	readerID, id     dds.GUID
	ctx              context.Context
	cancel           context.CancelFunc
	once             sync.Once
	replies, answers counters

	writing sync.RWMutex // while the writer is used
	writer  *dds.Writer  // nil: closed

	mu    sync.Mutex
	calls map[*running]struct{}
}

// running is a call under way.
type running struct {
	call
	cancel context.CancelFunc
}

// Serve answers a service.
func (n *Node) Serve(service string, srv transport.Service) (transport.Closer, error) {
	full, err := n.names.service(service)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if srv.Request == nil || srv.Handle == nil || srv.Type == "" {
		return nil, fmt.Errorf("serve %s: Type, Request and Handle are needed", full)
	}
	return n.serve(full, srv.Type, "srv", srv.Request, func(ctx context.Context, req msgs.Message) (msgs.Message, func(), error) {
		res, err := srv.Handle(ctx, req)
		return res, nil, err
	})
}

// serve answers a service under its full name. kind is "srv", or "action" for what belongs to one.
func (n *Node) serve(full, typ, kind string, request func() msgs.Message, handle handler) (_ *server, err error) {
	done, err := n.making()
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", full, err)
	}
	defer done()
	s := &server{node: n, name: full, request: request, handle: handle, calls: map[*running]struct{}{}}
	s.asked, s.told = wireService(full)
	n.mu.Lock()
	for other := range n.servers {
		if other.name == full {
			n.mu.Unlock()
			return nil, fmt.Errorf("serve %s: this node serves it already", full)
		}
	}
	n.servers[s] = struct{}{}
	n.mu.Unlock()
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	defer func() {
		if err != nil {
			s.end()
			err = fmt.Errorf("serve %s: %w", full, err)
		}
	}()
	qos, hash := serviceQoS, hashOf(typ, kind)
	qos.UserData = serviceID()
	if hash != "" {
		qos.UserData += "typehash=" + hash + ";"
	}
	response, ask := wireType(typ+"_Response", kind), wireType(typ+"_Request", kind)
	answers := qos
	answers.Heartbeats = true
	if s.writer, err = n.participant.NewWriter(s.told, response, answers, n.status(dds.KindWriter, s.told, qos, &s.answers)); err != nil {
		return nil, err
	}
	s.id = s.writer.GUID()
	if s.reader, err = n.participant.NewReader(s.asked, ask, qos, n.status(dds.KindReader, s.asked, qos, &s.replies), s.take); err != nil {
		return nil, err
	}
	s.readerID = s.reader.GUID()
	if err = n.enter(s, s.told, dds.KindWriter, response, hash, s.id); err == nil {
		err = n.enter(s, s.asked, dds.KindReader, ask, hash, s.readerID)
	}
	return s, err
}

// serviceID is how rmw_cyclonedds finds the two ends of a service that belong together.
func serviceID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	parts := make([]string, len(id))
	for i, b := range id {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return "serviceid=" + strings.Join(parts, ".") + ";"
}

// take starts a call in a goroutine of its own.
func (s *server) take(d dds.Sample) {
	req, c, err := s.read(d)
	if err != nil {
		s.node.events.add(transport.EventDecode, s.name, fmt.Sprintf("request of %s is dropped: %v", s.name, err), 1)
		return
	}
	r := &running{call: c}
	ctx, cancel := context.WithCancel(s.ctx)
	r.cancel = cancel
	s.mu.Lock()
	full := len(s.calls) >= maxCalls
	if !full {
		s.calls[r] = struct{}{}
	}
	s.mu.Unlock()
	if full {
		cancel()
		s.node.events.add(transport.EventLost, s.name, fmt.Sprintf("a request of %s is dropped: %d are being answered", s.name, maxCalls), 1)
		return
	}
	go func() {
		defer func() {
			cancel()
			s.mu.Lock()
			delete(s.calls, r)
			s.mu.Unlock()
		}()
		s.answer(ctx, r.call, req)
	}()
}

// read decodes a request and finds out which mapping the client speaks: by vendor, then by length.
func (s *server) read(d dds.Sample) (msgs.Message, call, error) {
	c := call{from: d.Writer, sequence: d.Sequence, related: d.Related}
	req := s.request()
	if d.Vendor != dds.VendorCyclone {
		err := msgs.CDR.Unmarshal(d.Data, req)
		if d.Vendor == dds.VendorFastDDS {
			return req, c, err
		}
		if err == nil {
			// Others speak either: what decodes to its very length has no header.
			if again, err := msgs.CDR.Marshal(req); err == nil && len(padded(again)) == len(padded(d.Data)) {
				return req, c, nil
			}
		}
		if err != nil && len(d.Data) < 4+headerSize {
			return nil, c, err
		}
	}
	header, payload, err := cutHeader(d.Data)
	if err != nil {
		return nil, c, err
	}
	c.header = header
	return req, c, msgs.CDR.Unmarshal(payload, req)
}

// cutHeader takes Cyclone's header out of a payload, which is changed. Its 16 bytes do not move the alignment of the rest.
func cutHeader(data []byte) (header, payload []byte, err error) {
	if len(data) < 4+headerSize {
		return nil, nil, fmt.Errorf("%d bytes, a request of rmw_cyclonedds has %d before its fields", len(data), 4+headerSize)
	}
	header = make([]byte, headerSize)
	copy(header, data[4:])
	if data[1] == 0 { // big-endian; the answer is little-endian
		for i := range 8 {
			header[i], header[8+i] = data[4+7-i], data[4+15-i]
		}
	}
	payload = data[headerSize:]
	copy(payload, data[:4])
	return header, payload, nil
}

// answer runs the handler and sends its response. ROS 2 has no form for a failure: the client waits in vain, and the log says
// why.
func (s *server) answer(ctx context.Context, c call, req msgs.Message) {
	res, then, err := s.handle(ctx, req)
	if then != nil {
		defer then()
	}
	if ctx.Err() != nil {
		return // the caller, or this node, is leaving
	}
	var data []byte
	if err == nil {
		data, err = msgs.CDR.Marshal(res)
	}
	if err != nil {
		s.node.log.Warn().Err(err).Str("service", s.name).Msg("a request gets no answer")
		return
	}
	if c.header != nil {
		data = append(append(append(make([]byte, 0, len(data)+headerSize+3), data[:4]...), c.header...), data[4:]...)
	}
	s.meet(ctx, c)
	s.writing.RLock()
	defer s.writing.RUnlock()
	if s.writer == nil {
		return
	}
	if data = padded(data); c.header != nil {
		// CycloneDDS passes over what a writer says before the first heartbeat that its reader gets from it, and Fast DDS may have
		// sent its own before the client had met this writer.
		if err := s.writer.Heartbeat(); err != nil { // the answer may arrive all the same
			s.node.log.Warn().Err(err).Str("service", s.name).Msg("a client's first answer may be lost")
		}
		_, err = s.writer.Write(data)
	} else {
		to := c.related
		if to == (dds.GUID{}) {
			to = c.from
		}
		err = s.writer.WriteRelated(data, to, c.sequence)
	}
	if err != nil && s.ctx.Err() == nil {
		s.node.log.Warn().Err(err).Str("service", s.name).Msg("a response was not sent")
	}
}

// meet waits until the client's response readers have matched: what is written before, they do not get. CycloneDDS tells its program
// of a match before its reader takes heartbeats (connect_proxy_writer_with_reader), and its first acknowledgement comes after, but for
// one whose first heartbeat asks for none, as ours before other answers do: so this is waited for a short time only.
func (s *server) meet(ctx context.Context, c call) {
	now := time.Now()
	end := now.Add(meetTime)
	for met := end; ctx.Err() == nil && now.Before(end); now = time.Now() {
		matched, settled := s.met(c)
		if settled || matched && now.After(met.Add(settleTime)) {
			return
		}
		if matched && now.Before(met) {
			met = now
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// met tells whether the client's response readers have matched, and whether those that it matters to have acknowledged anything.
func (s *server) met(c call) (matched, settled bool) {
	readers := []dds.GUID{c.related}
	// Where no reader is told all of the client's readers of answers are meant.
	if c.related[15]&0x04 == 0 { // not the entity kind of a reader
		readers = nil
		for _, d := range s.node.graph.on(s.told, dds.KindReader) {
			if d.GUID.Prefix() == c.from.Prefix() {
				readers = append(readers, d.GUID)
			}
		}
	}
	s.writing.RLock()
	defer s.writing.RUnlock()
	if s.writer == nil {
		return true, true
	}
	matched = len(readers) > 0
	settled = matched
	for _, r := range readers {
		matched = matched && s.writer.Matched(r)
		settled = settled && s.writer.Matched(r) && (c.header == nil || s.writer.Settled(r))
	}
	return matched, settled
}

// left ends the calls of a client that has gone. It is called from Fast DDS's threads.
func (s *server) left(d dds.Discovery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := func(client dds.GUID) bool {
		return client == d.GUID || d.Kind == dds.KindParticipant && client.Prefix() == d.GUID.Prefix()
	}
	for r := range s.calls {
		if gone(r.from) {
			r.cancel()
		}
	}
}

func (s *server) end() {
	s.once.Do(func() {
		s.cancel()
		s.node.mu.Lock()
		delete(s.node.servers, s)
		s.node.mu.Unlock()
		if s.reader != nil {
			s.reader.Close()
			s.node.leave(s, s.asked, dds.KindReader, s.readerID)
		}
		s.writing.Lock()
		w := s.writer
		s.writer = nil
		s.writing.Unlock()
		if w != nil {
			w.Close()
			s.node.leave(s, s.told, dds.KindWriter, s.id)
		}
	})
}

// Close takes the service back. The contexts of calls that run end; they are not waited for.
func (s *server) Close() error {
	s.end()
	return nil
}
