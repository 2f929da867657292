package robot

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

// planner reads "verb object" lines.
type planner struct{}

func (planner) ParsePlan(text string) []msgs.PlanStep {
	var steps []msgs.PlanStep
	for line := range strings.Lines(text) {
		verb, object, ok := strings.Cut(strings.TrimSpace(line), " ")
		steps = append(steps, msgs.PlanStep{Text: strings.TrimSpace(line), Parsed: ok, Verb: verb, Object: object})
	}
	return steps
}

func (planner) Label(task stllm.Task, _, _ string) string { return "label of " + string(task) }

func TestServicesAndActions(t *testing.T) {
	m := &fakeModel{text: "open fridge\nhm\n"}
	g := newRig(t, m, func(c *Config) { c.Plans, c.Labels = planner{}, planner{} })
	g.drive(4)
	r, err := g.peer.Call(g.context(), "/stllm/ask", &msgs.AskRequest{Question: msgs.Question{Text: "what?", Task: "relative_direction"}})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.(*msgs.AskResponse).Answer; a.Text != m.text || a.Label != "label of relative_direction" || a.Plan != nil {
		t.Errorf("%+v", a)
	}
	r, err = g.peer.Call(g.context(), "/stllm/plan", &msgs.PlanActionRequest{Goal: "cool the milk"})
	if err != nil {
		t.Fatal(err)
	}
	p := r.(*msgs.PlanActionResponse)
	if !p.Success || len(p.Steps) != 2 || p.Steps[0].Object != "fridge" || p.Steps[1].Parsed || p.Answer.Task != "action_planning" {
		t.Errorf("%+v", p)
	}
	var stages, text string
	r, err = g.peer.Send(g.context(), "/stllm/plan_action", &msgs.PlanActionGoal{Goal: "cool the milk"}, func(m msgs.Message) {
		f := m.(*msgs.PlanActionFeedback)
		stages += f.Stage + " "
		text += f.Delta
	})
	if err != nil || !r.(*msgs.PlanActionResult).Success || text != m.text || !strings.HasPrefix(stages, "queued align decode") {
		t.Errorf("%+v %v %q %q", r, err, stages, text)
	}
	m.slowAnswer, m.started = make(chan struct{}), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-m.started; cancel() }()
	r, err = g.peer.Send(ctx, "/stllm/ask_action", &msgs.AskGoal{Question: msgs.Question{Text: "what?"}}, nil)
	if err == nil || r.(*msgs.AskResult).Answer.ErrorCode != msgs.AnswerErrorCancelled {
		t.Errorf("%+v %v", r, err)
	}
}

// recorder notes what a robot asks of its transport.
type recorder struct {
	transport.Transport
	seen map[string]string
}

func (r *recorder) note(kind, name, typ string) {
	if full, err := r.Resolve(name); err == nil {
		name = full
	}
	r.seen[kind+" "+name] = typ
}

func (r *recorder) Subscribe(topic string, sample msgs.Message, qos transport.QoS, deliver func(transport.Received)) (transport.Subscription, error) {
	r.note("sub", topic, sample.ROSType())
	return r.Transport.Subscribe(topic, sample, qos, deliver)
}

func (r *recorder) Advertise(topic string, sample msgs.Message, qos transport.QoS) (transport.Publisher, error) {
	r.note("pub", topic, sample.ROSType())
	return r.Transport.Advertise(topic, sample, qos)
}

func (r *recorder) Serve(name string, s transport.Service) (transport.Closer, error) {
	r.note("srv", name, s.Type)
	return r.Transport.Serve(name, s)
}

func (r *recorder) ServeAction(name string, a transport.Action) (transport.Closer, error) {
	r.note("action", name, a.Type)
	return r.Transport.ServeAction(name, a)
}

