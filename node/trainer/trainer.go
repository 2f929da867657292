package trainer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/stllm/placecode"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/tokenizer"
	"github.com/stllm/stllm/node/trainer/lookup"
	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/trainer/weights"
)

// Options of a training run.
type Options struct {
	Init    string // model folder to start from
	Lookup  bool   // give it the look-up start (a model that was never trained)
	Data    string // data folder; records that are absent are made
	Out     string // result: OUT/model, train.jsonl, curve.png and the state to go on from
	Until   string // last stage to train; empty: all
	Threads int    // 0: all cores
	Workers int    // that make batches; default 1
	// SaveEvery is the time between checkpoints, default three minutes.
	SaveEvery time.Duration
	Recipe    func(c *config.Config) Recipe
	Progress  func(Point)
	Fill      func(done, total int) // records made

	saved func(stage string, done int) // for tests
}

// Trainer trains one model.
type Trainer struct {
	opt    Options
	env    *ort.Environment
	cfg    *config.Config
	recipe Recipe
	tok    *tokenizer.Tokenizer
	w      *weights.Set
	names  []string // of the weights that are stored
	space  *lookup.Space
	store  *record.Store
	state  state

	// For the stages that read text.
	prompts *prompt.Builder
	end     int32           // the token that ends an answer
	table   *weights.Tensor // token embeddings, which stay as they are
	code    *placecode.Code
	decoder module.DecoderConfig
	train   []*scene
	test    []*scene
}

// state is what a run goes on from.
type state struct {
	Done map[string]int `json:"done"` // steps done, by stage
	Opt  int            `json:"optimizer_step"`
	In   string         `json:"optimizer_stage"` // whose moments are stored
	// Folder holds the weights and moments that belong to these numbers; the other of the two is being written.
	Folder string `json:"folder"`
}

// New opens or begins a run. A folder that holds a run of another recipe is refused.
func New(env *ort.Environment, o Options) (*Trainer, error) {
	if o.SaveEvery == 0 {
		o.SaveEvery = 3 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Point) {}
	}
	t := &Trainer{opt: o, env: env, state: state{Done: map[string]int{}}}
	model := t.modelDir()
	fresh := false
	if _, err := os.Stat(filepath.Join(model, "config.json")); errors.Is(err, os.ErrNotExist) {
		if err := copyModel(o.Init, model); err != nil {
			return nil, fmt.Errorf("begin training from %s: %w", o.Init, err)
		}
		fresh = true
	}
	var err error
	if t.cfg, err = config.Load(model); err != nil {
		return nil, err
	}
	if t.tok, err = tokenizer.Open(filepath.Join(model, "tokenizer.json")); err != nil {
		return nil, err
	}
	t.recipe = NanoRecipe(t.cfg)
	if o.Recipe != nil {
		t.recipe = o.Recipe(t.cfg)
	}
	if err := t.recipe.Validate(); err != nil {
		return nil, err
	}
	if t.space, err = lookup.NewSpace(t.cfg, 1); err != nil {
		return nil, err
	}
	if t.store, err = record.Open(o.Data, t.recipe.Shape); err != nil {
		return nil, err
	}
	if t.w, err = weights.Read(model); err != nil {
		return nil, err
	}
	t.names = t.w.Names()
	if err := t.language(); err != nil {
		return nil, err
	}
	if fresh && o.Lookup {
		if err := lookup.Start(t.w, t.cfg, t.tok, t.space, t.recipe.Seed); err != nil {
			return nil, err
		}
		if err := t.w.Write(model, checkpoint.F32, t.names); err != nil {
			return nil, err
		}
	}
	return t, t.resume()
}

