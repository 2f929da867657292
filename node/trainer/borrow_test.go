package trainer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/trainer/weights"
)

// Each option of the robot profile can be left out of a model that is trained, on the encoders of another.
func TestOptions(t *testing.T) {
	from := start(t)
	short := func(encoders string) func(c *config.Config) Recipe {
		return func(c *config.Config) Recipe {
			r := tiny(c)
			delete(r.Stages, StagePoints)
			delete(r.Stages, StageVision)
			r.Encoders = encoders
			return r
		}
	}
	lender, err := weights.Read(from.Init)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []map[string]string{
		{"robot_config.patch_memory": "false", "robot_config.start_frame": "false", "robot_config.position_octaves.count": "0", "robot_config.time_octaves.count": "0"},
		{"robot_config.text_context": "0", "robot_config.sequence_tokens": "false", "robot_config.empty_memory": "false"},
	} {
		o := from
		o.Init = filepath.Join(t.TempDir(), "model")
		if err := nano.Init(t.Context(), o.Init, nano.Options{Config: "nano", Set: set, Seed: 2}); err != nil {
			t.Fatal(err)
		}
		o.Recipe = short(from.Init)
		out := filepath.Join(t.TempDir(), "out")
		if err := run(t, t.Context(), o, out); err != nil {
			t.Errorf("%v: %v", set, err)
			continue
		}
		made, err := weights.Read(filepath.Join(out, "model"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range lender.Names(encoderPrefixes()...) {
			a, _ := lender.Get(name)
			if b, err := made.Get(name); err != nil || !slices.Equal(a.Data, b.Data) {
				t.Errorf("%v: %s is not the lender's (%v)", set, name, err)
			}
		}
		if got := losses(t, out); len(got) != 2 {
			t.Errorf("%v: stages in the log: %v", set, got)
		}
	}
	o := from
	o.Init = filepath.Join(t.TempDir(), "model")
	if err := nano.Init(t.Context(), o.Init, nano.Options{Config: "nano", Set: map[string]string{"vision_config.intermediate_size": "256"}, Seed: 2}); err != nil {
		t.Fatal(err)
	}
	o.Recipe, o.Out = short(from.Init), filepath.Join(t.TempDir(), "out")
	if _, err := New(orttest.Environment(t), o); err == nil || !strings.Contains(err.Error(), "the model to train has") {
		t.Errorf("encoders of another size: %v", err)
	}
}

// A run that is broken off before it has its encoders leaves no model to go on from without them.
func TestBeginWithoutEncoders(t *testing.T) {
	o := start(t)
	o.Out = filepath.Join(t.TempDir(), "out")
	tr, err := New(orttest.Environment(t), o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(o.Init)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr.recipe.Encoders = filepath.Join(t.TempDir(), "gone")
	model := filepath.Join(t.TempDir(), "model")
	if err := copyModel(f, model, tr.prepare); err == nil || !strings.Contains(err.Error(), tr.recipe.Encoders) {
		t.Errorf("error %v, expected the encoders' folder", err)
	}
	if _, err := os.Stat(model); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a model: %v", err)
	}
}
