package peers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

func contains(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q does not contain %q", s, p)
		}
	}
}

func TestServices(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		left := make(chan struct{}, 10)
		if _, err := n.Serve("~clear_window", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
			Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
				return &msgs.TriggerResponse{Success: true, Message: "12 frames forgotten"}, nil
			}}); err != nil {
			t.Fatal(err)
		}
		begun, release := make(chan string, 10), make(chan struct{})
		if _, err := n.Serve("~ask", transport.Service{Type: "stllm_msgs/Ask", Request: func() msgs.Message { return &msgs.AskRequest{} },
			Handle: func(ctx context.Context, m msgs.Message) (msgs.Message, error) {
				q := m.(*msgs.AskRequest).Question
				if q.Text == "slow" {
					begun <- q.ID
					select {
					case <-release:
					case <-ctx.Done():
						left <- struct{}{}
						return nil, context.Cause(ctx)
					}
				}
				if q.Text == "fail" {
					return nil, errors.New("as told")
				}
				return &msgs.AskResponse{Answer: msgs.Answer{ID: q.ID, Text: "re " + q.Text, Plan: []msgs.PlanStep{{}, {}}}}, nil
			}}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Serve("~plan", transport.Service{Type: "stllm_msgs/PlanAction", Request: func() msgs.Message { return &msgs.PlanActionRequest{} },
			Handle: func(_ context.Context, m msgs.Message) (msgs.Message, error) {
				req := m.(*msgs.PlanActionRequest)
				return &msgs.PlanActionResponse{Success: true, Message: fmt.Sprintf("%s in %g s", req.Goal, req.Deadline),
					Steps: []msgs.PlanStep{{Text: "open the fridge", Parsed: true, Verb: "open", Object: "fridge"}, {Text: "?"}}, Answer: msgs.Answer{NewTokens: 9}}, nil
			}}); err != nil {
			t.Fatal(err)
		}
		p, other := start(), start()
		var done msgs.TriggerResponse
		trigger := p.Client("/eyes/clear_window", "std_srvs/Trigger", "srv")
		for range 3 {
			trigger.Call(&msgs.TriggerRequest{}, &done)
			if !done.Success || done.Message != "12 frames forgotten" {
				t.Errorf("%+v", done)
			}
		}
		var plan msgs.PlanActionResponse
		p.Client("/eyes/plan", "stllm_msgs/PlanAction", "srv").Call(&msgs.PlanActionRequest{Goal: "cook", Deadline: 2.5}, &plan)
		if !plan.Success || plan.Message != "cook in 2.5 s" || len(plan.Steps) != 2 || plan.Steps[0].Object != "fridge" || plan.Steps[1].Text != "?" || plan.Answer.NewTokens != 9 {
			t.Errorf("%+v", plan)
		}
		ask := func(id, text string) *msgs.AskRequest {
			return &msgs.AskRequest{Question: msgs.Question{ID: id, Text: text}}
		}
		slow, quick := p.Client("/eyes/ask", "stllm_msgs/Ask", "srv"), other.Client("/eyes/ask", "stllm_msgs/Ask", "srv")
		first := slow.Ask(ask("1", "slow"))
		var res msgs.AskResponse
		quick.Ask(ask("2", "fail")) // no answer
		quick.Call(ask("3", "quick"), &res)
		if res.Answer.ID != "3" || res.Answer.Text != "re quick" || len(res.Answer.Plan) != 2 {
			t.Errorf("%+v", res)
		}
		slow.Call(ask("4", "again"), &res) // nor does the same client wait for itself
		release <- struct{}{}
		if got := slow.Answer(&res); got != first || res.Answer.ID != "1" {
			t.Errorf("answer to %d: %+v, expected to %d", got, res, first)
		}
		quick.Ask(ask("5", "slow"))
		for id := ""; id != "5"; {
			id = receive(t, "the call of the client that will leave begins", begun)
		}
		slow.Call(ask("6", "after"), &res)
		other.Close()
		receive(t, "the call of the client that left ends", left)
	})
}

// Clients of both middlewares at one server, at the same time.
func TestServiceOfBoth(t *testing.T) {
	n := node(t, ros2.Config{Name: "eyes"})
	if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
			return &msgs.TriggerResponse{Success: true, Message: "here"}, nil
		}}); err != nil {
		t.Fatal(err)
	}
	fast, cyclone := peers.FastDDS(t, peers.Domain()), peers.Cyclone(t, peers.Domain())
	a, b := fast.Client("/trigger", "std_srvs/Trigger", "srv"), cyclone.Client("/trigger", "std_srvs/Trigger", "srv")
	// Each reader gets the responses to both clients, and keeps as many as in rmw: 10.
	const rounds, calls = 5, 5
	seen := map[*peers.Client]map[int64]bool{a: {}, b: {}}
	for round := 1; round <= rounds; round++ {
		for range calls {
			a.Ask(&msgs.TriggerRequest{})
			b.Ask(&msgs.TriggerRequest{})
		}
		for c, numbers := range seen {
			for len(numbers) < round*calls {
				var res msgs.TriggerResponse
				number := c.Answer(&res)
				if numbers[number] || !res.Success || res.Message != "here" {
					t.Fatalf("answer %d: %+v (again: %v)", number, res, numbers[number])
				}
				numbers[number] = true
			}
		}
	}
}

// A client that calls as soon as its ends have matched is answered: CycloneDDS passes over what a writer said before its first
// heartbeat, so the first answer must not go out before that.
func TestFirstCalls(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
			Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
				return &msgs.TriggerResponse{Success: true}, nil
			}}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			p := start() // what one has heard of the server's writer, all of its clients have
			var res msgs.TriggerResponse
			p.Client("/trigger", "std_srvs/Trigger", "srv").Call(&msgs.TriggerRequest{}, &res)
			if !res.Success {
				t.Errorf("%+v", res)
			}
		}
	})
}
