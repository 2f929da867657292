package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort/orttest"
)

// A small model goes through what a large one does: made, quantised, shown, loaded against plain reading, asked.
func TestModelAndBenchCommands(t *testing.T) {
	orttest.Environment(t)
	dir := filepath.Join(t.TempDir(), "model")
	small := filepath.Join(t.TempDir(), "int4")
	for _, c := range []struct {
		args []string
		code int
		want []string // in the output, or in the errors where it fails
	}{
		{[]string{"model", "init", dir}, exitOK, []string{"nano-untrained"}},
		{[]string{"model", "quantize", dir, small, "--block", "64"}, exitOK, []string{"relative", "model.layers.3.mlp.down_proj.weight", "lm_head.weight"}},
		{[]string{"model", "quantize", dir, small}, exitError, []string{"not empty"}},
		{[]string{"model", "quantize", dir, small + "2", "--block", "48"}, exitUsage, []string{"--block is 48"}},
		{[]string{"model", "info", small}, exitOK, []string{"4-bit codes", "51 of 51", "4 layers of 128, 4 heads (2 of keys)"}},
		{[]string{"model", "info", dir, "--tensors"}, exitOK, []string{"model.layers.3.self_attn.k_proj.bias", "[64]", "model.safetensors"}},
		{[]string{"bench", "load", small, "--rounds", "1"}, exitOK, []string{"cold", "warm", "ratio", "1 files"}},
		{[]string{"bench", "load", dir, "--rounds", "0"}, exitUsage, []string{"--rounds is 0"}},
		{[]string{"bench", "load", dir, "--dtype", "fp8"}, exitUsage, []string{"fp8"}},
		{[]string{"bench", "answer", small, "--frames", "2", "--tokens", "2"}, exitOK, []string{"vision", "points", "align", "prefill", "decode", "2 frames"}},
		{[]string{"bench", "answer", small, "--frames", "2", "--tokens", "2", "--peer", "/nonexistent/python"}, exitUsage, []string{"--peer", "/nonexistent/python"}},
		{[]string{"bench", "answer", small, "--tokens", "0"}, exitUsage, []string{"--tokens 0"}},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(""), &out, &errs)
		text := out.String()
		if c.code != exitOK {
			text = errs.String()
		}
		if code != c.code {
			t.Fatalf("%v: exit %d, expected %d: %s", c.args, code, c.code, errs.String())
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%v: %q is not in\n%s", c.args, want, text)
			}
		}
	}
}

// The peer goes through as many things as the answer did.
func TestPeerShape(t *testing.T) {
	a := answered{dir: "model", frames: 12, voxels: 2000, prompt: 100, text: 14, decoded: 1}
	nano := config.Nano(960, 1)
	got := peerShape(nano, a, 2)
	want := peerRequest{Config: filepath.Join("model", "config.json"), Threads: 2, Frames: 12, Memory: 2000 + 12*64, Prompt: 100, Tokens: 2, Sequence: 16 + 12 + 14}
	if got != want {
		t.Errorf("nano: %+v, expected %+v", got, want)
	}
	published := config.Default()
	if got := peerShape(published, a, 1); got.Memory != 2000 || got.Sequence != 32+12*196+14 {
		t.Errorf("published: %+v", got)
	}
}
