package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// turned is the pose of an optical frame that is turned by eighths about its vertical axis.
func turned(eighths int) geometry.Transform {
	a := float64(eighths) * math.Pi / 8
	return geometry.Transform{Rotation: quat.Number{Real: math.Cos(a), Jmag: math.Sin(a)}}
}

// eighths are the directions in the order of turning right.
var eighths = []string{"front", "front-right", "right", "back-right", "back", "back-left", "left", "front-left"}

// clip shows, to who can read it, a number: the last pose is turned by so many eighths.
func clip(n int) *Clip {
	p := &imaging.RGB{Width: 4, Height: 4, Pix: make([]uint8, 48)}
	c := &Clip{Map: &scene.Cloud{XYZ: []float64{0, 0, 0, 1, 1, 1}, RGB: make([]uint8, 6)}}
	for i := range 4 {
		c.Frames = append(c.Frames, Frame{Name: fmt.Sprint(i), Stamp: int64(i) * 1e9, Picture: p, Pose: turned(n), K: [9]float64{4, 0, 2, 0, 4, 2, 0, 0, 1}, Width: 4, Height: 4})
	}
	return c
}

// directions are balanced items: every direction equally often.
func directions(n int) []Item {
	var out []Item
	for i := range n {
		l := label.Label{Direction: eighths[i%8]}
		group := "now"
		if i%16 < 8 {
			group = "video"
		}
		out = append(out, Item{
			ID: fmt.Sprintf("d%03d", i), Task: stllm.TaskDirection, Group: group, Question: fmt.Sprintf("Where is thing %d?", i), File: "made",
			Reference: l.Say(stllm.TaskDirection, "thing", "", i, false), Label: l.String(),
			Open: func(context.Context) (*Clip, error) { return clip(i % 8), nil },
		})
	}
	return out
}

// reader reads the direction off the clip, and guesses where something is kept back.
type reader struct{}

func (reader) ID() string { return "reader" }

func (reader) Answer(_ context.Context, q Query) (Reply, error) {
	h := fnv.New64a()
	h.Write([]byte(q.Question + "guess"))
	n := int(h.Sum64() >> 7 % 8)
	c := q.Clip
	if c.Map != nil && len(c.Frames) > 0 && c.Frames[len(c.Frames)-1].Picture != nil {
		r := c.Frames[len(c.Frames)-1].Pose.Rotation
		n = int(math.Round(2*math.Atan2(r.Jmag, r.Real)/(2*math.Pi)*8)+16) % 8
	}
	return Reply{Text: label.Label{Direction: eighths[n]}.Say(q.Task, "thing", "", 0, false)}, nil
}

func right(items []Item) Table {
	t := Table{"right", map[string]string{}}
	for _, it := range items {
		t.Answers[it.ID] = it.Reference
	}
	return t
}

func run(t *testing.T, o Options) *Result {
	t.Helper()
	if o.Out == "" {
		o.Out = t.TempDir()
	}
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A model that knows all answers scores 1 and what identical text scores.
func TestRightAnswers(t *testing.T) {
	items := directions(64)
	out := t.TempDir()
	res := run(t, Options{Out: out, Source: List{"made", items}, Answerer: right(items), Workers: 3})
	s := res.Scores.Runs[None]
	if s.LabelAccuracy != 1 || s.Groups["now"] != 1 || s.Groups["video"] != 1 || s.Tasks[stllm.TaskDirection] != 1 || len(s.Failed) != 0 || s.Labelled != 64 {
		t.Fatalf("%+v", s)
	}
	var pairs []metrics.Pair
	for _, it := range items {
		pairs = append(pairs, metrics.Pair{References: []string{it.Reference}, Hypothesis: it.Reference})
	}
	want, err := metrics.Scorer{}.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if s.Metrics.Raw != want.Raw || s.Metrics.PTB != want.PTB || math.Abs(s.Metrics.Raw.BLEU4-1) > 1e-8 || s.Metrics.Raw.ROUGEL != 1 || math.Abs(s.Metrics.Raw.CIDErD-10) > 1e-9 {
		t.Errorf("%+v, expected %+v", s.Metrics.Raw, want.Raw)
	}
	if len(s.Metrics.Missing) != 2 {
		t.Errorf("what is missing is not said: %q", s.Metrics.Missing)
	}
	// The file has the published shape.
	b, err := os.ReadFile(filepath.Join(out, ScoresFile))
	if err != nil {
		t.Fatal(err)
	}
	var shape struct {
		Runs map[string]struct {
			LabelAccuracy *float64 `json:"label_accuracy"`
			Groups, Tasks map[string]float64
			Metrics       map[string]any
		}
	}
	if err := json.Unmarshal(b, &shape); err != nil {
		t.Fatal(err)
	}
	none := shape.Runs["none"]
	if none.LabelAccuracy == nil || *none.LabelAccuracy != 1 || none.Groups["now"] != 1 || none.Tasks["relative_direction"] != 1 || none.Metrics["raw"] == nil {
		t.Errorf("%s", b)
	}
}

// Answers that are shifted by k places among the items, sorted by label, are right where a label goes on for more than k.
func TestShuffledAnswers(t *testing.T) {
	items := directions(72)[:70] // not quite balanced
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(a, b Item) int { return strings.Compare(a.Label, b.Label) })
	count := map[string]int{}
	for _, it := range items {
		count[it.Label]++
	}
	for _, k := range []int{1, 3, 8, 9, 35} {
		table := Table{"shifted", map[string]string{}}
		for i, it := range sorted {
			table.Answers[it.ID] = sorted[(i+k)%len(sorted)].Reference
		}
		want := 0
		for _, n := range count {
			want += max(0, n-k) + max(0, n-(len(items)-k))
		}
		s := run(t, Options{Source: List{"made", items}, Answerer: table}).Scores.Runs[None]
		if got := s.LabelAccuracy * float64(len(items)); math.Abs(got-float64(want)) > 1e-9 {
			t.Errorf("shifted by %d: %g right, expected %d", k, got, want)
		}
	}
}

