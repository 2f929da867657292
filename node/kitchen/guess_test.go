package kitchen

import (
	"math"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/label"
)

// part is what a guesser has to find out: the direction of an item and of a place to use, the way of a plan. The rest of an
// answer follows from the words of the question or from the map.
func part(q quiz.Question) string {
	l := q.Label
	switch {
	case l.Unseen:
		return "unseen"
	case q.Kind == "nearer" || q.Kind == "then nearer":
		switch l.Object {
		case "":
			return l.Change
		case q.About:
			return "first"
		}
		return "second"
	case len(l.Steps) > 0 && q.Kind == "route":
		return label.Label{Steps: l.Steps[:len(l.Steps)-1]}.String()
	case q.Kind == "next":
		return label.Label{Done: l.Done}.String()
	case l.Direction != "":
		return l.Direction
	}
	return l.String()
}

// counting is a naive Bayes guesser on the words of a question and their pairs.
type counting struct {
	label map[string]float64
	word  map[string]map[string]float64
	total map[string]float64
	vocab map[string]bool
}

func features(text string) []string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' })
	out := append([]string{}, words...)
	for i := 1; i < len(words); i++ {
		out = append(out, words[i-1]+" "+words[i])
	}
	return out
}

func (c *counting) learn(text, l string) {
	c.label[l]++
	if c.word[l] == nil {
		c.word[l] = map[string]float64{}
	}
	for _, w := range features(text) {
		c.word[l][w]++
		c.total[l]++
		c.vocab[w] = true
	}
}

func (c *counting) guess(text string) string {
	best, score := "", math.Inf(-1)
	labels := make([]string, 0, len(c.label))
	for l := range c.label {
		labels = append(labels, l)
	}
	sort.Strings(labels)
	for _, l := range labels {
		s := math.Log(c.label[l])
		for _, w := range features(text) {
			if c.vocab[w] {
				s += math.Log((c.word[l][w] + 0.5) / (c.total[l] + 0.5*float64(len(c.vocab))))
			}
		}
		if s > score {
			best, score = l, s
		}
	}
	return best
}

// A guesser that always says the most frequent answer, and one that counts words, stay near chance on every kind of question.
func TestGuessersStayNearChance(t *testing.T) {
	n := 70
	if v, err := strconv.Atoi(os.Getenv("STLLM_KITCHENS")); err == nil {
		n = v
	}
	type result struct{ n, majority, counted float64 }
	kinds := map[string][]quiz.Question{}
	var ends [][3]float64 // trend: where the thing lies at the end, and 1 for closer, −1 for further
	abstain, all := 0, 0
	for seed := range uint64(n) {
		k, err := Generate(Options{Seed: 1000 + seed, Rate: 4, Width: 64, Height: 48, Quiz: quiz.Options{Count: 24, Windows: 4}})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range k.Questions {
			kind := q.Kind
			if kind == "absent" {
				kind = map[string]string{"relative_direction": "direction", "action_planning": "route", "relative_distance": "trend", "furniture_affordance": "affordance"}[string(q.Task)]
			} else if kind == "unseen" {
				kind = "find"
			}
			kinds[kind] = append(kinds[kind], q)
			if v := map[string]float64{"closer": 1, "further": -1}[q.Label.Change]; kind == "trend" && v != 0 {
				x, z := quiz.Ego(k.Camera(q.At), q.Targets[0])
				ends = append(ends, [3]float64{x, z, v})
			}
			all++
			if q.Label.Unseen {
				abstain++
			}
		}
	}
	if s := float64(abstain) / float64(all); s < 0.05 || s > 0.16 {
		t.Errorf("%.1f %% of the questions ask about what is not there, expected about 10", 100*s)
	}
	// Whoever knows where the thing is at the end, but not where it was, must not know whether one came closer.
	right := 0.0
	for i, e := range ends {
		near := slices.Clone(ends)
		near = slices.Delete(near, i, i+1)
		sort.Slice(near, func(a, b int) bool {
			return math.Hypot(near[a][0]-e[0], near[a][1]-e[1]) < math.Hypot(near[b][0]-e[0], near[b][1]-e[1])
		})
		vote := 0.0
		for _, v := range near[:min(15, len(near))] {
			vote += v[2]
		}
		if vote*e[2] > 0 {
			right++
		}
	}
	t.Logf("trend from the place at the end alone: %.1f %% of %d", 100*right/float64(len(ends)), len(ends))
	if limit := 0.62 + 1.5/math.Sqrt(float64(len(ends))); right/float64(len(ends)) > limit {
		t.Errorf("the place at the end tells closer from further in %.0f %%, expected at most %.0f %%", 100*right/float64(len(ends)), 100*limit)
	}
	for _, kind := range []string{"direction", "nearer", "affordance", "route", "find", "trend", "then", "then nearer", "next"} {
		qs := kinds[kind]
		if len(qs) < n/2 {
			t.Errorf("%s: only %d questions in %d kitchens", kind, len(qs), n)
			continue
		}
		c := &counting{map[string]float64{}, map[string]map[string]float64{}, map[string]float64{}, map[string]bool{}}
		cut := len(qs) * 2 / 3
		for _, q := range qs[:cut] {
			c.learn(q.Text, part(q))
		}
		top, most := "", 0.0
		for l, v := range c.label {
			if v > most || v == most && l < top {
				top, most = l, v
			}
		}
		var r result
		abst, abstRight := 0.0, 0.0
		for _, q := range qs[cut:] {
			r.n++
			if part(q) == top {
				r.majority++
			}
			g := c.guess(q.Text)
			if g == part(q) {
				r.counted++
			}
			if q.Label.Unseen {
				abst++
				if g == "unseen" {
					abstRight++
				}
			}
		}
		// Chance for a direction is one in nine plus what abstention gives, for closer or further about four in ten.
		limit := map[string]float64{"nearer": 0.6, "then nearer": 0.6, "trend": 0.56}[kind]
		if limit == 0 {
			limit = 0.27
		}
		// Three standard deviations of the sample on top.
		if limit += 3 * math.Sqrt(limit*(1-limit)/r.n); r.majority/r.n > limit || r.counted/r.n > limit {
			t.Errorf("%s: a majority guesser gets %.0f %%, a counting one %.0f %%, expected at most %.0f %%", kind, 100*r.majority/r.n, 100*r.counted/r.n, 100*limit)
		}
		dist := ""
		var ls []string
		for l := range c.label {
			ls = append(ls, l)
		}
		sort.Slice(ls, func(i, j int) bool { return c.label[ls[i]] > c.label[ls[j]] })
		for i, l := range ls {
			if i < 12 {
				dist += " " + l + ":" + strconv.Itoa(int(100*c.label[l]/float64(cut)))
			}
		}
		t.Logf("%-12s n %4d labels %2d majority %4.1f %% counting %4.1f %% abstention %v/%v |%s", kind, len(qs), len(c.label), 100*r.majority/r.n, 100*r.counted/r.n, abstRight, abst, dist)
	}
}
