package ros1

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/prototcp"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// service answers calls. Every connection has its own goroutine, so a slow answer delays only its own caller.
type service struct {
	node   *Node
	name   string
	srv    transport.Service
	md5    string
	ctx    context.Context
	cancel context.CancelFunc
	calls  atomic.Uint64
}

// Serve offers a service.
func (n *Node) Serve(name string, srv transport.Service) (transport.Closer, error) {
	full, err := n.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	md5, err := msgs.MD5(srv.Type)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", full, err)
	}
	s := &service{node: n, name: full, srv: srv, md5: md5}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	n.mu.Lock()
	if _, dup := n.srvs[full]; dup {
		n.mu.Unlock()
		s.cancel()
		return nil, fmt.Errorf("serve %s: this node serves it already", full)
	}
	n.srvs[full] = s
	n.mu.Unlock()
	if err := s.register(); err != nil {
		s.forget()
		return nil, err
	}
	return s, nil
}

func (s *service) register() error {
	if err := s.node.master.RegisterService(s.name, s.node.service, s.node.uri); err != nil {
		return fmt.Errorf("register service %s: %w", s.name, err)
	}
	return nil
}

func (s *service) forget() {
	s.cancel()
	s.node.mu.Lock()
	delete(s.node.srvs, s.name)
	s.node.mu.Unlock()
}

// Close takes the service back; calls under way are cancelled.
func (s *service) Close() error {
	s.forget()
	return s.node.master.UnregisterService(s.name, s.node.service)
}

func (s *service) serve(c net.Conn, r *bufio.Reader, h map[string]string, refuse func(string, ...any)) {
	if m := h["md5sum"]; m != s.md5 && m != "*" {
		refuse("service %s is %s with md5 %s; %s asked for md5 %s", s.name, s.srv.Type, s.md5, h["callerid"], m)
		return
	}
	if err := writeHeader(c, &prototcp.HeaderServiceProvider{
		Callerid: s.node.Name(), Md5sum: s.md5, Type: s.srv.Type,
		RequestType: s.srv.Type + "Request", ResponseType: s.srv.Type + "Response",
	}); err != nil || h["probe"] == "1" {
		return
	}
	for {
		data, err := readFrame(r)
		if err != nil {
			return
		}
		payload, err := s.call(c, r, data)
		if s.ctx.Err() != nil {
			return
		}
		if werr := respond(c, payload, err); werr != nil || h["persistent"] != "1" {
			return
		}
	}
}

// call runs the handler; its context ends when the caller hangs up.
func (s *service) call(c net.Conn, r *bufio.Reader, data []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		// Nothing more comes before the answer: a byte or an error here ends the wait; only an error means gone.
		if _, err := r.Peek(1); err != nil && ctx.Err() == nil {
			cancel()
		}
	}()
	defer func() {
		// The watcher must have let go of the reader before the next request is read.
		_ = c.SetReadDeadline(time.Unix(1, 0))
		<-gone
		_ = c.SetReadDeadline(time.Time{})
	}()
	s.calls.Add(1)
	req := s.srv.Request()
	if err := msgs.ROS1.Unmarshal(data, req); err != nil {
		return nil, fmt.Errorf("request of %s: %w", s.name, err)
	}
	res, err := s.srv.Handle(ctx, req)
	if err != nil {
		return nil, err
	}
	return msgs.ROS1.Marshal(res)
}

func respond(c net.Conn, payload []byte, callErr error) error {
	ok := byte(1)
	if callErr != nil {
		ok, payload = 0, []byte(callErr.Error())
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Write(append([]byte{ok}, frame(payload)...))
	return err
}
