package tokenizer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
)

// Token types of GGUF's tokenizer.ggml.token_type.
const (
	ggufControl     = 3
	ggufUserDefined = 4
	ggufUnused      = 5
)

// FromGGUF reads the tokenizer inside a GGUF file: tokenizer.ggml.model gpt2 with the pre-tokenizers qwen2, llama-bpe (Llama
// 3), smollm and gpt-2. Qwen2's text is brought to NFC as its own tokenizer does (llama.cpp does not).
func FromGGUF(g *checkpoint.GGUF) (*Tokenizer, error) {
	model, _ := g.Text("tokenizer.ggml.model")
	if model != "gpt2" {
		return nil, fmt.Errorf("gguf: tokenizer.ggml.model is %q, expected gpt2 (byte-level BPE)", model)
	}
	tokens, ok := g.Strings("tokenizer.ggml.tokens")
	if !ok || len(tokens) > maxID {
		return nil, fmt.Errorf("gguf: tokenizer.ggml.tokens is missing, is no list of strings or has more than %d", maxID)
	}
	merges, ok := g.Strings("tokenizer.ggml.merges")
	if !ok {
		return nil, errors.New("gguf: tokenizer.ggml.merges is missing or is no list of strings")
	}
	types, ok := g.Metadata["tokenizer.ggml.token_type"].([]int32)
	if !ok || len(types) != len(tokens) {
		return nil, fmt.Errorf("gguf: tokenizer.ggml.token_type has %d entries, expected one for each of the %d tokens", len(types), len(tokens))
	}
	b := builder{vocab: make(map[string]int32, len(tokens))}
	switch pre, _ := g.Text("tokenizer.ggml.pre"); pre {
	case "qwen2":
		b.split, b.nfc = splitter{digits: 1}, true
	case "llama-bpe":
		b.split, b.ignoreMerges = splitter{digits: 3}, true
	case "smollm":
		b.split = splitter{gpt2: true, lone: true}
	case "gpt-2":
		b.split = splitter{gpt2: true}
	default:
		return nil, fmt.Errorf("gguf: tokenizer.ggml.pre is %q, expected qwen2, llama-bpe, smollm or gpt-2", pre)
	}
	for i, token := range tokens {
		id := int32(i)
		switch types[i] {
		case ggufControl, ggufUserDefined:
			b.added = append(b.added, added{token, id, types[i] == ggufControl})
		case ggufUnused:
		default:
			if old, twice := b.vocab[token]; twice {
				return nil, fmt.Errorf("gguf: tokens %d and %d are both %q", old, id, token)
			}
			b.vocab[token] = id
		}
	}
	for i, m := range merges {
		left, right, ok := strings.Cut(m, " ")
		if !ok {
			return nil, fmt.Errorf("gguf: tokenizer.ggml.merges[%d] is %q, expected two parts", i, m)
		}
		b.merges = append(b.merges, [2]string{left, right})
	}
	t, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("gguf: tokenizer: %w", err)
	}
	return t, nil
}
