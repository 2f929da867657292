package meteor

import (
	"regexp"
	"strings"
)

// Letters as METEOR's normaliser sees them: Western European and Cyrillic ranges.
const (
	alpha = `A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ\x{A67E}-ꚗᴀ-ᵿ`
	alnum = `0-9` + alpha
	space = `\t\n\v\f\r `
)

// normalizer is METEOR's English normaliser (-norm, punctuation kept): Moses' tokeniser with quotes and dashes unified.
type normalizer struct {
	prefixes map[string]bool // words whose dot stays; true: only before a number
	rules    []rule
	dots     []rule
	unspaced *regexp.Regexp
	letter   *regexp.Regexp
	lower    *regexp.Regexp
	number   *regexp.Regexp
}

type rule struct {
	re *regexp.Regexp
	to string
}

func newNormalizer(prefixes map[string]bool) *normalizer {
	r := func(expr, to string) rule { return rule{regexp.MustCompile(expr), to} }
	return &normalizer{
		prefixes: prefixes,
		dots: []rule{
			r(`([^`+alnum+space+".'`,\\-‘’])", ` ${1} `), // punctuation stands alone
			r(`\.(\.+)`, ` DOTMULTI${1}`),
		},
		rules: []rule{
			r(`([^0-9]),([^0-9])`, `${1} , ${2}`),
			r(`([0-9]),([^0-9])`, `${1} , ${2}`),
			r(`([^0-9]),([0-9])`, `${1} , ${2}`),
			r("[`‘’]", `'`),
			r(`[“”]|''`, ` " `),
			r(`–`, `-`),
			r(`--`, `-`),
			r(`([`+alnum+`.])-([`+alnum+`])`, `${1} ${2}`), // joined words count apart
			r(`([^`+alpha+`])'([^`+alpha+`])`, `${1} ' ${2}`),
			r(`([^`+alpha+`0-9])'([`+alpha+`])`, `${1} ' ${2}`),
			r(`([`+alpha+`])'([^`+alpha+`])`, `${1} ' ${2}`),
			r(`([`+alpha+`])'([`+alpha+`])`, `${1} '${2}`),
			r(`([0-9])'(s)`, `${1} '${2}`),
		},
		unspaced: regexp.MustCompile(`DOTMULTI\.([^.])`),
		letter:   regexp.MustCompile(`[` + alpha + `]`),
		lower:    regexp.MustCompile(`^[a-z]`),
		number:   regexp.MustCompile(`^[0-9]+`),
	}
}

// words normalises, lower-cases and splits a sentence.
func (n *normalizer) words(line string) []string {
	s := " " + line + " "
	for _, r := range n.dots {
		s = r.re.ReplaceAllString(s, r.to)
	}
	for strings.Contains(s, "DOTMULTI.") {
		s = n.unspaced.ReplaceAllString(s, `DOTDOTMULTI ${1}`)
		s = strings.ReplaceAll(s, "DOTMULTI.", "DOTDOTMULTI")
	}
	for _, r := range n.rules {
		s = r.re.ReplaceAllString(s, r.to)
	}
	words := tokens(s)
	var b strings.Builder
	for i, w := range words {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		b.WriteString(n.dot(w, next))
		b.WriteByte(' ')
	}
	s = b.String()
	for strings.Contains(s, "DOTDOTMULTI") {
		s = strings.ReplaceAll(s, "DOTDOTMULTI", "DOTMULTI.")
	}
	s = strings.ReplaceAll(s, "DOTMULTI", ".")
	s = strings.Map(func(r rune) rune {
		if r == '\u00A0' || r >= '\u2000' && r <= '\u200B' || r == '\u3000' || r == '\u202F' || r == '\u205F' {
			return ' '
		}
		return r
	}, s)
	return tokens(strings.ToLower(s))
}

// dot splits a final full stop off a word, but for abbreviations and before a lower-case word.
func (n *normalizer) dot(w, next string) string {
	if len([]rune(w)) < 2 || !strings.HasSuffix(w, ".") {
		return w
	}
	pre := strings.TrimSuffix(w, ".")
	numeric, known := n.prefixes[pre]
	switch {
	case strings.Contains(pre, ".") && n.letter.MatchString(pre):
		return strings.ReplaceAll(w, ".", "") // U.S. becomes US
	case known && !numeric, n.lower.MatchString(next), known && n.number.MatchString(next):
		return w
	}
	return pre + " ."
}

// tokens splits as Java's StringTokenizer does.
func tokens(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\n\r\f", r) })
}
