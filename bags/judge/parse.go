package judge

import (
	"regexp"
	"strings"
)

// Verdict is what a reply says.
type Verdict string

// The verdicts. Invalid replies stay in the denominator.
const (
	Correct Verdict = "correct"
	Wrong   Verdict = "wrong"
	Invalid Verdict = "invalid"
)

// Parser reads a reply.
type Parser func(reply string) Verdict

var (
	wrongWords   = regexp.MustCompile(`\b(wrong|incorrect|not\s+correct|false)\b`)
	correctWords = regexp.MustCompile(`\bcorrect\b`)
	notWrong     = regexp.MustCompile(`\bnot\s+(wrong|incorrect)\b`)
)

// WholeWords reads whole words: "incorrect" and "not correct" are wrong; a reply that says both is invalid.
func WholeWords(reply string) Verdict {
	s := strings.ToLower(reply)
	if notWrong.MatchString(s) {
		return Invalid
	}
	wrong := wrongWords.MatchString(s)
	// "not correct" holds the word "correct", too.
	correct := correctWords.MatchString(wrongWords.ReplaceAllString(s, ""))
	switch {
	case wrong == correct:
		return Invalid
	case wrong:
		return Wrong
	}
	return Correct
}

// PublishedParse is the published evaluator's test: it looks for "correct" first and anywhere, so "incorrect" counts as
// correct. It is here to reproduce published figures and for nothing else.
func PublishedParse(reply string) Verdict {
	s := strings.ToLower(strings.TrimSpace(reply))
	switch {
	case strings.Contains(s, "correct"):
		return Correct
	case strings.Contains(s, "wrong"):
		return Wrong
	}
	return Invalid
}
