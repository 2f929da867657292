package lifecycle

import (
	"context"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// serve offers the five services and the topic of a managed node.
func (m *Machine) serve() error {
	events, err := m.node.Advertise("~transition_event", &msgs.LifecycleTransitionEvent{}, transport.DefaultQoS())
	if err != nil {
		return err
	}
	m.events, m.ends = events, append(m.ends, events)
	for _, s := range []struct {
		name, typ string
		request   func() msgs.Message
		answer    func(context.Context, msgs.Message) msgs.Message
	}{
		{"change_state", "ChangeState", func() msgs.Message { return &msgs.ChangeStateRequest{} }, m.changeState},
		{"get_state", "GetState", func() msgs.Message { return &msgs.GetStateRequest{} }, m.getState},
		{"get_available_states", "GetAvailableStates", func() msgs.Message { return &msgs.GetAvailableStatesRequest{} }, availableStates},
		{"get_available_transitions", "GetAvailableTransitions", func() msgs.Message { return &msgs.GetAvailableTransitionsRequest{} }, m.availableTransitions},
		{"get_transition_graph", "GetAvailableTransitions", func() msgs.Message { return &msgs.GetAvailableTransitionsRequest{} }, transitionGraph},
	} {
		end, err := m.node.Serve("~"+s.name, transport.Service{Type: "lifecycle_msgs/" + s.typ, Request: s.request,
			Handle: func(ctx context.Context, req msgs.Message) (msgs.Message, error) { return s.answer(ctx, req), nil }})
		if err != nil {
			return err
		}
		m.ends = append(m.ends, end)
	}
	return nil
}

// changeState goes by the label where there is one: a caller that gives only the label leaves the number 0.
func (m *Machine) changeState(ctx context.Context, req msgs.Message) msgs.Message {
	t := req.(*msgs.ChangeStateRequest).Transition
	err := m.change(ctx, t.ID, t.Label)
	if err != nil {
		m.log.Warn().Err(err).Msg("change_state")
	}
	return &msgs.ChangeStateResponse{Success: err == nil}
}

func (m *Machine) getState(context.Context, msgs.Message) msgs.Message {
	return &msgs.GetStateResponse{CurrentState: m.State().message()}
}

func availableStates(context.Context, msgs.Message) msgs.Message {
	res := &msgs.GetAvailableStatesResponse{}
	for _, s := range states {
		res.AvailableStates = append(res.AvailableStates, s.id.message())
	}
	return res
}

func (m *Machine) availableTransitions(context.Context, msgs.Message) msgs.Message {
	return &msgs.GetAvailableTransitionsResponse{AvailableTransitions: descriptions(m.State())}
}

func transitionGraph(context.Context, msgs.Message) msgs.Message {
	return &msgs.GetAvailableTransitionsResponse{AvailableTransitions: descriptions(Unknown)}
}
