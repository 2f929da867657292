package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// WordPiece is BERT's tokenizer. It is immutable and safe for concurrent use.
type WordPiece struct {
	vocab                  map[string]int32
	prefix                 string
	maxChars               int
	unknown, first, last   int32
	clean, chinese         bool
	stripAccents, lowerAll bool
}

// OpenWordPiece reads a tokenizer.json with a WordPiece model and BERT's normalizer.
func OpenWordPiece(path string) (*WordPiece, error) { return open(path, ParseWordPiece) }

// ParseWordPiece reads the content of a tokenizer.json with a WordPiece model and BERT's normalizer.
func ParseWordPiece(data []byte) (*WordPiece, error) {
	f, m, err := decode(data)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Type != "WordPiece":
		return nil, fmt.Errorf("tokenizer.json: model.type %q, expected WordPiece", m.Type)
	case f.Normalizer == nil || f.Normalizer.Type != "BertNormalizer":
		return nil, errors.New("tokenizer.json: normalizer: expected BertNormalizer")
	case f.PreTokenizer == nil || f.PreTokenizer.Type != "BertPreTokenizer":
		return nil, errors.New("tokenizer.json: pre_tokenizer: expected BertPreTokenizer")
	case m.UnkToken == nil || m.Prefix == "":
		return nil, errors.New("tokenizer.json: model: unk_token or continuing_subword_prefix is missing")
	case m.MaxInputChars < 1 || m.MaxInputChars > 1000:
		return nil, fmt.Errorf("tokenizer.json: model.max_input_chars_per_word %d, expected 1 to 1000", m.MaxInputChars)
	}
	w := &WordPiece{vocab: m.Vocab, prefix: m.Prefix, maxChars: m.MaxInputChars, clean: f.Normalizer.CleanText,
		chinese: f.Normalizer.ChineseChars, lowerAll: f.Normalizer.Lowercase, stripAccents: f.Normalizer.Lowercase}
	if f.Normalizer.StripAccents != nil {
		w.stripAccents = *f.Normalizer.StripAccents
	}
	for _, s := range []struct {
		name string
		id   *int32
	}{{*m.UnkToken, &w.unknown}, {"[CLS]", &w.first}, {"[SEP]", &w.last}} {
		id, ok := m.Vocab[s.name]
		if !ok {
			return nil, fmt.Errorf("tokenizer.json: model.vocab has no %q", s.name)
		}
		*s.id = id
	}
	return w, nil
}

// Encode returns [CLS], the ids of text and [SEP], cut to at most limit ids (at least 2) by dropping from the end of the text.
// All of text is ordinary: a literal [SEP] gives the tokens of its characters.
func (w *WordPiece) Encode(text string, limit int) []int32 {
	limit = max(limit, 2)
	ids := []int32{w.first}
	for _, word := range w.words(w.normalize(text)) {
		if len(ids) >= limit-1 {
			break
		}
		ids = w.appendWord(ids, word)
	}
	return append(ids[:min(len(ids), limit-1)], w.last)
}

// appendWord matches the longest piece first; a word that does not come out even is unknown as a whole.
func (w *WordPiece) appendWord(ids []int32, word string) []int32 {
	if utf8.RuneCountInString(word) > w.maxChars {
		return append(ids, w.unknown)
	}
	before := len(ids)
	for start := 0; start < len(word); {
		prefix := w.prefix
		if start == 0 {
			prefix = ""
		}
		end := len(word)
		for ; end > start; end-- {
			if end < len(word) && !utf8.RuneStart(word[end]) {
				continue
			}
			if id, ok := w.vocab[prefix+word[start:end]]; ok {
				ids = append(ids, id)
				break
			}
		}
		if end == start {
			return append(ids[:before], w.unknown)
		}
		start = end
	}
	return ids
}

func (w *WordPiece) normalize(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case w.clean && (r == 0 || r == utf8.RuneError || isControl(r)):
		case w.clean && unicode.Is(unicode.White_Space, r):
			b.WriteByte(' ')
		case w.chinese && isChinese(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	text = b.String()
	if w.stripAccents {
		b.Reset()
		for _, r := range norm.NFD.String(text) {
			if !unicode.Is(unicode.Mn, r) {
				b.WriteRune(r)
			}
		}
		text = b.String()
	}
	if w.lowerAll {
		text = strings.ToLower(text)
	}
	return text
}

// words splits at white space and cuts every punctuation character off.
func (w *WordPiece) words(text string) []string {
	var out []string
	start := 0
	end := func(i int) {
		if i > start {
			out = append(out, text[start:i])
		}
	}
	for i, r := range text {
		size := utf8.RuneLen(r)
		switch {
		case unicode.Is(unicode.White_Space, r):
			end(i)
			start = i + size
		case isPunctuation(r):
			end(i)
			out = append(out, text[i:i+size])
			start = i + size
		}
	}
	end(len(text))
	return out
}

// isControl is Unicode's "other" class (control, format, private, surrogate, not assigned), without the three that count as
// white space.
func isControl(r rune) bool {
	if r == '\t' || r == '\n' || r == '\r' {
		return false
	}
	return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z)
}

// isPunctuation is ASCII's symbols and Unicode's P.
func isPunctuation(r rune) bool {
	if r < 128 {
		return unicode.IsPunct(r) || unicode.IsSymbol(r)
	}
	return unicode.IsPunct(r)
}

// isChinese says whether BERT puts spaces around the rune: the CJK ideograph blocks.
func isChinese(r rune) bool {
	for _, b := range [][2]rune{{0x4e00, 0x9fff}, {0x3400, 0x4dbf}, {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
		{0x2b920, 0x2ceaf}, {0xf900, 0xfaff}, {0x2f800, 0x2fa1f}} {
		if b[0] <= r && r <= b[1] {
			return true
		}
	}
	return false
}
