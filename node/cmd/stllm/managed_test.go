package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
	"github.com/stllm/stllm/node/transport/ros2"
)

// emptyModel is loaded and closed; what else there is to a model is not asked for here.
type emptyModel struct {
	stllm.Model
	closed atomic.Bool
}

func (m *emptyModel) ID() string   { return "empty" }
func (m *emptyModel) Close() error { m.closed.Store(true); return nil }

// site is a managed node on a graph within the process, and a peer.
type site struct {
	t    *testing.T
	peer *mem.Node
	stop context.CancelFunc
	end  chan error

	mu     sync.Mutex
	log    []msgs.Log
	states []string
	bond   []bool
}

func manageOnMem(t *testing.T, p params.Parameters, load func(context.Context, *app) (stllm.Model, error)) *site {
	t.Helper()
	g := mem.NewGraph(mem.WallTime())
	node, err := g.Node("/stllm", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, end: make(chan error, 1)}
	if s.peer, err = g.Node("/peer", nil); err != nil {
		t.Fatal(err)
	}
	listen := func(topic string, sample msgs.Message, take func(msgs.Message)) {
		if _, err := s.peer.Subscribe(topic, sample, transport.StaticQoS(), func(r transport.Received) {
			s.mu.Lock()
			defer s.mu.Unlock()
			take(r.Msg)
		}); err != nil {
			t.Fatal(err)
		}
	}
	listen("/rosout", &msgs.Log{}, func(m msgs.Message) { s.log = append(s.log, *m.(*msgs.Log)) })
	listen("/stllm/transition_event", &msgs.LifecycleTransitionEvent{}, func(m msgs.Message) {
		s.states = append(s.states, m.(*msgs.LifecycleTransitionEvent).GoalState.Label)
	})
	if _, err := s.peer.Subscribe("/bond", &msgs.BondStatus{}, transport.DefaultQoS(), func(r transport.Received) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bond = append(s.bond, r.Msg.(*msgs.BondStatus).Active)
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	a := &app{out: io.Discard, err: io.Discard, log: zerolog.Nop().Level(zerolog.InfoLevel)}
	go func() { s.end <- a.manage(ctx, node, p, load) }()
	t.Cleanup(func() { cancel(); node.Close(); s.peer.Close() })
	return s
}

func (s *site) call(name string, req msgs.Message) msgs.Message {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		res, err := s.peer.Call(ctx, "/stllm/"+name, req)
		switch {
		case err == nil:
			return res
		case ctx.Err() == nil && strings.Contains(err.Error(), "no such service"): // not up yet
			time.Sleep(time.Millisecond)
		default:
			s.t.Fatal(err)
		}
	}
}

func (s *site) state() string {
	return s.call("get_state", &msgs.GetStateRequest{}).(*msgs.GetStateResponse).CurrentState.Label
}

func (s *site) change(label string) bool {
	return s.call("change_state", &msgs.ChangeStateRequest{Transition: msgs.LifecycleTransition{Label: label}}).(*msgs.ChangeStateResponse).Success
}

func (s *site) ask(text string) msgs.Answer {
	return s.call("ask", &msgs.AskRequest{Question: msgs.Question{Text: text}}).(*msgs.AskResponse).Answer
}

// logged waits for a line on /rosout.
func (s *site) logged(level uint8, text string) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		for _, m := range s.log {
			if m.Level == level && strings.Contains(m.Msg, text) && m.Name == "stllm" {
				s.mu.Unlock()
				return
			}
		}
		s.mu.Unlock()
		if time.Now().After(deadline) {
			s.t.Fatalf("no line with %q on /rosout: %+v", text, s.log)
		}
	}
}

