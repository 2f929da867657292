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
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.train(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "nano", "what to train from nothing: nano")
	fl.StringVar(&f.init, "init", "", "model folder to fine-tune")
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
	cobra.CheckErr(cmd.MarkFlagRequired("out"))
	return cmd
}

func (a *app) train(cmd *cobra.Command, f trainFlags) error {
	if f.config != "nano" {
		return fmt.Errorf("--config is %q, expected nano", f.config)
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
	env, err := ort.OpenDefault()
	if err != nil {
		return err
	}
	start := f.init
	if _, err := os.Stat(filepath.Join(f.out, "model", "config.json")); start == "" && errors.Is(err, os.ErrNotExist) {
		dir, err := os.MkdirTemp("", "stllm-nano-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := nano.Init(cmd.Context(), dir, f.config, 1, nil); err != nil {
			return err
		}
		start = dir
	}
	kitchens := a.progress("kitchens")
	defer kitchens.done()
	t, err := trainer.New(env, trainer.Options{
		Init: start, Lookup: f.init == "", Data: f.data, Out: f.out, Until: f.until, Threads: f.threads, Device: f.device, Workers: f.workers, SaveEvery: f.saveEvery,
		Recipe: f.recipe, Fill: kitchens.set,
		Progress: func(p trainer.Point) { fmt.Fprintln(a.out, trainLine(p)) },
	})
	if err != nil {
		return err
	}
	return t.Run(cmd.Context())
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
	r.Freeze = trainer.FreezeJoint(f.freeze)
	if f.init != "" {
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
