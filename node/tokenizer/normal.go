package tokenizer

import (
	"slices"

	"golang.org/x/text/unicode/norm"
)

// maxMarks is the run of combining marks after which x/text inserts U+034F (the stream-safe form). The tokenizers of the
// models do not.
const maxMarks = 30

// nfc is Unicode's normalization form C.
func nfc(s string) string {
	if norm.NFC.IsNormalString(s) && !longRun(s) {
		return s
	}
	if !longRun(s) {
		return norm.NFC.String(s)
	}
	return composeAll(s)
}

// longRun says whether the decomposed text has more than maxMarks combining marks in a row. A rune decomposes to at most
// three marks after its base, so counting those in is on the safe side.
func longRun(s string) bool {
	run := 0
	for i := 0; i < len(s); {
		p := norm.NFC.PropertiesString(s[i:])
		switch d := p.Decomposition(); {
		case p.CCC() != 0:
			run += max(1, len(d)/2)
		case len(d) > 0:
			run = 3
		default:
			run = 0
		}
		if run > maxMarks {
			return true
		}
		i += max(1, p.Size())
	}
	return false
}

// composeAll is NFC without x/text's limit: decompose, order the marks by class, compose.
func composeAll(s string) string {
	type char struct {
		r     rune
		class uint8
	}
	var in []char
	for _, r := range s {
		for _, d := range norm.NFD.String(string(r)) {
			in = append(in, char{d, norm.NFD.PropertiesString(string(d)).CCC()})
		}
	}
	for i := 0; i < len(in); {
		j := i + 1
		for j < len(in) && in[j].class != 0 {
			j++
		}
		from := i
		if in[i].class == 0 {
			from++
		}
		slices.SortStableFunc(in[from:j], func(a, b char) int { return int(a.class) - int(b.class) })
		i = j
	}
	out := make([]rune, 0, len(in))
	starter := -1 // place in out of the last starter
	last := uint8(0)
	for _, c := range in {
		// A mark is blocked from the starter by a kept one of the same or a higher class; a starter by any kept mark.
		if starter >= 0 && (len(out)-1 == starter || last < c.class) {
			if r := []rune(norm.NFC.String(string(out[starter]) + string(c.r))); len(r) == 1 {
				out[starter] = r[0]
				continue
			}
		}
		if c.class == 0 {
			starter = len(out)
		}
		last = c.class
		out = append(out, c.r)
	}
	return string(out)
}
