package robot

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

const second = int64(time.Second)

// t0 is a moment at which tests begin, ns.
const t0 = 1_000 * second

type weight int

func (w weight) Bytes() int  { return int(w) }
func (w weight) Voxels() int { return int(w) }

// fakeModel answers with what it was given, so that tests see the snapshot.
type fakeModel struct {
	frames     int
	encodeErr  error
	mapErr     error
	answerErr  error
	slowAnswer chan struct{} // an answer waits for a token, or for its context
	deaf       bool          // ... and not for its context
	slowFrame  chan struct{}
	slowMap    chan struct{}
	text       string
	answers    atomic.Int64
	maps       atomic.Int64
	encoded    atomic.Int64
	started    chan struct{} // a token for each answer begun, when not nil
}

func (m *fakeModel) ID() string   { return "fake" }
func (m *fakeModel) Close() error { return nil }
func (m *fakeModel) Frames() int {
	if m.frames == 0 {
		return 4
	}
	return m.frames
}

func (m *fakeModel) EncodeFrame(ctx context.Context, img *imaging.RGB) (stllm.FrameFeatures, error) {
	m.encoded.Add(1)
	if m.slowFrame != nil {
		select {
		case <-m.slowFrame:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return weight(1000), m.encodeErr
}

func (m *fakeModel) EncodeMap(ctx context.Context, c *scene.Cloud) (stllm.MapFeatures, error) {
	m.maps.Add(1)
	if m.slowMap != nil {
		select {
		case <-m.slowMap:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.mapErr != nil {
		return nil, m.mapErr
	}
	return weight(c.Len()), nil
}

func (m *fakeModel) Answer(ctx context.Context, req stllm.Request, emit func(stllm.Progress)) (stllm.Answer, error) {
	m.answers.Add(1)
	if m.started != nil {
		m.started <- struct{}{}
	}
	emit(stllm.Progress{Stage: stllm.StageAlign})
	if m.slowAnswer != nil {
		done := ctx.Done()
		if m.deaf {
			done = nil
		}
		select {
		case <-m.slowAnswer:
		case <-done:
			finish := stllm.FinishCancelled
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				finish = stllm.FinishDeadline
			}
			return stllm.Answer{Text: "so far", Finish: finish}, nil
		}
	}
	if m.answerErr != nil {
		return stllm.Answer{Finish: stllm.FinishError}, m.answerErr
	}
	text := m.text
	if text == "" {
		h := fnv.New64()
		for _, f := range req.Frames {
			fmt.Fprintln(h, f.Stamp, f.Pose, f.K)
		}
		text = fmt.Sprintf("%s %d frames %016x %d voxels", req.Question, len(req.Frames), h.Sum64(), req.Map.Voxels())
	}
	for i, word := range strings.SplitAfter(text, " ") {
		emit(stllm.Progress{Stage: stllm.StageDecode, Tokens: i + 1, Delta: word})
	}
	a := stllm.Answer{Text: text, Finish: stllm.FinishStop, PromptTokens: 10, NewTokens: 3, Timings: []stllm.Timing{{Stage: stllm.StageDecode, Duration: time.Millisecond}}}
	if req.Evidence {
		a.Evidence = &stllm.Evidence{Frames: []stllm.FrameEvidence{{Index: 0, Weight: 0.25}, {Index: 1, Weight: 0.75}, {Index: 99, Weight: 1}},
			Regions: []stllm.RegionEvidence{{X: 1, Radius: 0.3, Weight: 0.4}, {X: 2, Radius: 0.3, Weight: 0.6}}}
	}
	return a, nil
}

// rig is a robot on a graph with a peer that plays camera, TF, map and operator.
type rig struct {
	t     *testing.T
	graph *mem.Graph
	peer  *mem.Node
	robot *Robot
	model *fakeModel
	pubs  map[string]transport.Publisher

	mu      sync.Mutex
	frames  []uint64
	drops   []Drop
	answers []*msgs.Answer
	chunks  []*msgs.AnswerChunk
	markers []*msgs.MarkerArray
	diag    []*msgs.DiagnosticArray
	texts   []string
}

// newRig starts a robot; change, which may be nil, edits its configuration.
func newRig(t *testing.T, model *fakeModel, change func(*Config)) *rig {
	t.Helper()
	g := &rig{t: t, graph: mem.NewGraph(), model: model, pubs: map[string]transport.Publisher{}}
	g.graph.SetTime(t0)
	node, err := g.graph.Node("/stllm", map[string]string{"~image": "/cam/image_raw"})
	if err != nil {
		t.Fatal(err)
	}
	if g.peer, err = g.graph.Node("/peer", nil); err != nil {
		t.Fatal(err)
	}
	p := params.Default()
	p.QuestionDeadline = 20
	cfg := Config{Transport: node, Params: p, Log: zerolog.Nop(), ThumbWidth: 8,
		OnFrame: func(f windowFrame) { g.lock(func() { g.frames = append(g.frames, f.Seq) }) },
		OnDrop:  func(d Drop) { g.lock(func() { g.drops = append(g.drops, d) }) },
	}
	if model != nil {
		cfg.Model = model
	}
	if change != nil {
		change(&cfg)
	}
	listen(g, "/stllm/answer", func(m *msgs.Answer) { g.answers = append(g.answers, m) })
	listen(g, "/stllm/answer_text", func(m *msgs.String) { g.texts = append(g.texts, m.Data) })
	listen(g, "/stllm/answer_stream", func(m *msgs.AnswerChunk) { g.chunks = append(g.chunks, m) })
	listen(g, "/stllm/markers", func(m *msgs.MarkerArray) { g.markers = append(g.markers, m) })
	listen(g, "/diagnostics", func(m *msgs.DiagnosticArray) { g.diag = append(g.diag, m) })
	if g.robot, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.robot.Close()
		node.Close()
		g.peer.Close()
	})
	return g
}

func (g *rig) lock(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// rigLock guards what a test shares with a robot's callbacks.
type rigLock struct{ mu sync.Mutex }

func (l *rigLock) lock(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func listen[M msgs.Message](g *rig, topic string, take func(M)) {
	g.t.Helper()
	var sample M
	typ := sample.ROSType() // the methods do not look at the receiver
	m, ok := msgs.New(typ)
	if !ok {
		g.t.Fatalf("no message %s", typ)
	}
	if _, err := g.peer.Subscribe(topic, m, transport.DefaultQoS(), func(r transport.Received) {
		g.lock(func() { take(r.Msg.(M)) })
	}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) publish(topic string, m msgs.Message) {
	g.t.Helper()
	p := g.pubs[topic]
	if p == nil {
		var err error
		if p, err = g.peer.Advertise(topic, m, transport.DefaultQoS()); err != nil {
			g.t.Fatal(err)
		}
		g.pubs[topic] = p
	}
	if err := p.Publish(m); err != nil {
		g.t.Fatal(err)
	}
}

func header(stamp int64, frame string) msgs.Header {
	return msgs.Header{Stamp: msgs.TimeFromNanos(stamp), FrameID: frame}
}

// tf publishes map→camera with x = seconds since t0.
func (g *rig) tf(stamp int64) {
	g.publish("/tf", &msgs.TFMessage{Transforms: []msgs.TransformStamped{{Header: header(stamp, "map"), ChildFrameID: "cam",
		Transform: msgs.Transform{Translation: msgs.Vector3{X: float64(stamp-t0) / 1e9}, Rotation: msgs.Quaternion{W: 1}}}}})
}

func (g *rig) info() {
	g.publish("/cam/camera_info", &msgs.CameraInfo{Header: header(t0, "cam"), Width: 16, Height: 12, K: [9]float64{10, 0, 8, 0, 10, 6, 0, 0, 1}})
}

func picture(stamp int64) *msgs.Image {
	return &msgs.Image{Header: header(stamp, "cam"), Width: 16, Height: 12, Encoding: "rgb8", Step: 48, Data: make([]byte, 48*12)}
}

func (g *rig) image(stamp int64) { g.publish("/cam/image_raw", picture(stamp)) }

// cloud is a map of n points; its content depends on n and on shift.
func cloud(frame string, n int, shift float64) *msgs.PointCloud2 {
	c := &scene.Cloud{RGB: make([]uint8, 3*n), HasColor: true}
	for i := range n {
		c.XYZ = append(c.XYZ, float64(i)*0.1+shift, float64(i%7), 0)
	}
	m, err := c.PointCloud2(header(t0, frame))
	if err != nil {
		panic(err)
	}
	return m
}

func (g *rig) scene(n int) { g.publish("/stllm/map_points", cloud("map", n, 0)) }

// drive sends transforms and n images at 10 Hz from t0, and a map.
func (g *rig) drive(n int) {
	g.info()
	g.scene(50)
	for i := range int64(n) {
		g.tf(t0 + i*second/10)
		g.graph.SetTime(t0 + i*second/10)
		g.image(t0 + i*second/10)
	}
	g.settle()
}

func (g *rig) settle() {
	g.t.Helper()
	if err := g.robot.Settle(g.context()); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	g.t.Cleanup(cancel)
	return ctx
}

func (g *rig) ask(text string) *msgs.Answer {
	g.t.Helper()
	return g.robot.Ask(g.context(), msgs.Question{Text: text}, Options{}).Answer
}

func (g *rig) status() Status {
	g.t.Helper()
	st, err := g.robot.Status(g.context())
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

// until waits for something that comes from other goroutines.
func (g *rig) until(what string, f func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		ok := false
		g.lock(func() { ok = f() })
		if ok {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s did not happen: %+v", what, g.status())
		}
	}
}

// addUp checks that no image is lost from the counters.
func (g *rig) addUp() {
	g.t.Helper()
	st := g.status()
	sum := st.Frames + uint64(st.Waiting) + uint64(st.Encoding)
	for _, n := range st.Drops {
		sum += n
	}
	if sum != st.Images {
		g.t.Errorf("%d images, but %d frames, %v dropped, %d waiting, %d encoding", st.Images, st.Frames, st.Drops, st.Waiting, st.Encoding)
	}
}
