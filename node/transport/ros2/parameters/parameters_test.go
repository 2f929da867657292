package parameters

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

// bench is a robot with parameter services and a peer.
type bench struct {
	t     *testing.T
	robot *robot.Robot
	peer  *mem.Node

	mu     sync.Mutex
	events []msgs.ParameterEvent
}

func newBench(t *testing.T) *bench {
	t.Helper()
	g := mem.NewGraph(mem.StrictQoS())
	g.SetTime(5_000_000_001)
	node, err := g.Node("/ns/eyes", nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t}
	if b.peer, err = g.Node("/peer", nil); err != nil {
		t.Fatal(err)
	}
	_, err = b.peer.Subscribe("/parameter_events", &msgs.ParameterEvent{}, transport.DefaultQoS(), func(r transport.Received) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, *r.Msg.(*msgs.ParameterEvent))
	})
	if err != nil {
		t.Fatal(err)
	}
	p := params.Default()
	p.Frames = 7
	if b.robot, err = robot.New(robot.Config{Transport: node, Params: p, Log: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), node, b.robot, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); b.robot.Close(); node.Close(); b.peer.Close() })
	return b
}

func call[R msgs.Message](b *bench, service string, req msgs.Message) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	res, err := b.peer.Call(ctx, "/ns/eyes/"+service, req)
	if err != nil {
		b.t.Fatal(err)
	}
	// What is answered must also go over the wire.
	if _, err := msgs.CDR.Marshal(res); err != nil {
		b.t.Fatal(err)
	}
	return res.(R)
}

func (b *bench) last() msgs.ParameterEvent {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		return msgs.ParameterEvent{}
	}
	return b.events[len(b.events)-1]
}

func whole(v int64) msgs.ParameterValue    { return value(v) }
func number(v float64) msgs.ParameterValue { return value(v) }
func text(v string) msgs.ParameterValue    { return value(v) }

func TestStart(t *testing.T) {
	b := newBench(t)
	e := b.last()
	if e.Node != "/ns/eyes" || e.Stamp != (msgs.Time{Sec: 5, Nanosec: 1}) || len(e.NewParameters) != len(params.Names()) || len(e.ChangedParameters) != 0 {
		t.Errorf("%s at %v: %d new, %d changed", e.Node, e.Stamp, len(e.NewParameters), len(e.ChangedParameters))
	}
	if i := slices.IndexFunc(e.NewParameters, func(p msgs.Parameter) bool { return p.Name == "frames" }); i < 0 || e.NewParameters[i].Value.IntegerValue != 7 {
		t.Errorf("frames is told as %+v", e.NewParameters)
	}
}

