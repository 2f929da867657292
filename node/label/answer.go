package label

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
)

// Label is what an answer says, apart from its wording. Which fields are set depends on the task:
//
//	relative_direction    Direction
//	relative_distance     Change (closer, further, same), or Object (the nearer of two) with Change empty
//	find_my_item          Object (the furniture that holds it) and Direction
//	furniture_affordance  Object and Direction
//	action_planning       Steps, and Done where the answer says what was done last
//
// Unseen excludes all others: the thing asked about is not there or was never seen.
type Label struct {
	Unseen    bool
	Direction string // front, back, left, right, front-left …, here
	Change    string
	Object    string
	Done      *msgs.PlanStep // Text and Parsed are not used
	Steps     []msgs.PlanStep
}

// Directions are the values of Label.Direction.
func Directions() []string {
	return []string{"front", "back", "left", "right", "front-left", "front-right", "back-left", "back-right", "here"}
}

// The thresholds of [Direction] in metres that kitchens' answers are told by, where nothing else is said.
const (
	MainAxis = 1.0
	SideAxis = 0.7
)

// Direction is REA's rule: which of [Directions] a place is in that is x to the right and z ahead, in the units of the
// thresholds. An axis counts beyond main, and the other one joins it beyond side. The names are ours: front for forward, here
// for centered.
func Direction(x, z, main, side float64) string {
	ax, az := math.Abs(x), math.Abs(z)
	across, along := "right", "front"
	if x < 0 {
		across = "left"
	}
	if z < 0 {
		along = "back"
	}
	switch {
	case ax <= main && az <= main:
		return "here"
	case ax > main && az > side || az > main && ax > side:
		return along + "-" + across
	case ax > az:
		return across
	}
	return along
}

// String is the form in which labels are written and compared: "front-left", "closer", "nearer: sink", "counter, back",
// "done put mug > table; turn on tap; turn left; walk two steps > sink", "unseen".
func (l Label) String() string {
	switch {
	case l.Unseen:
		return "unseen"
	case l.Steps != nil || l.Done != nil:
		var out []string
		if l.Done != nil {
			out = append(out, "done "+short(*l.Done))
		}
		for _, s := range l.Steps {
			out = append(out, short(s))
		}
		return strings.Join(out, "; ")
	case l.Change != "":
		return l.Change
	case l.Object != "" && l.Direction != "":
		return l.Object + ", " + l.Direction
	case l.Object != "":
		return "nearer: " + l.Object
	}
	return l.Direction
}

func short(s msgs.PlanStep) string {
	out := s.Verb
	for _, v := range []string{s.Direction, s.Object} {
		if v != "" {
			out += " " + v
		}
	}
	if s.Target != "" {
		out += " > " + s.Target
	}
	return out
}

// toYou and toPerson say where something is.
var toYou = map[string]string{
	"front": "in front of you", "back": "behind you", "left": "on your left", "right": "on your right",
	"front-left": "to your front left", "front-right": "to your front right", "back-left": "to your back left", "back-right": "to your back right",
	"here": "right beside you",
}

var toPerson = map[string]string{
	"front": "in front of the person", "back": "behind the person", "left": "to the left of the person", "right": "to the right of the person",
	"front-left": "to the front-left of the person", "front-right": "to the front-right of the person",
	"back-left": "to the back-left of the person", "back-right": "to the back-right of the person", "here": "right beside the person",
}

// participles are the done forms of the verbs of actions.
var participles = map[string]string{"open": "opened", "close": "closed", "turn on": "turned on", "turn off": "turned off", "take": "taken", "put": "put"}

// Forms is the number of wordings that [Label.Say] has for every label.
const Forms = 3

// Say writes the answer to a question about something (and, for which of two is nearer, about other). The same label can be
// said in several forms, counted from 0 and taken modulo [Forms]; past puts what is now into the past.
func (l Label) Say(task stllm.Task, about, other string, form int, past bool) string {
	form = ((form % Forms) + Forms) % Forms
	is := "is"
	if past {
		is = "was"
	}
	pickForm := func(s ...string) string { return s[form] }
	switch {
	case l.Unseen:
		return pickForm("I have not seen the "+about+".", "There is no "+about+" here.", "The "+about+" has not been seen.")
	case l.Steps != nil || l.Done != nil:
		return l.plan(form)
	case l.Change == "same" && other != "":
		return pickForm("Both "+map[string]string{"is": "are", "was": "were"}[is]+" about the same distance away.", "The "+about+" and the "+other+" "+map[string]string{"is": "are", "was": "were"}[is]+" at about the same distance.",
			"The person "+is+" at a similar distance from both.")
	case l.Change == "same":
		return pickForm("You stayed at about the same distance from the "+about+".", "The distance to the "+about+" is about the same distance as before.", "The person remains at about the same distance from the "+about+".")
	case l.Change == "closer":
		return pickForm("You moved closer to the "+about+".", "You got closer to the "+about+".", "The person gets closer to the "+about+".")
	case l.Change == "further":
		return pickForm("You moved further from the "+about+".", "You got further away from the "+about+".", "The person gets further from the "+about+".")
	case task == stllm.TaskDistance:
		return pickForm("The "+l.Object+" "+is+" nearer.", "Of the two, the "+l.Object+" "+is+" closer.", "The person "+is+" closer to the "+l.Object+" than to the "+other+".")
	case task == stllm.TaskFindItem:
		return pickForm("The "+about+" is on the "+l.Object+", "+toYou[l.Direction]+".", "Your "+about+" is on the "+l.Object+" "+toYou[l.Direction]+".",
			"I last saw the "+about+" on the "+l.Object+", which is now "+toPerson[l.Direction]+".")
	case task == stllm.TaskAffordance:
		return pickForm("Use the "+l.Object+" "+toYou[l.Direction]+".", "You can use the "+l.Object+", which is "+toYou[l.Direction]+".",
			"The person will most likely use the "+l.Object+", "+toPerson[l.Direction]+".")
	}
	return pickForm("The "+about+" "+is+" "+toYou[l.Direction]+".", "You "+map[string]string{"is": "have", "was": "had"}[is]+" the "+about+" "+toYou[l.Direction]+".", "The "+about+" "+is+" "+toPerson[l.Direction]+".")
}

