package judge

import (
	"fmt"
	"strings"
)

// Item is one answer to be judged.
type Item struct {
	ID                              string
	Task                            string // REA question type
	Question, Reference, Prediction string
}

// Form chooses how strictly a prompt asks.
type Form string

// The forms.
const (
	// Published follows the published evaluator: the same parts in the same order, our words. The OpenAI prompt lets
	// "closer" pass for "the same distance"; the Gemini prompt does not.
	Published Form = "published"
	// Strict asks for every element of the reference and gives no benefit of the doubt; it is the same for every service.
	Strict Form = "strict"
)

type criteria struct{ about, correct, wrong string }

var tasks = map[string]criteria{
	"relative_direction": {
		"The query is about the direction of something relative to a person during one or two actions.",
		"every direction in the prediction matches the ground truth; other words for the same direction are fine",
		"a direction differs or is left out",
	},
	"relative_distance": {
		"The query is about how near a person is to something, or which of two things is nearer, during one or two actions.",
		"the prediction says clearly which is nearer, or that the distances are about the same, as the ground truth does",
		"the prediction contradicts the ground truth or makes no comparison",
	},
	"find_my_item": {
		"The query is about where an item is and how a person gets to it.",
		"the place is right and the way to it is reasonable; further directions are fine",
		"key information is missing, the place is wrong or the way is implausible",
	},
	"furniture_affordance": {
		"The query is about which piece of furniture or appliance a person is likely to use next.",
		"the prediction names the same object as the ground truth, with a plausible reason if it gives one",
		"it names another object or gives an unreasonable reason",
	},
	"action_planning": {
		"The query is about the next step of a task and how a person gets to where it happens.",
		"the next step is the right one and the way to its place is plausible; wording does not matter",
		"the step is another one or the way leads elsewhere",
	},
}

const lenientDistance = "where the ground truth says that the distances are about the same, slightly closer or further may pass within reason"

const strictRules = "Every element of the ground truth that answers the query must be there. A prediction that names two alternatives, hedges between them or contradicts itself is wrong."

// Tasks lists the tasks that have criteria.
func Tasks() []string {
	return []string{"relative_direction", "relative_distance", "find_my_item", "furniture_affordance", "action_planning"}
}

// prompt writes the request for one item.
func prompt(item Item, form Form, lenient bool) (string, error) {
	task := strings.TrimSuffix(item.Task, "_prediction")
	c, ok := tasks[task]
	if !ok {
		return "", fmt.Errorf("item %s: question type %q has no judging criteria; known are %s", item.ID, item.Task, strings.Join(Tasks(), ", "))
	}
	rules := []string{"correct: " + c.correct, "wrong: " + c.wrong}
	if form == Strict {
		rules = append(rules, strictRules)
	} else if lenient && task == "relative_distance" {
		rules = append(rules, lenientDistance)
	}
	return fmt.Sprintf("\nYou are a helpful and fair evaluator. Decide whether the predicted result follows the ground truth result for a %s query. %s\n\n"+
		"Predicted Result: %s\nGround Truth Result: %s\nQuery: %s\n\n"+
		"Answer only \"Correct\" or \"Wrong\" by these criteria:\n- %s\n\n"+
		"Reply with one word, \"correct\" or \"wrong\", and no explanation.\n",
		strings.ReplaceAll(task, "_", " "), c.about, item.Prediction, item.Reference, item.Question, strings.Join(rules, "\n- ")), nil
}
