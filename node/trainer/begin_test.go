package trainer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/nano"
)

// What cannot be trained is refused by the name of what is wrong, before anything is written.
func TestBeginRefuses(t *testing.T) {
	o := start(t)
	published := filepath.Join(t.TempDir(), "published")
	if err := nano.Init(t.Context(), published, nano.Options{Config: "published-tiny", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	bags := t.TempDir()
	if err := os.WriteFile(filepath.Join(bags, "k.bag"), []byte("bag"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"no folder":        {func(o *Options) { o.Init = filepath.Join(bags, "none") }, filepath.Join(bags, "none")},
		"no model":         {func(o *Options) { o.Init = bags }, filepath.Join(bags, "config.json")},
		"another profile":  {func(o *Options) { o.Init = published }, "the published profile is fine-tuned on items"},
		"no such weights":  {func(o *Options) { o.Recipe = frozen("nosuch") }, `--freeze "nosuch" names no weight`},
		"no such device":   {func(o *Options) { o.Device = "tpu" }, "expected cpu, cuda or cuda:N"},
		"no kitchens":      {func(o *Options) { o.Recipe = func(c *config.Config) Recipe { r := tiny(c); r.Kitchens = 0; return r } }, "0 kitchens"},
		"freezes weights":  {func(o *Options) { o.Recipe = frozen("qformer.", "model.layers.") }, ""},
		"a model and bags": {func(o *Options) { withBags(t, o) }, ""},
	} {
		o := o
		o.Out = filepath.Join(t.TempDir(), "out")
		c.change(&o)
		_, err := New(orttest.Environment(t), o)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, file := range []string{"k.bag", "frames"} {
				if _, err := os.Stat(filepath.Join(o.Out, "model", file)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %s was copied", name, file)
				}
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
		if _, err := os.Stat(o.Out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

func frozen(prefixes ...string) func(c *config.Config) Recipe {
	return func(c *config.Config) Recipe { r := tiny(c); r.Freeze = prefixes; return r }
}

// withBags puts what is no part of a model beside one.
func withBags(t *testing.T, o *Options) {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(dir, os.DirFS(o.Init)), os.Mkdir(filepath.Join(dir, "frames"), 0o755),
		os.WriteFile(filepath.Join(dir, "k.bag"), []byte("bag"), 0o644)); err != nil {
		t.Fatal(err)
	}
	o.Init = dir
}

// A folder that holds something else than a model is not written over.
func TestBeginBesideOthers(t *testing.T) {
	o := start(t)
	o.Out = t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(o.Out, "model"), 0o755), os.WriteFile(filepath.Join(o.Out, "model", "k.bag"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(orttest.Environment(t), o); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("error %v, expected that the folder is not empty", err)
	}
}

// Another recipe is told of by its fields, a damaged state by its file.
func TestResumeRefuses(t *testing.T) {
	k := newKeeper(t.TempDir())
	type stages map[string]StageRecipe
	was := Recipe{Seed: 1, Kitchens: 3200, Stages: stages{StageJoint: {Steps: 10}}}
	if err := k.sameRecipe(was); err != nil {
		t.Fatal(err)
	}
	for want, now := range map[string]Recipe{
		"":                                  was,
		"in kitchens (3200, now 100); name": {Seed: 1, Kitchens: 100, Stages: was.Stages},
		"in stages.joint.steps (10, now 7); name": {Seed: 1, Kitchens: 3200, Stages: stages{StageJoint: {Steps: 7}}},
		"freeze (none, now [qformer.])":           {Seed: 1, Kitchens: 3200, Stages: was.Stages, Freeze: []string{"qformer."}},
	} {
		if err := k.sameRecipe(now); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
	path := filepath.Join(k.out, "state.json")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := k.resume(was, nil); err == nil || !strings.Contains(err.Error(), path+" is damaged") {
		t.Errorf("%v, expected the file's name", err)
	}
}
