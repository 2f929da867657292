// Package ptb tokenises English as the COCO caption pipeline does: Penn Treebank tokens, lower case, and then without a list
// of punctuation. It was written from the observed behaviour of that pipeline on texts like REA's (golden/metrics/ptb.json),
// not from the tokeniser's sources; rare constructs outside such texts may differ.
package ptb

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// punctuation is what pycocoevalcap takes out. The brackets in it are upper case and never match lower-cased tokens.
var punctuation = []string{"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"}

// Captions gives each text's tokens without punctuation, joined by spaces: what COCO's scorers see. The pipeline tokenises
// all texts as one file, so an abbreviation at the end of one text is read by how the next one starts.
func Captions(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		after := ""
		if i+1 < len(texts) {
			after = "\n" + texts[i+1]
		}
		var kept []string
		for _, t := range tokens(text, after) {
			if !slices.Contains(punctuation, t) {
				kept = append(kept, t)
			}
		}
		out[i] = strings.Join(kept, " ")
	}
	return out
}

// replacements come before lexing: typographic variants of what the Treebank writes in ASCII.
var replacements = strings.NewReplacer(
	"’", "'", "“", " \x01 ", "”", " \x02 ", "‘", " ` ",
	"…", "...", "–", "--", "—", "--",
	"½", "1/2", "¼", "1/4", "¾", "3/4",
	"£", "#", "€", "$",
)

// Abbreviations by what a following capital means. Observed, word by word, of the pipeline's tokeniser.
const (
	// closing ones may end a sentence: before a capital their dot counts twice.
	closing = `(?:etc|inc|ltd|co|corp|jr|sr|bros|plc|est|univ|blvd|rd|sq|al|ph\.d|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tue|wed|thu|fri)`
	// titles never end one.
	titles = `(?:mr|mrs|ms|dr|prof|st|vs|v|cf|dept|ave|mt|ft|gov|sen|rep|gen|col|lt|sgt|capt|cmdr|rev|hon|e\.g|i\.e)`
	// numbered ones are abbreviations before a number alone.
	numbered = `(?:nos?|figs?|pp?)`
)

// lexemes are tried in order at each position; the first that matches is the token. Case is ignored.
var lexemes = func() []*regexp.Regexp {
	var out []*regexp.Regexp
	for _, expr := range []string{
		`https?://[^\s<>"]+`,
		`[a-z0-9._-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+`,
		`</?[a-z][a-z0-9]*(?: [a-z]+=[^<>\n]*)?/?>`,
		titles + `\.`,
		`\p{L}(?:\.\p{L})+\b\.?`, // U.S., a.b.c
		`\d+ \d+/\d+`,            // 3 1/2
		`\d+(?:[/.,:-]\d+)+`,     // 1/2, 3.5, 1,234.5, 10:30, 2020-01-31
		`\d+s\b`,                 // 90s
		`\p{L}+(?:&\p{L}+)+`,     // AT&T
		`c\+\+|c#|f#`,
		`@\p{L}[\p{L}\d_]*`,
		`[\p{L}\p{M}]{2,}(?:\.[\p{L}\p{M}]{2,})+`,  // node.js, Yes.No.Maybe
		`[\p{L}\p{M}\d]+(?:[_/-][\p{L}\p{M}\d]+)*`, // words, left-hand, and/or, P01_11
		`\.{3,}`,
		`[?!]{2,}|\*{2,}`,
		`-{2,}`,
	} {
		out = append(out, regexp.MustCompile(`^(?i:`+expr+`)`))
	}
	return out
}()

