package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

// bench is a managed node and a peer that drives it.
type bench struct {
	t     *testing.T
	m     *Machine
	graph *mem.Graph
	peer  *mem.Node

	mu     sync.Mutex
	events []msgs.LifecycleTransitionEvent
}

func newBench(t *testing.T, do Callbacks) *bench {
	t.Helper()
	b := &bench{t: t, graph: mem.NewGraph()}
	b.graph.SetTime(1234)
	node, err := b.graph.Node("/ns/eyes", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.peer, err = b.graph.Node("/manager", nil); err != nil {
		t.Fatal(err)
	}
	if b.m, err = New(node, do, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	_, err = b.peer.Subscribe("/ns/eyes/transition_event", &msgs.LifecycleTransitionEvent{}, transport.DefaultQoS(), func(r transport.Received) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, *r.Msg.(*msgs.LifecycleTransitionEvent))
		if at := b.m.State(); uint8(at) != b.events[len(b.events)-1].GoalState.ID {
			t.Errorf("told of %s while %s", b.events[len(b.events)-1].GoalState.Label, at)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.m.Close(); node.Close(); b.peer.Close() })
	return b
}

func (b *bench) call(service string, req msgs.Message) msgs.Message {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	res, err := b.peer.Call(ctx, "/ns/eyes/"+service, req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func (b *bench) change(id uint8, label string) bool {
	b.t.Helper()
	return b.call("change_state", &msgs.ChangeStateRequest{Transition: msgs.LifecycleTransition{ID: id, Label: label}}).(*msgs.ChangeStateResponse).Success
}

func (b *bench) state() string {
	return b.call("get_state", &msgs.GetStateRequest{}).(*msgs.GetStateResponse).CurrentState.Label
}

// path is what was told, "unconfigured configure configuring transition_success inactive …".
func (b *bench) path() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := "unconfigured"
	for _, e := range b.events {
		if !strings.HasSuffix(s, e.StartState.Label) || e.Timestamp != 1234 {
			b.t.Errorf("after %q an event %+v", s, e)
		}
		s += " " + e.Transition.Label + " " + e.GoalState.Label
	}
	return s
}

func TestEveryPath(t *testing.T) {
	fails := errors.New("no such model")
	breaks := fmt.Errorf("half loaded: %w", ErrBroken)
	give := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	giveFrom := func(err error) func(context.Context, State) error {
		return func(context.Context, State) error { return err }
	}
	for _, c := range []struct {
		name  string
		do    Callbacks
		drive string // labels; a ! says that it is to fail
		want  string
	}{
		{"there and back", Callbacks{}, "configure activate deactivate cleanup configure shutdown",
			"unconfigured configure configuring transition_success inactive activate activating transition_success active " +
				"deactivate deactivating transition_success inactive cleanup cleaningup transition_success unconfigured " +
				"configure configuring transition_success inactive shutdown shuttingdown transition_success finalized"},
		{"configure fails", Callbacks{Configure: give(fails)}, "!configure", "unconfigured configure configuring transition_failure unconfigured"},
		{"configure breaks", Callbacks{Configure: give(breaks)}, "!configure",
			"unconfigured configure configuring transition_error errorprocessing transition_success unconfigured"},
		{"configure breaks, recovery fails", Callbacks{Configure: give(breaks), Recover: giveFrom(fails)}, "!configure !configure !shutdown",
			"unconfigured configure configuring transition_error errorprocessing transition_failure finalized"},
		{"configure breaks, recovery breaks", Callbacks{Configure: give(breaks), Recover: giveFrom(breaks)}, "!configure",
			"unconfigured configure configuring transition_error errorprocessing transition_error finalized"},
		{"activate fails", Callbacks{Activate: give(fails)}, "configure !activate",
			"unconfigured configure configuring transition_success inactive activate activating transition_failure inactive"},
		{"activate breaks", Callbacks{Activate: give(breaks)}, "configure !activate",
			"unconfigured configure configuring transition_success inactive activate activating transition_error errorprocessing transition_success unconfigured"},
		{"deactivate fails", Callbacks{Deactivate: give(fails)}, "configure activate !deactivate shutdown",
			"unconfigured configure configuring transition_success inactive activate activating transition_success active " +
				"deactivate deactivating transition_failure active shutdown shuttingdown transition_success finalized"},
		{"deactivate breaks", Callbacks{Deactivate: give(breaks)}, "configure activate !deactivate",
			"unconfigured configure configuring transition_success inactive activate activating transition_success active " +
				"deactivate deactivating transition_error errorprocessing transition_success unconfigured"},
		{"cleanup fails", Callbacks{Cleanup: give(fails)}, "configure !cleanup",
			"unconfigured configure configuring transition_success inactive cleanup cleaningup transition_failure inactive"},
		{"cleanup breaks", Callbacks{Cleanup: give(breaks)}, "configure !cleanup",
			"unconfigured configure configuring transition_success inactive cleanup cleaningup transition_error errorprocessing transition_success unconfigured"},
		{"shutdown fails", Callbacks{Shutdown: giveFrom(fails)}, "!shutdown", "unconfigured shutdown shuttingdown transition_failure finalized"},
		{"shutdown breaks", Callbacks{Shutdown: giveFrom(breaks)}, "!shutdown", "unconfigured shutdown shuttingdown transition_error errorprocessing transition_success unconfigured"},
		{"not from here", Callbacks{}, "!activate !deactivate !cleanup !transition_success !nonsense configure !configure",
			"unconfigured configure configuring transition_success inactive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.do)
			for label := range strings.FieldsSeq(c.drive) {
				want := !strings.HasPrefix(label, "!")
				if got := b.change(0, strings.TrimPrefix(label, "!")); got != want {
					t.Errorf("%s: success %v", label, got)
				}
			}
			if got := b.path(); got != c.want {
				t.Errorf("went\n%s\nexpected\n%s", got, c.want)
			}
			if got := b.state(); !strings.HasSuffix(c.want, " "+got) {
				t.Errorf("get_state says %s", got)
			}
		})
	}
}

// nav2's lifecycle manager gives numbers alone.
func TestByNumber(t *testing.T) {
	b := newBench(t, Callbacks{})
	for _, id := range []uint8{1, 3, 7} {
		if !b.change(id, "") {
			t.Errorf("transition %d failed", id)
		}
	}
	for _, id := range []uint8{0, 1, 5, 6, 7, 10, 60, 255} {
		if b.change(id, "") {
			t.Errorf("transition %d of a finalized node", id)
		}
	}
	b = newBench(t, Callbacks{})
	for _, id := range []uint8{0, 6, 7, 2, 3, 4, 10, 97} {
		if b.change(id, "") {
			t.Errorf("transition %d of an unconfigured node", id)
		}
	}
	if !b.change(5, "") || b.state() != "finalized" {
		t.Error("shutdown of an unconfigured node")
	}
}

func TestLists(t *testing.T) {
	b := newBench(t, Callbacks{})
	all := b.call("get_available_states", &msgs.GetAvailableStatesRequest{}).(*msgs.GetAvailableStatesResponse).AvailableStates
	if len(all) != 11 || all[0].Label != "unknown" || all[10] != (msgs.LifecycleState{ID: 15, Label: "errorprocessing"}) {
		t.Errorf("%+v", all)
	}
	graph := b.call("get_transition_graph", &msgs.GetAvailableTransitionsRequest{}).(*msgs.GetAvailableTransitionsResponse).AvailableTransitions
	ids := map[uint8]bool{}
	for _, d := range graph {
		ids[d.Transition.ID] = true
	}
	if len(graph) != 25 || len(ids) != 25 {
		t.Errorf("%d transitions with %d numbers, expected 25", len(graph), len(ids))
	}
	available := func() (labels []string) {
		for _, d := range b.call("get_available_transitions", &msgs.GetAvailableTransitionsRequest{}).(*msgs.GetAvailableTransitionsResponse).AvailableTransitions {
			if d.StartState.Label != b.state() {
				t.Errorf("%+v", d)
			}
			labels = append(labels, fmt.Sprint(d.Transition.Label, d.Transition.ID))
		}
		return labels
	}
	for _, c := range []struct {
		by   string
		want []string
	}{{"", []string{"configure1", "shutdown5"}}, {Configure, []string{"cleanup2", "activate3", "shutdown6"}},
		{Activate, []string{"deactivate4", "shutdown7"}}, {Shutdown, nil}} {
		if c.by != "" && !b.change(0, c.by) {
			t.Fatal(c.by)
		}
		if got := available(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, expected %v", b.state(), got, c.want)
		}
	}
}

// While a transition runs the services answer, a second one is refused, and a caller that leaves does not end it.
func TestSlowTransition(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	b := newBench(t, Callbacks{Configure: func(ctx context.Context) error {
		close(begun)
		select {
		case <-finish:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- b.m.Change(ctx, Configure) }()
	<-begun
	if got := b.state(); got != "configuring" {
		t.Errorf("state is %s", got)
	}
	if b.change(0, Configure) || b.change(0, Shutdown) {
		t.Error("a second transition began")
	}
	var refused *RefusedError
	if err := b.m.Change(t.Context(), Shutdown); !errors.As(err, &refused) || !strings.Contains(err.Error(), "the node is configuring") {
		t.Errorf("%v", err)
	}
	leave()
	if err := <-left; err == nil || !strings.Contains(err.Error(), "goes on") {
		t.Errorf("%v", err)
	}
	close(finish)
	for deadline := time.Now().Add(20 * time.Second); b.state() != "inactive"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the transition ended with its caller")
		}
	}
}

func TestClose(t *testing.T) {
	begun := make(chan struct{})
	b := newBench(t, Callbacks{Configure: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	ended := make(chan error, 1)
	go func() { ended <- b.m.Change(context.Background(), Configure) }()
	<-begun
	b.m.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("%v", err)
	}
	if err := b.m.Change(t.Context(), Configure); err == nil {
		t.Error("a closed machine changes")
	}
	if _, err := b.peer.Call(t.Context(), "/ns/eyes/get_state", &msgs.GetStateRequest{}); err == nil {
		t.Error("a closed machine answers")
	}
}

func TestNames(t *testing.T) {
	if _, err := New(nil, Callbacks{}, zerolog.Nop()); err == nil {
		t.Error("no transport")
	}
	g := mem.NewGraph()
	node, _ := g.Node("/a", nil)
	if _, err := New(node, Callbacks{}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if _, err := New(node, Callbacks{}, zerolog.Nop()); err == nil {
		t.Error("two machines on one node")
	}
	if got := State(99).String(); got != "state 99" {
		t.Error(got)
	}
}
