package nano

import (
	"testing"

	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/tokenizer"
)

// Every class has a word of its own that is one token, so that the networks' features can be aligned with it.
func TestClassWordsAreTokens(t *testing.T) {
	dir := t.TempDir()
	if err := Init(t.Context(), dir, "nano", 1, nil); err != nil {
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
