package tokenizer

import "unicode/utf8"

// StreamDecoder turns tokens into text one at a time and hands out whole runes only. All it hands out, joined, is what
// Decode gives for the same ids.
type StreamDecoder struct {
	tokenizer   *Tokenizer
	skipSpecial bool
	pending     []byte // at most three bytes of an unfinished rune
}

// Stream returns a decoder for one answer.
func (t *Tokenizer) Stream(skipSpecial bool) *StreamDecoder {
	return &StreamDecoder{tokenizer: t, skipSpecial: skipSpecial}
}

// Push takes the next token and returns the text that is now certain, which may be empty.
func (d *StreamDecoder) Push(id int32) string {
	if d.skipSpecial && d.tokenizer.IsSpecial(id) {
		return ""
	}
	d.pending = append(d.pending, d.tokenizer.Bytes(id)...)
	var out []byte
	for len(d.pending) > 0 {
		n, ok := sequence(d.pending)
		if !ok && n == len(d.pending) && unfinished(d.pending) {
			break
		}
		out, d.pending = appendSequence(out, d.pending, n, ok)
	}
	return string(out)
}

// Flush returns what is left at the end of an answer: U+FFFD where it stopped inside a rune.
func (d *StreamDecoder) Flush() string {
	out := valid(d.pending)
	d.pending = nil
	return string(out)
}

// valid replaces each broken sequence by one U+FFFD, where a broken sequence is the longest beginning of a rune (Unicode's
// "maximal subpart", which is also what the models' own tokenizers do; Go's ranging gives one per byte).
func valid(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	out := make([]byte, 0, len(b)+8)
	for len(b) > 0 {
		n, ok := sequence(b)
		out, b = appendSequence(out, b, n, ok)
	}
	return out
}

func appendSequence(out, b []byte, n int, ok bool) (longer, rest []byte) {
	if ok {
		return append(out, b[:n]...), b[n:]
	}
	return utf8.AppendRune(out, utf8.RuneError), b[n:]
}

// sequence returns the length of the first rune of b, or of its longest beginning that could have become one.
func sequence(b []byte) (n int, ok bool) {
	if r, n := utf8.DecodeRune(b); r != utf8.RuneError || n == 3 {
		return n, true
	}
	size, low, high := lead(b[0])
	for n = 1; n < size && n < len(b) && low <= b[n] && b[n] <= high; n++ {
		low, high = 0x80, 0xbf
	}
	return n, false
}

// unfinished says whether b is the beginning of a rune.
func unfinished(b []byte) bool {
	size, _, _ := lead(b[0])
	return len(b) < size
}

// lead gives the length of the rune that a first byte announces, and the range of the second byte (Unicode table 3-7).
func lead(b byte) (size int, low, high byte) {
	switch {
	case 0xc2 <= b && b <= 0xdf:
		return 2, 0x80, 0xbf
	case b == 0xe0:
		return 3, 0xa0, 0xbf
	case b == 0xed:
		return 3, 0x80, 0x9f
	case 0xe1 <= b && b <= 0xef:
		return 3, 0x80, 0xbf
	case b == 0xf0:
		return 4, 0x90, 0xbf
	case 0xf1 <= b && b <= 0xf3:
		return 4, 0x80, 0xbf
	case b == 0xf4:
		return 4, 0x80, 0x8f
	}
	return 1, 0, 0
}
