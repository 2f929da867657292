package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// splitter cuts text into the pieces within which BPE merges, as a model's regular expression does. Go's regexp has no
// look-ahead, so the two families of expressions are written out here. Unicode classes are Go's.
type splitter struct {
	// gpt2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
	// otherwise: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
	gpt2 bool
	// digits is the longest run of digits in one piece of the second expression.
	digits int
	// lone cuts every digit off before the expression runs (SmolLM2).
	lone bool
}

const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

func (s splitter) each(text string, emit func(string)) {
	if !s.lone {
		s.run(text, emit)
		return
	}
	start := 0
	for i, r := range text {
		if !unicode.IsNumber(r) {
			continue
		}
		s.run(text[start:i], emit)
		start = i + utf8.RuneLen(r)
		emit(text[i:start])
	}
	s.run(text[start:], emit)
}

func (s splitter) run(text string, emit func(string)) {
	for len(text) > 0 {
		n := 0
		if s.gpt2 {
			n = gpt2Piece(text)
		} else {
			n = s.qwenPiece(text)
		}
		emit(text[:n])
		text = text[n:]
	}
}

// gpt2Piece returns the length of the first piece of a text that is not empty.
func gpt2Piece(text string) int {
	if n := contraction(text, false); n > 0 {
		return n
	}
	space := 0
	if text[0] == ' ' {
		space = 1
	}
	rest := text[space:]
	for _, class := range []func(rune) bool{unicode.IsLetter, unicode.IsNumber, isOther} {
		if n := length(rest, class, -1); n > 0 {
			return space + n
		}
	}
	return blank(text)
}

func (s splitter) qwenPiece(text string) int {
	if n := contraction(text, true); n > 0 {
		return n
	}
	r, size := utf8.DecodeRuneInString(text)
	lead := 0
	if r != '\r' && r != '\n' && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
		lead = size
	}
	if n := length(text[lead:], unicode.IsLetter, -1); n > 0 {
		return lead + n
	}
	if n := length(text, unicode.IsNumber, s.digits); n > 0 {
		return n
	}
	space := 0
	if r == ' ' {
		space = 1
	}
	if n := length(text[space:], isOther, -1); n > 0 {
		n += space
		return n + length(text[n:], isBreak, -1)
	}
	// \s*[\r\n]+ reaches to the last line break of the run.
	last := 0
	for i, r := range text {
		if !unicode.Is(unicode.White_Space, r) {
			break
		}
		if isBreak(r) {
			last = i + 1
		}
	}
	if last > 0 {
		return last
	}
	return blank(text)
}

// blank is \s+(?!\S)|\s+ : a run of white space, less its last rune where something follows. Text begins with white space.
func blank(text string) int {
	n, last := 0, 0
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if !unicode.Is(unicode.White_Space, r) {
			break
		}
		n, last = n+size, size
	}
	if n < len(text) && n > last {
		return n - last
	}
	return n
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the beginning, else 0.
func contraction(text string, fold bool) int {
	if text[0] != '\'' || len(text) < 2 {
		return 0
	}
	lower := func(b byte) byte {
		if fold && 'A' <= b && b <= 'Z' {
			return b + 'a' - 'A'
		}
		return b
	}
	switch lower(text[1]) {
	case 's', 't', 'm', 'd':
		return 2
	}
	if fold && len(text) >= 3 && text[1:3] == "ſ" { // folds to s
		return 3
	}
	if len(text) >= 3 {
		switch string([]byte{lower(text[1]), lower(text[2])}) {
		case "re", "ve", "ll":
			return 3
		}
	}
	return 0
}

// length is the bytes of the longest run of class at the beginning, of at most limit runes where limit is not negative.
func length(text string, class func(rune) bool, limit int) int {
	count := 0
	for i, r := range text {
		if count == limit || !class(r) {
			return i
		}
		count++
	}
	return len(text)
}

func isBreak(r rune) bool { return r == '\r' || r == '\n' }

// isOther is [^\s\p{L}\p{N}].
func isOther(r rune) bool {
	return !unicode.Is(unicode.White_Space, r) && !unicode.IsLetter(r) && !unicode.IsNumber(r)
}
