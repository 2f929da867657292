package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/tokenizer"
	"github.com/stllm/stllm/node/trainer/weights"
)

// StageTune is the one stage of a fine-tune of the published profile, which is no stage of a [Trainer].
const StageTune = "tune"

// TuneOptions of a fine-tune of a model of the published profile. What is 0 is as published.
type TuneOptions struct {
	Init         string // model folder to start from; where Out has a model already, it must be the one that it was begun from, or empty
	PointWeights string // file of the point encoder where it lies outside of Init
	Out          string // result: OUT/model, train.jsonl, curve.png and the state to go on from
	Items        []TuneItem
	HeldOut      int      // items to measure on and not to train on
	Freeze       []string // see tunable; nil: as the paper
	Steps        int      // default: one epoch
	Micro        int      // items of a step; default 8
	Rate         float64  // highest learning rate; default 1e-4
	Seed         uint64   // of the order of items; default 1
	Threads      int      // 0: all cores
	Device       string   // "cpu" (default), "cuda", "cuda:1"
	Workers      int      // that read items ahead; default 1
	SaveEvery    time.Duration
	FeatureBytes int64 // of frozen features kept in OUT/features; 0: none

	Progress func(Point)
	Step     func(stage string, done, steps int) // after every step
	Copy     func(done, total int64)             // of the frozen weights, bytes
	Broken   func(id string, err error)          // an item that is left out, once; may be called from several goroutines

	saved func(stage string, done int) // for tests
}

// TuneRecipe is everything that decides a fine-tune.
type TuneRecipe struct {
	Seed     uint64   `json:"seed"`
	Items    string   `json:"items"` // hash of ids, questions and answers
	Count    int      `json:"count"`
	HeldOut  int      `json:"held_out"`
	Steps    int      `json:"steps"`
	Micro    int      `json:"micro"`
	Schedule Schedule `json:"schedule"`
	Decay    float64  `json:"decay"`
	Clip     float64  `json:"clip"`
	Freeze   []string `json:"freeze"`
}

// Tuner fine-tunes a model of the published profile on items, as the paper does: vision tower, point encoder and language model
// frozen; projector, Q-Former and ray encoders trained by cross-entropy on the answers.
type Tuner struct {
	keeper
	opt    TuneOptions
	env    *ort.Environment
	recipe TuneRecipe
	cfg    *config.Config
	folder *checkpoint.Folder
	table  *checkpoint.Tensor // token embeddings
	text   *prompt.Builder
	w      *weights.Set // what is trained
	frozen *stllm.Frozen
	cache  *featureCache
	train  []TuneItem
	test   []TuneItem

	mu     sync.Mutex
	broken map[int]error // by place in the list
}

// NewTuner opens or begins a fine-tune.
func NewTuner(ctx context.Context, env *ort.Environment, o TuneOptions) (_ *Tuner, err error) {
	o.defaults()
	t := &Tuner{opt: o, env: env, keeper: newKeeper(o.Out), broken: map[int]error{}}
	if err := t.items(); err != nil {
		return nil, err
	}
	model := t.modelDir()
	if _, statErr := os.Stat(filepath.Join(model, "config.json")); errors.Is(statErr, os.ErrNotExist) {
		if o.Init == "" {
			return nil, errors.New("no model folder is named to start from")
		}
		if err := ort.CheckDevice(env, o.Device); err != nil {
			return nil, err
		}
		if err := t.begun(o.Init); err != nil {
			return nil, fmt.Errorf("begin training from %s: %w", o.Init, err)
		}
		if err := beginTuned(ctx, o.Init, o.PointWeights, model, o.Freeze, o.Copy); err != nil {
			return nil, fmt.Errorf("begin training from %s: %w", o.Init, err)
		}
	} else if err := t.sameOrigin(o.Init); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	return t, t.open(ctx)
}

