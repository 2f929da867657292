package ros2

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

func trigger(context.Context, msgs.Message) (msgs.Message, error) {
	return &msgs.TriggerResponse{Success: true, Message: "done"}, nil
}

// client calls a service as rmw_fastrtps does.
type client struct {
	t       *testing.T
	w       *dds.Writer
	r       *dds.Reader
	answers chan dds.Sample
	sent    int64
	silent  bool // does not tell its reader, as ros2-client
}

func newClient(t *testing.T, p *dds.Participant, service, typ, kind string) *client {
	t.Helper()
	c := &client{t: t, answers: make(chan dds.Sample, 100)}
	asked, told := wireService(service)
	var err error
	if c.r, err = p.NewReader(told, wireType(typ+"_Response", kind), serviceQoS, nil, func(s dds.Sample) { c.answers <- s }); err != nil {
		t.Fatal(err)
	}
	if c.w, err = p.NewWriter(asked, wireType(typ+"_Request", kind), serviceQoS, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func (c *client) close() { c.w.Close(); c.r.Close() }

// ask sends a request to a server that is known.
func (c *client) ask(s *server, m msgs.Message) int64 {
	c.t.Helper()
	eventually(c.t, "the server is found", func() bool { return c.w.Matched(s.readerID) })
	data, err := msgs.CDR.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.silent {
		_, err = c.w.Write(data)
	} else {
		err = c.w.WriteRelated(data, c.r.GUID(), 0)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.sent++
	return c.sent
}

// answer waits for that to one request.
func (c *client) answer(number int64, m msgs.Message) {
	c.t.Helper()
	for {
		s := next(c.t, "answer", c.answers)
		if s.Related != c.r.GUID() && s.Related != c.w.GUID() || s.RelatedSequence != number {
			continue
		}
		if err := msgs.CDR.Unmarshal(s.Data, m); err != nil {
			c.t.Fatal(err)
		}
		return
	}
}

func TestService(t *testing.T) {
	n := testNode(t, Config{})
	release, gone := make(chan struct{}), make(chan error, 1)
	closer, err := n.Serve("~go", transport.Service{Type: "std_srvs/SetBool", Request: func() msgs.Message { return &msgs.SetBoolRequest{} },
		Handle: func(ctx context.Context, m msgs.Message) (msgs.Message, error) {
			if m.(*msgs.SetBoolRequest).Data { // a slow one
				select {
				case <-release:
				case <-ctx.Done():
					gone <- ctx.Err()
					return nil, ctx.Err()
				}
				return &msgs.SetBoolResponse{Success: true, Message: "slow"}, nil
			}
			return &msgs.SetBoolResponse{Message: "quick"}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	s := closer.(*server)
	if _, err := n.Serve("~go", transport.Service{Type: "std_srvs/SetBool", Request: func() msgs.Message { return &msgs.SetBoolRequest{} }, Handle: trigger}); err == nil {
		t.Error("one node serves a name twice")
	}
	a, b := newClient(t, outsider(t), "/stllm/go", "std_srvs/SetBool", "srv"), newClient(t, outsider(t), "/stllm/go", "std_srvs/SetBool", "srv")
	b.silent = true
	slow := a.ask(s, &msgs.SetBoolRequest{Data: true})
	for range 3 {
		var res msgs.SetBoolResponse
		if b.answer(b.ask(s, &msgs.SetBoolRequest{}), &res); res.Message != "quick" {
			t.Errorf("%+v", res)
		}
	}
	release <- struct{}{}
	var res msgs.SetBoolResponse
	if a.answer(slow, &res); res.Message != "slow" || !res.Success {
		t.Errorf("%+v", res)
	}
	// A client that leaves is forgotten, its call ends.
	a.ask(s, &msgs.SetBoolRequest{Data: true})
	eventually(t, "the call runs", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.calls) == 1 })
	a.close()
	if err := next(t, "the end of the call", gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Garbage is told of and does no harm.
	if _, err := b.w.Write([]byte{0, 1, 0, 0}); err != nil {
		t.Fatal(err)
	}
	b.sent++
	event(t, n, transport.EventDecode)
	if b.answer(b.ask(s, &msgs.SetBoolRequest{}), &res); res.Message != "quick" {
		t.Errorf("%+v", res)
	}
}

// Requests as they come from the middlewares: who is answered, and how.
func TestServiceMappings(t *testing.T) {
	s := &server{request: func() msgs.Message { return &msgs.SetBoolRequest{} }}
	plain := []byte{0, 1, 0, 0, 1, 0, 0, 0}
	header := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0}
	headed := append(append([]byte{0, 1, 0, 0}, header...), 1, 0, 0, 0)
	foreign := append(append([]byte{0, 0, 0, 0}, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 9), 1, 0, 0, 0)
	for _, c := range []struct {
		name   string
		vendor dds.Vendor
		data   []byte
		header []byte
		fails  bool
	}{
		{"rmw_fastrtps", dds.VendorFastDDS, plain, nil, false},
		{"rmw_cyclonedds", dds.VendorCyclone, headed, header, false},
		{"rmw_cyclonedds, big-endian", dds.VendorCyclone, foreign, header, false},
		{"rmw_cyclonedds, cut off", dds.VendorCyclone, headed[:12], nil, true},
		{"rmw_cyclonedds, without fields", dds.VendorCyclone, headed[:20], nil, true},
		{"ros2-client, enhanced", dds.VendorRustDDS, plain, nil, false},
		{"ros2-client, enhanced, not padded", dds.VendorRustDDS, plain[:5], nil, false},
		{"ros2-client, as cyclone", dds.VendorRustDDS, headed, header, false},
		{"nothing", dds.VendorRustDDS, nil, nil, true},
	} {
		m, call, err := s.read(dds.Sample{Vendor: c.vendor, Sequence: 7, Data: append([]byte(nil), c.data...)})
		if (err != nil) != c.fails {
			t.Errorf("%s: error %v", c.name, err)
			continue
		}
		if err == nil && (!m.(*msgs.SetBoolRequest).Data || !reflect.DeepEqual(call.header, c.header) || call.sequence != 7) {
			t.Errorf("%s: %+v %+v", c.name, m, call)
		}
	}
}

func FuzzServiceRequest(f *testing.F) {
	s := &server{request: func() msgs.Message { return &msgs.AskRequest{} }}
	for i := range byte(4) {
		f.Add(i, []byte{0, i, 0, 0, 1, 0, 0, 0})
		f.Add(i, append([]byte{0, i, 0, 0}, make([]byte, 40)...))
	}
	f.Fuzz(func(_ *testing.T, vendor byte, data []byte) {
		_, _, _ = s.read(dds.Sample{Vendor: dds.Vendor{1, 15 + vendor%4}, Data: data})
	})
}

// asker is a client of an action.
type asker struct {
	t                    *testing.T
	a                    *actionServer
	send, result, cancel *client
	feedback             <-chan transport.Received
	status               <-chan transport.Received
}

func newAsker(t *testing.T, a *actionServer) *asker {
	t.Helper()
	p, n := outsider(t), testNode(t, Config{Name: "asker"})
	under := a.name + "/_action/"
	k := &asker{t: t, a: a, send: newClient(t, p, under+"send_goal", "stllm_msgs/Ask_SendGoal", "action"),
		result: newClient(t, p, under+"get_result", "stllm_msgs/Ask_GetResult", "action"), cancel: newClient(t, p, under+"cancel_goal", "action_msgs/CancelGoal", "srv")}
	_, k.status = hear(t, n, under+"status", &msgs.GoalStatusArray{}, statusQoS)
	got := make(chan transport.Received, 100)
	r, err := n.participant.NewReader("rt"+under+"feedback", wireType("stllm_msgs/Ask_FeedbackMessage", "action"), dds.QoS{Reliable: true, Depth: 100}, nil, func(s dds.Sample) {
		m := &msgs.AskFeedbackMessage{}
		if err := msgs.CDR.Unmarshal(s.Data, m); err != nil {
			t.Error(err)
		}
		got <- transport.Received{Msg: m}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	k.feedback = got
	eventually(t, "feedback and status are matched", func() bool { return a.feedback.Stats().Peers == 1 && a.status.Stats().Peers == 1 })
	return k
}

func uuid(b byte) msgs.UUID { return msgs.UUID{Uuid: [16]uint8{b, 15: 1}} }

func (k *asker) goal(id byte, text string) bool {
	k.t.Helper()
	var res msgs.AskSendGoalResponse
	k.send.answer(k.send.ask(k.a.services[0], &msgs.AskSendGoalRequest{GoalID: uuid(id), Goal: msgs.AskGoal{Question: msgs.Question{Text: text}}}), &res)
	if res.Accepted && res.Stamp == (msgs.Time{}) {
		k.t.Error("accepted without a stamp")
	}
	return res.Accepted
}

func (k *asker) get(id byte) msgs.AskGetResultResponse {
	k.t.Helper()
	var res msgs.AskGetResultResponse
	k.result.answer(k.result.ask(k.a.services[1], &msgs.AskGetResultRequest{GoalID: uuid(id)}), &res)
	return res
}

func (k *asker) stop(info msgs.GoalInfo) (res msgs.CancelGoalResponse) {
	k.t.Helper()
	k.cancel.answer(k.cancel.ask(k.a.services[2], &msgs.CancelGoalRequest{GoalInfo: info}), &res)
	return res
}

// until waits for a goal to have a state in the status topic.
func (k *asker) until(id byte, state int8) {
	k.t.Helper()
	for {
		for _, s := range next(k.t, "status", k.status).Msg.(*msgs.GoalStatusArray).StatusList {
			if s.GoalInfo.GoalID == uuid(id) && s.Status == state {
				return
			}
		}
	}
}

func TestAction(t *testing.T) {
	n := testNode(t, Config{})
	release := make(chan struct{})
	closer, err := n.ServeAction("~ask_action", transport.Action{
		Type: "stllm_msgs/Ask", Goal: func() msgs.Message { return &msgs.AskGoal{} }, Result: func() msgs.Message { return &msgs.AskResult{} },
		MaxConcurrent: 1, Queue: 1, ResultTimeout: time.Hour,
		Accept: func(m msgs.Message) error {
			if m.(*msgs.AskGoal).Question.Text == "" {
				return errors.New("no text")
			}
			return nil
		},
		Execute: func(ctx context.Context, m msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
			text := m.(*msgs.AskGoal).Question.Text
			feedback(&msgs.AskFeedback{Stage: "decode", NewTokens: 1, Delta: text})
			if text == "fail" {
				return &msgs.AskResult{Answer: msgs.Answer{ErrorCode: 3}}, errors.New("failed")
			}
			select {
			case <-release:
				return &msgs.AskResult{Answer: msgs.Answer{Text: "yes, " + text}}, nil
			case <-ctx.Done():
				return &msgs.AskResult{Answer: msgs.Answer{Text: "cut"}}, ctx.Err()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	k := newAsker(t, closer.(*actionServer))
	if k.goal(1, "") {
		t.Error("a goal without text was accepted")
	}
	if !k.goal(2, "first") {
		t.Fatal("rejected")
	}
	if f := next(t, "feedback", k.feedback).Msg.(*msgs.AskFeedbackMessage); f.GoalID != uuid(2) || f.Feedback.Stage != "decode" || f.Feedback.Delta != "first" || f.Feedback.NewTokens != 1 {
		t.Errorf("%+v", f)
	}
	k.until(2, msgs.GoalStatusStatusExecuting)
	if k.goal(2, "again") {
		t.Error("an id was accepted twice")
	}
	if !k.goal(3, "second") {
		t.Error("the queue has room, the goal was rejected")
	}
	if k.goal(4, "third") {
		t.Error("a goal beyond the queue was accepted")
	}
	k.until(3, msgs.GoalStatusStatusAccepted)
	// The waiting one is cancelled, the running one goes on.
	if res := k.stop(msgs.GoalInfo{GoalID: uuid(3)}); res.ReturnCode != 0 || len(res.GoalsCanceling) != 1 || res.GoalsCanceling[0].GoalID != uuid(3) {
		t.Errorf("%+v", res)
	}
	if res := k.get(3); res.Status != msgs.GoalStatusStatusCanceled {
		t.Errorf("%+v", res)
	}
	release <- struct{}{}
	if res := k.get(2); res.Status != msgs.GoalStatusStatusSucceeded || res.Result.Answer.Text != "yes, first" {
		t.Errorf("%+v", res)
	}
	k.until(2, msgs.GoalStatusStatusSucceeded)
	if !k.goal(5, "fail") {
		t.Fatal("rejected")
	}
	if res := k.get(5); res.Status != msgs.GoalStatusStatusAborted || res.Result.Answer.ErrorCode != 3 {
		t.Errorf("%+v", res)
	}
	if !k.goal(6, "running") {
		t.Fatal("rejected")
	}
	k.until(6, msgs.GoalStatusStatusExecuting)
	if res := k.stop(msgs.GoalInfo{}); res.ReturnCode != 0 || len(res.GoalsCanceling) != 1 {
		t.Errorf("%+v", res)
	}
	if res := k.get(6); res.Status != msgs.GoalStatusStatusCanceled || res.Result.Answer.Text != "cut" {
		t.Errorf("%+v", res)
	}
	for id, code := range map[byte]int8{6: msgs.CancelGoalResponseErrorGoalTerminated, 99: msgs.CancelGoalResponseErrorUnknownGoalID} {
		if res := k.stop(msgs.GoalInfo{GoalID: uuid(id)}); res.ReturnCode != code || len(res.GoalsCanceling) != 0 {
			t.Errorf("cancel %d: %+v, expected code %d", id, res, code)
		}
	}
	if res := k.get(99); res.Status != msgs.GoalStatusStatusUnknown {
		t.Errorf("%+v", res)
	}
}

// A result is kept for its time and no longer.
func TestActionResultTimeout(t *testing.T) {
	n := testNode(t, Config{})
	closer, err := n.ServeAction("~ask_action", transport.Action{
		Type: "stllm_msgs/Ask", Goal: func() msgs.Message { return &msgs.AskGoal{} }, Result: func() msgs.Message { return &msgs.AskResult{} },
		ResultTimeout: time.Millisecond,
		Execute: func(context.Context, msgs.Message, func(msgs.Message)) (msgs.Message, error) {
			return &msgs.AskResult{}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	k := newAsker(t, closer.(*actionServer))
	if !k.goal(1, "x") {
		t.Fatal("rejected")
	}
	eventually(t, "the result is forgotten", func() bool { k.a.mu.Lock(); defer k.a.mu.Unlock(); return len(k.a.goals) == 0 && len(k.a.order) == 0 })
	if res := k.get(1); res.Status != msgs.GoalStatusStatusUnknown {
		t.Errorf("%+v", res)
	}
	if _, err := n.ServeAction("~x", transport.Action{Type: "stllm_msgs/Nothing", Goal: k.a.act.Goal, Result: k.a.act.Result, Execute: k.a.act.Execute}); err == nil {
		t.Error("an unknown type was accepted")
	}
}
