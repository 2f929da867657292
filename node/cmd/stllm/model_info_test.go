package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/testdata"
)

// The golden folder has everything but a point encoder, here inside of a Hugging Face cache; what it lacks is said and is an
// error, since it could not be loaded.
func TestGoldenModelInfo(t *testing.T) {
	src, cache := testdata.Golden(t, "core", "model"), t.TempDir()
	for _, dir := range []string{"refs", "snapshots"} {
		if err := os.Mkdir(filepath.Join(cache, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "refs", "main"), []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	snapshot, blobs := filepath.Join(cache, "snapshots", "abc"), filepath.Join(cache, "blobs")
	for _, dir := range []string{snapshot, blobs} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	var shards []string
	for i, file := range files {
		blob := fmt.Sprintf("%040x", i)
		if err := checkpoint.CopyFile(file.Name(), src, snapshot); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(snapshot, file.Name()), filepath.Join(blobs, blob)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, file.Name())); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file.Name(), ".safetensors") {
			shards = append(shards, file.Name())
		}
	}
	for _, dir := range []string{src, cache} {
		var out bytes.Buffer
		a := &app{out: &out, err: &out, log: zerolog.Nop()}
		err := a.modelInfo(dir, "", true)
		if err == nil || !strings.Contains(err.Error(), "tensors are missing: pcd_encoder.net3d.") {
			t.Errorf("%s: error %v, expected the point encoder to be missing", dir, err)
		}
		for _, want := range append(shards,
			"profile  published", "part ", "language model", "vision tower", "projector", "ray encoders", "Q-Former", "aligner projections",
			"stored and unused", "all that is used", "0 of 289", "BF16", ".safetensors", "missing: pcd_encoder.net3d.", "lm_head.weight",
		) {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%.2000s", dir, want, out.String())
			}
		}
	}
}

// What quantising costs is said layer by layer.
func TestLayersOf(t *testing.T) {
	var made []checkpoint.QuantisedMatrix
	for _, m := range []struct {
		name              string
		relative, largest float64
	}{
		{"model.layers.0.self_attn.q_proj.weight", 0.05, 0.3}, {"model.layers.0.mlp.down_proj.weight", 0.09, 0.1},
		{"model.layers.10.mlp.up_proj.weight", 0.02, 0.2}, {"lm_head.weight", 0.01, 0.4},
	} {
		made = append(made, checkpoint.QuantisedMatrix{Name: m.name, Error: checkpoint.QuantiseError{Relative: m.relative, MaxAbs: m.largest}})
	}
	want := []quantisedLayer{
		{"model.layers.0", 2, "model.layers.0.mlp.down_proj.weight", 0.09, 0.3},
		{"model.layers.10", 1, "model.layers.10.mlp.up_proj.weight", 0.02, 0.2},
		{"lm_head", 1, "lm_head.weight", 0.01, 0.4},
	}
	if got := layersOf(made); !slices.Equal(got, want) {
		t.Errorf("%+v, expected %+v", got, want)
	}
}

func TestModelFolderThatIsNotThere(t *testing.T) {
	m := modelFlags{dir: filepath.Join(t.TempDir(), "nanoo")}
	if _, err := m.folder(t.Context()); err == nil || !strings.Contains(err.Error(), "nanoo") || !strings.Contains(err.Error(), "built-in model is nano") {
		t.Errorf("%v, expected an error that names the folder and the built-in model", err)
	}
	if dir, err := (&modelFlags{dir: t.TempDir()}).folder(t.Context()); err != nil || dir == "" {
		t.Errorf("a folder that is there: %v", err)
	}
}
