package eval

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/stllm"
)

// The guessers that are scored beside the runs.
const (
	Majority = "majority" // the most frequent answer of the task
	Words    = "words"    // naive Bayes on the words of the question and their pairs
)

// folds is the number of parts of which each is guessed by what the others teach.
const folds = 10

// guesses says what a guesser would answer, by index of the predictions. Items of one scene lie in one fold. A noun of the
// question that stands in a label is learnt by its place among the question's nouns ("the first of the two").
func guesses(list []Prediction) map[string][]string {
	out := map[string][]string{Majority: make([]string, len(list)), Words: make([]string, len(list))}
	fold := foldsOf(list)
	for part := range folds {
		nouns := map[string]bool{}
		for i, p := range list {
			if fold[i] == part || p.Label == "" {
				continue
			}
			if p.About != "" {
				nouns[p.About] = true
			}
			if _, of, ok := strings.Cut(p.Label, "nearer: "); ok {
				nouns[of] = true
			}
		}
		known := make([]string, 0, len(nouns))
		for n := range nouns {
			known = append(known, n)
		}
		// Long ones first: "dining table" before "table".
		slices.SortFunc(known, func(a, b string) int {
			if d := len(b) - len(a); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		byTask := map[stllm.Task]*counting{}
		for i, p := range list {
			if fold[i] == part || p.Label == "" {
				continue
			}
			if byTask[p.Task] == nil {
				byTask[p.Task] = newCounting()
			}
			byTask[p.Task].learn(p.Question, general(p.Label, nounsOf(p.Question, known)))
		}
		for i, p := range list {
			c := byTask[p.Task]
			if fold[i] != part || p.Label == "" || c == nil {
				continue
			}
			in := nounsOf(p.Question, known)
			out[Majority][i] = particular(c.most(), in)
			out[Words][i] = particular(c.guess(p.Question), in)
		}
	}
	return out
}

// foldsOf deals scenes (what stands before the slash of an id) to folds; where there are few, every item is one of its own.
func foldsOf(list []Prediction) []int {
	scene := func(id string) string {
		if at := strings.LastIndexByte(id, '/'); at >= 0 {
			return id[:at]
		}
		return id
	}
	scenes := map[string]bool{}
	for _, p := range list {
		scenes[scene(p.ID)] = true
	}
	out := make([]int, len(list))
	for i, p := range list {
		key := scene(p.ID)
		if len(scenes) < folds {
			key = p.ID
		}
		h := fnv.New64a()
		h.Write([]byte(key))
		out[i] = int(h.Sum64() >> 11 % folds)
	}
	return out
}

// nounsOf lists the known nouns of a question in order of their places.
func nounsOf(question string, known []string) []string {
	text := " " + strings.Join(words(question), " ") + " "
	type place struct {
		at   int
		noun string
	}
	var found []place
	for _, n := range known {
		key := " " + strings.Join(words(n), " ") + " "
		if at := strings.Index(text, key); at >= 0 && len(key) > 2 {
			found = append(found, place{at, n})
			text = text[:at+1] + strings.Repeat("_", len(key)-2) + text[at+len(key)-1:]
		}
	}
	slices.SortFunc(found, func(a, b place) int { return a.at - b.at })
	var out []string
	for _, f := range found {
		out = append(out, f.noun)
	}
	return out
}

// general puts the places of the question's nouns instead of them.
func general(label string, nouns []string) string {
	for i, n := range nouns {
		label = strings.ReplaceAll(label, n, fmt.Sprintf("{%d}", i))
	}
	return label
}

func particular(label string, nouns []string) string {
	for i, n := range nouns {
		label = strings.ReplaceAll(label, fmt.Sprintf("{%d}", i), n)
	}
	return label
}

func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
}

// counting is a naive Bayes guesser.
type counting struct {
	labels []string // in order of their first coming
	count  map[string]float64
	word   map[string]map[string]float64
	total  map[string]float64
	vocab  map[string]bool
}

func newCounting() *counting {
	return &counting{count: map[string]float64{}, word: map[string]map[string]float64{}, total: map[string]float64{}, vocab: map[string]bool{}}
}

func features(text string) []string {
	out := words(text)
	for i, n := 1, len(out); i < n; i++ {
		out = append(out, out[i-1]+" "+out[i])
	}
	return out
}

func (c *counting) learn(question, label string) {
	if c.word[label] == nil {
		c.word[label] = map[string]float64{}
		c.labels = append(c.labels, label)
	}
	c.count[label]++
	for _, w := range features(question) {
		c.word[label][w]++
		c.total[label]++
		c.vocab[w] = true
	}
}

// most is the most frequent label, of equals the one that came first.
func (c *counting) most() string {
	best := ""
	for _, l := range c.labels {
		if best == "" || c.count[l] > c.count[best] {
			best = l
		}
	}
	return best
}

func (c *counting) guess(question string) string {
	best, score := "", math.Inf(-1)
	in := features(question)
	for _, l := range c.labels {
		s := math.Log(c.count[l])
		for _, w := range in {
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
