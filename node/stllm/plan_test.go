package stllm_test

import (
	"regexp"
	"testing"

	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// Every plan that the made kitchens' answers hold can be said under the grammar, and what is not a plan cannot.
func TestPlanGrammar(t *testing.T) {
	form := regexp.MustCompile(`^(?:` + stllm.PlanGrammar + `)$`)
	plans := 0
	for seed := range uint64(4) {
		k, err := kitchen.Generate(kitchen.Options{Seed: seed, Quiz: quiz.Options{Count: 40}})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range k.Questions {
			if q.Task == stllm.TaskPlanning && !q.Label.Unseen {
				for f := range label.Forms {
					plans++
					if text := q.Label.Say(q.Task, q.About, "", f, false); !form.MatchString(text) {
						t.Errorf("a right plan is not allowed: %q", text)
					}
				}
			}
		}
	}
	if plans < 20 {
		t.Errorf("only %d plans were tried", plans)
	}
	for _, good := range []string{"1. Turn left.\n2. Walk two steps.\n", "Turn around and use the hob.", "I have not seen the kettle."} {
		if !form.MatchString(good) {
			t.Errorf("%q is not allowed", good)
		}
	}
	for _, bad := range []string{"", "The fridge is there.", "Turn", "1. Sing loudly.", "Turn left"} {
		if form.MatchString(bad) {
			t.Errorf("%q is allowed", bad)
		}
	}
}