func TestManagedByHand(t *testing.T) {
	var models []*emptyModel
	fail := errors.New("no such folder")
	p := params.Default()
	p.Autostart = false
	s := manageOnMem(t, p, func(context.Context, *app) (stllm.Model, error) {
		if fail != nil {
			return nil, fail
		}
		models = append(models, &emptyModel{})
		return models[len(models)-1], nil
	})
	if got := s.state(); got != "unconfigured" {
		t.Fatal(got)
	}
	if a := s.ask("?"); a.ErrorCode != msgs.AnswerErrorModelNotReady {
		t.Errorf("%+v", a)
	}
	if s.change("configure") || s.state() != "unconfigured" {
		t.Error("configured without a model")
	}
	s.logged(msgs.LogError, "no such folder")
	fail = nil
	if !s.change("configure") || s.state() != "inactive" || len(models) != 1 {
		t.Fatalf("%s with %d models", s.state(), len(models))
	}
	if a := s.ask("?"); a.ErrorCode != msgs.AnswerErrorModelNotReady || !strings.Contains(a.ErrorMessage, "activate") {
		t.Errorf("%+v", a)
	}
	if !s.change("activate") || s.state() != "active" {
		t.Fatal(s.state())
	}
	if a := s.ask("where?"); a.ErrorCode != msgs.AnswerErrorEmptyWindow && a.ErrorCode != msgs.AnswerErrorStaleCamera {
		t.Errorf("%+v", a)
	}
	// A tunable takes effect, a bad value is refused with the reason.
	set := func(v int64) msgs.SetParametersResult {
		return s.call("set_parameters", &msgs.SetParametersRequest{Parameters: []msgs.Parameter{{Name: "max_question_bytes",
			Value: msgs.ParameterValue{Type: msgs.ParameterTypeParameterInteger, IntegerValue: v}}}}).(*msgs.SetParametersResponse).Results[0]
	}
	if r := set(0); r.Successful || !strings.Contains(r.Reason, "1 to 1048576 bytes") {
		t.Errorf("%+v", r)
	}
	if r := set(5); !r.Successful {
		t.Errorf("%+v", r)
	}
	if a := s.ask("where?"); a.ErrorCode != msgs.AnswerErrorQuestionTooLong {
		t.Errorf("%+v", a)
	}
	if !s.change("deactivate") || !s.change("cleanup") || s.state() != "unconfigured" || !models[0].closed.Load() {
		t.Errorf("%s, closed %v", s.state(), models[0].closed.Load())
	}
	if !s.change("configure") || !s.change("activate") || len(models) != 2 {
		t.Error("not again")
	}
	s.stop()
	if err := <-s.end; err != nil {
		t.Error(err)
	}
	if !models[1].closed.Load() {
		t.Error("the model stays open")
	}
	if n := len(s.states); s.states[n-2] != "shuttingdown" || s.states[n-1] != "finalized" {
		t.Errorf("%v", s.states)
	}
	s.logged(msgs.LogInfo, "shutting down")
	if n := len(s.bond); n < 4 || !s.bond[0] || s.bond[n-1] {
		t.Errorf("bond %v", s.bond)
	}
}

