package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/trainer"
)

// tuneFlags are the flags of `stllm train` that are for items.
type tuneFlags struct {
	set      itemFlags
	points   string
	micro    int
	rate     float64
	features float64
}

func (f *tuneFlags) add(s *pflag.FlagSet) {
	s.StringArrayVar(&f.set.items, "items", nil, "list of REA items (rea:FILE.json) to fine-tune a model of the published profile on; may be repeated")
	f.set.addRoots(s)
	s.StringVar(&f.points, "point-weights", "", "with --items: point encoder file where it lies outside of --init (OpenScene's .pth)")
	s.IntVar(&f.micro, "accumulate", 8, "with --items: items of one step")
	s.Float64Var(&f.rate, "rate", 1e-4, "with --items: highest learning rate")
	s.Float64Var(&f.features, "feature-cache", 8, "with --items: GB of frozen features that are kept in OUT/features; 0: none")
}

// tune fine-tunes a model of the published profile on items.
func (a *app) tune(cmd *cobra.Command, f trainFlags) error {
	for _, name := range []string{"config", "data", "until", "kitchens"} {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for training on kitchens; --items fine-tunes --init on items alone", name)}
		}
	}
	if f.tune.features < 0 {
		return usageError{fmt.Errorf("--feature-cache is %g GB, expected 0 or more", f.tune.features)}
	}
	if f.init != "" {
		dir, err := (&modelFlags{dir: f.init}).folder(cmd.Context())
		if err != nil {
			return err
		}
		f.init = dir
	}
	c, err := tunedConfig(f.init, f.out)
	if err != nil {
		return err
	}
	items, err := f.tune.set.tuneItems(cmd.Context(), c.NumFrames)
	if err != nil {
		return err
	}
	env, err := ort.OpenDefault()
	if err != nil {
		return err
	}
	copied, shown := a.progress("copy weights, MB"), stepBar{app: a}
	defer func() { copied.done(); shown.done() }()
	t, err := trainer.NewTuner(cmd.Context(), env, trainer.TuneOptions{
		Init: f.init, PointWeights: f.tune.points, Out: f.out, Items: items, HeldOut: f.heldOut, Freeze: f.freeze, Steps: f.steps[trainer.StageTune],
		Micro: f.tune.micro, Rate: f.tune.rate, Seed: f.seed, Threads: f.threads, Device: f.device, Workers: f.workers, SaveEvery: f.saveEvery,
		FeatureBytes: int64(f.tune.features * 1e9),
		Progress:     shown.line,
		Step:         shown.step,
		Copy:         func(done, total int64) { copied.set(int(done>>20), int(total>>20)) },
		Broken:       func(id string, err error) { a.log.Warn().Str("item", id).Msgf("left out: %v", err) },
	})
	if err != nil {
		return err
	}
	copied.done()
	done, steps := t.Steps()
	fmt.Fprintf(a.out, "%d items, %s parameters are trained, %d of %d steps are done\n", len(items)-t.Left(), millions(int64(t.Trained())), done, steps)
	err = t.Run(cmd.Context())
	shown.done()
	if n := t.Left(); n > 0 {
		fmt.Fprintf(a.out, "%d of %d items were left out (see the warnings)\n", n, len(items))
	}
	if err = errors.Join(err, t.Close()); err == nil {
		fmt.Fprintln(a.out, filepath.Join(f.out, "model"))
	}
	return err
}

// tunedConfig is that of the model that is trained, which may lie in the result's folder already.
func tunedConfig(start, out string) (*config.Config, error) {
	dir := filepath.Join(out, "model")
	if _, err := os.Stat(filepath.Join(dir, "config.json")); errors.Is(err, os.ErrNotExist) {
		if start == "" {
			return nil, usageError{errors.New("--items needs --init: the model folder that is fine-tuned")}
		}
		if dir, err = checkpoint.ResolveFolder(start); err != nil {
			return nil, err
		}
	}
	return config.Load(dir)
}

// tuneItems lists what --items names.
func (f *itemFlags) tuneItems(ctx context.Context, frames int) ([]trainer.TuneItem, error) {
	var all eval.Several
	for _, spec := range f.items {
		list := strings.TrimPrefix(spec, "rea:")
		if filepath.Ext(list) != ".json" {
			return nil, usageError{fmt.Errorf("--items is %q, expected a list of REA items, rea:FILE.json (`stllm rea export` makes one of bags or of kitchens)", spec)}
		}
		all = append(all, eval.REA(list, f.rootsBeside(list), frames))
	}
	items, err := all.Items(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]trainer.TuneItem, len(items))
	for i, it := range items {
		out[i] = trainer.TuneItem{ID: it.ID, Question: it.Question, Answer: it.Reference, Err: it.Err}
		if it.Open != nil {
			out[i].Open = func(ctx context.Context) (*trainer.Shown, error) { return shownBy(ctx, it) }
		}
	}
	return out, nil
}

// shownBy reads what an item shows.
func shownBy(ctx context.Context, it eval.Item) (*trainer.Shown, error) {
	c, err := it.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.File, err)
	}
	s := &trainer.Shown{Map: c.Map, Seconds: c.Seconds}
	for _, f := range c.Frames {
		s.Frames = append(s.Frames, trainer.ShownFrame{Picture: f.Picture,
			Frame: stllm.Frame{Stamp: f.Stamp, Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height}})
	}
	return s, nil
}
