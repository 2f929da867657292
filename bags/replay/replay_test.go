package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/testdata"
)

// echo is a model that says what it was shown, so that two runs can be compared to the last bit.
type echo struct{}

type bytesOf int

func (b bytesOf) Bytes() int  { return int(b) }
func (b bytesOf) Voxels() int { return int(b) }

func (echo) ID() string  { return "echo" }
func (echo) Frames() int { return 8 }
func (echo) EncodeFrame(_ context.Context, img *imaging.RGB) (stllm.FrameFeatures, error) {
	return bytesOf(img.Pix[len(img.Pix)/2]), nil
}
func (echo) EncodeMap(_ context.Context, c *scene.Cloud) (stllm.MapFeatures, error) {
	return bytesOf(c.Len()), nil
}
func (echo) Answer(_ context.Context, req stllm.Request, emit func(stllm.Progress)) (stllm.Answer, error) {
	text := fmt.Sprintf("%d frames, map of %d", len(req.Frames), req.Map.Voxels())
	for _, f := range req.Frames {
		text += fmt.Sprintf("; %d %.6f %d", f.Stamp, f.Pose.Translation.X, f.Features.Bytes())
	}
	emit(stllm.Progress{Stage: stllm.StageDecode, Tokens: 1, Delta: text})
	return stllm.Answer{Text: text, Finish: stllm.FinishStop, PromptTokens: 1, NewTokens: 1}, nil
}
func (echo) Close() error { return nil }

func seconds(v float64) *float64 { return &v }

func questions() []Question {
	return []Question{{ID: "late", Text: "and at the end?", At: seconds(1e6)}, {ID: "early", Text: "where?", At: seconds(1.2)}, {ID: "first", Text: "anything yet?", At: seconds(0)}}
}

