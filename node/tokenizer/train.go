package tokenizer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// qwenPattern is the pre-tokenizer's pattern as Qwen2's tokenizer.json spells it.
const qwenPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// Train makes a tokenizer.json of the Qwen2 kind from texts: 256 bytes, the most frequent merges up to size, then the special
// tokens. Of two equally frequent pairs the one that sorts first is merged, so the result depends on the texts alone.
func Train(texts []string, size int, special []string) ([]byte, error) {
	if size < 256 {
		return nil, fmt.Errorf("train a tokenizer: size %d, expected at least 256 (one token a byte)", size)
	}
	alphabet := byteAlphabet()
	base := trainer{vocab: map[string]int{}}
	for b := range 256 {
		base.add(alphabet.encode([]byte{byte(b)}))
	}
	start, err := base.json(nil)
	if err != nil {
		return nil, err
	}
	// The untrained tokenizer splits texts as the trained one will.
	t, err := Parse(start)
	if err != nil {
		return nil, fmt.Errorf("train a tokenizer: %w", err)
	}
	counts := map[string]int{}
	for _, text := range texts {
		t.split.each(nfc(text), func(piece string) { counts[piece]++ })
	}
	spelled := make([]string, 256)
	for b := range spelled {
		spelled[b] = alphabet.encode([]byte{byte(b)})
	}
	var words []trainWord
	for piece, n := range counts {
		w := trainWord{count: n}
		for i := range len(piece) {
			w.parts = append(w.parts, spelled[piece[i]])
		}
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b trainWord) int { return cmp.Compare(strings.Join(a.parts, ""), strings.Join(b.parts, "")) })
	for len(base.vocab) < size {
		best, ok := frequent(words)
		if !ok {
			break
		}
		base.merges = append(base.merges, best)
		base.add(best[0] + best[1])
		for i := range words {
			words[i].merge(best)
		}
	}
	return base.json(special)
}

type trainer struct {
	vocab  map[string]int
	merges [][2]string
}

func (t *trainer) add(token string) {
	if _, dup := t.vocab[token]; !dup {
		t.vocab[token] = len(t.vocab)
	}
}

type trainWord struct {
	parts []string
	count int
}

func (w *trainWord) merge(p [2]string) {
	out := w.parts[:0]
	for i := 0; i < len(w.parts); i++ {
		if i+1 < len(w.parts) && w.parts[i] == p[0] && w.parts[i+1] == p[1] {
			out = append(out, p[0]+p[1])
			i++
			continue
		}
		out = append(out, w.parts[i])
	}
	w.parts = out
}

// frequent finds the pair that stands most often; pairs that stand once are left alone.
func frequent(words []trainWord) (best [2]string, ok bool) {
	counts := map[[2]string]int{}
	for _, w := range words {
		for i := 1; i < len(w.parts); i++ {
			counts[[2]string{w.parts[i-1], w.parts[i]}] += w.count
		}
	}
	most := 1
	for p, n := range counts {
		if n > most || n == most && ok && (p[0] < best[0] || p[0] == best[0] && p[1] < best[1]) {
			best, most, ok = p, n, true
		}
	}
	return best, ok
}

// encode spells bytes as printable characters: the inverse of decode.
func (a alphabet) encode(raw []byte) string {
	spelled := make(map[byte]rune, len(a))
	for r, b := range a {
		spelled[b] = r
	}
	var out strings.Builder
	for _, c := range raw {
		out.WriteRune(spelled[c])
	}
	return out.String()
}

// json writes the tokenizer in the form that Hugging Face's library reads.
func (t *trainer) json(special []string) ([]byte, error) {
	type added struct {
		ID         int    `json:"id"`
		Content    string `json:"content"`
		SingleWord bool   `json:"single_word"`
		LStrip     bool   `json:"lstrip"`
		RStrip     bool   `json:"rstrip"`
		Normalized bool   `json:"normalized"`
		Special    bool   `json:"special"`
	}
	list := []added{}
	for i, s := range special {
		list = append(list, added{ID: len(t.vocab) + i, Content: s, Special: true})
	}
	merges := t.merges
	if merges == nil {
		merges = [][2]string{}
	}
	level := func(prefix, trim, regex bool) map[string]any {
		return map[string]any{"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": regex}
	}
	return json.MarshalIndent(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": list,
		"normalizer": map[string]any{"type": "NFC"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": qwenPattern}, "behavior": "Isolated", "invert": false},
			level(false, true, false),
		}},
		"post_processor": level(true, false, true),
		"decoder":        level(true, true, true),
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": t.vocab, "merges": merges,
		},
	}, "", " ")
}
