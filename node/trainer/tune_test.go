package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/nano"
)

// tunedItems are questions about one kitchen.
func tunedItems(t testing.TB) []TuneItem {
	t.Helper()
	sample, err := kitchen.NewSample(3, kitchen.SampleOptions{Frames: 4, Windows: 2, Questions: 6, Supersample: 1})
	if err != nil {
		t.Fatal(err)
	}
	k := [9]float64{sample.View.FX, 0, sample.View.CX, 0, sample.View.FY, sample.View.CY, 0, 0, 1}
	var out []TuneItem
	for _, w := range sample.Windows {
		shown := &Shown{Map: sample.Cloud}
		for _, f := range w.Frames {
			fr := sample.Frames[f]
			shown.Frames = append(shown.Frames, ShownFrame{
				Frame:   stllm.Frame{Stamp: fr.Stamp, Pose: fr.Pose, K: k, Width: sample.View.Width, Height: sample.View.Height},
				Picture: &imaging.RGB{Width: sample.View.Width, Height: sample.View.Height, Pix: fr.RGB}})
		}
		for _, q := range w.Questions {
			out = append(out, TuneItem{ID: fmt.Sprint(len(out)), Question: q.Text, Answer: q.Answer, Open: func(context.Context) (*Shown, error) { return shown, nil }})
		}
	}
	if len(out) < 4 {
		t.Fatalf("%d items", len(out))
	}
	return out
}

