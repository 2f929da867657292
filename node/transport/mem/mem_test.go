package mem

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/simclock"
)

func pair(t *testing.T, g *Graph) (a, b *Node) {
	t.Helper()
	a, err := g.Node("/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err = g.Node("/ns/b", map[string]string{"~in": "/text"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestNames(t *testing.T) {
	_, b := pair(t, NewGraph())
	for in, want := range map[string]string{"~in": "/text", "~out": "/ns/b/out", "~/out": "/ns/b/out", "x": "/ns/x", "/x/y": "/x/y"} {
		if got, err := b.Resolve(in); err != nil || got != want {
			t.Errorf("%s → %s, %v, expected %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "~", "/", "a//b", "a b"} {
		if got, err := b.Resolve(bad); err == nil {
			t.Errorf("%q → %q", bad, got)
		}
	}
	for _, bad := range []string{"", "a", "/", "/a/"} {
		if _, err := NewGraph().Node(bad, nil); err == nil {
			t.Errorf("node %q", bad)
		}
	}
}

func TestTopics(t *testing.T) {
	g := NewGraph(StrictQoS())
	a, b := pair(t, g)
	g.SetTime(5)
	p, err := a.Advertise("/text", &msgs.String{}, transport.StaticQoS())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(&msgs.String{Data: "early"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(&msgs.Bool{}); err == nil {
		t.Error("another type")
	}
	var got []string
	var at int64
	deliver := func(r transport.Received) { got, at = append(got, r.Msg.(*msgs.String).Data), r.Received }
	s, err := b.Subscribe("~in", &msgs.String{}, transport.StaticQoS(), deliver)
	if err != nil {
		t.Fatal(err)
	}
	g.SetTime(6)
	if err := p.Publish(&msgs.String{Data: "late"}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, " ") != "early late" || at != 6 {
		t.Errorf("%v at %d", got, at)
	}
	if st := s.Stats(); st.Messages != 2 || st.Peers != 1 || st.Topic != "/text" {
		t.Errorf("%+v", st)
	}
	s.Close()
	_ = p.Publish(&msgs.String{Data: "nobody"})
	if len(got) != 2 {
		t.Error("a closed subscription delivers")
	}
	if _, err := b.Subscribe("/text", &msgs.Bool{}, transport.DefaultQoS(), func(transport.Received) { t.Error("another type") }); err != nil {
		t.Fatal(err)
	}
	if e := <-b.Events(); e.Kind != transport.EventTypeMismatch {
		t.Errorf("%+v", e)
	}
	weak, err := a.Advertise("/weak", &msgs.String{}, transport.SensorQoS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe("/weak", &msgs.String{}, transport.DefaultQoS(), func(transport.Received) { t.Error("incompatible") }); err != nil {
		t.Fatal(err)
	}
	if e := <-b.Events(); e.Kind != transport.EventIncompatibleQoS {
		t.Errorf("%+v", e)
	}
	_ = weak.Publish(&msgs.String{})
	if _, err := a.Advertise("/x", &msgs.String{}, transport.QoS{}); err == nil {
		t.Error("a quality without fields")
	}
	if _, err := a.Advertise("/x", nil, transport.DefaultQoS()); err == nil {
		t.Error("no sample")
	}
	a.Close()
	if err := p.Publish(&msgs.String{}); err == nil {
		t.Error("publishing on a closed node")
	}
}

func TestClock(t *testing.T) {
	g := NewGraph()
	a, _ := pair(t, g)
	g.SetTime(100)
	g.SetTime(200)
	g.SetTime(50)
	g.SetTime(50 + simclock.ForwardJump + 1)
	for _, want := range []transport.Jump{{From: 200, To: 50}, {From: 50, To: 51 + simclock.ForwardJump}} {
		if got := <-a.Clock().Jumps(); got != want {
			t.Errorf("%+v, expected %+v", got, want)
		}
	}
	select {
	case j := <-a.Clock().Jumps():
		t.Errorf("%+v", j)
	default:
	}
	if !a.Clock().Simulated() || a.Clock().Now() != 51+simclock.ForwardJump {
		t.Error("time")
	}
}

func TestServices(t *testing.T) {
	a, b := pair(t, NewGraph())
	srv := transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(ctx context.Context, _ msgs.Message) (msgs.Message, error) {
			if _, ok := ctx.Deadline(); ok {
				<-ctx.Done()
			}
			return &msgs.TriggerResponse{Success: true}, nil
		}}
	if _, err := b.Serve("~go", srv); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Serve("/ns/b/go", srv); err == nil {
		t.Error("two servers")
	}
	r, err := a.Call(context.Background(), "/ns/b/go", &msgs.TriggerRequest{})
	if err != nil || !r.(*msgs.TriggerResponse).Success {
		t.Errorf("%v %v", r, err)
	}
	if _, err := a.Call(context.Background(), "/ns/b/go", &msgs.String{}); err == nil {
		t.Error("another request")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "/ns/b/go", &msgs.TriggerRequest{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	b.Close()
	if _, err := a.Call(context.Background(), "/ns/b/go", &msgs.TriggerRequest{}); err == nil {
		t.Error("a closed server answers")
	}
}

func TestActions(t *testing.T) {
	a, b := pair(t, NewGraph())
	running, release := make(chan struct{}), make(chan struct{})
	act := transport.Action{Type: "stllm_msgs/Ask", Goal: func() msgs.Message { return &msgs.AskGoal{} }, Result: func() msgs.Message { return &msgs.AskResult{} },
		MaxConcurrent: 1, Queue: 1,
		Accept: func(goal msgs.Message) error {
			if goal.(*msgs.AskGoal).Question.Text == "" {
				return errors.New("no text")
			}
			return nil
		},
		Execute: func(ctx context.Context, goal msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
			feedback(&msgs.AskFeedback{Stage: "decode"})
			running <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return &msgs.AskResult{Answer: msgs.Answer{Text: "yes"}}, nil
		}}
	if _, err := b.ServeAction("~ask", act); err != nil {
		t.Fatal(err)
	}
	goal := &msgs.AskGoal{Question: msgs.Question{Text: "?"}}
	if _, err := a.Send(context.Background(), "/ns/b/ask", &msgs.AskGoal{}, nil); !errors.Is(err, ErrRejected) {
		t.Errorf("%v", err)
	}
	var wg sync.WaitGroup
	results := make(chan error, 2)
	send := func(ctx context.Context) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := a.Send(ctx, "/ns/b/ask", goal, nil)
			results <- err
		}()
	}
	send(context.Background())
	<-running
	ctx, cancel := context.WithCancel(context.Background())
	send(ctx) // waits
	for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) {
		s := b.graph.actions["/ns/b/ask"]
		s.mu.Lock()
		waiting = s.waiting
		s.mu.Unlock()
	}
	if _, err := a.Send(context.Background(), "/ns/b/ask", goal, nil); !errors.Is(err, ErrRejected) {
		t.Errorf("a third goal: %v", err)
	}
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release <- struct{}{}
	if err := <-results; err != nil {
		t.Error(err)
	}
	wg.Wait()
	fed := 0
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-running; cancel() }()
	if _, err := a.Send(ctx, "/ns/b/ask", goal, func(msgs.Message) { fed++ }); !errors.Is(err, context.Canceled) || fed != 1 {
		t.Errorf("%v, %d", err, fed)
	}
}
