package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stllm/stllm/node/smallfile"
)

// maxFile bounds a tokenizer.json; Qwen's has 11 MB.
const maxFile = 256 << 20

// maxID bounds token ids: the tables by id are as long as the largest.
const maxID = 1 << 22

type fileJSON struct {
	AddedTokens  []addedJSON     `json:"added_tokens"`
	Normalizer   *stepJSON       `json:"normalizer"`
	PreTokenizer *stepJSON       `json:"pre_tokenizer"`
	Model        json.RawMessage `json:"model"`
}

type addedJSON struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Special    bool   `json:"special"`
}

type stepJSON struct {
	Type          string     `json:"type"`
	Normalizers   []stepJSON `json:"normalizers"`
	PreTokenizers []stepJSON `json:"pretokenizers"`
	Pattern       struct {
		Regex string `json:"Regex"`
	} `json:"pattern"`
	Behavior         string `json:"behavior"`
	Invert           bool   `json:"invert"`
	AddPrefixSpace   bool   `json:"add_prefix_space"`
	UseRegex         *bool  `json:"use_regex"`
	IndividualDigits bool   `json:"individual_digits"`

	CleanText    bool  `json:"clean_text"`
	ChineseChars bool  `json:"handle_chinese_chars"`
	StripAccents *bool `json:"strip_accents"`
	Lowercase    bool  `json:"lowercase"`
}

type modelJSON struct {
	Type          string            `json:"type"`
	Dropout       *float64          `json:"dropout"`
	Prefix        string            `json:"continuing_subword_prefix"`
	Suffix        string            `json:"end_of_word_suffix"`
	ByteFallback  bool              `json:"byte_fallback"`
	IgnoreMerges  bool              `json:"ignore_merges"`
	Vocab         map[string]int32  `json:"vocab"`
	Merges        []json.RawMessage `json:"merges"`
	UnkToken      *string           `json:"unk_token"`
	MaxInputChars int               `json:"max_input_chars_per_word"`
}

// Open reads a tokenizer.json with a byte-level BPE model.
func Open(path string) (*Tokenizer, error) { return open(path, Parse) }

