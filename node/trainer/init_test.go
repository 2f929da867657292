package trainer

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/trainer/weights"
)

// A model in shards is trained as any other: what is read back is what was trained, also where an earlier run has left the
// shards' index beside the trained file.
func TestInitInShards(t *testing.T) {
	o := start(t)
	c, err := config.Load(o.Init)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := layout.Tensors(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteRandomFolder(t.Context(), o.Init, 1, specs, checkpoint.FolderOptions{ShardBytes: 4 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	if shards, _ := filepath.Glob(filepath.Join(o.Init, "model-*.safetensors")); len(shards) < 2 {
		t.Fatalf("shards: %v", shards)
	}
	o.Recipe = func(c *config.Config) Recipe {
		r := tiny(c)
		r.Stages = map[string]StageRecipe{StageAlign: {Steps: 1, Micro: 1, Schedule: Schedule{Peak: 1e-2}}}
		return r
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := run(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	const name = "latent_query.weight"
	read := func() []float32 {
		t.Helper()
		w, err := weights.Read(filepath.Join(out, "model"))
		if err != nil {
			t.Fatal(err)
		}
		x, err := w.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		return x.Data
	}
	state, err := weights.Read(filepath.Join(out, "state-a"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := state.Get("weight/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read(), want.Data) {
		t.Errorf("the model reads back other weights than were trained")
	}
	// What a run of an earlier version has left: shards and index beside the trained file.
	if err := os.CopyFS(filepath.Join(out, "more"), os.DirFS(o.Init)); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(out, "more", "model*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		if err := os.Rename(file, filepath.Join(out, "model", filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(read(), want.Data) {
		t.Errorf("beside an old index the model reads back other weights than were trained")
	}
}