// language prepares what the stages with text need.
func (t *Trainer) language() error {
	if o := t.cfg.RobotConfig; o == nil || !o.PatchMemory || t.cfg.PooledGrid() != 1 || t.cfg.STLLM3D {
		return errors.New("the trainer knows models of the robot profile with robot_config.patch_memory and one pooled token a frame (as `stllm model init --config nano` makes them)")
	}
	var err error
	if t.prompts, err = stllm.NewPrompts(t.tok, t.cfg); err != nil {
		return err
	}
	if t.end, err = t.tok.Special("<|im_end|>"); err != nil {
		return err
	}
	if t.table, err = t.w.Need("model.embed_tokens.weight", t.cfg.VocabSize, t.cfg.HiddenSize); err != nil {
		return err
	}
	if t.cfg.TieWordEmbeddings {
		return errors.New("config field tie_word_embeddings is true: the trainer keeps the words as they are and needs a head of its own")
	}
	t.decoder = module.DecoderOf(t.cfg)
	t.code, err = placecode.New(t.cfg.RobotConfig)
	return err
}

func (t *Trainer) modelDir() string { return filepath.Join(t.opt.Out, "model") }

// copyModel copies a model folder.
func copyModel(from, to string) error {
	if from == "" {
		return errors.New("no model folder is named")
	}
	dir, err := checkpoint.ResolveFolder(from)
	if err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(dir))
}

// resume reads the state of an earlier run.
func (t *Trainer) resume() error {
	if err := t.sameRecipe(); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(t.opt.Out, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &t.state); err != nil {
		return fmt.Errorf("training state: %w", err)
	}
	saved, err := weights.Read(t.stateDir())
	if err != nil {
		return fmt.Errorf("training state: %w", err)
	}
	for _, name := range saved.Names("weight/") {
		from, err := saved.Get(name)
		if err != nil {
			return err
		}
		name = name[len("weight/"):]
		to, err := t.w.Get(name)
		if errors.Is(err, nil) && len(to.Data) == len(from.Data) {
			copy(to.Data, from.Data)
			continue
		}
		t.w.Put(&weights.Tensor{Name: name, Shape: from.Shape, Data: from.Data}) // the regression head
	}
	return nil
}

// sameRecipe compares the run's recipe with the one that the folder was begun with.
func (t *Trainer) sameRecipe() error {
	path := filepath.Join(t.opt.Out, "recipe.json")
	now, err := json.MarshalIndent(t.recipe, "", "  ")
	if err != nil {
		return err
	}
	was, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(path, append(now, '\n'), 0o644)
	}
	if err != nil {
		return err
	}
	if string(was) != string(now)+"\n" {
		return fmt.Errorf("%s differs from the recipe of this run; name another folder, or delete it to train anew", path)
	}
	return nil
}

// moments are the optimizer's, stored under these prefixes beside "weight/".
const firstMoment, secondMoment = "first/", "second/"

// stateDir is the folder that the state names; runs of an early version had one only.
func (t *Trainer) stateDir() string {
	if t.state.Folder == "" {
		return filepath.Join(t.opt.Out, "state")
	}
	return filepath.Join(t.opt.Out, t.state.Folder)
}