func open[T any](path string, parse func([]byte) (*T, error)) (*T, error) {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// decode reads a tokenizer.json and the model in it, whatever its type.
func decode(data []byte) (f fileJSON, m modelJSON, err error) {
	if err := json.Unmarshal(data, &f); err != nil {
		return f, m, fmt.Errorf("tokenizer.json: %w", err)
	}
	if err := json.Unmarshal(f.Model, &m); err != nil {
		return f, m, fmt.Errorf("tokenizer.json: model: %w", err)
	}
	return f, m, nil
}

// Parse reads the content of a tokenizer.json with a byte-level BPE model. A part that this package does not know is an
// error that names it: a tokenizer that is nearly right gives a model that is quietly wrong.
func Parse(data []byte) (*Tokenizer, error) {
	f, m, err := decode(data)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Type != "BPE":
		return nil, fmt.Errorf("tokenizer.json: model.type %q, expected BPE", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("tokenizer.json: model.dropout %v, expected none", *m.Dropout)
	case m.Prefix != "" || m.Suffix != "" || m.ByteFallback:
		return nil, errors.New("tokenizer.json: model: subword prefix, suffix or byte_fallback are not byte-level BPE")
	}
	b := builder{ignoreMerges: m.IgnoreMerges}
	if b.nfc, err = readNormalizer(f.Normalizer); err != nil {
		return nil, fmt.Errorf("tokenizer.json: normalizer: %w", err)
	}
	if b.split, err = readSplit(f.PreTokenizer); err != nil {
		return nil, fmt.Errorf("tokenizer.json: pre_tokenizer: %w", err)
	}
	b.vocab = m.Vocab
	for i, raw := range m.Merges {
		p, err := readMerge(raw)
		if err != nil {
			return nil, fmt.Errorf("tokenizer.json: model.merges[%d]: %w", i, err)
		}
		b.merges = append(b.merges, p)
	}
	for _, a := range f.AddedTokens {
		if a.SingleWord || a.LStrip || a.RStrip {
			return nil, fmt.Errorf("tokenizer.json: added token %q: single_word, lstrip and rstrip are not supported", a.Content)
		}
		b.added = append(b.added, added{a.Content, a.ID, a.Special})
	}
	t, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return t, nil
}

func readNormalizer(s *stepJSON) (nfc bool, err error) {
	switch {
	case s == nil, s.Type == "Sequence" && len(s.Normalizers) == 0:
		return false, nil
	case s.Type == "NFC":
		return true, nil
	case s.Type == "Sequence" && len(s.Normalizers) == 1:
		return readNormalizer(&s.Normalizers[0])
	}
	return false, fmt.Errorf("type %q, expected NFC or none", s.Type)
}

func readSplit(s *stepJSON) (splitter, error) {
	if s == nil {
		return splitter{}, errors.New("none, expected a split and ByteLevel")
	}
	steps := s.PreTokenizers
	if s.Type != "Sequence" {
		steps = []stepJSON{*s}
	}
	var out splitter
	known := false
	for i, p := range steps {
		switch p.Type {
		case "Split":
			if known || p.Behavior != "Isolated" || p.Invert {
				return out, fmt.Errorf("Split with behavior %q, invert %v, expected one that is Isolated", p.Behavior, p.Invert)
			}
			known = true
			switch p.Pattern.Regex {
			case qwen2Pattern:
				out.digits = 1
			case llama3Pattern:
				out.digits = 3
			case gpt2Pattern:
				out.gpt2 = true
			default:
				return out, fmt.Errorf("pattern %q is not known", p.Pattern.Regex)
			}
		case "Digits":
			if !p.IndividualDigits || i != 0 {
				return out, errors.New("Digits must come first and be individual")
			}
			out.lone = true
		case "ByteLevel":
			if p.AddPrefixSpace || i != len(steps)-1 {
				return out, errors.New("ByteLevel must come last, without a prefix space")
			}
			if p.UseRegex == nil || *p.UseRegex {
				if known {
					return out, errors.New("both a Split and ByteLevel's own pattern")
				}
				known, out.gpt2 = true, true
			}
		default:
			return out, fmt.Errorf("type %q is not known", p.Type)
		}
	}
	if !known {
		return out, errors.New("no split pattern")
	}
	return out, nil
}

// readMerge takes "a b" (older files) or ["a", "b"].
func readMerge(raw json.RawMessage) ([2]string, error) {
	var p []string
	if err := json.Unmarshal(raw, &p); err == nil {
		if len(p) != 2 {
			return [2]string{}, fmt.Errorf("%d parts, expected 2", len(p))
		}
		return [2]string(p), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return [2]string{}, err
	}
	a, b, ok := strings.Cut(s, " ")
	if !ok {
		return [2]string{}, fmt.Errorf("%q, expected two parts", s)
	}
	return [2]string{a, b}, nil
}

type added struct {
	content string
	id      int32
	special bool
}

// builder collects what every source of a byte-level BPE gives. Tokens are spelled in the printable alphabet of GPT-2.
type builder struct {
	split        splitter
	nfc          bool
	ignoreMerges bool
	vocab        map[string]int32
	merges       [][2]string
	added        []added
}

func (b *builder) build() (*Tokenizer, error) {
	t := &Tokenizer{split: b.split, nfc: b.nfc, whole: b.ignoreMerges, merges: make(map[uint64]merge, len(b.merges)),
		ids: make(map[string]int32, len(b.vocab)), added: map[string]int32{}, match: map[byte][]pattern{}}
	largest := int32(-1)
	for token, id := range b.vocab {
		if id < 0 || id >= maxID {
			return nil, fmt.Errorf("token %q has the id %d, expected 0 to %d", token, id, maxID-1)
		}
		largest = max(largest, id)
	}
	for _, a := range b.added {
		if a.content == "" || a.id < 0 || a.id >= maxID {
			return nil, fmt.Errorf("added token %q has the id %d, expected 0 to %d", a.content, a.id, maxID-1)
		}
		largest = max(largest, a.id)
	}
	t.text, t.special = make([][]byte, largest+1), make([]bool, largest+1)
	alphabet := byteAlphabet()
	for i := range t.bytes {
		t.bytes[i] = -1
	}
	for token, id := range b.vocab {
		raw, ok := alphabet.decode(token)
		if !ok { // an added token kept in the vocabulary too, spelled as it is
			raw = []byte(token)
		}
		if t.text[id] != nil {
			return nil, fmt.Errorf("tokens %q and %q have the same id %d", t.text[id], raw, id)
		}
		t.text[id] = raw
		if !ok {
			continue
		}
		t.ids[string(raw)] = id
		if len(raw) == 1 {
			t.bytes[raw[0]] = id
		}
	}
	for _, a := range b.added {
		t.text[a.id], t.special[a.id] = []byte(a.content), a.special
		if _, twice := t.added[a.content]; twice {
			return nil, fmt.Errorf("added token %q appears twice", a.content)
		}
		t.added[a.content] = a.id
		delete(t.ids, a.content) // no ordinary text may become it (with ignore_merges a whole piece is looked up)
		t.match[a.content[0]] = append(t.match[a.content[0]], pattern{a.content, a.id})
	}
	for _, list := range t.match {
		slices.SortFunc(list, func(a, b pattern) int { return len(b.content) - len(a.content) })
	}
	if err := b.rank(t); err != nil {
		return nil, err
	}
	return t, b.complete(t)
}

func (b *builder) rank(t *Tokenizer) error {
	for rank, m := range b.merges {
		left, ok1 := b.vocab[m[0]]
		right, ok2 := b.vocab[m[1]]
		id, ok3 := b.vocab[m[0]+m[1]]
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("merge %d (%q with %q): a part or the result is not in the vocabulary", rank, m[0], m[1])
		}
		if t.special[id] {
			return fmt.Errorf("merge %d makes the special token %q: ordinary text could become it", rank, m[0]+m[1])
		}
		// The reference keeps the last rank of a pair that is listed twice.
		t.merges[pair(left, right)] = merge{int32(rank), id}
	}
	return nil
}