var (
	initial   = regexp.MustCompile(`^\p{Lu}\.`)
	closes    = regexp.MustCompile(`^(?i:` + closing + `)\.`)
	beforeNum = regexp.MustCompile(`^(?i:` + numbered + `)\.(?:\s*\d)`)
	acronym   = regexp.MustCompile(`^\p{L}(?:\.\p{L})+\b\.`)
	letter    = regexp.MustCompile(`^\p{L}`)
	capital   = regexp.MustCompile(`^\s+[A-Z]`)
	// starters are the words before which an acronym's dot also ends the sentence.
	starters = regexp.MustCompile(`^\s+(?:A|About|According|Additionally|After|An|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|Many|More|Mr\.|Ms\.|Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|Then|There|These|They|This|We|What|When|While|Yet|You)(?:[^\p{L}]|$)`)

	emoticon = regexp.MustCompile(`^:[dp](?:[^\p{L}\d]|$)`)
	clitic   = regexp.MustCompile(`^(?i)'(?:s|m|d|re|ve|ll)(?:[^\p{L}\d]|$)`)
	elided   = regexp.MustCompile(`^(?i)'(?:em|til|n'|cause|n|\d0s)(?:[^\p{L}\d]|$)`)
	joined   = regexp.MustCompile(`^(?i)[\p{L}]+'[\p{L}]+`)
	keepApos = regexp.MustCompile(`^(?i)(?:o'clock|[dl]'[\p{L}]+|o'[\p{L}]+)`)
)

// splits are words that the Treebank takes apart.
var splits = map[string][]string{
	"cannot": {"can", "not"}, "gonna": {"gon", "na"}, "wanna": {"wan", "na"}, "gotta": {"got", "ta"}, "lemme": {"lem", "me"},
	"gimme": {"gim", "me"},
}

// brackets and quotes as the Treebank writes them.
var brackets = map[rune]string{'(': "-lrb-", ')': "-rrb-", '[': "-lsb-", ']': "-rsb-", '{': "-lcb-", '}': "-rcb-"}

// Tokens gives all tokens of a text, lower-cased.
func Tokens(text string) []string { return tokens(text, "") }

func tokens(text, after string) []string {
	s := replacements.Replace(text)
	s = strings.Map(func(r rune) rune {
		switch {
		case r > 0xFFFF, r == 0x200D, r >= 0xFE00 && r <= 0xFE0F:
			return -1 // beyond the BMP, joiners and variation selectors are dropped
		case r == '\u00A0', r >= 0x2000 && r <= 0x200A, r == 0x3000, r == 0x202F:
			return ' '
		}
		return r
	}, s)
	l := lexer{rest: s, before: ' ', after: after}
	for l.next() {
	}
	return l.tokens
}

type lexer struct {
	rest   string
	before rune   // what stood before, to tell opening from closing quotes
	after  string // what the pipeline sees behind the text: the next one of the batch
	tokens []string
}

func (l *lexer) emit(n int, tokens ...string) bool {
	for _, t := range tokens {
		l.tokens = append(l.tokens, strings.ToLower(t))
	}
	for _, r := range l.rest[:n] {
		l.before = r
	}
	l.rest = l.rest[n:]
	return true
}

// opening tells whether a quote here opens: after a space or a bracket, before something.
func (l *lexer) opening(after string) bool {
	return (l.before == ' ' || strings.ContainsRune("([{", l.before)) && after != "" && after[0] != ' '
}

