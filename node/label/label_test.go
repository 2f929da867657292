package label

import (
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
)

func TestLabels(t *testing.T) {
	for _, tc := range []struct {
		task       stllm.Task
		text, want string
	}{
		{stllm.TaskDirection, "The sink is to the left of the person.", "left"},
		{stllm.TaskDirection, "The sink is to the front-left of the person.", "front-left"},
		{stllm.TaskDirection, "It is behind the person.", "back"},
		{stllm.TaskDirection, "The hob is in front of the person.", "front"},
		{stllm.TaskDirection, "The bin is right beside the person.", "here"},
		{stllm.TaskDirection, "It is to the left of the person, or behind.", ""},
		{stllm.TaskDirection, "I have not seen the mug.", "unseen"},
		{stllm.TaskDirection, "There is no piano here.", "unseen"},
		{stllm.TaskDirection, "banana", ""},
		{stllm.TaskDistance, "The person is closer to the hob.", "closer"},
		{stllm.TaskDistance, "It remains at about the same distance.", "same"},
		{stllm.TaskDistance, "further away", "further"},
		{stllm.TaskFree, "to the left", ""},
	} {
		if got := (Reader{}).Label(tc.task, "", tc.text); got != tc.want {
			t.Errorf("%s %q: %q, expected %q", tc.task, tc.text, got, tc.want)
		}
	}
}

func TestParsePlan(t *testing.T) {
	got := Reader{}.ParsePlan("1. Turn left.\n2. Walk forward to the sink.\n3. Open the tap.\n4. Put the mug on the table.\n5. Xyzzy quux.")
	want := []msgs.PlanStep{
		{Text: "Turn left.", Parsed: true, Verb: "turn", Direction: "left"},
		{Text: "Walk forward to the sink.", Parsed: true, Verb: "walk", Direction: "forward", Target: "sink"},
		{Text: "Open the tap.", Parsed: true, Verb: "open", Object: "tap"},
		{Text: "Put the mug on the table.", Parsed: true, Verb: "put", Object: "mug", Target: "table"},
		{Text: "Xyzzy quux."},
	}
	if len(got) != len(want) {
		t.Fatalf("%d steps: %+v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("step %d: %+v\nexpected %+v", i+1, got[i], want[i])
		}
	}
	if s := (Reader{}).ParsePlan("Open the fridge. Then take the milk from the shelf."); len(s) != 2 || s[1].Verb != "take" || s[1].Object != "milk" || s[1].Target != "shelf" {
		t.Errorf("sentences: %+v", s)
	}
	if s := (Reader{}).ParsePlan(" \n. !"); len(s) != 0 {
		t.Errorf("nothing gave %+v", s)
	}
}

func FuzzParsePlan(f *testing.F) {
	f.Add("1. Turn left.\n- go")
	f.Fuzz(func(t *testing.T, s string) {
		for _, step := range (Reader{}).ParsePlan(s) {
			if !step.Parsed && (step.Verb != "" || step.Object != "" || step.Target != "" || step.Direction != "") {
				t.Errorf("%q: an unread step has parts: %+v", s, step)
			}
		}
	})
}
