// Package tokenizer turns text into token ids and back: the byte-level BPE of Qwen2, Llama 3 and SmolLM2 (from a
// tokenizer.json or from GGUF metadata), and BERT's WordPiece.
//
// Text from outside can never become special tokens: Encode takes every character as ordinary text. Special tokens come from
// their ids (Special), or from EncodeWithAdded, which is for templates that the program itself writes.
package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Tokenizer is a byte-level BPE tokenizer. It is immutable and safe for concurrent use.
type Tokenizer struct {
	split   splitter
	nfc     bool
	whole   bool               // a piece that is a token itself is not merged ("ignore_merges", Llama 3)
	bytes   [256]int32         // token of each single byte, -1 where the vocabulary has none
	merges  map[uint64]merge   // by left id << 32 | right id
	ids     map[string]int32   // ordinary tokens by their bytes
	text    [][]byte           // bytes of each token by id; nil for ids that no token has
	special []bool             // by id: left out of decoded text
	added   map[string]int32   // added tokens by content
	match   map[byte][]pattern // added tokens by first byte, longest first
}

type merge struct{ rank, id int32 }

type pattern struct {
	content string
	id      int32
}

// Size is the largest id plus one. A model's vocabulary may be padded beyond it.
func (t *Tokenizer) Size() int { return len(t.text) }

// Special returns the id of an added token (<|im_end|>) by its content.
func (t *Tokenizer) Special(content string) (int32, error) {
	id, ok := t.added[content]
	if !ok {
		return 0, fmt.Errorf("the tokenizer has no added token %q", content)
	}
	return id, nil
}

// Bytes returns the bytes that a token stands for, nil where no token has this id. They need not be whole runes.
func (t *Tokenizer) Bytes(id int32) []byte {
	if id < 0 || int(id) >= len(t.text) {
		return nil
	}
	return t.text[id]
}

// IsSpecial says whether the token is marked special (and left out of decoded text on demand).
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// Encode returns the ids of text, all of it ordinary: a literal <|im_end|> gives the tokens of its characters. Bytes that
// are not UTF-8 become U+FFFD; characters that the vocabulary has no bytes for (control characters in SmolLM2) are left out.
func (t *Tokenizer) Encode(text string) []int32 {
	return t.appendPlain(make([]int32, 0, len(text)/3+1), text)
}

// EncodeWithAdded is Encode, but added tokens (special ones and others) that are spelled out in text become their ids. It is
// for the program's own templates and must never see text from outside.
func (t *Tokenizer) EncodeWithAdded(text string) []int32 {
	ids := make([]int32, 0, len(text)/3+1)
	start := 0
	for i := 0; i < len(text); {
		p, ok := t.matchAt(text[i:])
		if !ok {
			i++
			continue
		}
		ids = t.appendPlain(ids, text[start:i])
		ids = append(ids, p.id)
		i += len(p.content)
		start = i
	}
	return t.appendPlain(ids, text[start:])
}

func (t *Tokenizer) matchAt(text string) (pattern, bool) {
	for _, p := range t.match[text[0]] {
		if strings.HasPrefix(text, p.content) {
			return p, true
		}
	}
	return pattern{}, false
}

func (t *Tokenizer) appendPlain(ids []int32, text string) []int32 {
	if !utf8.ValidString(text) {
		text = string(valid([]byte(text)))
	}
	if t.nfc {
		text = nfc(text)
	}
	var w word
	t.split.each(text, func(piece string) { ids = t.appendPiece(ids, &w, piece) })
	return ids
}

// Decode returns the text of ids. Bytes that are not UTF-8 become U+FFFD, one for each broken sequence. Ids without a token
// are left out, and with skipSpecial the special ones too.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	var b []byte
	for _, id := range ids {
		if skipSpecial && t.IsSpecial(id) {
			continue
		}
		b = append(b, t.Bytes(id)...)
	}
	return string(valid(b))
}

// Turn returns one turn of a qwen_1_5 (ChatML) conversation: <|im_start|>, role, newline, content, <|im_end|>, newline. The
// content is ordinary text throughout.
func (t *Tokenizer) Turn(role, content string) ([]int32, error) {
	end, err := t.Special("<|im_end|>")
	if err != nil {
		return nil, fmt.Errorf("chat turn: %w", err)
	}
	// Role and content are encoded together, as the template does: a content that begins with a newline merges with the
	// role's.
	ids, err := t.Header(role, content)
	if err != nil {
		return nil, err
	}
	ids = append(ids, end)
	return t.appendPlain(ids, "\n"), nil
}

// Header returns the beginning of a qwen_1_5 turn: <|im_start|>, role, newline, and the text that follows, if any.
func (t *Tokenizer) Header(role, text string) ([]int32, error) {
	start, err := t.Special("<|im_start|>")
	if err != nil {
		return nil, fmt.Errorf("chat turn: %w", err)
	}
	if role == "" || strings.ContainsAny(role, "\n<>|") {
		return nil, errors.New("chat turn: the role must be a plain word")
	}
	return t.appendPlain([]int32{start}, role+"\n"+text), nil
}
