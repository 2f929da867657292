package trainer

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/trainer/weights"
)

// tiny is a run of seconds: two kitchens, few steps.
func tiny(c *config.Config) Recipe {
	r := NanoRecipe(c)
	r.Kitchens, r.HeldOut = 2, 1
	r.Shape.Frames, r.Shape.Windows, r.Shape.Questions = 4, 1, 6
	r.Questions, r.Voxels = 4, 64
	r.Stages = map[string]StageRecipe{
		StagePoints: {Steps: 2, Micro: 1, Schedule: Schedule{Peak: 1e-3}},
		StageVision: {Steps: 2, Micro: 1, Schedule: Schedule{Peak: 1e-3}},
		StageAlign:  {Steps: 3, Micro: 1, Schedule: Schedule{Peak: 1e-3}},
		StageJoint:  {Steps: 4, Micro: 2, Schedule: Schedule{Peak: 1e-3}},
	}
	return r
}

// start makes an untrained model and the options of a run from it.
func start(t testing.TB) Options {
	t.Helper()
	orttest.Environment(t)
	dir := filepath.Join(t.TempDir(), "model")
	if err := nano.Init(t.Context(), dir, nano.Options{Config: "nano", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	return Options{Init: dir, Lookup: true, Data: filepath.Join(t.TempDir(), "data"), Threads: 1, Recipe: tiny}
}

func run(t *testing.T, ctx context.Context, o Options, out string) error {
	t.Helper()
	o.Out = out
	tr, err := New(orttest.Environment(t), o)
	if err != nil {
		return err
	}
	return tr.Run(ctx)
}

// losses are the last lines of each stage.
func losses(t *testing.T, out string) map[string]float64 {
	t.Helper()
	log, err := ReadLog(filepath.Join(out, "train.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]float64{}
	for _, p := range log {
		last[p.Stage] = p.Loss
	}
	return last
}

// A run that is broken off in any stage and begun again ends with the same weights as one that was not.
func TestResume(t *testing.T) {
	o := start(t)
	whole := filepath.Join(t.TempDir(), "whole")
	if err := run(t, t.Context(), o, whole); err != nil {
		t.Fatal(err)
	}
	if got := losses(t, whole); len(got) != len(Stages()) {
		t.Errorf("stages in the log: %v", got)
	}
	o.SaveEvery = time.Nanosecond // after every step
	broken := filepath.Join(t.TempDir(), "broken")
	stopped := 0
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		o.saved = func(stage string, done int) {
			if done == 1 || stage == StageJoint && done == 3 {
				cancel()
			}
		}
		err := run(t, ctx, o, broken)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stopped++
	}
	if stopped < 4 {
		t.Errorf("the run was broken off %d times", stopped)
	}
	a, err := weights.Read(filepath.Join(whole, "model"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := weights.Read(filepath.Join(broken, "model"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range a.Names() {
		x, err := a.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Data {
			if d := math.Abs(float64(x.Data[i] - y.Data[i])); d > 1e-5 {
				t.Fatalf("%s differs by %g at %d", name, d, i)
			}
		}
	}
	for _, file := range []string{"curve.png", "train.jsonl", "recipe.json"} {
		if st, err := os.Stat(filepath.Join(broken, file)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	// The same folder with another recipe is another run.
	o.saved = nil
	o.Recipe = func(c *config.Config) Recipe { r := tiny(c); r.Seed = 2; return r }
	if err := run(t, t.Context(), o, whole); err == nil || !strings.Contains(err.Error(), "recipe") {
		t.Errorf("another recipe in the same folder: %v", err)
	}
}

// What is not a number stops the run with its step and its name, and the last checkpoint stays.
func TestNotANumber(t *testing.T) {
	o := start(t)
	out := filepath.Join(t.TempDir(), "out")
	o.Recipe = func(c *config.Config) Recipe {
		r := tiny(c)
		r.Stages = map[string]StageRecipe{StageVision: {Steps: 50, Micro: 1, Schedule: Schedule{Peak: 1e30}}}
		return r
	}
	err := run(t, t.Context(), o, out)
	var nan *NotFiniteError
	if !errors.As(err, &nan) || nan.Tensor == "" {
		t.Fatalf("error %v, expected one that names a tensor", err)
	}
	if _, err := weights.Read(filepath.Join(out, "model")); err != nil {
		t.Error(err)
	}
}

// A data folder of another shape is refused, a damaged record is made again.
func TestData(t *testing.T) {
	dir := t.TempDir()
	s := record.Shape{Format: record.Format, Edge: 32, Grid: 4, Voxel: 0.3, Frames: 4, Windows: 1, Questions: 4}
	st, err := record.Open(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	first, err := st.Get(7)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "00000007.gob")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := st.Get(7)
	if err != nil || again.Map.Len() != first.Map.Len() || len(again.Frames) != len(first.Frames) {
		t.Errorf("a damaged record: %v", err)
	}
	s.Voxel = 0.2
	if _, err := record.Open(dir, s); err == nil || !strings.Contains(err.Error(), "shape") {
		t.Errorf("another shape: %v", err)
	}
}

func TestSchedule(t *testing.T) {
	s := Schedule{Peak: 1, WarmUp: 0.1, Decay: 0.5}
	for _, c := range []struct{ at, low, high float64 }{{0, 0.01, 0.1}, {0.05, 0.4, 0.6}, {0.3, 1, 1}, {0.75, 0.5, 0.5}, {1, 0.02, 0.02}} {
		if got := s.at(c.at); got < c.low || got > c.high {
			t.Errorf("rate at %v is %v, expected %v to %v", c.at, got, c.low, c.high)
		}
	}
	s = Schedule{Peak: 2, WarmUp: 0.04, Cosine: true}
	for _, c := range []struct{ at, low, high float64 }{{0, 0.01, 0.2}, {0.02, 0.9, 1.2}, {0.04, 1.99, 2}, {0.52, 0.99, 1.01}, {0.76, 0.28, 0.3}, {1, 0, 1e-9}} {
		if got := s.at(c.at); got < c.low || got > c.high {
			t.Errorf("cosine: rate at %v is %v, expected %v to %v", c.at, got, c.low, c.high)
		}
	}
	if data, err := json.Marshal(Schedule{Peak: 1, WarmUp: 0.5}); err != nil || string(data) != `{"Peak":1,"WarmUp":0.5,"Decay":0}` {
		t.Errorf("a recipe of an earlier version reads another schedule: %s %v", data, err)
	}
}