// complete refuses a vocabulary that would lose readable text: printable ASCII and the continuation bytes of UTF-8 must be
// tokens. Others may be missing (SmolLM2 has no token for most control characters); such bytes are left out, as llama.cpp
// does.
func (b *builder) complete(t *Tokenizer) error {
	for i, id := range t.bytes {
		if id < 0 && (' ' <= i && i <= '~' || i == '\n' || 0x80 <= i && i <= 0xbf) {
			return fmt.Errorf("the vocabulary has no token for the byte %#02x", i)
		}
	}
	return nil
}

// alphabet is GPT-2's spelling of bytes as printable characters: printable Latin-1 stands for itself, the other 68 bytes are
// U+0100 and on, in order.
type alphabet map[rune]byte

func byteAlphabet() alphabet {
	a := alphabet{}
	next := rune(256)
	for i := range rune(256) {
		if '!' <= i && i <= '~' || 0xa1 <= i && i <= 0xac || 0xae <= i {
			a[i] = byte(i)
			continue
		}
		a[next] = byte(i)
		next++
	}
	return a
}

func (a alphabet) decode(token string) ([]byte, bool) {
	out := make([]byte, 0, utf8.RuneCountInString(token))
	for _, r := range token {
		b, ok := a[r]
		if !ok {
			return nil, false
		}
		out = append(out, b)
	}
	return out, true
}