// save writes weights and optimizer into the folder that is not in use, then the small file that names it: a full disk or a
// kill at any point leaves what was there.
func (t *Trainer) save(stage string, done int, opt *AdamW) error {
	next := state{Done: maps.Clone(t.state.Done), Opt: opt.step, In: stage, Folder: "state-a"}
	if next.Done[stage] = done; t.state.Folder == next.Folder {
		next.Folder = "state-b"
	}
	all := weights.NewSet()
	for _, name := range t.w.Names() {
		w, err := t.w.Get(name)
		if err != nil {
			return err
		}
		all.Put(&weights.Tensor{Name: "weight/" + name, Shape: w.Shape, Data: w.Data})
		if m := opt.first[name]; m != nil {
			all.Put(&weights.Tensor{Name: firstMoment + name, Shape: w.Shape, Data: m})
			all.Put(&weights.Tensor{Name: secondMoment + name, Shape: w.Shape, Data: opt.second[name]})
		}
	}
	dir := filepath.Join(t.opt.Out, next.Folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := all.Write(dir, checkpoint.F32, all.Names()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	tmp := filepath.Join(t.opt.Out, "state.json.new")
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(t.opt.Out, "state.json")); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	t.state = next
	if err := t.w.Write(t.modelDir(), checkpoint.F32, t.names); err != nil {
		return err
	}
	if t.opt.saved != nil {
		t.opt.saved(stage, done)
	}
	return t.curve()
}

// curve draws the log so far.
func (t *Trainer) curve() error {
	log, err := ReadLog(filepath.Join(t.opt.Out, "train.jsonl"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := Curve(&b, log); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.opt.Out, "curve.png"), b.Bytes(), 0o644)
}

// restore gives an optimizer the moments of the run that it goes on.
func (t *Trainer) restore(stage string, opt *AdamW) error {
	if t.state.In != stage {
		return nil
	}
	saved, err := weights.Read(t.stateDir())
	if err != nil {
		return fmt.Errorf("training state: %w", err)
	}
	opt.step = t.state.Opt
	for _, name := range saved.Names(firstMoment) {
		m, err := saved.Get(name)
		if err != nil {
			return err
		}
		name = name[len(firstMoment):]
		v, err := saved.Get(secondMoment + name)
		if err != nil {
			return err
		}
		opt.first[name], opt.second[name] = m.Data, v.Data
	}
	return nil
}

// Run trains what is not trained yet.
func (t *Trainer) Run(ctx context.Context) error {
	seeds := append(t.recipe.heldOut(), t.recipe.seeds()...)
	if err := t.store.Fill(ctx, seeds, max(1, t.opt.Workers), t.opt.Fill); err != nil {
		return fmt.Errorf("make training data: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(t.opt.Out, "train.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	for _, name := range Stages() {
		if err := t.stage(ctx, name, log); err != nil {
			return err
		}
		if name == t.opt.Until {
			break
		}
	}
	return log.Close()
}

func (t *Trainer) stage(ctx context.Context, name string, log *os.File) error {
	r, ok := t.recipe.Stages[name]
	if !ok || t.state.Done[name] >= r.Steps {
		return nil
	}
	begin := map[string]func(context.Context) (*stage, error){
		StagePoints: t.points, StageVision: t.vision, StageAlign: t.alignStage, StageJoint: t.jointStage,
	}[name]
	s, err := begin(ctx)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	s.name, s.steps, s.micro, s.schedule, s.every = name, r.Steps, r.Micro, r.Schedule, r.Every
	if err := t.restore(name, s.opt); err != nil {
		return errors.Join(err, s.program.close())
	}
	err = s.run(ctx, t.recipe.Seed, t.state.Done[name], t.opt.Workers, log, t.opt.Progress,
		func(done int) error { return t.save(name, done, s.opt) }, t.opt.SaveEvery)
	return errors.Join(err, s.program.close())
}

func (t *Trainer) draw(r *rand.Rand) uint64 {
	return t.recipe.FirstSeed + r.Uint64N(uint64(t.recipe.Kitchens))
}

func (t *Trainer) points(context.Context) (*stage, error) {
	p, err := pointProgram(t.env, t.cfg, t.w, t.space, t.opt.Threads)
	if err != nil {
		return nil, err
	}
	return &stage{
		program: p, seen: 1, opt: newAdamW(Group{Rate: 1}),
		make: func(_ int, r *rand.Rand) (Batch, error) {
			rec, err := t.store.Get(t.draw(r))
			if err != nil {
				return nil, err
			}
			m := rec.Map
			m.Stats = spoil(m.Stats, r)
			b, err := pointBatch(t.cfg, &m)
			if err == nil {
				b.label(m.Share, 64, 1, m.Len())
			}
			return b, err
		},
		after:   func(shown map[string][]float32) error { return remember(t.w, shown) },
		measure: t.measurePoints,
	}, nil
}

func (t *Trainer) vision(context.Context) (*stage, error) {
	p, err := visionProgram(t.env, t.cfg, t.w, t.space, t.opt.Threads)
	if err != nil {
		return nil, err
	}
	// A file holds about thirty pictures: a batch takes some of each of a few files.
	const files, each = 4, 8
	return &stage{
		program: p, seen: files * each, opt: newAdamW(Group{Rate: 1}),
		make: func(_ int, r *rand.Rand) (Batch, error) {
			var frames []*record.Frame
			for range files {
				rec, err := t.store.Get(t.draw(r))
				if err != nil {
					return nil, err
				}
				for _, i := range r.Perm(len(rec.Frames))[:min(each, len(rec.Frames))] {
					frames = append(frames, &rec.Frames[i])
				}
			}
			return visionBatch(t.cfg, frames, r)
		},
		measure: t.measureVision,
	}, nil
}

// products are those of a feature with the classes' directions.
func (t *Trainer) products(feature []float32) []float32 {
	out := make([]float32, len(t.space.Direction))
	for k, u := range t.space.Direction {
		for i, v := range u {
			out[k] += v * feature[i]
		}
	}
	return out
}

func largest(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// measurePoints is the share of furniture voxels whose class is named, by the encoder as the node runs it.
func (t *Trainer) measurePoints(ctx context.Context) (map[string]float64, error) {
	e, err := newEncoders(t.env, t.cfg, t.w, t.opt.Threads)
	if err != nil {
		return nil, err
	}
	defer e.close()
	right, all := 0, 0
	items, _ := itemClasses()
	n := len(t.space.Direction)
	for _, seed := range t.recipe.heldOut()[:min(10, t.recipe.HeldOut)] {
		rec, err := t.store.Get(seed)
		if err != nil {
			return nil, err
		}
		f, err := e.voxels(ctx, &rec.Map)
		if err != nil {
			return nil, err
		}
		for i := range rec.Map.Len() {
			top := 0
			share := rec.Map.Share[i*n : (i+1)*n]
			for k, v := range share {
				if v > share[top] {
					top = k
				}
			}
			if top < items {
				all++
				if largest(t.products(f[i*t.cfg.PcdFeatureDim:])) == top {
					right++
				}
			}
		}
	}
	return map[string]float64{"furniture_voxels": float64(right) / float64(max(1, all))}, nil
}

// measureVision is how well a patch tells which small things and which furniture are in it: recall and precision at a logit
// of 0.
func (t *Trainer) measureVision(ctx context.Context) (map[string]float64, error) {
	e, err := newEncoders(t.env, t.cfg, t.w, t.opt.Threads)
	if err != nil {
		return nil, err
	}
	defer e.close()
	first, last := itemClasses()
	n := len(t.space.Direction)
	var hit, said, there [2]int
	for _, seed := range t.recipe.heldOut()[:min(10, t.recipe.HeldOut)] {
		rec, err := t.store.Get(seed)
		if err != nil {
			return nil, err
		}
		f, err := e.patches(ctx, rec.Frames)
		if err != nil {
			return nil, err
		}
		d := t.cfg.HiddenSize
		for i, frame := range rec.Frames {
			for p := range len(frame.Share) / n {
				z := t.products(f[i][p*d:])
				for k := range last {
					group := 0
					if k >= first {
						group = 1
					}
					share := frame.Share[p*n+k]
					if share > 0 && share < 7 {
						continue
					}
					yes := z[k]*lookup.Scale+lookup.Shift > 0
					if yes {
						said[group]++
					}
					if share > 0 {
						there[group]++
						if yes {
							hit[group]++
						}
					}
				}
			}
		}
	}
	ratio := func(a, b int) float64 { return float64(a) / float64(max(1, b)) }
	return map[string]float64{
		"furniture_recall": ratio(hit[0], there[0]), "furniture_precision": ratio(hit[0], said[0]),
		"item_recall": ratio(hit[1], there[1]), "item_precision": ratio(hit[1], said[1]),
	}, nil
}