func play(t *testing.T, out string, rate float64, bags ...string) *Result {
	t.Helper()
	res, err := Run(t.Context(), Options{Bags: bags, Questions: questions(), Out: out, Rate: rate, Model: echo{}, Params: params.Default()})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func made(t *testing.T, ending string) string {
	t.Helper()
	k, err := kitchen.Generate(kitchen.Options{Seed: 5, Seconds: 2.5, Width: 96, Height: 72})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k"+ending)
	if err := kitchen.Write(t.Context(), k, path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// The same bag gives the same bytes at any rate, from .bag and from .mcap.
func TestSameAnswersAtAnyRate(t *testing.T) {
	bag := made(t, ".bag")
	fast, slow, other := t.TempDir(), t.TempDir(), t.TempDir()
	play(t, fast, 0, bag)
	play(t, slow, 3, bag)
	play(t, other, 0, made(t, ".mcap"))
	for _, name := range []string{"answers.jsonl", "frames.jsonl", "dropped.jsonl", "window-early.png"} {
		if !bytes.Equal(read(t, fast, name), read(t, slow, name)) {
			t.Errorf("%s differs between rates", name)
		}
		if !bytes.Equal(read(t, fast, name), read(t, other, name)) {
			t.Errorf("%s differs between .bag and .mcap", name)
		}
	}
	if _, err := png.Decode(bytes.NewReader(read(t, fast, "window-late.png"))); err != nil {
		t.Error(err)
	}
}

// Poses in frames.jsonl are those that the kitchen was rendered from.
func TestPosesOfAMadeKitchen(t *testing.T) {
	bag, out := made(t, ".bag"), t.TempDir()
	res := play(t, out, 0, bag)
	k, err := kitchen.Generate(kitchen.Options{Seed: 5, Seconds: 2.5, Width: 96, Height: 72})
	if err != nil {
		t.Fatal(err)
	}
	frames := poses(t, out)
	if len(frames) == 0 || len(frames) != int(res.Status.Frames) {
		t.Fatalf("%d frames written, %d in the window's count", len(frames), res.Status.Frames)
	}
	first := frames[0].Stamp - int64(frames[0].Seq)*1e8
	for _, f := range frames {
		near(t, f, k.Camera(float64(f.Stamp-first)/1e9), 0.005, 0.2)
	}
}

type framesLine struct {
	Seq   uint64      `json:"seq"`
	Stamp int64       `json:"stamp_ns"`
	Pose  [16]float64 `json:"pose"`
}

func poses(t *testing.T, out string) (list []framesLine) {
	t.Helper()
	for line := range strings.Lines(string(read(t, out, "frames.jsonl"))) {
		var f framesLine
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func near(t *testing.T, f framesLine, want geometry.Transform, metres, degrees float64) {
	t.Helper()
	got, err := geometry.FromMatrix(f.Pose)
	if err != nil {
		t.Fatal(err)
	}
	if d := r3.Norm(r3.Sub(got.Translation, want.Translation)); d > metres {
		t.Errorf("frame %d: place off by %.1f mm", f.Seq, 1000*d)
	}
	if a := geometry.Angle(got, want) * 180 / math.Pi; a > degrees {
		t.Errorf("frame %d: turn off by %.2f°", f.Seq, a)
	}
}

// The real kitchen: every frame with TF on both sides agrees with its true pose; no frame is silently missing.
func TestRealKitchen(t *testing.T) {
	bag := testdata.Data(t, "kitchen_a.bag")
	var truth []struct {
		Stamp   float64
		Optical [4][4]float64 `json:"optical_in_map"`
	}
	testdata.JSON(t, testdata.Data(t, "kitchen_a.poses.json"), &truth)
	out := t.TempDir()
	res := play(t, out, 0, bag)
	dropped := bytes.Count(read(t, out, "dropped.jsonl"), []byte("\n"))
	frames := poses(t, out)
	if len(frames)+dropped != res.Images || res.Images != len(truth) {
		t.Errorf("%d frames and %d dropped of %d images, %d poses", len(frames), dropped, res.Images, len(truth))
	}
	if len(frames) < len(truth)-2 {
		t.Errorf("only %d of %d frames have a pose", len(frames), len(truth))
	}
	for _, f := range frames {
		var m [16]float64
		for i, row := range truth[f.Seq].Optical {
			copy(m[4*i:], row[:])
		}
		want, err := geometry.FromMatrix(m)
		if err != nil {
			t.Fatal(err)
		}
		near(t, f, want, 0.005, 0.2)
	}
	for _, a := range res.Answers {
		want := uint16(msgs.AnswerErrorNone)
		if a.Question.ID == "first" {
			want = msgs.AnswerErrorEmptyWindow
		}
		if a.Outcome.Answer.ErrorCode != want && a.Question.ID != "first" {
			t.Errorf("%s: error %d: %s", a.Question.ID, a.Outcome.Answer.ErrorCode, a.Outcome.Answer.ErrorMessage)
		}
	}
}

// Odd bags: nothing is lost without a word, nothing panics.
func TestOddBags(t *testing.T) {
	dir := testdata.Data(t, "odd")
	for _, name := range []string{"plain.bag", "bz2.bag", "lz4.bag", "truncated.bag", "unindexed.bag", "active.bag", "gap.bag", "loop.bag",
		"zstd.mcap", "lz4.mcap", "truncated.mcap", "old_db3", "split_db3", "file_zstd_db3", "message_zstd_db3"} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			res := play(t, out, 0, filepath.Join(dir, name))
			if n := len(poses(t, out)) + bytes.Count(read(t, out, "dropped.jsonl"), []byte("\n")); n != res.Images || n == 0 {
				t.Errorf("%d lines for %d images", n, res.Images)
			}
			if strings.HasPrefix(name, "truncated") && len(res.Warnings) == 0 {
				t.Error("damage without a warning")
			}
			if len(res.Answers) != 3 {
				t.Errorf("%d answers", len(res.Answers))
			}
		})
	}
}

func TestQuestionsFile(t *testing.T) {
	good := "- id: a\n  at: 1.5\n  text: where?\n- id: b\n  stamp: 1600000000\n  text: when?\n  task: find_my_item\n  metadata: {x: 1}\n"
	qs, err := ParseQuestions([]byte(good))
	if err != nil || len(qs) != 2 || qs[1].moment(0) != 1600000000e9 || qs[0].moment(10) != 10+15e8 {
		t.Errorf("%+v, %v", qs, err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":      {"", "empty"},
		"no list":    {"id: a", "list"},
		"no id":      {"- text: x\n  at: 1", "id"},
		"both times": {"- {id: a, text: x, at: 1, stamp: 2}", "either"},
		"negative":   {"- {id: a, text: x, at: -1}", "at is"},
		"typo":       {"- id: a\n  at: 1\n  txet: x", "txet"},
		"twice":      {"- {id: a, at: 1, text: x}\n- {id: a, at: 2, text: y}", "line 2"},
		"task":       {"- {id: a, at: 1, text: x, task: dance}", "dance"},
		"path":       {"- {id: ../a, at: 1, text: x}", "file name"},
		"broken":     {"- {id: a", ""},
		"not a time": {"- id: a\n  at: soon\n  text: x", "question in line 1: line 2: at is not a number"},
		"a list":     {"- {id: a, at: 1, text: [x]}", "line 1: text is not a text"},
		"choices":    {"- {id: a, at: 1, text: x, choices: y}", "choices is not a list"},
		"metadata":   {"- {id: a, at: 1, text: x, metadata: y}", "metadata is not a mapping"},
		"deep":       {"- id: a\n  metadata: " + strings.Repeat("[", 100_000), "line 2: nested"},
		"no mapping": {"- a", "the question is not a mapping"},
	} {
		if _, err := ParseQuestions([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected a word on %q", name, err, tc.want)
		}
	}
}

func FuzzQuestions(f *testing.F) {
	for _, s := range []string{"- {id: a, at: 1, text: x}", "- id: a\n  stamp: 1\n  text: |\n    x\n  choices: [a, b]\n  metadata: {x: [1, {y: z}]}", "- !0 #", "- &a {id: *a}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = ParseQuestions(data) })
}

func TestRefusals(t *testing.T) {
	bag := made(t, ".bag")
	p := params.Default()
	p.ImageTopic = "/nowhere"
	for name, o := range map[string]Options{
		"no bag":   {},
		"missing":  {Bags: []string{"/nowhere.bag"}},
		"rate":     {Bags: []string{bag}, Rate: -1},
		"topic":    {Bags: []string{bag}, Params: p},
		"bad file": {Bags: []string{bag}, Out: filepath.Join(bag, "x"), Params: params.Default()},
	} {
		o.Model = echo{}
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Bags: []string{bag}, Model: echo{}, Params: params.Default()}); err == nil {
		t.Error("a cancelled replay ended well")
	}
}

// A question beyond the bag is asked at its end with a warning, or refused where the replay is brief; which then ends with the
// last answer.
func TestMoments(t *testing.T) {
	bag := made(t, ".bag")
	for name, c := range map[string]struct {
		q     Question
		brief bool
		fail  string
		warn  bool
		whole bool // the bag is read to its end
	}{
		"early":             {Question{At: seconds(1.2)}, false, "", false, true},
		"early, brief":      {Question{At: seconds(1.2)}, true, "", false, false},
		"at the end, brief": {Question{End: true}, true, "", false, true},
		"late":              {Question{At: seconds(800)}, false, "", true, true},
		"late, brief":       {Question{At: seconds(800)}, true, "800.0 s, the bag ends after", false, false},
	} {
		c.q.ID, c.q.Text = "q", "where?"
		var log bytes.Buffer
		res, err := Run(t.Context(), Options{Bags: []string{bag}, Questions: []Question{c.q}, Brief: c.brief, Model: echo{}, Params: params.Default(), Log: zerolog.New(&log)})
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s: %v, expected a word on %q", name, err, c.fail)
			}
			continue
		}
		if err != nil || len(res.Answers) != 1 || res.Answers[0].Outcome.Answer.ErrorCode != msgs.AnswerErrorNone {
			t.Errorf("%s: %+v, %v", name, res, err)
			continue
		}
		if warned := strings.Contains(log.String(), "it is asked at the end"); warned != c.warn {
			t.Errorf("%s: the log is %s", name, log.String())
		}
		if whole := res.Images > 20; whole != c.whole {
			t.Errorf("%s: %d images were read", name, res.Images)
		}
	}
}

// The names in a line of answers.jsonl are all of one kind.
func TestAnswerLine(t *testing.T) {
	a := Answered{Question{ID: "q"}, &robot.Outcome{Answer: &msgs.Answer{Plan: []msgs.PlanStep{{Text: "go", Parsed: true, Verb: "go", Object: "o", Target: "t", Direction: "left"}},
		FrameEvidence: []msgs.FrameEvidence{{StampNs: 5, Weight: 0.5}}, RegionEvidence: []msgs.RegionEvidence{{Position: msgs.Point{X: 1, Y: 2, Z: 3}, Radius: 4, Weight: 0.25}}}}}
	data, err := json.Marshal(lineOf(a))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"frame_evidence":[{"stamp_ns":5,"weight":0.5}]`, `"region_evidence":[{"position":[1,2,3],"radius":4,"weight":0.25}]`,
		`"plan":[{"text":"go","parsed":true,"verb":"go","object":"o","target":"t","direction":"left"}]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s\nlacks %s", data, want)
		}
	}
}