// tune makes a tiny published model and the options of a fine-tune of it.
func tune(t testing.TB) TuneOptions {
	t.Helper()
	orttest.Environment(t)
	dir := filepath.Join(t.TempDir(), "published")
	if err := nano.Init(t.Context(), dir, nano.Options{Config: "published-tiny", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	return TuneOptions{Init: dir, Items: tunedItems(t), Threads: 1, Steps: 6, Micro: 2, Rate: 2e-3, FeatureBytes: 1 << 30}
}

func runTune(t *testing.T, ctx context.Context, o TuneOptions, out string) error {
	t.Helper()
	o.Out = out
	tuner, err := NewTuner(ctx, orttest.Environment(t), o)
	if err != nil {
		return err
	}
	return errors.Join(tuner.Run(ctx), tuner.Close())
}

func curveOf(t *testing.T, out string) []Point {
	t.Helper()
	log, err := ReadLog(filepath.Join(out, "train.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// rawWeights are the bytes of a model's tensors.
func rawWeights(t *testing.T, dir string) map[string]*checkpoint.Tensor {
	t.Helper()
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]*checkpoint.Tensor{}
	for _, x := range f.Tensors {
		y := *x
		y.Data = slices.Clone(x.Data)
		out[x.Name] = &y
	}
	return out
}

// A fine-tune learns, changes what the paper trains and nothing else, and gives a model that answers.
func TestTune(t *testing.T) {
	o := tune(t)
	o.Steps, o.HeldOut = 24, 1
	out := filepath.Join(t.TempDir(), "out")
	if err := runTune(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	log := curveOf(t, out)
	if len(log) != o.Steps {
		t.Fatalf("%d lines in the log, expected one for each of %d steps", len(log), o.Steps)
	}
	mean := func(list []Point) (sum float64) {
		for _, p := range list {
			sum += p.Loss / float64(len(list))
		}
		return sum
	}
	first, last := mean(log[:5]), mean(log[len(log)-5:])
	if last > first-0.3 {
		t.Errorf("the loss went from %.3f to %.3f", first, last)
	}
	if f := log[len(log)-1].Figures; !(f["tokens"] > 0) || !(f["held_out_loss"] > 0) {
		t.Errorf("figures of the last step: %v", f)
	}
	before, after := rawWeights(t, o.Init), rawWeights(t, filepath.Join(out, "model"))
	if len(before) != len(after) {
		t.Errorf("%d tensors became %d", len(before), len(after))
	}
	changed := 0
	for name, b := range before {
		a := after[name]
		if a == nil {
			t.Errorf("%s is lost", name)
			continue
		}
		trained := hasPrefix(name, []string{"model.mm_projector.", "pcd_ray_encoder.", "img_ray_encoder.", "latent_query.", "img_encoder_to_qformer_projection.",
			"text_embed_to_qformer_projection.", "qformer_to_language_projection.", "qformer.embeddings.layernorm."}) ||
			strings.HasPrefix(name, "qformer.encoder.") && !strings.Contains(name, ".intermediate.") && (!strings.Contains(name, ".output.") || strings.Contains(name, "attention."))
		if same := a.DType == b.DType && bytes.Equal(a.Data, b.Data); same == trained {
			t.Errorf("%s: the same bytes is %v, trained is %v", name, same, trained)
		}
		if trained {
			changed++
		}
	}
	if changed < 50 {
		t.Errorf("%d tensors were trained", changed)
	}
	tunedAnswers(t, filepath.Join(out, "model"), o.Items[0])
}

// tunedAnswers loads a model and has it answer an item.
func tunedAnswers(t *testing.T, dir string, it TuneItem) {
	t.Helper()
	n, err := stllm.Load(t.Context(), orttest.Environment(t), dir, stllm.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.ID() != "published-tiny-untrained-tuned" {
		t.Errorf("the model calls itself %q", n.ID())
	}
	shown, err := it.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.EncodeMap(t.Context(), shown.Map)
	if err != nil {
		t.Fatal(err)
	}
	req := stllm.Request{Question: it.Question, Map: m, Decoding: stllm.Decoding{MaxNewTokens: 5}}
	for _, f := range shown.Frames {
		if f.Features, err = n.EncodeFrame(t.Context(), f.Picture); err != nil {
			t.Fatal(err)
		}
		req.Frames = append(req.Frames, f.Frame)
	}
	if a, err := n.Answer(t.Context(), req, nil); err != nil || a.NewTokens == 0 {
		t.Errorf("answer %q of %d tokens: %v", a.Text, a.NewTokens, err)
	}
}

// A run that is broken off after any step and begun again comes to the same losses and the same bytes as one that was not, with
// and without kept features.
func TestTuneResumes(t *testing.T) {
	o := tune(t)
	whole, broken := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "broken")
	if err := runTune(t, t.Context(), o, whole); err != nil {
		t.Fatal(err)
	}
	o.SaveEvery, o.FeatureBytes = time.Nanosecond, 0
	stopped := 0
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		o.saved = func(_ string, done int) {
			if done == 1 || done == 4 {
				cancel()
			}
		}
		err := runTune(t, ctx, o, broken)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stopped++
	}
	if stopped < 2 {
		t.Errorf("the run was broken off %d times", stopped)
	}
	a, b := curveOf(t, whole), curveOf(t, broken)
	for _, p := range a {
		if i := slices.IndexFunc(b, func(q Point) bool { return q.Step == p.Step && math.Abs(q.Loss-p.Loss) <= 1e-6 }); i < 0 {
			t.Errorf("step %d has the loss %v in one run and not in the other", p.Step, p.Loss)
		}
	}
	x, y := rawWeights(t, filepath.Join(whole, "model")), rawWeights(t, filepath.Join(broken, "model"))
	for name := range x {
		if !bytes.Equal(x[name].Data, y[name].Data) {
			t.Errorf("%s differs", name)
		}
	}
	for _, file := range []string{"curve.png", "train.jsonl", "recipe.json", "state.json"} {
		if st, err := os.Stat(filepath.Join(broken, file)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	// The same folder with other settings is another run, and a finished run is finished.
	if err := runTune(t, t.Context(), o, whole); err != nil {
		t.Errorf("a finished run: %v", err)
	}
	for name, change := range map[string]func(o *TuneOptions){
		"rate": func(o *TuneOptions) { o.Rate = 1e-3 }, "items": func(o *TuneOptions) { o.Items = o.Items[1:] },
		"freeze": func(o *TuneOptions) { o.Freeze = []string{paper, "latent_query."} },
	} {
		other := o
		change(&other)
		if err := runTune(t, t.Context(), other, whole); err == nil || !strings.Contains(err.Error(), "recipe.json") {
			t.Errorf("another %s in the same folder: %v", name, err)
		}
	}
}

// What is half written is not taken: a copy of the weights that was broken off is made again, a damaged feature too, and the state
// before a broken save is gone on from.
func TestTuneAfterKill(t *testing.T) {
	o := tune(t)
	o.Steps = 3
	out := filepath.Join(t.TempDir(), "out")
	if err := os.MkdirAll(filepath.Join(out, "model.partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "model.partial", "config.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	o.SaveEvery = time.Nanosecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.saved = func(_ string, done int) {
		if done == 2 {
			cancel()
		}
	}
	if err := runTune(t, ctx, o, out); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "model.partial")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half copy is still there: %v", err)
	}
	// Killed in the next save: the folder that the state does not name is half written, and the model as well.
	data, err := os.ReadFile(filepath.Join(out, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	next := "state-a"
	if strings.Contains(string(data), next) {
		next = "state-b"
	}
	if err := os.MkdirAll(filepath.Join(out, next), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(next, "model.safetensors"), filepath.Join(next, "model.safetensors.partial"), filepath.Join("model", trainedShard+".partial")} {
		if err := os.WriteFile(filepath.Join(out, file), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := filepath.Glob(filepath.Join(out, "features", "*"+featureEnding))
	if err != nil || len(kept) < 2 {
		t.Fatalf("kept features: %v %v", kept, err)
	}
	if err := os.WriteFile(kept[0], []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	o.saved = nil
	// A save that fails, as on a full disk, stops the run; what was there stays and is gone on from.
	if err := os.Rename(filepath.Join(out, next), filepath.Join(out, "aside")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, next), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := runTune(t, t.Context(), o, out); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("a save that fails: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(out, "state.json")); err != nil || !bytes.Equal(now, data) {
		t.Errorf("the state is %s, it was %s: %v", now, data, err)
	}
	if err := errors.Join(os.Remove(filepath.Join(out, next)), os.Rename(filepath.Join(out, "aside"), filepath.Join(out, next))); err != nil {
		t.Fatal(err)
	}
	if err := runTune(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	if log := curveOf(t, out); log[len(log)-1].Step != 3 {
		t.Errorf("the log ends with %+v", log[len(log)-1])
	}
}

// The language model can be trained as well, layer by layer.
func TestTuneLanguage(t *testing.T) {
	o := tune(t)
	o.Steps, o.Freeze = 2, []string{"qformer.encoder.layer.0.", "model.layers.1.", "*.bias"}
	out := filepath.Join(t.TempDir(), "out")
	if err := runTune(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	before, after := rawWeights(t, o.Init), rawWeights(t, filepath.Join(out, "model"))
	for name, trained := range map[string]bool{
		"model.layers.0.mlp.up_proj.weight": true, "model.layers.1.mlp.up_proj.weight": false, "model.layers.2.self_attn.q_proj.weight": true,
		"model.layers.2.self_attn.q_proj.bias": false, "model.norm.weight": true, "lm_head.weight": true, "model.embed_tokens.weight": false,
		"model.image_newline": true, "qformer.encoder.layer.0.attention.attention.query.weight": false, "latent_query.weight": true,
	} {
		if same := after[name].DType == before[name].DType && bytes.Equal(before[name].Data, after[name].Data); same == trained {
			t.Errorf("%s: the same bytes is %v, trained is %v", name, same, trained)
		}
	}
}

// What cannot be trained is said before anything is made.
func TestTuneRefuses(t *testing.T) {
	o := tune(t)
	small := filepath.Join(t.TempDir(), "nano")
	if err := nano.Write(small); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "half")
	if err := os.CopyFS(half, os.DirFS(o.Init)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(half, "model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(o *TuneOptions){
		"profile robot":           func(o *TuneOptions) { o.Init = small },
		"truncated":               func(o *TuneOptions) { o.Init = half },
		"no items":                func(o *TuneOptions) { o.Items = nil },
		"no answer":               func(o *TuneOptions) { o.Items = []TuneItem{{ID: "7", Question: "Where?"}} },
		"names no weight":         func(o *TuneOptions) { o.Freeze = []string{"qfromer."} },
		"leaves nothing to train": func(o *TuneOptions) { o.Freeze = []string{paper, "*"} },
		"held out":                func(o *TuneOptions) { o.HeldOut = 100 },
		"no model folder":         func(o *TuneOptions) { o.Init = "" },
	} {
		bad := o
		change(&bad)
		out := filepath.Join(t.TempDir(), "out")
		if err := runTune(t, t.Context(), bad, out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(filepath.Join(out, "model")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a model was made", want)
		}
	}
}

// Broken items are named once with their reason and left out; the others are trained on.
func TestTuneBrokenItems(t *testing.T) {
	o := tune(t)
	good := o.Items[:2]
	empty := &Shown{}
	long := good[0]
	long.ID, long.Question = "long", strings.Repeat("where is it ", 3000)
	blank := good[0]
	blank.ID, blank.Answer = "blank", " "
	o.Items = append(slices.Clone(good), blank, long, TuneItem{ID: "list", Err: errors.New("field K is missing")},
		TuneItem{ID: "gone", Question: "q", Answer: "a", Open: func(context.Context) (*Shown, error) { return nil, os.ErrNotExist }},
		TuneItem{ID: "empty", Question: "q", Answer: "a", Open: func(context.Context) (*Shown, error) { return empty, nil }},
		TuneItem{ID: good[0].ID, Err: errors.New("its id stands at #0 already")})
	named := map[string]string{}
	o.Broken = func(id string, err error) { named[id] += err.Error() }
	o.Workers = 1
	if err := runTune(t, t.Context(), o, filepath.Join(t.TempDir(), "out")); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"blank": "no answer", "long": "tokens", "list": "field K", "gone": "not exist", "empty": "no map", good[0].ID: "already"} {
		if !strings.Contains(named[id], want) || strings.Count(named[id], want) != 1 {
			t.Errorf("item %s: %q, expected %q once", id, named[id], want)
		}
	}
	o.Items = o.Items[2:]
	if err := runTune(t, t.Context(), o, filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none of the") {
		t.Errorf("no good item: %v", err)
	}
}
