package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

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
	if err := os.Symlink(src, filepath.Join(cache, "snapshots", "abc")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{src, cache} {
		var out bytes.Buffer
		a := &app{out: &out, err: &out, log: zerolog.Nop()}
		err := a.modelInfo(dir, "", true)
		if err == nil || !strings.Contains(err.Error(), "tensors are missing: pcd_encoder.net3d.") {
			t.Errorf("%s: error %v, expected the point encoder to be missing", dir, err)
		}
		for _, want := range []string{
			"profile  published", "part ", "language model", "vision tower", "projector", "ray encoders", "Q-Former", "aligner projections",
			"stored and unused (not used)", "0 of 289", "BF16", ".safetensors", "missing: pcd_encoder.net3d.", "lm_head.weight",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%.2000s", dir, want, out.String())
			}
		}
	}
}