func TestManagedAutostart(t *testing.T) {
	m := &emptyModel{}
	s := manageOnMem(t, params.Default(), func(context.Context, *app) (stllm.Model, error) { return m, nil })
	s.logged(msgs.LogInfo, "ready for questions")
	if got := s.state(); got != "active" {
		t.Error(got)
	}
	if !s.change("shutdown") || s.state() != "finalized" || !m.closed.Load() {
		t.Errorf("%s, closed %v", s.state(), m.closed.Load())
	}
	s.stop()
	if err := <-s.end; err != nil {
		t.Error(err)
	}

	s = manageOnMem(t, params.Default(), func(context.Context, *app) (stllm.Model, error) { return nil, errors.New("no such folder") })
	if err := <-s.end; err == nil || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("%v", err)
	}

	// Ended while the model is loaded.
	begun := make(chan struct{})
	s = manageOnMem(t, params.Default(), func(ctx context.Context, _ *app) (stllm.Model, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	<-begun
	if got := s.state(); got != "configuring" {
		t.Error(got)
	}
	s.stop()
	if err := <-s.end; err != nil {
		t.Error(err)
	}
}

func TestROSParameters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("/**:\n  ros__parameters:\n    frames: 3\n    tf_timeout: 1\n    others: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	a := &app{log: zerolog.New(&log).Level(zerolog.InfoLevel)}
	rf := robotFlags{set: map[string]string{"frames": "2", "top_k:": "9"}} // -p top_k:=9
	args, err := ros2.ParseArguments([]string{"--ros-args", "--log-level", "warn", "--params-file", file, "-p", "frames:=4"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.rosParameters(&rf, args, "/stllm")
	if err != nil || p.Frames != 4 || p.TFTimeout != 1 || p.TopK != 9 || a.log.GetLevel() != zerolog.WarnLevel || !strings.Contains(log.String(), `p.yaml:5: there is no parameter \"others\"`) {
		t.Errorf("%v, %d %g %d, %s, %s", err, p.Frames, p.TFTimeout, p.TopK, a.log.GetLevel(), log.String())
	}
	for _, bad := range [][]string{{"--log-level", "loud"}, {"-p", "frames:=many"}, {"--params-file", "/nonexistent.yaml"}} {
		args, err := ros2.ParseArguments(append([]string{"--ros-args"}, bad...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.rosParameters(&robotFlags{}, args, "/stllm"); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

// Flags win over parameters, and both say the same in the end.
func TestModelFlagsAndParameters(t *testing.T) {
	for _, c := range []struct {
		args   []string
		change func(*params.Parameters)
		want   func(*modelFlags, *params.Parameters) bool
		err    string
	}{
		{nil, func(p *params.Parameters) { p.Model, p.Device, p.Threads, p.DType = "/m", "cuda", 3, "int4" },
			func(m *modelFlags, p *params.Parameters) bool {
				return m.dir == "/m" && m.opt.Device == "cuda" && m.opt.Threads == 3 && m.opt.Int4
			}, ""},
		{[]string{"--model", "/f", "--device", "cuda:1", "--threads", "2", "--int4"}, func(p *params.Parameters) { p.Model, p.Device, p.Threads = "/m", "cpu", 3 },
			func(m *modelFlags, p *params.Parameters) bool {
				return m.dir == "/f" && m.opt.Device == "cuda:1" && m.opt.Threads == 2 && m.opt.Int4 && p.Model == "/f" && p.Device == "cuda" && p.Threads == 2 && p.DType == "int4"
			}, ""},
		{nil, func(*params.Parameters) {}, func(m *modelFlags, p *params.Parameters) bool {
			return m.dir == "nano" && m.opt.Device == "cpu" && !m.opt.Int4
		}, ""},
		{[]string{"--model="}, func(p *params.Parameters) { p.Model = "/m" }, func(m *modelFlags, p *params.Parameters) bool { return m.dir == "/m" && p.Model == "/m" }, ""},
		{nil, func(p *params.Parameters) { p.DType = "fp16" }, func(m *modelFlags, p *params.Parameters) bool { return m.opt.DType == "fp16" && !m.opt.Int4 }, ""},
		{[]string{"--dtype", "int4"}, func(p *params.Parameters) { p.DType = "fp16" }, func(m *modelFlags, p *params.Parameters) bool {
			return m.opt.Int4 && m.opt.DType == "" && p.DType == "int4"
		}, ""},
		{[]string{"--dtype", "fp8"}, func(p *params.Parameters) {}, nil, `dtype is "fp8"`},
		{[]string{"--device", "tpu"}, func(*params.Parameters) {}, nil, `device is "tpu"`},
	} {
		m, p := modelFlags{}, params.Default()
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		m.add(f)
		if err := f.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		c.change(&p)
		err := m.take(&p)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v: %v", c.args, err)
			}
			continue
		}
		if err != nil || !c.want(&m, &p) {
			t.Errorf("%v: %v, %+v, %s %s %d %s", c.args, err, m, p.Model, p.Device, p.Threads, p.DType)
		}
	}
}