// Narrate writes a step as an order: "put the mug on the table".
func Narrate(s msgs.PlanStep) string { return say(s, s.Verb) }

func say(s msgs.PlanStep, verb string) string {
	out := verb
	if s.Direction != "" {
		out += " " + s.Direction
	}
	if s.Object != "" {
		if s.Verb != "walk" {
			out += " the"
		}
		out += " " + s.Object
	}
	if s.Target != "" {
		prep := " to the "
		switch s.Verb {
		case "put":
			prep = " on the "
		case "take":
			prep = " from the "
		}
		out += prep + s.Target
	}
	return out
}

func (l Label) plan(form int) string {
	var parts []string
	for _, s := range l.Steps {
		parts = append(parts, Narrate(s))
	}
	if l.Done == nil {
		switch {
		case form == 1 && len(parts) > 1:
			return "First " + strings.Join(parts, ", then ") + "."
		case form == 2 && len(parts) > 1:
			return capital(strings.Join(parts, ", ")) + "."
		case len(parts) > 1:
			return capital(strings.Join(parts[:len(parts)-1], ", ")) + " and " + parts[len(parts)-1] + "."
		}
		return capital(strings.Join(parts, "")) + "."
	}
	done := "You have " + say(*l.Done, participles[l.Done.Verb]) + "."
	if form == 1 {
		done = "So far you have " + say(*l.Done, participles[l.Done.Verb]) + "."
	}
	if len(parts) == 0 {
		return done + " Nothing is left to do."
	}
	way := strings.Join(parts[1:], ", ")
	switch {
	case way == "":
		return done + " Next, " + parts[0] + "."
	case form == 2:
		return done + " Next, " + parts[0] + ". For this, " + way + "."
	}
	return done + " Next, " + parts[0] + ": " + way + "."
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

var (
	nearest  = regexp.MustCompile(`(?i)\bthe ([a-z][a-z ]*?) (?:is|was) (?:the )?(?:nearer|closer|nearest|closest)\s*(?:[.,!?;]|$)`)
	than     = regexp.MustCompile(`(?i)\b(?:nearer|closer) to the ([a-z][a-z: ]*?) than\b`)
	onThe    = regexp.MustCompile(`(?i)\bon the ([a-z][a-z ]*?)(?:,| (?:in front|behind|on your|to your|to the|right beside|which|that)\b|\.|$)`)
	useThe   = regexp.MustCompile(`(?i)\buse the ([a-z][a-z: ]*?)(?:,| (?:in front|behind|on your|to your|to the|right beside|which|that|next|to|for)\b|\.|$)`)
	haveDone = regexp.MustCompile(`(?i)\byou have (?:already )?(opened|closed|turned on|turned off|switched on|switched off|taken|picked up|put down|put)\b([^.]*)`)
)

// Parse reads an answer to a question of a task. An answer that says nothing of what the task asks, or several things that
// differ, is an error that tells what was looked for.
func Parse(task stllm.Task, text string) (Label, error) {
	if unseen.MatchString(text) {
		return Label{Unseen: true}, nil
	}
	var l Label
	switch task {
	case stllm.TaskDirection:
		if l.Direction = direction(text); l.Direction == "" {
			return l, fmt.Errorf("answer %q: expected one direction", text)
		}
	case stllm.TaskDistance:
		if m := than.FindStringSubmatch(text); m != nil {
			l.Object = strings.ToLower(m[1])
			return l, nil
		}
		if m := nearest.FindStringSubmatch(text); m != nil {
			l.Object = strings.ToLower(m[1])
			return l, nil
		}
		if l.Change = distance(text); l.Change == "" {
			return l, fmt.Errorf("answer %q: expected closer, further, about the same, or which thing is nearer", text)
		}
	case stllm.TaskFindItem, stllm.TaskAffordance:
		at, what := onThe, "on what the item is"
		if task == stllm.TaskAffordance {
			at, what = useThe, "what to use"
		}
		m := at.FindStringSubmatch(text)
		if m == nil {
			return l, fmt.Errorf("answer %q: expected %s", text, what)
		}
		l.Object = strings.ToLower(m[1])
		if l.Direction = direction(text); l.Direction == "" {
			return l, fmt.Errorf("answer %q: expected one direction", text)
		}
	case stllm.TaskPlanning:
		rest := text
		if m := haveDone.FindStringSubmatchIndex(text); m != nil {
			verb := strings.ToLower(text[m[2]:m[3]])
			step := parseStep(map[string]string{"opened": "open", "closed": "close", "turned on": "turn on", "turned off": "turn off", "switched on": "turn on",
				"switched off": "turn off", "taken": "take", "picked up": "take", "put": "put", "put down": "put"}[verb] + text[m[4]:m[5]])
			step.Text, step.Parsed = "", false
			l.Done = &step
			rest = text[:m[0]] + text[m[1]:]
		}
		for _, s := range (Reader{}).ParsePlan(rest) {
			if !s.Parsed {
				continue
			}
			s.Text, s.Parsed = "", false
			l.Steps = append(l.Steps, s)
		}
		if l.Steps == nil && l.Done == nil {
			return l, fmt.Errorf("answer %q: expected steps", text)
		}
	default:
		return l, fmt.Errorf("task %q has no labels", task)
	}
	return l, nil
}
