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
}

func (a *app) trainCommand() *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "train --data DIR --out DIR",
		Short: "Train the small model on made kitchens, or fine-tune a model folder",
		Long: `train makes kitchens (into --data, once), then trains in stages: the point encoder and the vision tower on dense labels,
the aligner with a regression head, and the aligner with the decoder on answers. OUT/model is a model folder at any time,
OUT/train.jsonl the log, OUT/state what a killed run goes on from: run the same command again.

--init DIR starts from a model folder instead of nothing and leaves the encoders' stages out, unless --steps names them.
With --freeze, prefixes of weights stay as they are: --freeze model.,lm_head. leaves the aligner alone to be trained, as in
the paper but for the projector, which only the vision stage trains.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.train(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "nano", "what to train from nothing: nano")
	fl.StringVar(&f.init, "init", "", "model folder to fine-tune")
	fl.StringVar(&f.data, "data", "", "folder of kitchens; those that are absent are made (0.6 s and 1.2 MB each)")
	fl.StringVar(&f.out, "out", "", "folder of the result")
	fl.StringVar(&f.until, "until", "", "last stage to train: "+strings.Join(trainer.Stages(), ", "))
	fl.StringSliceVar(&f.freeze, "freeze", nil, "prefixes of weights that the joint stage leaves alone")
	fl.IntVar(&f.kitchens, "kitchens", 0, "kitchens to train on (default: the recipe's)")
	fl.IntVar(&f.heldOut, "held-out", 0, "kitchens to measure on (default: the recipe's)")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of batches and start (default: the recipe's)")
	fl.IntVar(&f.workers, "workers", 1, "goroutines that make kitchens and batches")
	fl.IntVar(&f.threads, "threads", 0, "CPU threads of ONNX Runtime; 0: all cores")
	fl.StringVar(&f.device, "device", "cpu", "cpu, cuda or cuda:N")
	fl.DurationVar(&f.saveEvery, "save-every", 3*time.Minute, "time between checkpoints")
	fl.StringToIntVar(&f.steps, "steps", nil, "steps of a stage instead of the recipe's, for example align=100,joint=0")
	for _, name := range []string{"data", "out"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}

func (a *app) train(cmd *cobra.Command, f trainFlags) error {
	if f.config != "nano" {
		return fmt.Errorf("--config is %q, expected nano", f.config)
	}
	if f.until != "" && !slices.Contains(trainer.Stages(), f.until) {
		return fmt.Errorf("--until is %q, expected one of %s", f.until, strings.Join(trainer.Stages(), ", "))
	}
	for name := range f.steps {
		if !slices.Contains(trainer.Stages(), name) {
			return fmt.Errorf("--steps names stage %q, expected one of %s", name, strings.Join(trainer.Stages(), ", "))
		}
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
	r.Freeze = f.freeze
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
