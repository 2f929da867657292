package ros2

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// maxResults is how many ended goals are remembered; beyond, the oldest result goes before its time.
const maxResults = 100

// Qualities of an action's topics: rcl_action_qos_profile_status_default; feedback is deeper than rmw's default, since text
// comes in many small pieces.
var (
	statusQoS   = transport.QoS{Reliability: transport.Reliable, Durability: transport.TransientLocal, Depth: 1}
	feedbackQoS = transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100}
)

// actionServer is three services and two topics (design.ros2.org "actions").
type actionServer struct {
	node     *Node
	name     string
	act      transport.Action
	feedback *publisher
	status   *publisher
	services []*server
	ctx      context.Context
	cancel   context.CancelFunc
	slots    chan struct{} // one for each goal that may run

	telling sync.Mutex // states are published in order; taken before mu
	mu      sync.Mutex
	goals   map[[16]uint8]*goal
	order   []*goal // as they were accepted
}

// goal is one goal of an action. Its state is guarded by the server's mu.
type goal struct {
	info   msgs.GoalInfo
	goal   msgs.Message
	state  int8
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	result msgs.Message // when ended is closed
}

func terminal(state int8) bool { return state >= msgs.GoalStatusStatusSucceeded }

// ServeAction answers an action.
func (n *Node) ServeAction(action string, act transport.Action) (_ transport.Closer, err error) {
	full, err := n.names.service(action)
	if err != nil {
		return nil, fmt.Errorf("serve action: %w", err)
	}
	if act.Goal == nil || act.Result == nil || act.Execute == nil || act.Type == "" {
		return nil, fmt.Errorf("serve action %s: Type, Goal, Result and Execute are needed", full)
	}
	a := &actionServer{node: n, name: full, act: act, slots: make(chan struct{}, max(1, act.MaxConcurrent)), goals: map[[16]uint8]*goal{}}
	a.ctx, a.cancel = context.WithCancel(n.ctx)
	defer func() {
		if err != nil {
			_ = a.Close()
			err = fmt.Errorf("serve action %s: %w", full, err)
		}
	}()
	under := full + "/_action/"
	feedback, ok := msgs.New(act.Type + "_FeedbackMessage")
	if !ok {
		return nil, fmt.Errorf("there is no action type %s", act.Type)
	}
	if a.feedback, err = n.advertise(under+"feedback", feedback, "action", feedbackQoS); err != nil {
		return nil, err
	}
	if a.status, err = n.advertise(under+"status", &msgs.GoalStatusArray{}, "msg", statusQoS); err != nil {
		return nil, err
	}
	for _, srv := range []struct {
		name, typ, kind string
		handle          handler
	}{
		{"send_goal", act.Type + "_SendGoal", "action", a.send},
		{"get_result", act.Type + "_GetResult", "action", a.get},
		{"cancel_goal", "action_msgs/CancelGoal", "srv", a.stop},
	} {
		request := func() msgs.Message {
			m, _ := msgs.New(srv.typ + "_Request") // known: the feedback's type is
			return m
		}
		s, err := n.serve(under+srv.name, srv.typ, srv.kind, request, srv.handle)
		if err != nil {
			return nil, err
		}
		a.services = append(a.services, s)
	}
	a.tell()
	return a, nil
}

// field is a field of a message that the generator made for an action, whose type is known only by name.
func field(m msgs.Message, name string) reflect.Value {
	return reflect.ValueOf(m).Elem().FieldByName(name)
}

func idOf(m msgs.Message) [16]uint8 { return field(m, "GoalID").Interface().(msgs.UUID).Uuid }

