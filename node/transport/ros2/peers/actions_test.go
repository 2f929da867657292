package peers_test

import (
	"context"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// actor is an action client on a peer: three services and two topics, as rcl_action has them.
type actor struct {
	t                 *testing.T
	send, get, cancel *peers.Client
	feedback, status  *peers.End
}

func newActor(t *testing.T, p *peers.Peer, action string) *actor {
	t.Helper()
	under := action + "/_action/"
	a := &actor{
		t: t, feedback: p.Reader(peers.Message(t, under+"feedback", &msgs.PlanActionFeedbackMessage{}, dds.QoS{Reliable: true, Depth: 10})),
		status: p.Reader(peers.Message(t, under+"status", &msgs.GoalStatusArray{}, dds.QoS{Reliable: true, TransientLocal: true, Depth: 10})),
		send:   p.Client(under+"send_goal", "stllm_msgs/PlanAction_SendGoal", "action"),
		get:    p.Client(under+"get_result", "stllm_msgs/PlanAction_GetResult", "action"),
		cancel: p.Client(under+"cancel_goal", "action_msgs/CancelGoal", "srv"),
	}
	a.feedback.Matched(1)
	return a
}

func goalID(n byte) msgs.UUID { return msgs.UUID{Uuid: [16]uint8{n, 2, 3, 15: 9}} }

func (a *actor) goal(n byte, text string) bool {
	a.t.Helper()
	var res msgs.PlanActionSendGoalResponse
	a.send.Call(&msgs.PlanActionSendGoalRequest{GoalID: goalID(n), Goal: msgs.PlanActionGoal{Goal: text}}, &res)
	return res.Accepted
}

func (a *actor) result(n byte) msgs.PlanActionGetResultResponse {
	a.t.Helper()
	var res msgs.PlanActionGetResultResponse
	a.get.Call(&msgs.PlanActionGetResultRequest{GoalID: goalID(n)}, &res)
	return res
}

// until reads states until a goal has one.
func (a *actor) until(n byte, state int8) {
	a.t.Helper()
	for {
		var m msgs.GoalStatusArray
		a.status.Into(&m)
		for _, g := range m.StatusList {
			if g.GoalInfo.GoalID == goalID(n) && g.Status == state {
				return
			}
		}
	}
}

func TestActions(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		if _, err := n.ServeAction("~plan_action", transport.Action{
			Type: "stllm_msgs/PlanAction", Goal: func() msgs.Message { return &msgs.PlanActionGoal{} }, Result: func() msgs.Message { return &msgs.PlanActionResult{} },
			MaxConcurrent: 1, ResultTimeout: time.Minute,
			Execute: func(ctx context.Context, m msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
				text := m.(*msgs.PlanActionGoal).Goal
				for i, stage := range []string{"waiting", "prefill", "decoding"} {
					feedback(&msgs.PlanActionFeedback{Stage: stage, NewTokens: uint32(i), Delta: text[:i]})
				}
				if text == "forever" {
					<-ctx.Done()
					return &msgs.PlanActionResult{Message: "so far"}, context.Cause(ctx)
				}
				return &msgs.PlanActionResult{Success: true, Steps: []msgs.PlanStep{{Verb: "open", Object: "fridge"}}, Message: text}, nil
			},
		}); err != nil {
			t.Fatal(err)
		}
		a := newActor(t, start(), "/eyes/plan_action")
		if !a.goal(1, "tidy the kitchen") {
			t.Fatal("the goal was rejected")
		}
		for i, stage := range []string{"waiting", "prefill", "decoding"} {
			var f msgs.PlanActionFeedbackMessage
			a.feedback.Into(&f)
			if f.GoalID != goalID(1) || f.Feedback.Stage != stage || f.Feedback.NewTokens != uint32(i) || f.Feedback.Delta != "tidy"[:i] {
				t.Errorf("feedback %d: %+v", i, f)
			}
		}
		r := a.result(1)
		if r.Status != msgs.GoalStatusStatusSucceeded || !r.Result.Success || r.Result.Message != "tidy the kitchen" || len(r.Result.Steps) != 1 || r.Result.Steps[0].Object != "fridge" {
			t.Errorf("%+v", r)
		}
		a.until(1, msgs.GoalStatusStatusSucceeded)

		if !a.goal(2, "forever") {
			t.Fatal("the second goal was rejected")
		}
		a.until(2, msgs.GoalStatusStatusExecuting)
		if a.goal(3, "one too many") {
			t.Error("a goal was accepted beyond what may run")
		}
		asked := a.get.Ask(&msgs.PlanActionGetResultRequest{GoalID: goalID(2)})
		var stopped msgs.CancelGoalResponse
		a.cancel.Call(&msgs.CancelGoalRequest{GoalInfo: msgs.GoalInfo{GoalID: goalID(2)}}, &stopped)
		if stopped.ReturnCode != msgs.CancelGoalResponseErrorNone || len(stopped.GoalsCanceling) != 1 || stopped.GoalsCanceling[0].GoalID != goalID(2) {
			t.Errorf("%+v", stopped)
		}
		var late msgs.PlanActionGetResultResponse
		if got := a.get.Answer(&late); got != asked || late.Status != msgs.GoalStatusStatusCanceled || late.Result.Message != "so far" {
			t.Errorf("answer to %d (asked %d): %+v", got, asked, late)
		}
		a.until(2, msgs.GoalStatusStatusCanceled)
		a.cancel.Call(&msgs.CancelGoalRequest{GoalInfo: msgs.GoalInfo{GoalID: goalID(9)}}, &stopped)
		if stopped.ReturnCode != msgs.CancelGoalResponseErrorUnknownGoalID {
			t.Errorf("cancel of an unknown goal: %+v", stopped)
		}
		if r := a.result(9); r.Status != msgs.GoalStatusStatusUnknown {
			t.Errorf("result of an unknown goal: %+v", r)
		}
	})
}

