// Package lifecycle makes a node a managed one (design.ros2.org, "managed nodes"): a state machine with the services and the
// topic by which nav2's lifecycle manager, `ros2 lifecycle` and others drive it. It works over any transport.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// Callbacks do the work of transitions. A nil one succeeds. An error leaves the node in the state that it came from, unless
// it wraps ErrBroken. The context ends when the machine closes; a caller that gives up does not end it.
type Callbacks struct {
	Configure, Activate, Deactivate, Cleanup func(ctx context.Context) error
	// Shutdown must end whatever the state still holds. The node is finalized whether it fails or not.
	Shutdown func(ctx context.Context, from State) error
	// Recover is called after a callback that wrapped ErrBroken. It must take the node back to the unconfigured state; when it
	// fails the node is finalized.
	Recover func(ctx context.Context, from State) error
}

// ErrBroken says that a callback left the node in neither the old nor the new state.
var ErrBroken = errors.New("the node is neither in the old nor in the new state")

// RefusedError says that a transition was not begun.
type RefusedError struct {
	State State
	Asked string
}

func (e *RefusedError) Error() string {
	if !e.State.resting() {
		return fmt.Sprintf("transition %s is refused: the node is %s; wait for that to end", e.Asked, e.State)
	}
	var can string
	for _, d := range descriptions(e.State) {
		can += " " + d.Transition.Label
	}
	if can == "" {
		can = " none"
	}
	return fmt.Sprintf("transition %s is refused: the node is %s, from which there is:%s", e.Asked, e.State, can)
}

// Machine is the state machine of one node.
type Machine struct {
	node   transport.Transport
	do     Callbacks
	log    zerolog.Logger
	ctx    context.Context
	cancel context.CancelCauseFunc
	events transport.Publisher
	ends   []transport.Closer
	once   sync.Once

	telling sync.Mutex // one change after the other is told; taken before mu
	mu      sync.Mutex
	state   State
	running sync.WaitGroup
	closed  bool
}

// New offers the lifecycle services of a node, which begins unconfigured.
func New(t transport.Transport, do Callbacks, log zerolog.Logger) (*Machine, error) {
	if t == nil {
		return nil, errors.New("lifecycle: the transport is missing")
	}
	m := &Machine{node: t, do: do, log: log, state: Unconfigured}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	if err := m.serve(); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("lifecycle: %w", err)
	}
	return m, nil
}

// State is the state now.
func (m *Machine) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Change goes through a transition by its label and waits for its end, or for that of ctx; then the transition goes on. The
// error is a *RefusedError when it was not begun, else the callback's.
func (m *Machine) Change(ctx context.Context, label string) error { return m.change(ctx, 0, label) }

func (m *Machine) change(ctx context.Context, id uint8, label string) error {
	asked := label
	if label == "" {
		asked = fmt.Sprint(id)
	}
	begun, err := m.begin(id, label, asked)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		defer m.running.Done()
		ended <- m.run(begun)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("transition %s goes on, but its caller has left: %w", begun.label, context.Cause(ctx))
	}
}

// begin takes the state to that of the running transition, so that no other one begins.
func (m *Machine) begin(id uint8, label, asked string) (transition, error) {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	t, ok := next(m.state, id, label)
	switch {
	case m.closed:
		m.mu.Unlock()
		return transition{}, errClosed
	case !ok || !m.state.resting():
		defer m.mu.Unlock()
		return transition{}, &RefusedError{m.state, asked}
	}
	m.running.Add(1)
	m.state = t.to
	m.mu.Unlock()
	m.tell(t)
	return t, nil
}

var errClosed = errors.New("the node is closed")

// tell publishes that an edge was followed.
func (m *Machine) tell(t transition) {
	event := &msgs.LifecycleTransitionEvent{
		Timestamp:  uint64(max(0, m.node.Clock().Now())),
		Transition: t.message(), StartState: t.from.message(), GoalState: t.to.message(),
	}
	if err := m.events.Publish(event); err != nil {
		m.log.Warn().Err(err).Msg("publish transition_event")
	}
}

// end follows the edge that an outcome leads to.
func (m *Machine) end(from State, err error) {
	label := success
	switch {
	case errors.Is(err, ErrBroken):
		label = broken
	case err != nil:
		label = failure
	}
	t, ok := next(from, 0, label)
	if !ok {
		panic(fmt.Sprintf("lifecycle: no transition %s from %s", label, from)) // a test goes through all
	}
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	m.state = t.to
	m.mu.Unlock()
	m.tell(t)
}

func (m *Machine) run(t transition) error {
	m.log.Info().Str("from", t.from.String()).Msg("lifecycle: " + t.label)
	err := m.call(t)
	m.end(t.to, err)
	if errors.Is(err, ErrBroken) {
		m.log.Error().Msg("lifecycle: " + t.label + " broke off; recovering")
		var recovery error
		if m.do.Recover != nil {
			recovery = m.do.Recover(m.ctx, t.from)
		}
		m.end(ErrorProcessing, recovery)
		if recovery != nil {
			m.log.Error().Err(recovery).Msg("lifecycle: recovery failed; the node is finalized")
		}
	}
	state := m.State()
	if err != nil {
		m.log.Error().Err(err).Str("state", state.String()).Msg("lifecycle: " + t.label + " failed")
		return fmt.Errorf("%s: %w", t.label, err)
	}
	m.log.Info().Str("state", state.String()).Msg("lifecycle: " + t.label + " done")
	return nil
}

func (m *Machine) call(t transition) error {
	f := map[string]func(context.Context) error{
		Configure: m.do.Configure, Activate: m.do.Activate, Deactivate: m.do.Deactivate, Cleanup: m.do.Cleanup,
	}[t.label]
	if t.label == Shutdown && m.do.Shutdown != nil {
		f = func(ctx context.Context) error { return m.do.Shutdown(ctx, t.from) }
	}
	if f == nil {
		return nil
	}
	return f(m.ctx)
}

// Close takes the services away and waits for a transition that runs, whose context ends. It calls no callback.
func (m *Machine) Close() error {
	m.once.Do(func() {
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		m.cancel(errClosed)
		m.running.Wait()
		for _, e := range m.ends {
			_ = e.Close() // on the way out; nothing can be done about it
		}
	})
	return nil
}
