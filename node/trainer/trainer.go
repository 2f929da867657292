package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
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
	Device  string // "cpu" (default), "cuda", "cuda:1"
	Workers int    // that make batches; default 1
	// SaveEvery is the time between checkpoints, default three minutes.
	SaveEvery time.Duration
	Recipe    func(c *config.Config) Recipe
	Progress  func(Point)
	Fill      func(done, total int)               // records made
	Step      func(stage string, done, steps int) // after every step

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
	keeper

	// For the stages that read text.
	prompts *prompt.Builder
	end     int32           // the token that ends an answer
	table   *weights.Tensor // token embeddings, which stay as they are
	code    *placecode.Code
	decoder module.DecoderConfig
	train   []*scene
	test    []*scene
}

// New opens or begins a run. A folder that holds a run of another recipe is refused.
func New(env *ort.Environment, o Options) (*Trainer, error) {
	if o.SaveEvery == 0 {
		o.SaveEvery = 3 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Point) {}
	}
	t := &Trainer{opt: o, env: env, keeper: newKeeper(o.Out)}
	if err := ort.CheckDevice(env, o.Device); err != nil {
		return nil, err
	}
	model := t.modelDir()
	_, statErr := os.Stat(filepath.Join(model, "config.json"))
	fresh := errors.Is(statErr, os.ErrNotExist)
	switch {
	case fresh && o.Init == "":
		return nil, errors.New("no model folder is named to start from")
	case fresh:
		if err := t.begin(); err != nil {
			return nil, fmt.Errorf("begin training from %s: %w", o.Init, err)
		}
	default:
		if err := t.sameOrigin(o.Init); err != nil {
			return nil, err
		}
		if err := t.open(model); err != nil {
			return nil, err
		}
	}
	if err := t.read(model); err != nil {
		return nil, err
	}
	if err := t.resume(t.recipe, t.w); err != nil {
		return nil, err
	}
	return t, t.unshard(model)
}

// read reads a model folder's weights.
func (t *Trainer) read(model string) (err error) {
	if t.w, err = weights.Read(model); err != nil {
		return err
	}
	t.names = t.w.Names()
	return t.language()
}

// prepare gives a model that is just being begun its look-up start and the encoders that it takes over. It is done before the
// model has its name: a run that was broken off in here begins anew, instead of going on from weights without them.
func (t *Trainer) prepare(made string) error {
	if !t.opt.Lookup && t.recipe.Encoders == "" {
		return nil
	}
	if err := t.read(made); err != nil {
		return err
	}
	if t.opt.Lookup {
		if err := lookup.Start(t.w, t.cfg, t.tok, t.space, t.recipe.Seed); err != nil {
			return err
		}
	}
	if t.recipe.Encoders != "" {
		if err := borrow(t.w, t.recipe.Encoders); err != nil {
			return err
		}
	}
	if err := t.w.Write(made, checkpoint.F32, t.names); err != nil {
		return err
	}
	return t.unshard(made) // readers would go by the index
}

// begin checks all that a run needs of the folder that it starts from, and only then writes anything: the folder's own model.
func (t *Trainer) begin() (err error) {
	from, err := checkpoint.ResolveFolder(t.opt.Init)
	if err != nil {
		return err
	}
	if err := t.open(from); err != nil {
		return err
	}
	f, err := layout.Open(from, "", t.cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	report, err := layout.Check(f, t.cfg)
	if err == nil {
		err = report.Err()
	}
	if err == nil && t.recipe.Encoders != "" {
		err = lends(t.recipe.Encoders, f)
	}
	if err != nil {
		return err
	}
	if err := t.begun(t.opt.Init); err != nil {
		return err
	}
	return copyModel(f, t.modelDir(), t.prepare)
}

// open reads a model folder but for its weights and checks that this run can train it.
func (t *Trainer) open(model string) (err error) {
	if t.cfg, err = config.Load(model); err != nil {
		return err
	}
	if err := trains(t.cfg); err != nil {
		return err
	}
	if t.tok, err = tokenizer.Open(filepath.Join(model, "tokenizer.json")); err != nil {
		return err
	}
	t.recipe = NanoRecipe(t.cfg)
	if t.opt.Recipe != nil {
		t.recipe = t.opt.Recipe(t.cfg)
	}
	if err := t.recipe.Validate(); err != nil {
		return err
	}
	if err := freezes(t.cfg, t.recipe.Freeze); err != nil {
		return err
	}
	if t.space, err = lookup.NewSpace(t.cfg, 1); err != nil {
		return err
	}
	t.store, err = record.Open(t.opt.Data, t.recipe.Shape)
	return err
}

// unshard makes one file of a model that came in shards: readers go by the index where there is one, and would pass over what is
// trained. The index goes first, then what it named, so that a kill in between leaves a model that can be read.
func (t *Trainer) unshard(dir string) error {
	index := filepath.Join(dir, "model.safetensors.index.json")
	if _, err := os.Stat(index); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := t.w.Write(dir, checkpoint.F32, t.names); err != nil {
		return err
	}
	shards, err := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
	if err != nil {
		return err
	}
	for _, file := range append([]string{index}, shards...) {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("join the model's shards: %w", err)
		}
	}
	return nil
}