func (o *TuneOptions) defaults() {
	if o.SaveEvery == 0 {
		o.SaveEvery = 3 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Point) {}
	}
	if o.Broken == nil {
		o.Broken = func(string, error) {}
	}
	if o.Micro == 0 {
		o.Micro = 8
	}
	if o.Rate == 0 {
		o.Rate = 1e-4
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Freeze == nil {
		o.Freeze = []string{paper}
	}
}

// items sorts out what is broken, keeps some to measure on, and writes the recipe.
func (t *Tuner) items() error {
	o := &t.opt
	if o.Micro < 1 || o.Steps < 0 || !(o.Rate > 0) || o.HeldOut < 0 {
		return fmt.Errorf("%d steps of %d items at a rate of %v, measured on %d: expected a positive rate, at least one item a step and no negative numbers", o.Steps, o.Micro, o.Rate, o.HeldOut)
	}
	var good []TuneItem
	h := sha256.New()
	var first error
	for i, it := range o.Items {
		it.n = i
		if err := it.check(); err != nil {
			t.leaveOut(it, err)
			if first == nil {
				first = err
			}
			continue
		}
		fmt.Fprintf(h, "%q %q %q\n", it.ID, it.Question, it.Answer)
		good = append(good, it)
	}
	if len(good) == 0 {
		if first != nil {
			return fmt.Errorf("none of the %d items can be trained on; the first: %w", len(o.Items), first)
		}
		return errors.New("there are no items to train on")
	}
	if o.HeldOut >= len(good) {
		return fmt.Errorf("%d of %d items are to be held out: none is left to train on", o.HeldOut, len(good))
	}
	for i, k := range rand.New(rand.NewPCG(o.Seed, 0)).Perm(len(good)) {
		if i < o.HeldOut {
			t.test = append(t.test, good[k])
		} else {
			t.train = append(t.train, good[k])
		}
	}
	if o.Steps == 0 {
		o.Steps = (len(t.train) + o.Micro - 1) / o.Micro
	}
	// As published (train scripts of the authors' repository): cosine, 3 % warm-up, no decay; Hugging Face's trainer clips at 1.
	t.recipe = TuneRecipe{Seed: o.Seed, Items: hex.EncodeToString(h.Sum(nil)[:16]), Count: len(good), HeldOut: o.HeldOut, Steps: o.Steps, Micro: o.Micro,
		Schedule: Schedule{Peak: o.Rate, WarmUp: 0.03, Cosine: true}, Clip: 1, Freeze: o.Freeze}
	return nil
}

func (t *Tuner) modelDir() string { return filepath.Join(t.opt.Out, "model") }

func (t *Tuner) open(ctx context.Context) (err error) {
	model := t.modelDir()
	if t.cfg, err = config.Load(model); err != nil {
		return err
	}
	if err := tunesProfile(model, t.cfg); err != nil {
		return err
	}
	names, err := tunable(t.cfg, t.recipe.Freeze)
	if err != nil {
		return err
	}
	if t.folder, err = checkpoint.OpenFolder(model); err != nil {
		return err
	}
	if t.w, err = weights.Pick(t.folder, names); err != nil {
		return err
	}
	if err := t.resume(t.recipe, t.w); err != nil {
		return err
	}
	var ok bool
	if t.table, ok = t.folder.Tensor("model.embed_tokens.weight"); !ok {
		return errors.New("tensor model.embed_tokens.weight is missing")
	}
	tok, err := tokenizer.Open(filepath.Join(model, "tokenizer.json"))
	if err != nil {
		return err
	}
	if t.text, err = stllm.NewTrainingPrompts(tok); err != nil {
		return err
	}
	if t.cache, err = openFeatures(filepath.Join(t.opt.Out, "features"), t.opt.FeatureBytes); err != nil {
		return err
	}
	t.frozen, err = stllm.LoadFrozen(ctx, t.env, model, stllm.Options{Device: t.opt.Device, Threads: t.opt.Threads})
	return err
}

