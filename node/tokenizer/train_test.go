package tokenizer

import (
	"bytes"
	"testing"
)

func TestTrain(t *testing.T) {
	texts := []string{"the sink is to the left of the person", "the fridge is behind the person", "where is the sink?", "Où est l'évier ?"}
	special := []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
	a, err := Train(texts, 270, special)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Train(texts, 270, special)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("trained twice, the files differ (%v)", err)
	}
	tok, err := Parse(a)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Size() != 273 {
		t.Errorf("%d tokens, expected 270 and 3 special ones", tok.Size())
	}
	for _, text := range append(texts, "an unseen 杯子 ☕\x00") {
		if got := tok.Decode(tok.Encode(text), false); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	}
	if n := len(tok.Encode(" the person")); n > 8 {
		t.Errorf("frequent words take %d tokens", n)
	}
	if id, err := tok.Special("<|im_end|>"); err != nil || id != 272 {
		t.Errorf("<|im_end|> is %d (%v)", id, err)
	}
	if _, err := Train(texts, 10, nil); err == nil {
		t.Error("a vocabulary smaller than the bytes was trained")
	}
}
