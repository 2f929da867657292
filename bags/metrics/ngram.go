// Package metrics scores answers against references as the published scorers do (pycocoevalcap 1.2, which REA's evaluator
// calls), so that figures can be compared with the paper's. Every scorer takes a corpus: some scores of one pair depend on the
// others.
package metrics

import (
	"strings"
	"unicode"
)

// Pair is one answer with its references (REA has one).
type Pair struct {
	References []string
	Hypothesis string
}

// fields splits as Python's str.split() does: its white space also has the four separators U+001C to U+001F.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1C && r <= 0x1F })
}

const maxN = 4

// ngrams counts the n-grams of length 1 to 4, by length; words are joined with a byte that no word holds.
func ngrams(words []string) [maxN]map[string]int {
	var out [maxN]map[string]int
	for n := range maxN {
		out[n] = map[string]int{}
		for i := 0; i+n < len(words); i++ {
			out[n][strings.Join(words[i:i+n+1], "\x00")]++
		}
	}
	return out
}
