// Package parameters offers a node's parameters by ROS 2's six services and tells changes on /parameter_events, so that
// `ros2 param`, rqt and launch see them. It works over any transport; values live with the robot.
package parameters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/transport"
)

// Store is where the values are; *robot.Robot is one. SetParameters changes all of the values or none, takes effect before it
// returns, and gives the values in use.
type Store interface {
	Parameters(ctx context.Context) (params.Parameters, error)
	SetParameters(ctx context.Context, values map[string]any) (params.Parameters, error)
}

// maxNames bounds what one request may ask for: several times all parameters. A request of more is answered with an empty
// list, since its answer would be many times its size.
const maxNames = 1000

// eventQoS is rmw_qos_profile_parameter_events.
var eventQoS = transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 1000}

// Server answers the parameter services of one node.
type Server struct {
	node   transport.Transport
	store  Store
	log    zerolog.Logger
	events transport.Publisher
	ends   []transport.Closer
	once   sync.Once

	setting sync.Mutex // events come in the order of the changes
}

// New offers the services and tells the values of the start as new parameters.
func New(ctx context.Context, t transport.Transport, store Store, log zerolog.Logger) (*Server, error) {
	if t == nil || store == nil {
		return nil, errors.New("parameters: transport and store are needed")
	}
	s := &Server{node: t, store: store, log: log}
	if err := s.serve(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return s, nil
}

func (s *Server) serve(ctx context.Context) error {
	events, err := s.node.Advertise("/parameter_events", &msgs.ParameterEvent{}, eventQoS)
	if err != nil {
		return err
	}
	s.events, s.ends = events, append(s.ends, events)
	for _, srv := range []struct {
		name, typ string
		request   func() msgs.Message
		answer    func(context.Context, msgs.Message) (msgs.Message, error)
	}{
		{"list_parameters", "ListParameters", func() msgs.Message { return &msgs.ListParametersRequest{} }, s.list},
		{"get_parameters", "GetParameters", func() msgs.Message { return &msgs.GetParametersRequest{} }, s.get},
		{"get_parameter_types", "GetParameterTypes", func() msgs.Message { return &msgs.GetParameterTypesRequest{} }, s.types},
		{"describe_parameters", "DescribeParameters", func() msgs.Message { return &msgs.DescribeParametersRequest{} }, s.describe},
		{"set_parameters", "SetParameters", func() msgs.Message { return &msgs.SetParametersRequest{} }, s.set},
		{"set_parameters_atomically", "SetParametersAtomically", func() msgs.Message { return &msgs.SetParametersAtomicallyRequest{} }, s.setAtomically},
	} {
		end, err := s.node.Serve("~"+srv.name, transport.Service{Type: "rcl_interfaces/" + srv.typ, Request: srv.request, Handle: srv.answer})
		if err != nil {
			return err
		}
		s.ends = append(s.ends, end)
	}
	now, err := s.store.Parameters(ctx)
	if err != nil {
		return err
	}
	list, err := values(&now, params.Names())
	if err != nil {
		return err
	}
	s.tell(&msgs.ParameterEvent{NewParameters: list})
	return nil
}

// Close takes the services away.
func (s *Server) Close() error {
	s.once.Do(func() {
		for _, e := range s.ends {
			_ = e.Close() // on the way out; nothing can be done about it
		}
	})
	return nil
}

func (s *Server) tell(e *msgs.ParameterEvent) {
	e.Stamp, e.Node = msgs.TimeFromNanos(s.node.Clock().Now()), s.node.Name()
	if err := s.events.Publish(e); err != nil {
		s.log.Warn().Err(err).Msg("publish parameter event")
	}
}

// many refuses requests that name too much.
func (s *Server) many(service string, n int) bool {
	if n > maxNames {
		s.log.Warn().Str("service", service).Int("names", n).Int("allowed", maxNames).Msg("a request names too many parameters; the answer is empty")
		return true
	}
	return false
}

func (s *Server) list(_ context.Context, m msgs.Message) (msgs.Message, error) {
	req := m.(*msgs.ListParametersRequest)
	if s.many("list_parameters", len(req.Prefixes)) {
		return &msgs.ListParametersResponse{}, nil
	}
	names := params.Names()
	slices.Sort(names)
	return &msgs.ListParametersResponse{Result: choose(names, req.Prefixes, req.Depth)}, nil
}

func (s *Server) get(ctx context.Context, m msgs.Message) (msgs.Message, error) {
	req, res := m.(*msgs.GetParametersRequest), &msgs.GetParametersResponse{}
	if s.many("get_parameters", len(req.Names)) {
		return res, nil
	}
	now, err := s.store.Parameters(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range req.Names {
		v := msgs.ParameterValue{Type: msgs.ParameterTypeParameterNotSet} // of names that there are not
		if _, ok := params.Lookup(name); ok {
			x, err := now.Get(name)
			if err != nil {
				return nil, err
			}
			v = value(x)
		}
		res.Values = append(res.Values, v)
	}
	return res, nil
}

func (s *Server) types(_ context.Context, m msgs.Message) (msgs.Message, error) {
	req, res := m.(*msgs.GetParameterTypesRequest), &msgs.GetParameterTypesResponse{}
	if s.many("get_parameter_types", len(req.Names)) {
		return res, nil
	}
	for _, name := range req.Names {
		typ := msgs.ParameterTypeParameterNotSet
		if d, ok := params.Lookup(name); ok {
			typ = typeOf(d.Kind)
		}
		res.Types = append(res.Types, typ)
	}
	return res, nil
}

func (s *Server) describe(_ context.Context, m msgs.Message) (msgs.Message, error) {
	req, res := m.(*msgs.DescribeParametersRequest), &msgs.DescribeParametersResponse{}
	if s.many("describe_parameters", len(req.Names)) {
		return res, nil
	}
	for _, name := range req.Names {
		d := msgs.ParameterDescriptor{Name: name, Type: msgs.ParameterTypeParameterNotSet}
		if known, ok := params.Lookup(name); ok {
			d = descriptor(known)
		}
		res.Descriptors = append(res.Descriptors, d)
	}
	return res, nil
}

func (s *Server) set(ctx context.Context, m msgs.Message) (msgs.Message, error) {
	req, res := m.(*msgs.SetParametersRequest), &msgs.SetParametersResponse{}
	if s.many("set_parameters", len(req.Parameters)) {
		return res, nil
	}
	for i := range req.Parameters { // each by itself
		res.Results = append(res.Results, s.change(ctx, req.Parameters[i:i+1]))
	}
	return res, nil
}

func (s *Server) setAtomically(ctx context.Context, m msgs.Message) (msgs.Message, error) {
	req := m.(*msgs.SetParametersAtomicallyRequest)
	if s.many("set_parameters_atomically", len(req.Parameters)) {
		return &msgs.SetParametersAtomicallyResponse{Result: msgs.SetParametersResult{
			Reason: fmt.Sprintf("%d parameters in one request, at most %d are allowed", len(req.Parameters), maxNames)}}, nil
	}
	return &msgs.SetParametersAtomicallyResponse{Result: s.change(ctx, req.Parameters)}, nil
}

// change sets all of the list or none of it. Of a name that comes twice the last value counts.
func (s *Server) change(ctx context.Context, list []msgs.Parameter) msgs.SetParametersResult {
	wanted, names := map[string]any{}, []string{}
	for i := range list {
		p := &list[i]
		v, err := checked(p)
		if err != nil {
			return s.refused(err)
		}
		if _, twice := wanted[p.Name]; !twice {
			names = append(names, p.Name)
		}
		wanted[p.Name] = v
	}
	if len(names) == 0 {
		return msgs.SetParametersResult{Successful: true}
	}
	s.setting.Lock()
	defer s.setting.Unlock()
	now, err := s.store.SetParameters(ctx, wanted)
	if err != nil {
		return s.refused(err)
	}
	told, err := values(&now, names)
	if err != nil {
		return s.refused(err) // cannot be: they were just set
	}
	s.tell(&msgs.ParameterEvent{ChangedParameters: told})
	return msgs.SetParametersResult{Successful: true}
}

func (s *Server) refused(err error) msgs.SetParametersResult {
	s.log.Debug().Err(err).Msg("parameters are not set")
	return msgs.SetParametersResult{Reason: err.Error()}
}
