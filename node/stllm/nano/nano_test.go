package nano

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/tokenizer"
)

// Every class has a word of its own that is one token, so that the networks' features can be aligned with it.
func TestClassWordsAreTokens(t *testing.T) {
	dir := t.TempDir()
	if err := Init(t.Context(), dir, Options{Config: "nano", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(dir + "/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, c := range kitchen.Classes() {
		w := ClassWord(c)
		if w == "" {
			t.Errorf("class %q has no word of its own", c)
		}
		if old, dup := seen[w]; dup {
			t.Errorf("classes %q and %q share the word %q", old, c, w)
		}
		seen[w] = c
		if ids := tok.Encode(" " + w); len(ids) != 1 {
			t.Errorf("%q is %d tokens, expected one", w, len(ids))
		}
	}
	k, err := kitchen.Generate(kitchen.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	words, tokens := 0, 0
	for _, q := range k.Questions {
		words += len(q.Text)
		tokens += len(tok.Encode(q.Text))
	}
	t.Logf("%d tokens, %.1f characters a token", tok.Size(), float64(words)/float64(tokens))
}

// Where a model cannot be written the folder is as it was: absent, or empty.
func TestNothingIsLeft(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "whole")
	if err := Init(t.Context(), whole, Options{Config: "published-tiny", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, write := range map[string]func(dir string) error{
		"init":         func(dir string) error { return Init(ended, dir, Options{Config: "published-tiny", Seed: 1}) },
		"unknown name": func(dir string) error { return Init(t.Context(), dir, Options{Config: "micro", Seed: 1}) },
		"export":       func(dir string) error { return Export(ended, whole, dir, "x", nil) },
	} {
		absent, empty := filepath.Join(t.TempDir(), "absent"), t.TempDir()
		for _, dir := range []string{absent, empty} {
			if err := write(dir); err == nil {
				t.Errorf("%s: written", name)
			}
		}
		if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder was left: %v", name, err)
		}
		if entries, err := os.ReadDir(empty); err != nil || len(entries) != 0 {
			t.Errorf("%s: left %v, %v", name, entries, err)
		}
	}
}

// The built-in model is exported with another field of its config and the same weights; a field that they do not fit, or that there
// is none of, leaves nothing.
func TestExportWithOtherFields(t *testing.T) {
	shipped := filepath.Join(t.TempDir(), "shipped")
	if err := Write(shipped); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "depth")
	if err := Export(t.Context(), shipped, dir, "deep", map[string]string{"robot_config.patch_place": "depth"}); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(dir)
	if err != nil || c.RobotConfig.PatchPlace != "depth" {
		t.Fatalf("%+v, %v, expected patch_place depth", c, err)
	}
	for _, name := range []string{"model.safetensors", "tokenizer.json"} {
		was, errWas := os.ReadFile(filepath.Join(shipped, name))
		is, errIs := os.ReadFile(filepath.Join(dir, name))
		if errWas != nil || errIs != nil || len(was) == 0 || len(was) != len(is) {
			t.Errorf("%s: %d bytes became %d (%v, %v)", name, len(was), len(is), errWas, errIs)
		}
	}
	for field, value := range map[string]string{"robot_config.start_frame": "false", "num_hidden_layers": "5", "robot_config.depth": "1"} {
		absent := filepath.Join(t.TempDir(), "absent")
		if err := Export(t.Context(), shipped, absent, "x", map[string]string{field: value}); err == nil {
			t.Errorf("%s=%s: written", field, value)
		}
		if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s=%s: the folder was left: %v", field, value, err)
		}
	}
}
