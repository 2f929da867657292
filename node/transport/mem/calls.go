package mem

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

type server struct {
	node *Node
	name string
	srv  transport.Service
}

// Serve answers a service.
func (n *Node) Serve(name string, srv transport.Service) (transport.Closer, error) {
	full, err := n.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if srv.Request == nil || srv.Handle == nil || srv.Type == "" {
		return nil, fmt.Errorf("serve %s: Type, Request and Handle are needed", full)
	}
	g := n.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.services[full]; ok {
		return nil, fmt.Errorf("serve %s: %s does already", full, old.node.name)
	}
	s := &server{n, full, srv}
	g.services[full] = s
	n.own(s)
	return s, nil
}

func (s *server) Close() error {
	g := s.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.services[s.name] == s {
		delete(g.services, s.name)
	}
	return nil
}

// Call asks a service and waits for the answer. The handler runs in its own goroutine; its context ends with ctx.
func (n *Node) Call(ctx context.Context, name string, req msgs.Message) (msgs.Message, error) {
	full, err := n.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	g := n.graph
	g.mu.Lock()
	s, ok := g.services[full]
	g.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("call %s: there is no such service", full)
	}
	if want := s.srv.Request().ROSType(); req == nil || req.ROSType() != want {
		return nil, fmt.Errorf("call %s: the request is %T, expected %s", full, req, want)
	}
	ctx, cancel := s.node.bound(ctx)
	defer cancel()
	type reply struct {
		m   msgs.Message
		err error
	}
	c := make(chan reply, 1)
	go func() {
		m, err := s.srv.Handle(ctx, req)
		c <- reply{m, err}
	}()
	select {
	case r := <-c:
		return r.m, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("call %s: %w", full, context.Cause(ctx))
	}
}

// bound makes a context that also ends when the node closes.
func (n *Node) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		select {
		case <-n.done:
			cancel(errors.New("the server's node is closed"))
		case <-stopped:
		}
	}()
	var once sync.Once
	return ctx, func() {
		once.Do(func() { close(stopped) })
		cancel(nil)
	}
}

type actionServer struct {
	node  *Node
	name  string
	act   transport.Action
	slots chan struct{} // one for each goal that may run

	mu      sync.Mutex
	waiting int
}

// ServeAction answers an action.
func (n *Node) ServeAction(name string, act transport.Action) (transport.Closer, error) {
	full, err := n.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("serve action: %w", err)
	}
	if act.Goal == nil || act.Result == nil || act.Execute == nil || act.Type == "" {
		return nil, fmt.Errorf("serve action %s: Type, Goal, Result and Execute are needed", full)
	}
	g := n.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, ok := g.actions[full]; ok {
		return nil, fmt.Errorf("serve action %s: %s does already", full, old.node.name)
	}
	s := &actionServer{node: n, name: full, act: act, slots: make(chan struct{}, max(1, act.MaxConcurrent))}
	g.actions[full] = s
	n.own(s)
	return s, nil
}

func (s *actionServer) Close() error {
	g := s.node.graph
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.actions[s.name] == s {
		delete(g.actions, s.name)
	}
	return nil
}

// ErrRejected says that an action server did not take a goal.
var ErrRejected = errors.New("the goal was rejected")

// Send gives a goal to an action and waits for its result; the end of ctx cancels the goal, whose result is still waited
// for. feedback may be nil.
func (n *Node) Send(ctx context.Context, name string, goal msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
	full, err := n.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("send goal: %w", err)
	}
	g := n.graph
	g.mu.Lock()
	s, ok := g.actions[full]
	g.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("send goal: there is no action %s", full)
	}
	if want := s.act.Goal().ROSType(); goal == nil || goal.ROSType() != want {
		return nil, fmt.Errorf("send goal to %s: the goal is %T, expected %s", full, goal, want)
	}
	if s.act.Accept != nil {
		if err := s.act.Accept(goal); err != nil {
			return nil, fmt.Errorf("%w by %s: %w", ErrRejected, full, err)
		}
	}
	ctx, cancel := s.node.bound(ctx)
	defer cancel()
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.slots }()
	if feedback == nil {
		feedback = func(msgs.Message) {}
	}
	return s.act.Execute(ctx, goal, feedback)
}

// enter takes a slot, or waits for one where the queue has room.
func (s *actionServer) enter(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	s.mu.Lock()
	if s.waiting >= s.act.Queue {
		s.mu.Unlock()
		return fmt.Errorf("%w by %s: %d goals run and %d wait", ErrRejected, s.name, cap(s.slots), s.act.Queue)
	}
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("goal of %s: %w", s.name, context.Cause(ctx))
	}
}
