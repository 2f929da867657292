package trainer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/trainer/record"
)

func TestTaskSteps(t *testing.T) {
	done := record.Question{
		Task: "action_planning", Label: "done take mug > table; open oven; turn left; walk one step > oven",
		Text:   "My plan is: open the fridge, take the mug from the table, open the oven. Going by the video, what do I do next, and how do I get to that place?",
		Answer: "So far you have taken the mug from the table. Next, open the oven: turn left, walk one step to the oven.",
	}
	list, last, err := taskSteps(done)
	if err != nil || last != 1 || strings.Join(list, "|") != "open the fridge|take the mug from the table|open the oven" {
		t.Errorf("%q, last %d, %v", list, last, err)
	}
	if list, _, err := taskSteps(record.Question{Task: "relative_direction", Label: "left", Text: "Where is the sink: left, right?"}); list != nil || err != nil {
		t.Errorf("another question lists %q, %v", list, err)
	}
	for name, change := range map[string]func(*record.Question){
		"nothing beside it": func(q *record.Question) { q.Text = "My plan is: take the mug from the table. What comes next?" },
		"not in the list":   func(q *record.Question) { q.Text = "My plan is: open the fridge, open the oven. What comes next?" },
		"no answer":         func(q *record.Question) { q.Answer = "I do not know." },
	} {
		q := done
		change(&q)
		if _, _, err := taskSteps(q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The words of a step are marked, and no others: put together they are the step.
func TestStepsMarkTheirWords(t *testing.T) {
	o := start(t)
	o.Out = filepath.Join(t.TempDir(), "out")
	tr, err := New(orttest.Environment(t), o)
	if err != nil {
		t.Fatal(err)
	}
	pieces := []string{"open the fridge", "take the mug from the table", "open the oven"}
	ids := tr.tok.Encode("\nMy plan is: " + strings.Join(pieces, ", ") + ". What comes next?")
	for k, at := range tr.spans(ids, pieces) {
		var said strings.Builder
		for _, j := range at {
			said.Write(tr.tok.Bytes(ids[j]))
		}
		if strings.TrimSpace(said.String()) != pieces[k] {
			t.Errorf("words of %q: %q", pieces[k], said.String())
		}
	}
}
