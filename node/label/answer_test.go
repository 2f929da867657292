package label

import (
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
)

var nouns = []string{"sink", "washing machine", "dish rack", "tv", "counter", "coffee machine", "island"}

// Every label, said in every form, is read back as itself.
func TestSayAndParse(t *testing.T) {
	n := 0
	check := func(task stllm.Task, l Label, about, other string) {
		t.Helper()
		for form := range Forms {
			for _, past := range []bool{false, true} {
				text := l.Say(task, about, other, form, past)
				got, err := Parse(task, text)
				if err != nil || got.String() != l.String() {
					t.Errorf("%s: %q was read as %q, expected %q (%v)", task, text, got, l, err)
				}
				if short := (Reader{}).Label(task, "", text); short != l.String() {
					t.Errorf("%s: reader made %q of %q, expected %q", task, short, text, l)
				}
				n++
			}
		}
	}
	for _, a := range nouns {
		for _, task := range []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning} {
			check(task, Label{Unseen: true}, a, "")
		}
		for _, d := range Directions() {
			check(stllm.TaskDirection, Label{Direction: d}, a, "")
			for _, item := range []string{"mug", "cereal box", "lunch box"} {
				check(stllm.TaskFindItem, Label{Object: a, Direction: d}, item, "")
			}
			check(stllm.TaskAffordance, Label{Object: a, Direction: d}, "", "")
		}
		for _, c := range []string{"closer", "further", "same"} {
			check(stllm.TaskDistance, Label{Change: c}, a, "")
		}
		check(stllm.TaskDistance, Label{Change: "same"}, a, "hob")
		check(stllm.TaskDistance, Label{Object: a}, a, "hob")
		for _, turn := range []string{"", "left", "right", "around"} {
			for _, walk := range []string{"one step", "two steps", "four steps"} {
				for _, verb := range []string{"open", "use", "sit on", "reach", "turn on"} {
					var steps []msgs.PlanStep
					if turn != "" {
						steps = append(steps, msgs.PlanStep{Verb: "turn", Direction: turn})
					}
					steps = append(steps, msgs.PlanStep{Verb: "walk", Object: walk})
					check(stllm.TaskPlanning, Label{Steps: append(steps, msgs.PlanStep{Verb: verb, Object: a})}, a, "")
					way := append([]msgs.PlanStep{{Verb: "put", Object: "lunch box", Target: a}}, steps...)
					way[len(way)-1].Target = a
					for _, done := range []msgs.PlanStep{{Verb: "open", Object: "fridge"}, {Verb: "take", Object: "mug", Target: a}, {Verb: "turn off", Object: "tap"}, {Verb: "put", Object: "bowl", Target: a}} {
						check(stllm.TaskPlanning, Label{Done: &done, Steps: way}, a, "")
					}
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d answers were tried", n)
	}
}

func TestDirectionRule(t *testing.T) {
	for _, c := range []struct {
		x, z float64
		want string
	}{{0, 0, "here"}, {1.5, 1.5, "here"}, {1.6, 0.9, "right"}, {1.6, 1.1, "front-right"}, {-1.1, -1.6, "back-left"}, {-1, -1.6, "back"}, {-2, 0, "left"}, {0, 1.51, "front"},
		{0.9, 1.6, "front"}, {-1.6, -1.6, "back-left"}} {
		if got := Direction(c.x, c.z, 1.5, 1.0); got != c.want {
			t.Errorf("(%g, %g): %s, expected %s", c.x, c.z, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, task := range []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning, stllm.TaskFree} {
		if l, err := Parse(task, "Bananas are yellow."); err == nil {
			t.Errorf("%s: nonsense was read as %q", task, l)
		}
	}
	if _, err := Parse(stllm.TaskFindItem, "The mug is on the table."); err == nil {
		t.Error("an item without a direction was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("The mug is on the table, behind you.")
	f.Add("You have put the mug on the table. Next, turn on the tap: turn left, walk two steps to the sink.")
	f.Fuzz(func(t *testing.T, s string) {
		for _, task := range []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning} {
			if l, err := Parse(task, s); err == nil && l.String() == "" {
				t.Errorf("%s: %q was read as nothing", task, s)
			}
		}
	})
}