// Goals that may wait do so in their order; one that is taken back while it waits never runs.
func TestActionQueue(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		begun, release := make(chan string, 10), make(chan struct{})
		if _, err := n.ServeAction("~plan_action", transport.Action{
			Type: "stllm_msgs/PlanAction", Goal: func() msgs.Message { return &msgs.PlanActionGoal{} }, Result: func() msgs.Message { return &msgs.PlanActionResult{} },
			MaxConcurrent: 1, Queue: 3, ResultTimeout: time.Minute,
			Execute: func(ctx context.Context, m msgs.Message, _ func(msgs.Message)) (msgs.Message, error) {
				text := m.(*msgs.PlanActionGoal).Goal
				begun <- text
				select {
				case <-release:
				case <-ctx.Done():
				}
				return &msgs.PlanActionResult{Success: true, Message: text}, context.Cause(ctx)
			},
		}); err != nil {
			t.Fatal(err)
		}
		a := newActor(t, start(), "/eyes/plan_action")
		for i, text := range []string{"first", "second", "third", "fourth"} {
			if !a.goal(byte(i+1), text) {
				t.Fatalf("the %s goal was rejected", text)
			}
		}
		if a.goal(5, "fifth") {
			t.Error("a goal was accepted beyond what may wait")
		}
		if got := receive(t, "the first goal", begun); got != "first" {
			t.Errorf("%q began", got)
		}
		var stopped msgs.CancelGoalResponse
		a.cancel.Call(&msgs.CancelGoalRequest{GoalInfo: msgs.GoalInfo{GoalID: goalID(2)}}, &stopped)
		if stopped.ReturnCode != msgs.CancelGoalResponseErrorNone || len(stopped.GoalsCanceling) != 1 {
			t.Errorf("%+v", stopped)
		}
		if r := a.result(2); r.Status != msgs.GoalStatusStatusCanceled {
			t.Errorf("the goal that was taken back: %+v", r)
		}
		for i, text := range []string{"first", "third", "fourth"} {
			if i > 0 {
				if got := receive(t, "the next goal", begun); got != text {
					t.Errorf("%q began, expected %s", got, text)
				}
			}
			release <- struct{}{}
			n := byte(i + 2)
			if i == 0 {
				n = 1
			}
			if r := a.result(n); r.Status != msgs.GoalStatusStatusSucceeded || r.Result.Message != text {
				t.Errorf("%s: %+v", text, r)
			}
		}
		if len(begun) != 0 {
			t.Errorf("%q began", <-begun)
		}
	})
}
