package picture

import (
	"slices"
	"strings"
)

// Mark chooses the boxes that are drawn for a question, and how: what the question names or is about is Asked, what the
// answer names is Answered, of furniture the rest is drawn faintly, and of small things it is left out. at is the question's
// moment, ns: boxes of other times are left out. Names are found as whole words, long ones first, so that a "dining table"
// is no "table".
func Mark(boxes []Box, at int64, question, answer, about string) []Box {
	var names []string
	for _, b := range boxes {
		if b.Name != "" && !slices.Contains(names, b.Name) {
			names = append(names, b.Name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return len(b) - len(a) })
	asked, answered := named(question, names), named(answer, names)
	var out []Box
	for _, b := range boxes {
		if !b.StandsAt(at) {
			continue
		}
		b.Asked = b.Asked || asked[b.Name] || about != "" && strings.EqualFold(b.Name, about)
		b.Answered = b.Answered || answered[b.Name]
		if b.Asked || b.Answered || !b.Small {
			out = append(out, b)
		}
	}
	return out
}

// named finds the names that a text holds.
func named(text string, names []string) map[string]bool {
	text = " " + strings.Join(words(text), " ") + " "
	found := map[string]bool{}
	for _, n := range names {
		w := strings.Join(words(n), " ")
		if w == "" {
			continue
		}
		for _, form := range []string{" " + w + " ", " " + w + "s "} {
			if strings.Contains(text, form) {
				found[n] = true
				text = strings.ReplaceAll(text, form, " | ")
			}
		}
	}
	return found
}

func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r < 0x80 })
}