// What an ablation keeps back is not to be seen: accuracy is at chance without it.
func TestAblations(t *testing.T) {
	items := directions(320)
	s := run(t, Options{Source: List{"made", items}, Answerer: reader{}, Runs: Ablations(), Workers: 4, Seed: 5}).Scores
	if s.Runs[None].LabelAccuracy != 1 {
		t.Errorf("whole run: %g", s.Runs[None].LabelAccuracy)
	}
	for _, a := range []Ablation{Blind, NoPoints, NoVideo, Still} {
		in := s.Runs[a].Intervals.LabelAccuracy
		if !(in.Low <= 0.125 && 0.125 <= in.High) {
			t.Errorf("%s: %+v, chance is 0.125", a, in)
		}
	}
	if s.Runs[WrongPose].LabelAccuracy > 0.05 { // 60° to 300° is never the same eighth
		t.Errorf("wrong poses: %g", s.Runs[WrongPose].LabelAccuracy)
	}
}

// Without the path every frame stands where the last one does; in another order, frames keep their poses and times do not move.
func TestAblationsOfTime(t *testing.T) {
	c := &Clip{Path: []geometry.Transform{{}}}
	for i := range 8 {
		c.Frames = append(c.Frames, Frame{Name: fmt.Sprint(i), Stamp: int64(i), Picture: &imaging.RGB{}, Pose: geometry.Transform{Translation: r3.Vec{X: float64(i)}}})
	}
	still := Still.apply(c, "q", 1)
	for _, f := range still.Frames {
		if f.Picture != nil || f.Pose != c.Frames[7].Pose || still.Path != nil {
			t.Fatalf("still: %+v", f)
		}
	}
	moved := 0
	shuffled := ShuffledFrames.apply(c, "q", 1).Frames
	seen := map[string]bool{}
	for i, f := range shuffled {
		if f.Stamp != int64(i) || fmt.Sprint(f.Pose.Translation.X) != f.Name {
			t.Errorf("place %d has frame %s of time %d at %g m", i, f.Name, f.Stamp, f.Pose.Translation.X)
		}
		if f.Name != fmt.Sprint(i) {
			moved++
		}
		seen[f.Name] = true
	}
	if moved < 2 || len(seen) != 8 || shuffled[7].Name != "7" {
		t.Errorf("%d frames moved, %d are there, the last is %s", moved, len(seen), shuffled[7].Name)
	}
	if c.Frames[3].Name != "3" || c.Path == nil {
		t.Error("the clip itself was changed")
	}
	for _, a := range []Ablation{Still, ShuffledFrames} {
		if got := a.apply(&Clip{}, "q", 1); len(got.Frames) != 0 {
			t.Errorf("%s of no frames: %v", a, got.Frames)
		}
	}
}

