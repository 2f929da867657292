package kitchen

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/label"
)

// stepsOf are the steps that a question on a round lists, and which of them was done last.
func stepsOf(t *testing.T, q quiz.Question) (list []string, latest int) {
	t.Helper()
	_, text, _ := strings.Cut(q.Text, ": ")
	text, _, _ = strings.Cut(text, ". ")
	list, latest = strings.Split(text, ", "), -1
	for i, s := range list {
		if s == label.Narrate(*q.Label.Done) {
			latest = i
		}
	}
	if latest < 0 || label.Narrate(q.Label.Steps[0]) != list[(latest+1)%len(list)] {
		t.Fatalf("%q: %s is done last and %s is next", q.Text, label.Narrate(*q.Label.Done), label.Narrate(q.Label.Steps[0]))
	}
	return list, latest
}

// stepFeatures are what a reader of the list may go by at a step: its words, its neighbours' verbs, what stands in it twice.
func stepFeatures(list []string, i int) []string {
	verb := func(i int) string {
		v, _, _ := strings.Cut(list[(i+len(list))%len(list)], " ")
		return v
	}
	out := append(strings.Fields(list[i]), "step "+list[i], fmt.Sprint("verbs ", verb(i-1), verb(i)), fmt.Sprint("verbs ", verb(i), verb(i+1), "!"))
	for j, s := range list {
		if j != i {
			a, b := strings.Fields(list[i]), strings.Fields(s)
			if a[len(a)-1] == b[len(b)-1] {
				out = append(out, fmt.Sprint("same place ", j < i))
			}
			if strings.Contains(list[i], b[2]) {
				out = append(out, fmt.Sprint("same thing ", j < i))
			}
		}
	}
	return out
}

// The list of a round tells nobody how far it was done: not the place in it, nor its words, nor what stands in it twice.
func TestStepsDoNotTellWhichIsNext(t *testing.T) {
	type told struct {
		list   []string
		latest int
	}
	var all []told
	for seed := range uint64(90) {
		k, err := Generate(Options{Seed: 3000 + seed, Rate: 4, Width: 64, Height: 48, Quiz: quiz.Options{Count: 60, Windows: 4}})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range k.Questions {
			if q.Kind == "next" {
				list, latest := stepsOf(t, q)
				all = append(all, told{list, latest})
			}
		}
	}
	cut := len(all) * 3 / 4
	place := map[[2]int]float64{}
	// What is said of the step done last, of the next one, and of the others.
	const latest, next, other = 0, 1, 2
	words, total := [3]map[string]float64{{}, {}, {}}, [3]float64{}
	for _, q := range all[:cut] {
		place[[2]int{len(q.list), q.latest}]++
		for i := range q.list {
			role := min(other, (i-q.latest+len(q.list))%len(q.list))
			total[role]++
			for _, f := range stepFeatures(q.list, i) {
				words[role][f]++
			}
		}
	}
	guess := func(list []string, byWords bool) int {
		best, score := 0, math.Inf(-1)
		for i := range list {
			s := math.Log(place[[2]int{len(list), i}] + 0.5)
			for _, role := range []int{latest, next} {
				for _, f := range stepFeatures(list, (i+role)%len(list)) {
					if byWords {
						p := func(role int) float64 { return math.Log((words[role][f] + 1) / (total[role] + 2)) }
						s += (p(role) - p(other)) / 2 // they are not independent
					}
				}
			}
			if s > score {
				best, score = i, s
			}
		}
		return best
	}
	var right [2]float64
	chance := 0.0
	for _, q := range all[cut:] {
		for k, byWords := range []bool{false, true} {
			if guess(q.list, byWords) == q.latest {
				right[k]++
			}
		}
		chance += 1 / float64(len(q.list))
	}
	n := float64(len(all) - cut)
	t.Logf("%d lists: chance %.1f %%, by place %.1f %%, by words %.1f %%", len(all), 100*chance/n, 100*right[0]/n, 100*right[1]/n)
	if limit := chance/n + 0.05 + 3*math.Sqrt(0.2*0.8/n); right[0]/n > limit || right[1]/n > limit {
		t.Errorf("of %d lists %.0f %% are told by the place and %.0f %% by the words, expected at most %.0f %%", int(n), 100*right[0]/n, 100*right[1]/n, 100*limit)
	}
}
