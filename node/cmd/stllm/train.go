package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/trainer"
)

// trainFlags are the flags of `stllm train`.
type trainFlags struct {
	config, init, data, out, until, device string
	set                                    map[string]string
	encoders                               string
	freeze                                 []string
	kitchens, heldOut                      int
	workers, threads                       int
	seed                                   uint64
	saveEvery                              time.Duration
	steps                                  map[string]int
	tune                                   tuneFlags
}

func (a *app) trainCommand() *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "train (--data DIR | --init DIR --items rea:FILE.json) --out DIR",
		Short: "Train the small model on made kitchens, or fine-tune a model folder on them or on REA items",
		Long: `train makes kitchens (into --data, once), then trains in stages: the point encoder and the vision tower on dense labels,
the aligner with a regression head, and the aligner with the decoder on answers. OUT/model is a model folder at any time,
OUT/train.jsonl the log, OUT/state what a killed run goes on from: run the same command again.

--init DIR starts from a model folder of the robot profile instead of nothing and leaves the encoders' stages out, unless
--steps names them. With --freeze, prefixes of weights stay as they are: --freeze paper leaves the aligner alone to be
trained, as in the paper but for the projector, which only the vision stage trains.

--items rea:FILE.json fine-tunes a model of the published profile instead (--init), as the paper does: vision, points and
language frozen (--freeze paper, the default), projector, Q-Former and ray encoders trained by cross-entropy on the answers,
8 items a step (--accumulate), a cosine from --rate with 3 % warm-up, one epoch unless --steps tune=N says otherwise. Another
--freeze list replaces that one and may hold paper, prefixes and patterns with *; token embeddings, vision and points are
never trained. Only one layer of the language model at a time is in memory as float32. OUT/model has what is frozen byte by
byte in one file and what is trained as float32 in another. Items that are broken are named and left out.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.train(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "nano", "what to train from nothing: nano")
	fl.StringToStringVar(&f.set, "set", nil, "fields of the config with other values, for example robot_config.start_frame=false; may be repeated")
	fl.StringVar(&f.encoders, "encoders", "", "model folder, or nano, to take point encoder, vision tower and projector from; their stages are left out, unless --steps names them")
	fl.StringVar(&f.init, "init", "", "model folder to fine-tune, or nano")
	f.tune.add(fl)
	fl.StringVar(&f.data, "data", "", "folder of kitchens; those that are absent are made (0.6 s and 1.2 MB each)")
	fl.StringVar(&f.out, "out", "", "folder of the result")
	fl.StringVar(&f.until, "until", "", "last stage to train: "+strings.Join(trainer.Stages(), ", "))
	fl.StringSliceVar(&f.freeze, "freeze", nil, "prefixes of weights that stay as they are in the joint stage, or with --items; paper: what the paper freezes")
	fl.IntVar(&f.kitchens, "kitchens", 0, "kitchens to train on (default: the recipe's)")
	fl.IntVar(&f.heldOut, "held-out", 0, "kitchens to measure on (default: the recipe's), or with --items, items (default: none)")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of batches and start (default: the recipe's)")
	fl.IntVar(&f.workers, "workers", 1, "goroutines that make kitchens and batches")
	fl.IntVar(&f.threads, "threads", 0, "CPU threads of ONNX Runtime; 0: all cores")
	fl.StringVar(&f.device, "device", "cpu", "cpu, cuda or cuda:N")
	fl.DurationVar(&f.saveEvery, "save-every", 3*time.Minute, "time between checkpoints")
	fl.StringToIntVar(&f.steps, "steps", nil, "steps of a stage instead of the recipe's, for example align=100,joint=0 or tune=500 (stages: "+strings.Join(stageNames(), ", ")+")")
	return cmd
}

// numbers refuses numbers that would mean another than what they say.
func (f *trainFlags) numbers(changed func(name string) bool) error {
	for _, n := range []struct {
		name         string
		given, wrong bool
		value        any
		want         string
	}{
		{"kitchens", changed("kitchens"), f.kitchens < 1, f.kitchens, "at least 1"},
		{"held-out", changed("held-out") && len(f.tune.set.items) == 0, f.heldOut < 1, f.heldOut, "at least 1"},
		{"held-out", changed("held-out"), f.heldOut < 0, f.heldOut, "0 or more"},
		{"seed", changed("seed"), f.seed < 1, f.seed, "at least 1"},
		{"workers", true, f.workers < 1, f.workers, "at least 1"},
		{"threads", true, f.threads < 0, f.threads, "0 or more"},
		{"save-every", true, f.saveEvery <= 0, f.saveEvery, "more than 0"},
		{"accumulate", true, f.tune.micro < 1, f.tune.micro, "at least 1"},
		{"rate", true, !(f.tune.rate > 0), f.tune.rate, "more than 0"},
	} {
		if n.given && n.wrong {
			return usageError{fmt.Errorf("--%s is %v, expected %s", n.name, n.value, n.want)}
		}
	}
	return nil
}

func (a *app) train(cmd *cobra.Command, f trainFlags) error {
	if f.out == "" {
		return usageError{errors.New("--out is needed: a folder for the result")}
	}
	if f.config != "nano" {
		return fmt.Errorf("--config is %q, expected nano", f.config)
	}
	if f.init != "" && (len(f.set) > 0 || f.encoders != "") {
		return usageError{errors.New("--set and --encoders are for training from nothing: with --init the model is what its folder says")}
	}
	for name, n := range f.steps {
		switch items := len(f.tune.set.items) > 0; {
		case !slices.Contains(stageNames(), name):
			return usageError{fmt.Errorf("--steps names stage %q, expected one of %s", name, strings.Join(stageNames(), ", "))}
		case items != (name == trainer.StageTune):
			return usageError{fmt.Errorf("--steps names stage %s: with --items there is %s alone, without it there are %s", name, trainer.StageTune, strings.Join(trainer.Stages(), ", "))}
		case items && n < 1:
			return usageError{fmt.Errorf("--steps %s=%d, expected at least one step", name, n)}
		}
	}
	if err := f.numbers(cmd.Flags().Changed); err != nil {
		return err
	}
	if len(f.tune.set.items) > 0 {
		return a.tune(cmd, f)
	}
	for _, name := range []string{"accumulate", "rate", "feature-cache", "point-weights", "rea-videos", "rea-points", "rea-poses", "rea-intrinsics"} {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for training on items (--items)", name)}
		}
	}
	if f.data == "" {
		return usageError{errors.New("--data is needed (a folder for kitchens), or --items and --init to fine-tune a model of the published profile")}
	}
	if f.until != "" && !slices.Contains(trainer.Stages(), f.until) {
		return fmt.Errorf("--until is %q, expected one of %s", f.until, strings.Join(trainer.Stages(), ", "))
	}
	start := f.init
	for _, named := range []*string{&start, &f.encoders} {
		if *named == "" {
			continue
		}
		dir, err := (&modelFlags{dir: *named}).folder(cmd.Context())
		if err != nil {
			return err
		}
		*named = dir
	}
	env, err := ort.OpenDefault()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.out, "model", "config.json")); start == "" && errors.Is(err, os.ErrNotExist) {
		dir, err := os.MkdirTemp("", "stllm-nano-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := nano.Init(cmd.Context(), dir, nano.Options{Config: f.config, Set: f.set, Seed: 1}); err != nil {
			return err
		}
		start = dir
	}
	kitchens, steps := a.progress("kitchens"), stepBar{app: a}
	defer func() { kitchens.done(); steps.done() }()
	t, err := trainer.New(env, trainer.Options{
		Init: start, Lookup: f.init == "", Data: f.data, Out: f.out, Until: f.until, Threads: f.threads, Device: f.device, Workers: f.workers, SaveEvery: f.saveEvery,
		Recipe: f.recipe, Fill: kitchens.set,
		Step:     func(stage string, done, of int) { kitchens.done(); steps.step(stage, done, of) },
		Progress: steps.line,
	})
	if err != nil {
		return err
	}
	if err := t.Run(cmd.Context()); err != nil {
		return err
	}
	steps.done()
	fmt.Fprintln(a.out, filepath.Join(f.out, "model"))
	return nil
}

// stepBar shows the steps of the stage that is trained on a terminal, between the lines of the log.
type stepBar struct {
	*app
	stage string
	bar   *bar
}

func (s *stepBar) step(stage string, done, of int) {
	if s.bar == nil || s.stage != stage {
		s.done()
		s.stage, s.bar = stage, s.progress(stage)
	}
	s.bar.set(done, of)
}

func (s *stepBar) line(p trainer.Point) {
	if s.bar != nil {
		s.bar.clear()
	}
	fmt.Fprintln(s.out, trainLine(p))
}

func (s *stepBar) done() {
	if s.bar != nil {
		s.bar.done()
	}
}

// stageNames are all that --steps knows.
func stageNames() []string { return append(trainer.Stages(), trainer.StageTune) }

// recipe is nano's with what the flags change.
func (f trainFlags) recipe(c *config.Config) trainer.Recipe {
	r := trainer.NanoRecipe(c)
	if f.kitchens > 0 {
		r.Kitchens = f.kitchens
	}
	if f.heldOut > 0 {
		r.HeldOut = f.heldOut
	}
	if f.seed > 0 {
		r.Seed = f.seed
	}
	r.Freeze, r.Encoders, r.Model = trainer.FreezeJoint(f.freeze), f.encoders, f.set
	if f.init != "" || f.encoders != "" {
		for _, name := range []string{trainer.StagePoints, trainer.StageVision} {
			if _, asked := f.steps[name]; !asked {
				delete(r.Stages, name)
			}
		}
	}
	for name, n := range f.steps {
		s := r.Stages[name]
		s.Steps = n
		r.Stages[name] = s
	}
	return r
}

// trainLine is a line for people.
func trainLine(p trainer.Point) string {
	line := fmt.Sprintf("%-7s step %5d/%d  loss %8.4f  rate %.1e  norm %7.2f  %5.0f s", p.Stage, p.Step, p.Steps, p.Loss, p.Rate, p.Norm, p.Seconds)
	var names []string
	for name := range p.Figures {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		line += fmt.Sprintf("  %s %.3f", name, p.Figures[name])
	}
	return line
}