// Close frees files and sessions.
func (t *Tuner) Close() error {
	err := t.frozen.Close()
	t.frozen = nil
	if t.folder != nil {
		err = errors.Join(err, t.folder.Close())
		t.folder = nil
	}
	return err
}

// Left is how many items were left out so far, because they are broken.
func (t *Tuner) Left() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.broken)
}

// Steps are how many are done of how many.
func (t *Tuner) Steps() (done, of int) { return t.state.Done[StageTune], t.recipe.Steps }

// Trained is the number of parameters that are trained.
func (t *Tuner) Trained() int {
	n := 0
	for _, name := range t.w.Names() {
		w, _ := t.w.Get(name) // listed
		n += len(w.Data)
	}
	return n
}

// Run trains what is not trained yet.
func (t *Tuner) Run(ctx context.Context) (err error) {
	done, steps := t.Steps()
	if done >= steps {
		return nil
	}
	c, err := newChain(t.env, t.cfg, t.folder, t.w, boundsOf(t.opt.Device), ort.Options{Threads: t.opt.Threads, Device: t.opt.Device, Lean: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	log, err := openLog(filepath.Join(t.opt.Out, "train.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	r := t.recipe
	opt := newAdamW(Group{Rate: 1})
	opt.Beta2, opt.Decay, opt.Clip = 0.999, r.Decay, r.Clip
	if err := t.restore(StageTune, opt); err != nil {
		return err
	}
	f := figures{t: t, c: c, step: done}
	s := &stage{name: StageTune, steps: steps, micro: r.Micro, seen: 1, schedule: r.Schedule, program: c, opt: opt, every: 1, line: 1, step: t.opt.Step,
		make:  func(run int, _ *rand.Rand) (Batch, error) { return t.batch(ctx, run) },
		after: f.note, measure: f.figures}
	return s.run(ctx, r.Seed, done, t.opt.Workers, log, t.opt.Progress, func(done int) error { return t.keep(done, opt) }, t.opt.SaveEvery)
}

// keep writes a checkpoint and the trained part of the model.
func (t *Tuner) keep(done int, opt *AdamW) error {
	if err := t.save(StageTune, done, t.w, opt); err != nil {
		return err
	}
	if err := t.w.WriteFile(filepath.Join(t.modelDir(), trainedShard), checkpoint.F32, t.w.Names()); err != nil {
		return err
	}
	if t.opt.saved != nil {
		t.opt.saved(StageTune, done)
	}
	return t.curve()
}

// figures are what a line of the log says beside the loss.
type figures struct {
	t     *Tuner
	c     *chain
	step  int
	right float64
	runs  int
}

func (f *figures) note(shown map[string][]float32) error {
	f.right += float64(shown["right"][0])
	f.runs++
	return nil
}

// figures gives the share of right tokens since the last line and, twenty times in a run, loss and share on held-out items.
func (f *figures) figures(ctx context.Context) (map[string]float64, error) {
	f.step++
	out := map[string]float64{"tokens": f.right / float64(max(1, f.runs))}
	f.right, f.runs = 0, 0
	steps := f.t.recipe.Steps
	if len(f.t.test) == 0 || f.step%max(1, steps/20) != 0 && f.step != steps {
		return out, nil
	}
	loss, right, n := 0.0, 0.0, 0
	for _, it := range f.t.test {
		b, err := f.t.prepare(ctx, it)
		var bad *itemError
		if errors.As(err, &bad) {
			f.t.leaveOut(it, bad.err)
			continue
		}
		if err != nil {
			return nil, err
		}
		l, shown, err := f.c.step(ctx, b, false)
		if err != nil {
			return nil, err
		}
		loss, right, n = loss+l, right+float64(shown["right"][0]), n+1
	}
	if n > 0 {
		out["held_out_loss"], out["held_out_tokens"] = loss/float64(n), right/float64(n)
	}
	return out, nil
}
