// Package label reads answers: the direction of a sentence, which of two things is nearer, the steps of a plan. It finds what
// is said and invents nothing.
package label

import (
	"regexp"
	"strings"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
)

// Reader reads the answers of all tasks.
type Reader struct{}

// unseen are the ways to say that a thing was not seen or is not there.
var unseen = regexp.MustCompile(`(?i)\b(?:have|has|had|was|were|is|are|do|does|did)(?: not|n't)(?: been)? (?:seen|see|visible|know|here|there)\b|\bthere is no\b|\bnever (?:been )?seen\b`)

var (
	sides   = regexp.MustCompile(`(?i)\b(front|back)[- ](left|right)\b|\b(left|right)[ -](front|back|behind)\b`)
	ahead   = regexp.MustCompile(`(?i)\bin front of|\bahead of|\bstraight ahead|\bto the front\b`)
	behind  = regexp.MustCompile(`(?i)\bbehind\b|\bto the back\b`)
	left    = regexp.MustCompile(`(?i)\b(?:to|on) (?:the|your|my) left\b`)
	right   = regexp.MustCompile(`(?i)\b(?:to|on) (?:the|your|my) right\b`)
	here    = regexp.MustCompile(`(?i)\b(?:right )?beside (?:the person|you)\b|\bright here\b|\bright next to (?:the person|you)\b`)
	same    = regexp.MustCompile(`(?i)\babout the same distance|\bsimilar distance|\bequally (?:near|far)`)
	nearer  = regexp.MustCompile(`(?i)\b(?:closer|nearer)\b`)
	further = regexp.MustCompile(`(?i)\b(?:further|farther)\b`)
)

// Label is the short form of an answer, as [Label.String] writes it: "front-left", "closer", "same", "counter, back",
// "unseen"; "" where the text says nothing of what the task asks or several things that differ.
func (Reader) Label(task stllm.Task, _, text string) string {
	l, err := Parse(task, text)
	switch {
	case err == nil:
		return l.String()
	case task == stllm.TaskFindItem:
		return direction(text) // items of other sources name no furniture that this package knows how to find
	}
	return ""
}

func direction(text string) string {
	found := map[string]bool{}
	rest := text
	for _, m := range sides.FindAllStringSubmatch(text, -1) {
		depth, across := strings.ToLower(m[1]), strings.ToLower(m[2])
		if depth == "" {
			depth, across = strings.ToLower(m[4]), strings.ToLower(m[3])
		}
		if depth == "behind" {
			depth = "back"
		}
		found[depth+"-"+across] = true
		rest = strings.ReplaceAll(rest, m[0], "")
	}
	for name, re := range map[string]*regexp.Regexp{"front": ahead, "back": behind, "left": left, "right": right, "here": here} {
		if re.MatchString(rest) {
			found[name] = true
		}
	}
	return only(found)
}

func distance(text string) string {
	found := map[string]bool{}
	for name, re := range map[string]*regexp.Regexp{"same": same, "closer": nearer, "further": further} {
		if re.MatchString(text) {
			found[name] = true
		}
	}
	return only(found)
}

func only(found map[string]bool) string {
	if len(found) != 1 {
		return ""
	}
	for name := range found {
		return name
	}
	return ""
}

// The words that plans are made of.
var (
	step       = regexp.MustCompile(`(?m)^\s*(?:\d+[.)]|[-*•])\s*(.+)$`)
	sentence   = regexp.MustCompile(`[^.!?\n]+[.!?]?`)
	verbs      = regexp.MustCompile(`(?i)^(?:then |next,? |now,? |first,? |finally,? |for this,? )*(turn on|turn off|switch on|switch off|pick up|put down|put back|walk|go|move|turn|take|grab|use|sit on|reach|open|close|fill|pour|wash|rinse|cut|wipe|bring|carry|put|place|look|wait|press|empty|stir|dry)\b\s*(.*)$`)
	clause     = regexp.MustCompile(`(?i)(?:[,:;]\s*(?:and\s+)?(?:then\s+)?|\s+and\s+(?:then\s+)?)((?:turn|switch|pick up|put|walk|go|move|take|grab|use|sit on|reach|open|close|fill|pour|wash|rinse|cut|wipe|bring|carry|place|look|wait|press|empty|stir|dry)\b)`)
	past       = regexp.MustCompile(`(?i)^(?:so far )?you have\b|^nothing\b`)
	directions = regexp.MustCompile(`(?i)\b(straight ahead|forward|forwards|back|backward|backwards|left|right|around|ahead)\b`)
	targets    = regexp.MustCompile(`(?i)\b(?:to|into|in|onto|on|at|towards|from|beside|next to)\s+(?:the|a|an|your|my)\s+([a-z][a-z ]*?)(?:\s+(?:and|then|on|with)\b|[.,!?]|$)`)
	articles   = regexp.MustCompile(`(?i)^(?:the|a|an|your|my|some)\s+`)
	tail       = regexp.MustCompile(`(?i)\s*(?:\b(?:to|into|in|onto|on|at|towards|from|beside|next to|and|then|with)\b.*|[.,!?].*)$`)
)

// ParsePlan reads numbered or listed steps, or sentences where there is no list. A step whose verb is not known has Parsed
// false and its text.
func (Reader) ParsePlan(text string) []msgs.PlanStep {
	var raw []string
	for _, m := range step.FindAllStringSubmatch(text, -1) {
		raw = append(raw, m[1])
	}
	if raw == nil {
		raw = sentence.FindAllString(text, -1)
	}
	var out []msgs.PlanStep
	for _, s := range raw {
		for _, c := range clauses(s) {
			if c = strings.TrimSpace(c); strings.Trim(c, " .!?") != "" && !past.MatchString(c) {
				out = append(out, parseStep(c))
			}
		}
	}
	return out
}

// clauses cuts a sentence where a new order begins: "turn left, walk two steps and open the fridge" has three.
func clauses(s string) []string {
	var out []string
	from := 0
	for _, m := range clause.FindAllStringSubmatchIndex(s, -1) {
		out = append(out, s[from:m[0]])
		from = m[2]
	}
	return append(out, s[from:])
}

func parseStep(text string) msgs.PlanStep {
	p := msgs.PlanStep{Text: text}
	m := verbs.FindStringSubmatch(text)
	if m == nil {
		return p
	}
	p.Parsed, p.Verb = true, strings.ToLower(m[1])
	rest := strings.TrimSpace(m[2])
	if d := directions.FindString(rest); d != "" && (p.Verb == "turn" || p.Verb == "walk" || p.Verb == "go" || p.Verb == "move" || p.Verb == "look") {
		p.Direction = strings.ToLower(d)
		rest = strings.TrimSpace(strings.Replace(rest, d, "", 1))
	}
	if t := targets.FindStringSubmatch(rest); t != nil {
		p.Target = strings.ToLower(strings.TrimSpace(t[1]))
	}
	object := strings.TrimSpace(tail.ReplaceAllString(rest, ""))
	p.Object = strings.ToLower(strings.Trim(articles.ReplaceAllString(object, ""), " .,!?"))
	return p
}