// trains refuses models that the stages are not for.
func trains(c *config.Config) error {
	if c.RobotConfig == nil || c.PooledGrid() != 1 || c.STLLM3D {
		return errors.New("the trainer knows models of the robot profile with one pooled token a frame (as `stllm model init --config nano` makes them); the published profile is fine-tuned on items: stllm train --items")
	}
	if o := c.RobotConfig; o.VoxelFeatures != config.StatFeatures {
		return fmt.Errorf("config field robot_config.voxel_features is %s: the trainer's kitchens hold %s only", o.VoxelFeatures, config.StatFeatures)
	}
	if c.TieWordEmbeddings {
		return errors.New("config field tie_word_embeddings is true: the trainer keeps the words as they are and needs a head of its own")
	}
	return nil
}

// language prepares what the stages with text need.
func (t *Trainer) language() error {
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
	t.decoder = module.DecoderOf(t.cfg)
	t.code, err = placecode.New(t.cfg.RobotConfig)
	return err
}

// runs is how the networks are run.
func (t *Trainer) runs() ort.Options {
	return ort.Options{Threads: t.opt.Threads, Device: t.opt.Device}
}

func (t *Trainer) modelDir() string { return filepath.Join(t.opt.Out, "model") }

// copyModel copies what belongs to a model from its folder and has the copy finished, whole or not at all; whatever else lies
// there stays there.
func copyModel(f *checkpoint.Folder, to string, finish func(made string) error) error {
	return assemble(to, func(made string) error {
		if err := copySmall(f.Dir, made); err != nil {
			return err
		}
		for _, file := range f.Files {
			if err := copyLarge(file, filepath.Join(made, f.Name(file))); err != nil {
				return err
			}
		}
		const index = "model.safetensors.index.json"
		if err := checkpoint.CopyFile(index, f.Dir, made); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return finish(made)
	})
}

func copyLarge(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Run trains what is not trained yet.
func (t *Trainer) Run(ctx context.Context) error {
	seeds := append(t.recipe.heldOut(), t.recipe.seeds()...)
	if err := t.store.Fill(ctx, seeds, max(1, t.opt.Workers), t.opt.Fill); err != nil {
		return fmt.Errorf("make training data: %w", err)
	}
	log, err := openLog(filepath.Join(t.opt.Out, "train.jsonl"))
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
	s.name, s.steps, s.micro, s.schedule, s.every, s.step = name, r.Steps, r.Micro, r.Schedule, r.Every, t.opt.Step
	if err := t.restore(name, s.opt); err != nil {
		return errors.Join(err, s.program.close())
	}
	err = s.run(ctx, t.recipe.Seed, t.state.Done[name], t.opt.Workers, log, t.opt.Progress,
		func(done int) error { return t.keep(name, done, s.opt) }, t.opt.SaveEvery)
	return errors.Join(err, s.program.close())
}

// keep writes a checkpoint and the model.
func (t *Trainer) keep(stage string, done int, opt *AdamW) error {
	if err := t.save(stage, done, t.w, opt); err != nil {
		return err
	}
	if err := t.w.Write(t.modelDir(), checkpoint.F32, t.names); err != nil {
		return err
	}
	if t.opt.saved != nil {
		t.opt.saved(stage, done)
	}
	return t.curve()
}

func (t *Trainer) draw(r *rand.Rand) uint64 {
	return t.recipe.FirstSeed + r.Uint64N(uint64(t.recipe.Kitchens))
}

func (t *Trainer) points(context.Context) (*stage, error) {
	p, err := pointProgram(t.env, t.cfg, t.w, t.space, t.runs())
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
				b.label(m.Share, len(t.space.Direction), 64, 1, m.Len())
			}
			return b, err
		},
		after:   func(shown map[string][]float32) error { return remember(t.w, shown) },
		measure: t.measurePoints,
	}, nil
}

func (t *Trainer) vision(context.Context) (*stage, error) {
	p, err := visionProgram(t.env, t.cfg, t.w, t.space, t.runs())
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
			return visionBatch(t.cfg, t.space, frames, r)
		},
		measure: t.measureVision,
	}, nil
}