// send decides on a goal; it begins when the client has been told.
func (a *actionServer) send(_ context.Context, req msgs.Message) (msgs.Message, func(), error) {
	res, _ := msgs.New(a.act.Type + "_SendGoal_Response")
	g, err := a.accept(idOf(req), field(req, "Goal").Addr().Interface().(msgs.Message))
	if err != nil {
		a.node.log.Info().Err(err).Str("action", a.name).Msg("goal rejected")
		return res, nil, nil
	}
	field(res, "Accepted").SetBool(true)
	field(res, "Stamp").Set(reflect.ValueOf(g.info.Stamp))
	return res, func() {
		a.tell()
		go a.run(g)
	}, nil
}

var errDuplicate = errors.New("there is a goal with this id already")

func (a *actionServer) accept(id [16]uint8, m msgs.Message) (*goal, error) {
	if a.act.Accept != nil {
		if err := a.act.Accept(m); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.goals[id]; ok {
		return nil, errDuplicate
	}
	active := 0
	for _, g := range a.goals {
		if !terminal(g.state) {
			active++
		}
	}
	if active >= cap(a.slots)+max(0, a.act.Queue) {
		return nil, fmt.Errorf("%d goals run or wait, at most %d run and %d wait", active, cap(a.slots), a.act.Queue)
	}
	g := &goal{goal: m, state: msgs.GoalStatusStatusAccepted, ended: make(chan struct{})}
	g.info = msgs.GoalInfo{GoalID: msgs.UUID{Uuid: id}, Stamp: msgs.TimeFromNanos(a.node.clock.Now())}
	g.ctx, g.cancel = context.WithCancel(a.ctx)
	a.goals[id] = g
	a.order = append(a.order, g)
	return g, nil
}

// run waits for its turn, executes and remembers the result for a time.
func (a *actionServer) run(g *goal) {
	defer g.cancel()
	var result msgs.Message
	err := a.enter(g)
	if err == nil {
		a.change(g, msgs.GoalStatusStatusExecuting)
		result, err = a.act.Execute(g.ctx, g.goal, func(f msgs.Message) { a.feed(g, f) })
		<-a.slots
	}
	if result == nil {
		result = a.act.Result()
	}
	state := msgs.GoalStatusStatusSucceeded
	a.mu.Lock()
	switch {
	case err != nil && g.state == msgs.GoalStatusStatusCanceling:
		state = msgs.GoalStatusStatusCanceled
	case err != nil:
		state = msgs.GoalStatusStatusAborted
	}
	g.result = result
	a.mu.Unlock()
	a.change(g, state)
	close(g.ended)
	if a.act.ResultTimeout >= 0 {
		time.AfterFunc(a.act.ResultTimeout, func() { a.forget(g) })
	}
}

// enter takes a slot. A goal that is cancelled while it waits never runs.
func (a *actionServer) enter(g *goal) error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-g.ctx.Done():
		return g.ctx.Err()
	}
}

// feed publishes feedback of a goal that has not ended.
func (a *actionServer) feed(g *goal, f msgs.Message) {
	m, _ := msgs.New(a.act.Type + "_FeedbackMessage")
	field(m, "GoalID").Set(reflect.ValueOf(g.info.GoalID))
	to, from := field(m, "Feedback"), reflect.ValueOf(f)
	if f == nil || from.Type() != reflect.PointerTo(to.Type()) {
		a.node.log.Error().Str("action", a.name).Msgf("feedback is %T, expected *%s", f, to.Type())
		return
	}
	to.Set(from.Elem())
	if err := a.feedback.Publish(m); err != nil && a.ctx.Err() == nil {
		a.node.log.Warn().Err(err).Str("action", a.name).Msg("feedback was not sent")
	}
}

// change moves a goal on; a state that comes too late (executing after canceling) is passed over.
func (a *actionServer) change(g *goal, state int8) {
	a.mu.Lock()
	if state > g.state {
		g.state = state
	}
	for extra := len(a.order) - maxResults; extra > 0; extra-- {
		for i, old := range a.order {
			if old != g && terminal(old.state) {
				a.drop(i)
				break
			}
		}
	}
	a.mu.Unlock()
	a.tell()
}