func (l *lexer) next() bool {
	s := strings.TrimLeft(l.rest, " \t\r\n\v\f")
	if s != l.rest {
		l.before, l.rest = ' ', s
	}
	if s == "" {
		return false
	}
	switch {
	case s[0] == '\x01':
		return l.emit(1, "``")
	case s[0] == '\x02':
		return l.emit(1, "''")
	case strings.HasPrefix(s, "``"):
		return l.emit(2, "``")
	case s[0] == '\'':
		return l.apostrophe(s)
	case s[0] == '"':
		if l.opening(s[1:]) {
			return l.emit(1, "``")
		}
		return l.emit(1, "''")
	case strings.HasPrefix(s, "..."):
		n := len(s) - len(strings.TrimLeft(s, "."))
		return l.emit(n, "...")
	case strings.HasPrefix(s, "--"):
		n := len(s) - len(strings.TrimLeft(s, "-"))
		return l.emit(n, "--")
	case emoticon.MatchString(s):
		return l.emit(2, s[:2])
	}
	if m := keepApos.FindString(s); m != "" {
		return l.emit(len(m), m)
	}
	if m := joined.FindString(s); m != "" {
		if done := l.contraction(s, m); done {
			return true
		}
	}
	if m := beforeNum.FindString(s); m != "" {
		dot := strings.IndexByte(m, '.') + 1
		return l.emit(dot, m[:dot])
	}
	if m := closes.FindString(s); m != "" {
		return l.abbreviation(m, capital)
	}
	if m := acronym.FindString(s); m != "" && !letter.MatchString(s[len(m):]) && !strings.EqualFold(m, "e.g.") && !strings.EqualFold(m, "i.e.") {
		return l.abbreviation(m, starters)
	}
	if m := initial.FindString(s); m != "" && !(len(s) > 2 && s[2] != ' ') {
		return l.emit(len(m), m)
	}
	for _, re := range lexemes {
		m := re.FindString(s)
		if m == "" {
			continue
		}
		if parts, ok := splits[strings.ToLower(m)]; ok {
			return l.emit(len(m), parts...)
		}
		if isMixedFraction(m) {
			return l.emit(len(m), strings.Replace(m, " ", "\u00A0", 1))
		}
		return l.emit(len(m), m)
	}
	if s == "" {
		return false
	}
	r, size := utf8.DecodeRuneInString(s)
	t := s[:size]
	if b, ok := brackets[r]; ok {
		t = b
	}
	return l.emit(size, t)
}

// abbreviation takes a word with its dot, which stands for a full stop as well when a new sentence follows.
func (l *lexer) abbreviation(m string, ends *regexp.Regexp) bool {
	if ends.MatchString(l.rest[len(m):] + l.after) {
		return l.emit(len(m), m, ".")
	}
	return l.emit(len(m), m)
}

func isMixedFraction(m string) bool {
	return strings.Contains(m, " ") && strings.Contains(m, "/") && m[0] >= '0' && m[0] <= '9'
}

// contraction splits n't and clitics off a word with an apostrophe, or lets it be.
func (l *lexer) contraction(s, m string) bool {
	low := strings.ToLower(m)
	word, tail, _ := strings.Cut(m, "'")
	switch {
	case strings.HasSuffix(low, "n't") && len(m) > 3:
		return l.emit(len(m), m[:len(m)-3], m[len(m)-3:])
	case low == "y'all":
		return l.emit(len(m), m[:2], m[2:])
	case strings.HasPrefix(strings.ToLower(s[len(word):]), "'n'"):
		return l.emit(len(word)+3, word, "'n'")
	case clitic.MatchString("'" + tail):
		// The clitic itself comes next, since it may be followed by another (he'd've).
		return l.emit(len(word), word)
	}
	return false
}

func (l *lexer) apostrophe(s string) bool {
	if strings.HasPrefix(s, "''") {
		return l.emit(2, "''")
	}
	if strings.HasPrefix(strings.ToLower(s), "'twas") {
		return l.emit(2, s[:2])
	}
	if m := clitic.FindString(s); m != "" && l.before != ' ' {
		n := 3
		if low := strings.ToLower(s); strings.HasPrefix(low, "'s") || strings.HasPrefix(low, "'m") || strings.HasPrefix(low, "'d") {
			n = 2
		}
		return l.emit(n, s[:n])
	}
	if m := elided.FindString(s); m != "" && l.before == ' ' {
		n := len(strings.TrimRight(m, " ,.;:!?"))
		return l.emit(n, s[:n])
	}
	if l.opening(s[1:]) {
		return l.emit(1, "`")
	}
	return l.emit(1, "'")
}