func TestParseAblations(t *testing.T) {
	for text, want := range map[string][]Ablation{"": {None}, "none, blind": {None, Blind}, "wrong-pose": {WrongPose}} {
		if got, err := ParseAblations(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"deaf", "none,,blind", "none,none"} {
		if _, err := ParseAblations(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// odd answers in all ways that count as failed.
type odd struct{ Table }

func (o odd) Answer(ctx context.Context, q Query) (Reply, error) {
	switch q.ID {
	case "d000":
		return Reply{}, errors.New("it is on fire")
	case "d001":
		return Reply{Text: " \n"}, nil
	case "d002":
		return Reply{Text: "left\xff"}, nil
	}
	return o.Table.Answer(ctx, q)
}

// Whatever is wrong with an item, it is named, counts as wrong, and the run goes on.
func TestFailedItems(t *testing.T) {
	items := directions(16)
	good := right(items)
	items[3].Open = func(context.Context) (*Clip, error) { return nil, errors.New("frame_7.jpg is missing") }
	items[4].Open = func(context.Context) (*Clip, error) { return &Clip{}, nil }
	items[5].ID = items[6].ID
	items[7].Question = " "
	items[8].Task = "weather"
	items[9].Reference, items[9].Label = "", ""
	items[10].Question = "Where\xff?"
	items[11].Err = errors.New("broken in the list")
	items[12].Open = func(context.Context) (*Clip, error) {
		c := clip(0)
		c.Map = nil
		return c, nil
	}
	items[13].Open = func(context.Context) (*Clip, error) {
		c := clip(0)
		c.Frames[2].Picture = nil
		return c, nil
	}
	var last Progress
	res := run(t, Options{Source: List{"made", items}, Answerer: odd{good}, Runs: []Ablation{None, Blind}, Progress: func(p Progress) { last = p }})
	for _, name := range []Ablation{None, Blind} {
		s := res.Scores.Runs[name]
		if s.Items != 16 || len(s.Failed) != 13 || s.Labelled != 16 || math.Abs(s.LabelAccuracy-2.0/16) > 1e-12 {
			t.Errorf("%s: %d items, %d failed, %d labelled, accuracy %g\n%+v", name, s.Items, len(s.Failed), s.Labelled, s.LabelAccuracy, s.Failed)
		}
		text := fmt.Sprint(s.Failed)
		for _, want := range []string{"d000 of made: it is on fire", "d001 of made: the answer is empty", "not valid UTF-8", "frame_7.jpg is missing", "has no frames",
			"id stands at #5 already", "question is empty", `"weather"`, "neither a reference", "broken in the list", "map has no points", "frame 2 has no picture"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no failure says %q: %s", name, want, text)
			}
		}
	}
	if last.Done != 32 || last.Total != 32 || last.Failed != 26 {
		t.Errorf("progress %+v", last)
	}
}

func TestOptions(t *testing.T) {
	items := directions(40)
	src := List{"made", items}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no folder":   {Options{Source: src, Answerer: reader{}}, "folder"},
		"no items":    {Options{Out: t.TempDir(), Answerer: reader{}}, "items"},
		"no answerer": {Options{Out: t.TempDir(), Source: src}, "answerer"},
		"limit":       {Options{Out: t.TempDir(), Source: src, Answerer: reader{}, Limit: -1}, "limit"},
		"workers":     {Options{Out: t.TempDir(), Source: src, Answerer: reader{}, Workers: -1}, "workers"},
		"run":         {Options{Out: t.TempDir(), Source: src, Answerer: reader{}, Runs: []Ablation{"deaf"}}, "deaf"},
		"no such":     {Options{Out: t.TempDir(), Source: src, Answerer: reader{}, Task: stllm.TaskPlanning}, "none of its 40 items"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Run(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, expected an error with %q", err, c.want)
			}
		})
	}
	a := run(t, Options{Source: src, Answerer: reader{}, Limit: 7, Seed: 1}).Predictions
	b := run(t, Options{Source: src, Answerer: reader{}, Limit: 7, Seed: 1, Workers: 3}).Predictions
	other := run(t, Options{Source: src, Answerer: reader{}, Limit: 7, Seed: 2}).Predictions
	ids := func(list []Prediction) (out []string) {
		for _, p := range list {
			out = append(out, p.ID)
		}
		return out
	}
	if len(a) != 7 || !slices.Equal(ids(a), ids(b)) || slices.Equal(ids(a), ids(other)) || !slices.IsSorted(ids(a)) {
		t.Errorf("draws %v, %v and, by another seed, %v", ids(a), ids(b), ids(other))
	}
}

// A folder is not mixed with another evaluation's; further runs may be added, and failures are tried again.
func TestFolderOfAnother(t *testing.T) {
	items := directions(8)
	src, out := List{"made", items}, t.TempDir()
	partial := right(items)
	delete(partial.Answers, "d003")
	if s := run(t, Options{Out: out, Source: src, Answerer: partial}).Scores; len(s.Runs[None].Failed) != 1 {
		t.Fatalf("%+v", s.Runs[None])
	}
	asked := 0
	count := func(p Progress) { asked = max(asked, p.Total-p.Done) }
	s := run(t, Options{Out: out, Source: src, Answerer: right(items), Runs: []Ablation{None, Blind}, Progress: count}).Scores
	if s.Runs[None].LabelAccuracy != 1 || s.Runs[Blind] == nil || asked != 9 {
		t.Errorf("%d answers were asked for, expected 1 that failed and 8 of the blind run: %+v", asked, s)
	}
	for name, o := range map[string]Options{
		"answerer": {Source: src, Answerer: reader{}},
		"seed":     {Source: src, Answerer: right(items), Seed: 9},
		"content":  {Source: List{"made", directions(7)}, Answerer: right(items)},
	} {
		o.Out = out
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "another evaluation") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIncompleteRunIsNotScored(t *testing.T) {
	items := directions(8)
	out := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, Options{Out: out, Source: List{"made", items}, Answerer: right(items), Runs: []Ablation{None, Blind}, Progress: func(p Progress) {
		if p.Done == 5 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	res, err := Score(t.Context(), out, metrics.Scorer{})
	if err != nil || len(res.Scores.Runs) != 0 || res.Scores.Incomplete[None] != 3 || res.Scores.Incomplete[Blind] != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestCompare(t *testing.T) {
	items := directions(160)
	src := List{"made", items}
	a, b := t.TempDir(), t.TempDir()
	worse := right(items)
	worse.Name = "worse"
	for i := range 40 {
		worse.Answers[items[i].ID] = items[i+1].Reference
	}
	run(t, Options{Out: a, Source: src, Answerer: worse})
	run(t, Options{Out: b, Source: src, Answerer: right(items)})
	c, err := Compare(a, b, None, 1)
	if err != nil {
		t.Fatal(err)
	}
	if c.Items != 160 || c.Label.A != 0.75 || c.Label.B != 1 || c.Label.OnlyB != 40 || c.Label.OnlyA != 0 || c.Label.P > 0.01 ||
		math.Abs(c.Label.Difference.Mean-0.25) > 1e-12 || c.Label.Difference.Low <= 0 || c.Metrics["rouge_l"].P > 0.01 {
		t.Errorf("%+v", c)
	}
	if text := c.String(); !strings.Contains(text, "relative_direction") || !strings.Contains(text, "+0.2500") {
		t.Error(text)
	}
	if c, err = Compare(b, b, None, 1); err != nil || c.Label.P != 1 {
		t.Errorf("a run against itself: %+v, %v", c, err)
	}
	if _, err := Compare(a, b, Blind, 1); err == nil {
		t.Error("a run that neither has was compared")
	}
	if _, err := Compare(a, t.TempDir(), None, 1); err == nil {
		t.Error("an empty folder was compared")
	}
}

// A disk without room ends the evaluation: it says nothing about the item at hand nor about those that follow, which are asked
// about when the run goes on. Other errors are the item's own.
func TestFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		ends bool
	}{
		"full":    {fmt.Errorf("write bag: %w", &os.PathError{Op: "write", Path: "k1.bag", Err: syscall.ENOSPC}), true},
		"quota":   {syscall.EDQUOT, true},
		"missing": {os.ErrNotExist, false},
	} {
		items, out := directions(6), t.TempDir()
		items[3].Open = func(context.Context) (*Clip, error) { return nil, c.err }
		o := Options{Out: out, Source: List{"made", items}, Answerer: right(items)}
		res, err := Run(t.Context(), o)
		if !c.ends {
			if err != nil || len(res.Predictions) != 6 || res.Predictions[3].Error == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%s: %v", name, err)
		}
		all, _, err := ReadPredictions(filepath.Join(out, PredictionsFile))
		if err != nil || len(all) > 3 {
			t.Errorf("%s: %d predictions, %v", name, len(all), err)
		}
		for _, p := range all {
			if p.Error != "" {
				t.Errorf("%s: item %s is recorded as failed: %s", name, p.ID, p.Error)
			}
		}
		items[3].Open = items[2].Open
		if res, err = Run(t.Context(), o); err != nil || len(res.Predictions) != 6 || len(res.Scores.Runs[None].Failed) != 0 {
			t.Errorf("%s, with room again: %v", name, err)
		}
	}
}

// The table has the guessers, or says why not.
func TestGuessersInTable(t *testing.T) {
	for _, c := range []struct {
		items int
		want  string
	}{{minGuessed, "guess by words"}, {minGuessed - 1, "no guessers: they learn from at least 50 items with a label, here are 49"}} {
		items := directions(c.items)
		res := run(t, Options{Source: List{"made", items}, Answerer: right(items)})
		if text := res.Scores.String(); !strings.Contains(text, c.want) || strings.Contains(text, "no guessers") != (res.Scores.Guessers == nil) {
			t.Errorf("%d items:\n%s", c.items, text)
		}
	}
}
