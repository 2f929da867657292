package rea

import (
	"regexp"
	"strings"

	"github.com/stllm/stllm/node/stllm"
)

// directions finds the phrases of the released answers (and looser ones) in their order.
var directions = regexp.MustCompile(`(?i)\b(?:to the |to your |on your )?(front|back|forward|backward|behind)[- ](left|right)\b` +
	`|\b(?:to the |to your |on your )?(left|right)[- ](forward|backward|front|back|behind)\b` +
	`|\b(in front of|ahead|behind|to the (?:front|back)|centered|beside the person|right beside you)\b|\b(?:to|on) (?:the|your|their|my) (left|right)\b`)

// option finds the options of an affordance question: "A. fridge, B. hob".
var option = regexp.MustCompile(`\b([A-D])\. ([^,\n]+)`)

// narration is an action in backticks.
var narration = regexp.MustCompile("`[^`]*`")

// Which of two places an item is closer to.
var (
	bring = regexp.MustCompile(`(?i)\bcloser to bring the [a-z: ]+? to the ([a-z: ]+?)\s*[.,!]`)
	alike = regexp.MustCompile(`(?i)\babout the same distance\b`)
)

// HasOptions tells whether a question is one that is answered by one of its options.
func HasOptions(task stllm.Task, question string) bool {
	return task == stllm.TaskAffordance && len(option.FindAllString(question, 2)) == 2
}

// Label reads the short form of an answer in the released wording, where it says more than one label of the robot's questions
// holds: a direction for every action or object asked about ("left; back-right"), and the chosen option of an affordance
// question ("option: sink"), and where an item is closer to ("bring to: hob", "same"). It is "" where the answer says none, or several options.
func Label(task stllm.Task, question, answer string) string {
	switch task {
	case stllm.TaskDirection:
		return strings.Join(directionsOf(answer), "; ")
	case stllm.TaskAffordance:
		return chosen(question, answer)
	case stllm.TaskFindItem:
		if m := bring.FindStringSubmatch(answer); m != nil {
			return "bring to: " + strings.ToLower(m[1])
		}
		if alike.MatchString(answer) {
			return "same"
		}
	}
	return ""
}

func directionsOf(text string) []string {
	var out []string
	for _, m := range directions.FindAllStringSubmatch(text, -1) {
		d := ""
		switch {
		case m[1] != "":
			d = axis(m[1]) + "-" + strings.ToLower(m[2])
		case m[3] != "":
			d = axis(m[4]) + "-" + strings.ToLower(m[3])
		case m[5] != "":
			d = axis(strings.TrimPrefix(strings.ToLower(m[5]), "to the "))
		default:
			d = strings.ToLower(m[6])
		}
		out = append(out, d)
	}
	// "The left hand in both cases" names no place, and saying one direction again adds nothing.
	if len(out) > 1 {
		same := true
		for _, d := range out[1:] {
			same = same && d == out[0]
		}
		if same {
			out = out[:1]
		}
	}
	return out
}

func axis(word string) string {
	switch strings.ToLower(word) {
	case "front", "forward", "in front of", "ahead":
		return "front"
	case "back", "backward", "behind":
		return "back"
	}
	return "here"
}

// chosen is the one option that an answer names, by its name or, at its beginning, by its letter.
func chosen(question, answer string) string {
	answer = narration.ReplaceAllString(answer, "``") // what was done before chooses nothing
	text := " " + strings.Join(strings.Fields(strings.ToLower(answer)), " ")
	found := ""
	for _, m := range option.FindAllStringSubmatch(question, -1) {
		name := strings.ToLower(strings.TrimSpace(m[2]))
		letter := strings.ToLower(m[1])
		named := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(text)
		if !named && !strings.HasPrefix(text, " "+letter+".") && !strings.HasPrefix(text, " "+letter+")") && strings.TrimRight(text, ".") != " "+letter {
			continue
		}
		if found != "" && found != name {
			return ""
		}
		found = name
	}
	if found == "" {
		return ""
	}
	return "option: " + found
}