func TestListGetTypesDescribe(t *testing.T) {
	b := newBench(t)
	names := call[*msgs.ListParametersResponse](b, "list_parameters", &msgs.ListParametersRequest{}).Result.Names
	want := params.Names()
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	values := call[*msgs.GetParametersResponse](b, "get_parameters", &msgs.GetParametersRequest{Names: names}).Values
	types := call[*msgs.GetParameterTypesResponse](b, "get_parameter_types", &msgs.GetParameterTypesRequest{Names: names}).Types
	about := call[*msgs.DescribeParametersResponse](b, "describe_parameters", &msgs.DescribeParametersRequest{Names: names}).Descriptors
	if len(values) != len(names) || len(types) != len(names) || len(about) != len(names) {
		t.Fatalf("%d names, %d values, %d types, %d descriptors", len(names), len(values), len(types), len(about))
	}
	for i, name := range names {
		d, _ := params.Lookup(name)
		a := about[i]
		if a.Name != name || a.Type != types[i] || values[i].Type != types[i] || types[i] == 0 || a.ReadOnly != d.ReadOnly || a.DynamicTyping ||
			!strings.HasPrefix(a.Description, d.Doc) {
			t.Errorf("%s: type %d, value %+v, %+v", name, types[i], values[i], a)
		}
		if ranges := len(a.IntegerRange) + len(a.FloatingPointRange); ranges != map[bool]int{true: 1, false: 0}[d.Kind == params.Integer || d.Kind == params.Double] {
			t.Errorf("%s has %d ranges", name, ranges)
		}
	}
	at := slices.Index(names, "tf_timeout")
	if r := about[at].FloatingPointRange[0]; r.FromValue != 0 || r.ToValue != 60 || !strings.Contains(about[at].Description, "Unit: s.") {
		t.Errorf("%+v", about[at])
	}
	if d := about[slices.Index(names, "device")]; !d.ReadOnly || d.AdditionalConstraints != "One of: auto, cpu, cuda Read once at the start." {
		t.Errorf("%+v", d)
	}
	// Names that there are not keep their places.
	odd := []string{"frames", "nonsense", "", "use_sim_time"}
	values = call[*msgs.GetParametersResponse](b, "get_parameters", &msgs.GetParametersRequest{Names: odd}).Values
	types = call[*msgs.GetParameterTypesResponse](b, "get_parameter_types", &msgs.GetParameterTypesRequest{Names: odd}).Types
	about = call[*msgs.DescribeParametersResponse](b, "describe_parameters", &msgs.DescribeParametersRequest{Names: odd}).Descriptors
	if !reflect.DeepEqual(types, []uint8{2, 0, 0, 1}) || values[0].IntegerValue != 7 || values[1].Type != 0 || values[3].Type != 1 || about[1].Name != "nonsense" || about[1].Type != 0 {
		t.Errorf("%v %+v %+v", types, values, about)
	}
	// So many names that the answer would be many times the request.
	many := slices.Repeat([]string{"frames"}, maxNames+1)
	if n := len(call[*msgs.GetParametersResponse](b, "get_parameters", &msgs.GetParametersRequest{Names: many}).Values); n != 0 {
		t.Errorf("%d values", n)
	}
	if n := len(call[*msgs.SetParametersResponse](b, "set_parameters", &msgs.SetParametersRequest{Parameters: make([]msgs.Parameter, maxNames+1)}).Results); n != 0 {
		t.Errorf("%d results", n)
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		name   string
		value  msgs.ParameterValue
		reason string // "" is taken
	}{
		{"frames", whole(4), ""},
		{"top_p", number(0.5), ""},
		{"do_sample", msgs.ParameterValue{Type: 1, BoolValue: true}, ""},
		{"fixed_frame", text("map"), ""}, // read-only, and the same
		{"fixed_frame", text("odom"), "read once at the start"},
		{"model", text("/elsewhere"), "read once at the start"},
		{"frames", whole(-1), "parameter frames is -1, expected a whole number, 0 to 1024 frames"},
		{"frames", number(4), "is of type integer, found double"},
		{"frames", text("4"), "is of type integer, found string"},
		{"tf_timeout", whole(1), "is a double, found the integer 1; write 1.0"},
		{"tf_timeout", number(11), "at most tf_cache"},
		{"tf_timeout", number(math.NaN()), "expected a number"},
		{"tf_timeout", number(math.Inf(1)), "expected a number"},
		{"frames", msgs.ParameterValue{}, "cannot be removed"},
		{"frames", msgs.ParameterValue{Type: 7, IntegerArrayValue: []int64{4}}, "found integer array"},
		{"frames", msgs.ParameterValue{Type: 200, IntegerValue: 4}, "found type 200"},
		{"frams", whole(4), `there is no parameter "frams"; the nearest name is "frames"`},
		{"", whole(4), "there is no parameter"},
	} {
		t.Run(c.name+"="+c.reason, func(t *testing.T) {
			b := newBench(t)
			before, err := b.robot.Parameters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			list := []msgs.Parameter{{Name: c.name, Value: c.value}}
			res := call[*msgs.SetParametersResponse](b, "set_parameters", &msgs.SetParametersRequest{Parameters: list}).Results
			if len(res) != 1 || res[0].Successful != (c.reason == "") || !strings.Contains(res[0].Reason, c.reason) {
				t.Fatalf("%+v", res)
			}
			after, err := b.robot.Parameters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.reason != "" {
				if before != after || len(b.last().ChangedParameters) != 0 {
					t.Errorf("a refused value changed something: %+v", b.last())
				}
				return
			}
			got, err := after.Get(c.name)
			if err != nil || !reflect.DeepEqual(value(got), c.value) {
				t.Errorf("the robot has %v (%v)", got, err)
			}
			if e := b.last(); !reflect.DeepEqual(e.ChangedParameters, list) || len(e.NewParameters) != 0 {
				t.Errorf("told %+v", e)
			}
		})
	}
}

