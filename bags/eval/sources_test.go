package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/testdata"
)

// small is a kitchen that is quickly made.
func small() kitchen.Options {
	return kitchen.Options{Seconds: 6, Rate: 4, Width: 64, Height: 48, MapEdge: 0.1, Quiz: quiz.Options{Count: 8}}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestKitchens(t *testing.T) {
	src := must(Kitchens(KitchenOptions{Seed: 40, Count: 2, Frames: 6, Kitchen: small()}))(t)
	items := must(src.Items(t.Context()))(t)
	again := must(src.Items(t.Context()))(t)
	if len(items) != 16 || len(again) != 16 {
		t.Fatalf("%d and %d items, expected 16", len(items), len(again))
	}
	for i, it := range items {
		if it.Question != again[i].Question || it.ID != again[i].ID || it.Group != quiz.Now && it.Group != quiz.Video || it.truth() == "" {
			t.Errorf("%+v", it)
		}
		c, err := it.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.check(); err != nil || len(c.Frames) > 6 || len(c.Boxes) == 0 || len(c.Path) < len(c.Frames) {
			t.Errorf("%s: %v, %d frames, %d boxes, %d poses", it.ID, err, len(c.Frames), len(c.Boxes), len(c.Path))
		}
	}
	res := run(t, Options{Source: src, Answerer: right(items), Workers: 3, Pictures: 3, Runs: []Ablation{None, Blind}})
	if s := res.Scores.Runs[None]; s.LabelAccuracy != 1 || len(s.Failed) != 0 {
		t.Errorf("the kitchens' own answers do not have their labels: %+v", s)
	}
	if n := res.Predictions[2].Picture; n == "" {
		t.Error("no picture was drawn")
	}
}

// A bag shows what the kitchen shows, and the frames that the trainer picks.
func TestBags(t *testing.T) {
	dir := t.TempDir()
	o := small()
	var first *kitchen.Kitchen
	for _, seed := range []uint64{41, 40} {
		o.Seed = seed
		k := must(kitchen.Generate(o))(t)
		first = k
		if err := kitchen.Write(t.Context(), k, filepath.Join(dir, fmt.Sprintf("k%d.bag", seed)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "k41.questions.yaml")); err != nil {
		t.Fatal(err)
	}
	src := must(Bags(dir, BagOptions{Frames: 6, Log: zerolog.Nop()}))(t)
	items := must(src.Items(t.Context()))(t)
	if len(items) != 9 || items[8].Err == nil || !strings.Contains(items[8].Err.Error(), "k41.questions.yaml") {
		t.Fatalf("%d items, the last: %+v", len(items), items[len(items)-1])
	}
	direct := must(must(Kitchens(KitchenOptions{Seed: 40, Count: 1, Frames: 6, Kitchen: small()}))(t).Items(t.Context()))(t)
	for i, it := range items[:8] {
		c, err := it.Open(t.Context())
		if err != nil {
			t.Errorf("%s: %v", it.ID, err)
			continue
		}
		if err := c.check(); err != nil {
			t.Errorf("%s: %v", it.ID, err)
		}
		if it.Question != direct[i].Question || it.Reference != direct[i].Reference || it.Label != direct[i].Label || it.Group != direct[i].Group {
			t.Errorf("%+v, expected %+v", it, direct[i])
		}
		picked := first.Pick(first.Questions[i].At, 6)
		if len(c.Frames) != len(picked) {
			t.Errorf("%s: %d frames, expected %d", it.ID, len(c.Frames), len(picked))
			continue
		}
		for j, f := range c.Frames {
			want := first.Frames[picked[j]]
			d := f.Pose.Inverse().Mul(want.Camera).Translation
			if f.Stamp != want.Stamp || d.X*d.X+d.Y*d.Y+d.Z*d.Z > 1e-6 || f.K != first.Options.Camera().K() {
				t.Errorf("%s: frame %d is %d ns and %v away, K %v", it.ID, j, f.Stamp-want.Stamp, d, f.K)
			}
		}
	}
	if s := run(t, Options{Source: src, Answerer: right(items)}).Scores.Runs[None]; len(s.Failed) != 1 || s.Labelled != 9 || s.LabelAccuracy != 8.0/9 {
		t.Errorf("%+v", s)
	}
	for name, path := range map[string]string{"nothing": filepath.Join(dir, "none.bag"), "no bag": t.TempDir()} {
		if _, err := Bags(path, BagOptions{}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := Bags(dir, BagOptions{Questions: "q.yaml"}); err == nil {
		t.Error("one questions file was taken for two bags")
	}
}

// reaItems writes n items of one scene and returns the list's path.
func reaItems(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	jpeg := must((&imaging.RGB{Width: 8, Height: 8, Pix: make([]uint8, 192)}).JPEG(90))(t)
	for i := range 5 {
		name := fmt.Sprintf("frame_%010d", 1+60*i)
		write("v/"+name+".jpg", jpeg)
		write("c/"+name+".txt", []byte("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"))
	}
	write("k.txt", []byte("8 0 4\n0 8 4\n0 0 1\n"))
	if err := scene.WriteFile(filepath.Join(dir, "m_vert.npy"), &scene.Cloud{XYZ: []float64{0, 0, 0, 1, 0, 0}, RGB: make([]uint8, 6), HasColor: true}); err != nil {
		t.Fatal(err)
	}
	var items []rea.Item
	for i := range n {
		items = append(items, rea.Item{ID: fmt.Sprint(i), Video: "v", PointCloud: "m_vert.npy", C2Ws: "c", K: "k.txt",
			Conversations: []rea.Conversation{{From: "human", Value: "<pointcloud><image>Where is the sink?"}, {From: "gpt", Value: "The sink is behind you."}},
			Metadata:      rea.Metadata{QuestionType: "relative_direction"}})
	}
	list := filepath.Join(dir, "items.json")
	if err := rea.Write(list, items); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestREA(t *testing.T) {
	list := reaItems(t, 3)
	src := REA(list, rea.RootsBeside(list), 4)
	items := must(src.Items(t.Context()))(t)
	c := must(items[0].Open(t.Context()))(t)
	if len(items) != 3 || len(c.Frames) != 4 || c.Frames[3].Stamp != 4e9 || c.Map.Len() != 2 || items[0].truth() != "back" || c.check() != nil {
		t.Errorf("%d items, %+v", len(items), c)
	}
	if s := run(t, Options{Source: src, Answerer: right(items)}).Scores.Runs[None]; s.LabelAccuracy != 1 {
		t.Errorf("%+v", s)
	}
}

// Every fault of the files is named with the item and the file, and the other items are answered.
func TestREAFaults(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(dir string, items []rea.Item) error
		want string
	}{
		"frame missing": {func(dir string, _ []rea.Item) error { return os.Remove(filepath.Join(dir, "v/frame_0000000061.jpg")) }, "frame_0000000061"},
		"pose of 15 numbers": {func(dir string, _ []rea.Item) error {
			return os.WriteFile(filepath.Join(dir, "c/frame_0000000061.txt"), []byte("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0"), 0o644)
		}, "15 numbers"},
		"pose not rigid": {func(dir string, _ []rea.Item) error {
			return os.WriteFile(filepath.Join(dir, "c/frame_0000000061.txt"), []byte("2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"), 0o644)
		}, "frame_0000000061.txt"},
		"no poses": {func(dir string, _ []rea.Item) error { return os.RemoveAll(filepath.Join(dir, "c")) }, "c2ws"},
		"no map":   {func(dir string, _ []rea.Item) error { return os.Remove(filepath.Join(dir, "m_vert.npy")) }, "pointcloud"},
		"map cut":  {func(dir string, _ []rea.Item) error { return os.Truncate(filepath.Join(dir, "m_vert.npy"), 90) }, "pointcloud"},
		"K of words": {func(dir string, _ []rea.Item) error {
			return os.WriteFile(filepath.Join(dir, "k.txt"), []byte("a b c d e f g h i"), 0o644)
		}, "K:"},
		"frame broken": {func(dir string, _ []rea.Item) error {
			return os.WriteFile(filepath.Join(dir, "v/frame_0000000061.jpg"), []byte("no picture"), 0o644)
		}, "frame_0000000061.jpg"},
	} {
		t.Run(name, func(t *testing.T) {
			list := reaItems(t, 2)
			dir := filepath.Dir(list)
			items, _, err := rea.Read(list)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir, items); err != nil {
				t.Fatal(err)
			}
			s := run(t, Options{Source: REA(list, rea.RootsBeside(list), 0), Answerer: Table{"t", map[string]string{"0": "x", "1": "x"}}}).Scores.Runs[None]
			if len(s.Failed) != 2 || !strings.Contains(s.Failed[1].Error, c.want) || !strings.Contains(s.Failed[1].Error, "item 1 of "+list) || s.Labelled != 2 {
				t.Errorf("%+v, expected %q", s.Failed, c.want)
			}
		})
	}
}

func TestREABrokenList(t *testing.T) {
	list := reaItems(t, 3)
	var raw []map[string]any
	testdata.JSON(t, list, &raw)
	raw[1]["metadata"] = map[string]any{"question_type": "weather"}
	more, err := json.Marshal(append(raw, raw[0], raw[2]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, more[:len(more)-30], 0o644); err != nil {
		t.Fatal(err)
	}
	s := run(t, Options{Source: REA(list, rea.RootsBeside(list), 0), Answerer: Table{"t", map[string]string{"0": "It is behind you.", "2": "It is behind you."}}}).Scores.Runs[None]
	text := fmt.Sprint(s.Failed)
	if s.Items != 5 || len(s.Failed) != 3 || s.LabelAccuracy != 2.0/5 || !strings.Contains(text, "weather") || !strings.Contains(text, "stands at #0") || !strings.Contains(text, "breaks off") {
		t.Errorf("%d items, accuracy %g, %s", s.Items, s.LabelAccuracy, text)
	}
	if err := os.WriteFile(list, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{Out: t.TempDir(), Source: REA(list, rea.Roots{}, 0), Answerer: reader{}}); err == nil {
		t.Error("a list that is none was evaluated")
	}
}

// fake is a model that says what it was given.
type fake struct {
	recorder
	frames, maps int
	requests     []stllm.Request
}

func (f *fake) EncodeFrame(ctx context.Context, p *imaging.RGB) (stllm.FrameFeatures, error) {
	f.frames++
	return f.recorder.EncodeFrame(ctx, p)
}

func (f *fake) EncodeMap(ctx context.Context, c *scene.Cloud) (stllm.MapFeatures, error) {
	f.maps++
	return f.recorder.EncodeMap(ctx, c)
}

func (f *fake) Answer(_ context.Context, r stllm.Request, _ func(stllm.Progress)) (stllm.Answer, error) {
	f.requests = append(f.requests, r)
	return stllm.Answer{Text: "The thing is behind you."}, nil
}

func TestModel(t *testing.T) {
	f := &fake{recorder: recorder{frames: 5}}
	items := directions(2)
	shared := clip(3)
	for i := range items {
		items[i].Open = func(context.Context) (*Clip, error) { return shared, nil }
	}
	m := NewModel(f, stllm.Decoding{}, true)
	run(t, Options{Source: List{"made", items}, Answerer: m, Runs: Ablations()})
	if enc := m.Encoding(); enc.Frames != 2 || enc.Maps != 2 || enc.FramesTook <= 0 || enc.MapsTook <= 0 {
		t.Errorf("encoding: %+v", enc)
	}
	if f.frames != 2 || f.maps != 2 || len(f.requests) != 14 { // the clip's one picture and map, and what stands for them
		t.Errorf("%d frames and %d maps encoded for %d answers", f.frames, f.maps, len(f.requests))
	}
	for i, want := range []struct {
		ablate           stllm.Ablation
		frames           int
		evidence, moving bool
	}{{stllm.Ablation{}, 4, true, true}, {stllm.Ablation{NoVideo: true, NoPoints: true}, 5, false, false}, {stllm.Ablation{NoPoints: true}, 4, false, true},
		{stllm.Ablation{NoVideo: true}, 4, false, true}, {stllm.Ablation{NoVideo: true}, 4, false, true}, {stllm.Ablation{}, 4, false, true},
		{stllm.Ablation{}, 4, false, true}} {
		r := f.requests[i]
		if r.Ablate != want.ablate || len(r.Frames) != want.frames || r.Evidence != want.evidence || (r.Frames[0].Pose.Rotation.Real != 1) != want.moving {
			t.Errorf("%s: %+v of %d frames, evidence %v, pose %+v", Ablations()[i], r.Ablate, len(r.Frames), r.Evidence, r.Frames[0].Pose)
		}
	}
	if slices.Equal(f.requests[1].Frames[0].Features.(recorded).Pix[:3], shared.Frames[0].Picture.Pix[:3]) || f.requests[1].Map == f.requests[0].Map {
		t.Error("the blind run saw the clip")
	}
}

// The model without its aligner never sees a map.
func TestVideoModel(t *testing.T) {
	f := &fake{recorder: recorder{frames: 5}}
	items := directions(1)
	run(t, Options{Source: List{"made", items}, Answerer: NewVideoModel(f, stllm.Decoding{})})
	if len(f.requests) != 1 || f.requests[0].Ablate != (stllm.Ablation{NoPoints: true, NoAligner: true}) || f.requests[0].Map.(recordedMap).Len() != flatMap().Len() {
		t.Errorf("%+v", f.requests)
	}
}

// The real kitchen's bag with hand-written questions goes through, where its data is. The right answers say what the boxes,
// annotated by hand, and the camera's poses come to, and are read as their labels.
func TestKitchenA(t *testing.T) {
	bag := filepath.Join(testdata.Data(t), "kitchen_a.bag")
	src := must(Bags(bag, BagOptions{Questions: "testdata/kitchen_a.questions.yaml", Frames: 8, Log: zerolog.Nop()}))(t)
	items := must(src.Items(t.Context()))(t)
	boxes := must(rea.ReadScene("testdata/kitchen_a.scene.json"))(t)
	places := map[string]r3.Vec{}
	for _, o := range boxes.Objects {
		places[o.Name] = o.Place
	}
	for _, o := range boxes.Items {
		places[o.Name] = o.Stays[0].Place
	}
	rule := must(quiz.Options{}.WithDefaults())(t).Thresholds
	looked := 0
	for _, it := range items {
		c := must(it.Open(t.Context()))(t)
		if err := c.check(); err != nil || len(c.Frames) != 8 || c.Seconds <= 0 {
			t.Errorf("%s: %v, %d frames of %g s", it.ID, err, len(c.Frames), c.Seconds)
		}
		if l := labelOf(it.Task, it.Question, it.Reference); l != it.Label {
			t.Errorf("%s: %q is read as %q, its label is %q", it.ID, it.Reference, l, it.Label)
		}
		p, ok := places[it.About]
		if !ok || it.Task == stllm.TaskDistance || it.Task == stllm.TaskPlanning || strings.Contains(it.ID, "then") {
			continue
		}
		looked++
		x, z := quiz.Ego(c.Frames[len(c.Frames)-1].Pose, p)
		if d := rule.Direction(x, z); !strings.HasSuffix(it.Label, d) {
			t.Errorf("%s: the %s is %.1f m to the right and %.1f m ahead, which is %q, the label is %q", it.ID, it.About, x, z, d, it.Label)
		}
	}
	if len(items) < 10 || looked < 8 {
		t.Errorf("%d questions, %d compared with boxes", len(items), looked)
	}
}

// Questions about a kitchen, made by REA's rules, go out as REA items, come back as bags and show the same all the way.
func TestREARoundTrip(t *testing.T) {
	dir := t.TempDir()
	o := small()
	o.Seed, o.Seconds = 40, 10
	bag := filepath.Join(dir, "k40.bag")
	if err := kitchen.Write(t.Context(), must(kitchen.Generate(o))(t), bag, nil); err != nil {
		t.Fatal(err)
	}
	s := must(rea.ReadScene(filepath.Join(dir, "k40.scene.json")))(t)
	made := must(rea.Generate(s, rea.GenerateOptions{Count: 25, Seed: 3, Rules: rea.Metric()}))(t)
	var list []replay.Question
	for i, q := range made {
		at := float64(q.Stop-s.Poses[0].Stamp)/1e9 + 0.3
		list = append(list, replay.Question{ID: fmt.Sprintf("g%d", i), At: &at, Text: q.Question, Task: string(q.Task), Answer: q.Answer})
	}
	questions := filepath.Join(dir, "q.yaml")
	if err := rea.WriteQuestions(questions, list); err != nil {
		t.Fatal(err)
	}
	set := BagOptions{Questions: questions, Frames: 8, Log: zerolog.Nop()}
	first := must(Bags(bag, set))(t)
	file, failed, err := Export(t.Context(), first, filepath.Join(dir, "rea"), nil)
	if err != nil || len(failed) != 0 {
		t.Fatal(err, failed)
	}
	second := REA(file, rea.RootsBeside(file), 8)
	compareSources(t, first, second, 9e6, false) // frames are numbered by sixtieths of a second

	items, broken, err := rea.Read(file)
	if err != nil || len(broken) != 0 || len(items) != len(made) {
		t.Fatal(err, broken, len(items))
	}
	bagsMade, bad, err := rea.Import(items, rea.RootsBeside(file), 0, filepath.Join(dir, "bags"), file)
	if err != nil || len(bad) != 0 || len(bagsMade) != 1 || bagsMade[0].Items != len(made) {
		t.Fatalf("%+v, %v, %v", bagsMade, bad, err)
	}
	third := must(Bags(bagsMade[0].Bag, BagOptions{Frames: 8, Log: zerolog.Nop()}))(t)
	compareSources(t, second, third, 1e3, true)

	// What was generated can be read: whoever knows the answers is right in all.
	res := run(t, Options{Source: second, Answerer: right(must(second.Items(t.Context()))(t))})
	if n := res.Scores.Runs[None]; n.LabelAccuracy != 1 || n.Labelled != len(made) || len(n.Failed) != 0 {
		for _, p := range res.Predictions {
			if !p.Right() {
				t.Errorf("%s %q: %q is read as %q, truth %q %s", p.Task, p.Question, p.Answer, p.Said, p.Label, p.Error)
			}
		}
	}
}

// compareSources checks that two sources show the same: questions by text, as their order may differ.
func compareSources(t *testing.T, a, b Source, slack int64, pictures bool) {
	t.Helper()
	byText := map[string]Item{}
	for _, it := range must(b.Items(t.Context()))(t) {
		byText[it.Question] = it
	}
	for _, it := range must(a.Items(t.Context()))(t) {
		other, ok := byText[strings.TrimSpace(it.Question)]
		if !ok || other.Reference != it.Reference || other.Task != it.Task {
			t.Errorf("%s: %+v", it.ID, other)
			continue
		}
		x, err1 := it.Open(t.Context())
		y, err2 := other.Open(t.Context())
		if err1 != nil || err2 != nil || len(x.Frames) != len(y.Frames) || x.Map.ID() != y.Map.ID() {
			t.Fatalf("%s: %v, %v", it.ID, err1, err2)
		}
		for i := range x.Frames {
			f, g := x.Frames[i], y.Frames[i]
			d := f.Pose.Inverse().Mul(g.Pose)
			late := (f.Stamp - x.Frames[0].Stamp) - (g.Stamp - y.Frames[0].Stamp)
			if r3.Norm(d.Translation) > 1e-9 || math.Abs(d.Rotation.Real*d.Rotation.Real-1) > 1e-9 || f.K != g.K || f.Width != g.Width || late > slack || -late > slack {
				t.Errorf("%s, frame %d: moved by %+v, %d ns, K %v and %v", it.ID, i, d, late, f.K, g.K)
			}
			sum := 0.0
			for j := range f.Picture.Pix {
				sum += math.Abs(float64(f.Picture.Pix[j]) - float64(g.Picture.Pix[j]))
			}
			if mean := sum / float64(len(f.Picture.Pix)); mean > 6 || pictures && mean != 0 {
				t.Errorf("%s, frame %d: pictures differ by %g on average", it.ID, i, mean)
			}
		}
	}
}

// What a depth camera measured reaches an answerer with the frames, and is kept back with the pictures.
func TestKitchensWithDepth(t *testing.T) {
	o := small()
	o.Depth = true
	use := stllm.DepthUse{Grid: 4, Near: 0.3, Far: 8}
	items := must(must(Kitchens(KitchenOptions{Seed: 40, Count: 1, Frames: 6, Depth: use, Kitchen: o}))(t).Items(t.Context()))(t)
	c := must(items[0].Open(t.Context()))(t)
	measured := 0
	for _, f := range c.Frames {
		if len(f.Depth) != 16 {
			t.Fatalf("frame %s has %d depths, expected 16", f.Name, len(f.Depth))
		}
		for _, z := range f.Depth {
			if z > 0 {
				measured++
			}
		}
	}
	if measured < 8*len(c.Frames) {
		t.Errorf("%d patches of %d frames are measured", measured, len(c.Frames))
	}
	f := &fake{recorder: recorder{frames: 6, depth: use}}
	for run, want := range map[Ablation]int{None: 16, NoVideo: 0, ShuffledFrames: 16} {
		if _, err := NewModel(f, stllm.Decoding{}, false).Answer(t.Context(), Query{Question: "?", Run: run, Clip: run.apply(c, "x", 1)}); err != nil {
			t.Fatal(err)
		}
		if got := len(f.requests[len(f.requests)-1].Frames[0].Depth); got != want {
			t.Errorf("%s: a frame with %d depths, expected %d", run, got, want)
		}
	}
}