// drop forgets the goal at a place of the order. The lock is held.
func (a *actionServer) drop(i int) {
	delete(a.goals, a.order[i].info.GoalID.Uuid)
	a.order = append(a.order[:i:i], a.order[i+1:]...)
}

func (a *actionServer) forget(g *goal) {
	a.mu.Lock()
	for i, o := range a.order {
		if o == g {
			a.drop(i)
			break
		}
	}
	a.mu.Unlock()
	a.tell()
}

// tell publishes the states of all goals that are known.
func (a *actionServer) tell() {
	a.telling.Lock()
	defer a.telling.Unlock()
	m := &msgs.GoalStatusArray{}
	a.mu.Lock()
	for _, g := range a.order {
		m.StatusList = append(m.StatusList, msgs.GoalStatus{GoalInfo: g.info, Status: g.state})
	}
	a.mu.Unlock()
	if a.ctx.Err() != nil {
		return
	}
	if err := a.status.Publish(m); err != nil && a.ctx.Err() == nil {
		a.node.log.Warn().Err(err).Str("action", a.name).Msg("status was not sent")
	}
}

// get waits for the end of a goal. A goal that is not known, or not any more, has status unknown, as in rcl.
func (a *actionServer) get(ctx context.Context, req msgs.Message) (msgs.Message, func(), error) {
	res, _ := msgs.New(a.act.Type + "_GetResult_Response")
	a.mu.Lock()
	g := a.goals[idOf(req)]
	a.mu.Unlock()
	if g == nil {
		return res, nil, nil
	}
	select {
	case <-g.ended:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	to, from := field(res, "Result"), reflect.ValueOf(g.result)
	if from.Type() != reflect.PointerTo(to.Type()) {
		return nil, nil, fmt.Errorf("result is %T, expected *%s", g.result, to.Type())
	}
	to.Set(from.Elem())
	a.mu.Lock()
	field(res, "Status").SetInt(int64(g.state))
	a.mu.Unlock()
	return res, nil, nil
}

// stop cancels goals by the rules of action_msgs/CancelGoal: by id, all up to a stamp, or with neither all.
func (a *actionServer) stop(_ context.Context, req msgs.Message) (msgs.Message, func(), error) {
	info := req.(*msgs.CancelGoalRequest).GoalInfo
	res := &msgs.CancelGoalResponse{ReturnCode: msgs.CancelGoalResponseErrorNone}
	none := msgs.UUID{}
	byID, byStamp := info.GoalID != none, info.Stamp != msgs.Time{}
	a.mu.Lock()
	if byID && !byStamp {
		if g := a.goals[info.GoalID.Uuid]; g == nil {
			res.ReturnCode = msgs.CancelGoalResponseErrorUnknownGoalID
		} else if g.state > msgs.GoalStatusStatusExecuting {
			res.ReturnCode = msgs.CancelGoalResponseErrorGoalTerminated
		}
	}
	var stopped []*goal
	for _, g := range a.order {
		chosen := byID && g.info.GoalID == info.GoalID || byStamp && g.info.Stamp.UnixNano() <= info.Stamp.UnixNano() || !byID && !byStamp
		if chosen && g.state <= msgs.GoalStatusStatusExecuting {
			g.state = msgs.GoalStatusStatusCanceling
			res.GoalsCanceling = append(res.GoalsCanceling, g.info)
			stopped = append(stopped, g)
		}
	}
	a.mu.Unlock()
	if len(stopped) > 0 {
		a.tell()
	}
	// The client hears that the goal is canceling before it hears that it is canceled.
	return res, func() {
		for _, g := range stopped {
			g.cancel()
		}
	}, nil
}

// Close takes the action back. The contexts of its goals end; they are not waited for.
func (a *actionServer) Close() error {
	a.cancel()
	for _, s := range a.services {
		s.end()
	}
	for _, p := range []*publisher{a.feedback, a.status} {
		if p != nil {
			p.end()
		}
	}
	return nil
}