func TestSetSeveral(t *testing.T) {
	b := newBench(t)
	good := msgs.Parameter{Name: "frames", Value: whole(4)}
	bad := msgs.Parameter{Name: "top_p", Value: number(2)}
	each := call[*msgs.SetParametersResponse](b, "set_parameters", &msgs.SetParametersRequest{Parameters: []msgs.Parameter{bad, good}}).Results
	if len(each) != 2 || each[0].Successful || !each[1].Successful {
		t.Errorf("%+v", each)
	}
	good.Value = whole(5)
	all := call[*msgs.SetParametersAtomicallyResponse](b, "set_parameters_atomically", &msgs.SetParametersAtomicallyRequest{Parameters: []msgs.Parameter{good, bad}}).Result
	if p, _ := b.robot.Parameters(t.Context()); all.Successful || p.Frames != 4 {
		t.Errorf("%+v, frames %d", all, p.Frames)
	}
	// Two that only fit together, and one of them twice.
	pair := []msgs.Parameter{{Name: "frames", Value: whole(9)}, {Name: "window_max_frames", Value: whole(3)}, {Name: "frames", Value: whole(2)}}
	all = call[*msgs.SetParametersAtomicallyResponse](b, "set_parameters_atomically", &msgs.SetParametersAtomicallyRequest{Parameters: pair}).Result
	if p, _ := b.robot.Parameters(t.Context()); !all.Successful || p.Frames != 2 || p.WindowMaxFrames != 3 {
		t.Errorf("%+v, frames %d of %d", all, p.Frames, p.WindowMaxFrames)
	}
	if e := b.last(); len(e.ChangedParameters) != 2 || e.ChangedParameters[0].Value.IntegerValue != 2 {
		t.Errorf("%+v", e)
	}
	all = call[*msgs.SetParametersAtomicallyResponse](b, "set_parameters_atomically", &msgs.SetParametersAtomicallyRequest{}).Result
	many := call[*msgs.SetParametersAtomicallyResponse](b, "set_parameters_atomically", &msgs.SetParametersAtomicallyRequest{Parameters: make([]msgs.Parameter, maxNames+1)}).Result
	if !all.Successful || many.Successful || !strings.Contains(many.Reason, "1001 parameters") {
		t.Errorf("none: %+v, many: %+v", all, many)
	}
}

func TestChoose(t *testing.T) {
	names := []string{"a", "a.b", "a.b.c", "ab.c", "d"}
	for _, c := range []struct {
		prefixes []string
		depth    uint64
		want     string
		groups   string
	}{
		{nil, 0, "a a.b a.b.c ab.c d", "a a.b ab"},
		{nil, 1, "a d", ""},
		{nil, 2, "a a.b ab.c d", "a ab"},
		{[]string{"a"}, 0, "a a.b a.b.c", "a a.b"},
		{[]string{"a"}, 1, "a", ""}, // rclcpp counts the separator after the prefix
		{[]string{"a"}, 2, "a a.b", "a"},
		{[]string{"a.b", "d"}, 0, "a.b a.b.c d", "a a.b"},
		{[]string{"x"}, 0, "", ""},
		{[]string{""}, 0, "", ""},
	} {
		got := choose(names, c.prefixes, c.depth)
		if strings.Join(got.Names, " ") != c.want || strings.Join(got.Prefixes, " ") != c.groups {
			t.Errorf("%v depth %d: %v in %v, expected %s in %s", c.prefixes, c.depth, got.Names, got.Prefixes, c.want, c.groups)
		}
	}
}

// broken is a store that has gone.
type broken struct{}

var errGone = errors.New("gone")

func (broken) Parameters(context.Context) (params.Parameters, error) {
	return params.Parameters{}, errGone
}
func (broken) SetParameters(context.Context, map[string]any) (params.Parameters, error) {
	return params.Parameters{}, errGone
}

func TestNew(t *testing.T) {
	node, err := mem.NewGraph().Node("/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), nil, broken{}, zerolog.Nop()); err == nil {
		t.Error("no transport")
	}
	if _, err := New(t.Context(), node, broken{}, zerolog.Nop()); !errors.Is(err, errGone) {
		t.Errorf("%v", err)
	}
	if _, err := node.Call(t.Context(), "/a/get_parameters", &msgs.GetParametersRequest{}); err == nil {
		t.Error("services stay after a failed start")
	}
}

// Whatever a request says, it is answered, and a robot that took a value has one that is valid.
func FuzzRequests(f *testing.F) {
	seed := func(m msgs.Message) {
		data, err := msgs.CDR.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	seed(&msgs.SetParametersAtomicallyRequest{Parameters: []msgs.Parameter{{Name: "frames", Value: whole(3)}, {Name: "top_p", Value: number(0.1)}}})
	seed(&msgs.SetParametersAtomicallyRequest{Parameters: []msgs.Parameter{{Name: "model", Value: text("x")}}})
	seed(&msgs.ListParametersRequest{Prefixes: []string{"a", "frames"}, Depth: 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Server{log: zerolog.Nop()}
		var set msgs.SetParametersAtomicallyRequest
		if msgs.CDR.Unmarshal(data, &set) == nil {
			p := params.Default()
			for i := range set.Parameters {
				v, err := checked(&set.Parameters[i])
				if err == nil && p.Change(set.Parameters[i].Name, v) == nil && p.Validate() != nil {
					t.Fatalf("%+v was taken", set.Parameters[i])
				}
			}
		}
		var list msgs.ListParametersRequest
		if msgs.CDR.Unmarshal(data, &list) == nil {
			if _, err := s.list(t.Context(), &list); err != nil {
				t.Fatal(err)
			}
		}
	})
}
