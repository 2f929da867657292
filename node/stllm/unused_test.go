package stllm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/testdata"
)

// Weights that a config leaves unused are told of once, by number and name; a model that uses all of its own is quiet.
func TestUnusedWeights(t *testing.T) {
	whole := variant(t, func(*config.Config) {})
	short := variant(t, func(c *config.Config) { c.NumHiddenLayers++ })
	if err := checkpoint.CopyFile("config.json", whole, short); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{whole: "", short: `"tensors":12,"names":"model.layers.4.input_layernorm.weight, `} {
		var log testdata.Log
		n, err := stllm.Load(t.Context(), orttest.Environment(t), dir, stllm.Options{Threads: 1, Log: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if got := strings.Count(log.String(), "leaves unused"); got != min(1, len(want)) || !strings.Contains(log.String(), want) {
			t.Errorf("%s: %s, expected %q", dir, log.String(), want)
		}
	}
}

// A folder whose text cannot be read is said to be so without loading it; a quantised one cannot be quantised again.
func TestCheckText(t *testing.T) {
	for name, c := range map[string]struct{ file, content, want string }{
		"whole":                {"", "", ""},
		"no tokenizer":         {"tokenizer.json", "", "tokenizer.json"},
		"half a tokenizer":     {"tokenizer.json", `{"model":`, "tokenizer.json"},
		"damaged generation":   {"generation_config.json", `{"top_p":`, "generation_config.json"},
		"generation not valid": {"generation_config.json", `{"top_p":7}`, "top_p is 7"},
	} {
		dir := variant(t, func(*config.Config) {})
		cfg, err := config.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if c.file != "" {
			err = os.Remove(filepath.Join(dir, c.file))
		}
		if err == nil && c.content != "" {
			err = os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := stllm.CheckText(dir, cfg); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
	dir := variant(t, func(*config.Config) {})
	again := quantised(t, dir, 32, "")
	cfg, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(again)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := layout.Quantise(t.Context(), f, cfg, filepath.Join(t.TempDir(), "twice"), layout.QuantiseOptions{Block: 32}, nil); err == nil || !strings.Contains(err.Error(), "4-bit codes already") {
		t.Errorf("quantised twice: %v", err)
	}
}