// The interface of the design and of the README, name by name: what launch files and rviz configurations refer to. /clock and
// /parameter_events are the transport's.
func TestInterface(t *testing.T) {
	want := map[string]string{
		"sub /cam/image_raw": "sensor_msgs/Image", "sub /cam/image_raw/compressed": "sensor_msgs/CompressedImage", "sub /cam/camera_info": "sensor_msgs/CameraInfo",
		"sub /tf": "tf2_msgs/TFMessage", "sub /tf_static": "tf2_msgs/TFMessage", "sub /stllm/map_points": "sensor_msgs/PointCloud2",
		"sub /stllm/question": "stllm_msgs/Question", "sub /stllm/question_text": "std_msgs/String",
		"pub /stllm/answer": "stllm_msgs/Answer", "pub /stllm/answer_text": "std_msgs/String", "pub /stllm/answer_stream": "stllm_msgs/AnswerChunk",
		"pub /stllm/markers": "visualization_msgs/MarkerArray", "pub /stllm/window_path": "nav_msgs/Path", "pub /diagnostics": "diagnostic_msgs/DiagnosticArray",
		"srv /stllm/ask": "stllm_msgs/Ask", "srv /stllm/plan": "stllm_msgs/PlanAction", "srv /stllm/clear_window": "std_srvs/Trigger",
		"action /stllm/ask_action": "stllm_msgs/Ask", "action /stllm/plan_action": "stllm_msgs/PlanAction",
	}
	r := &recorder{seen: map[string]string{}}
	newRig(t, &fakeModel{}, func(c *Config) { r.Transport, c.Transport = c.Transport, r })
	if !maps.Equal(r.seen, want) {
		t.Errorf("%v\nexpected %v", r.seen, want)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		remaps map[string]string
		change func(*params.Parameters)
		want   inputNames
	}{
		{nil, nil, inputNames{"/n/image", "/n/image/compressed", "/n/camera_info", "/n/map_points", "/n/depth", "/n/depth/compressedDepth"}},
		{map[string]string{"~image": "/c/rgb/image_raw"}, nil, inputNames{"/c/rgb/image_raw", "/c/rgb/image_raw/compressed", "/c/rgb/camera_info", "/n/map_points", "/n/depth", "/n/depth/compressedDepth"}},
		{map[string]string{"~image": "/c/image", "~camera_info": "/k", "~image/compressed": "/jpeg"}, nil, inputNames{"/c/image", "/jpeg", "/k", "/n/map_points", "/n/depth", "/n/depth/compressedDepth"}},
		{nil, func(p *params.Parameters) { p.ImageTopic, p.CameraInfoTopic, p.MapTopic = "/a/b", "/i", "/m" }, inputNames{"/a/b", "/a/b/compressed", "/i", "/m", "/n/depth", "/n/depth/compressedDepth"}},
		{map[string]string{"~depth": "/c/aligned/image_raw"}, nil, inputNames{"/n/image", "/n/image/compressed", "/n/camera_info", "/n/map_points", "/c/aligned/image_raw", "/c/aligned/image_raw/compressedDepth"}},
		{map[string]string{"~depth/compressedDepth": "/d"}, nil, inputNames{"/n/image", "/n/image/compressed", "/n/camera_info", "/n/map_points", "/n/depth", "/d"}},
		{nil, func(p *params.Parameters) { p.DepthTopic = "" }, inputNames{"/n/image", "/n/image/compressed", "/n/camera_info", "/n/map_points", "", ""}},
	} {
		node, err := mem.NewGraph().Node("/n", c.remaps)
		if err != nil {
			t.Fatal(err)
		}
		p := params.Default()
		if c.change != nil {
			c.change(&p)
		}
		if got, err := resolveInputs(node, &p); err != nil || got != c.want {
			t.Errorf("%v: %+v, %v", c.remaps, got, err)
		}
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Transport") {
		t.Errorf("%v", err)
	}
	node, err := mem.NewGraph().Node("/n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Transport: node}); err == nil || !strings.Contains(err.Error(), "parameter") {
		t.Errorf("%v", err)
	}
	bad := params.Default()
	bad.ImageTopic = "a b"
	if _, err := New(Config{Transport: node, Params: bad}); err == nil || !strings.Contains(err.Error(), "image_topic") {
		t.Errorf("%v", err)
	}
	links := []calibration.Link{{Parent: "a", Child: "a", Transform: geometry.Identity()}}
	if _, err := New(Config{Transport: node, Params: params.Default(), Links: links}); err == nil || !strings.Contains(err.Error(), "extrinsics") {
		t.Errorf("%v", err)
	}
}

func TestLinks(t *testing.T) {
	link := geometry.Identity()
	link.Translation.Z = 1.5
	g := newRig(t, &fakeModel{}, func(c *Config) { c.Links = []calibration.Link{{Parent: "base", Child: "eye", Transform: link}} })
	var told []msgs.TransformStamped
	listen(g, "/tf_static", func(m *msgs.TFMessage) { told = append(told, m.Transforms...) })
	g.info()
	g.publish("/tf_static", &msgs.TFMessage{Transforms: []msgs.TransformStamped{{Header: header(t0, "map"), ChildFrameID: "base", Transform: msgs.Transform{Rotation: msgs.Quaternion{W: 1}}}}})
	m := picture(t0)
	m.Header.FrameID = "eye"
	g.publish("/cam/image_raw", m)
	g.scene(9)
	g.settle()
	o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{})
	if o.Answer.ErrorCode != 0 || o.Frames[0].Pose.Translation.Z != 1.5 {
		t.Errorf("%+v", o.Answer)
	}
}

func TestParameters(t *testing.T) {
	g := newRig(t, &fakeModel{}, nil)
	g.drive(10)
	if _, err := g.robot.SetParameters(g.context(), map[string]any{"frames": 2, "fixed_frame": "odom"}); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("%v", err)
	}
	if a := g.ask("?"); a.Frames != 4 {
		t.Errorf("a refused set changed something: %d frames", a.Frames)
	}
	p, err := g.robot.SetParameters(g.context(), map[string]any{"frames": 2, "window_duration": 0.3})
	if err != nil || p.Frames != 2 {
		t.Fatalf("%+v %v", p, err)
	}
	if a := g.ask("?"); a.Frames != 2 || a.WindowStartNs != t0+6*second/10 {
		t.Errorf("%d frames from %d", a.Frames, a.WindowStartNs-t0)
	}
	if p, err := g.robot.Parameters(g.context()); err != nil || p.Frames != 2 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestDiagnostics(t *testing.T) {
	g := newRig(t, &fakeModel{}, func(c *Config) { c.Params.DiagnosticsRate = 100 })
	g.drive(3)
	g.ask("?")
	g.until("diagnostics", func() bool { return len(g.diag) > 3 })
	g.lock(func() {
		last := g.diag[len(g.diag)-1]
		if len(last.Status) != 6 {
			t.Fatalf("%d statuses", len(last.Status))
		}
		values := map[string]string{}
		for _, s := range last.Status {
			if s.Level != msgs.DiagnosticStatusOk || !strings.HasPrefix(s.Name, "stllm: ") {
				t.Errorf("%s: %d %s", s.Name, s.Level, s.Message)
			}
			for _, v := range s.Values {
				values[v.Key] = v.Value
			}
		}
		for key, want := range map[string]string{"frames in the window": "3", "voxels": "50", "asked": "1", "answered": "1", "last answer: decode (s)": "0.001", "state": "ready"} {
			if values[key] != want {
				t.Errorf("%s is %q, expected %q", key, values[key], want)
			}
		}
		for _, key := range []string{"encoding a frame, mean (s)", "encoding it (s)"} {
			if _, err := strconv.ParseFloat(values[key], 64); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}
