package eval

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// Scores is scores.json. It depends on the answers alone, not on when or in what order they came.
type Scores struct {
	Runs map[Ablation]*RunScores `json:"runs"`
	// Incomplete are the runs that lack answers, with the number that they have; they are not scored.
	Incomplete map[Ablation]int `json:"incomplete,omitempty"`
	// Guessers know the words of the questions and the right answers of other scenes' items, and nothing else.
	Guessers map[string]*Accuracy `json:"guessers,omitempty"`
	// TooFewToGuess is the number of items with a label where that is too small for guessers to learn from.
	TooFewToGuess int `json:"too_few_to_guess,omitempty"`
}

// Accuracy is label accuracy in all and by part, with 95 % intervals by bootstrap.
type Accuracy struct {
	// LabelAccuracy is the share of items whose answer says exactly the right label. Failed items are wrong, and so are
	// answers that say none; items whose right answer has no label are not counted. 0 where no item has a label.
	LabelAccuracy float64                `json:"label_accuracy"`
	Groups        map[string]float64     `json:"groups"`
	Tasks         map[stllm.Task]float64 `json:"tasks"`
	Intervals     Intervals              `json:"intervals"` // 95 %, by bootstrap
}

// RunScores are the scores of one run.
type RunScores struct {
	Accuracy
	Metrics    TextScores  `json:"metrics"`
	Abstention *Abstention `json:"abstention,omitempty"` // where some right answers are that a thing is not there or was not seen

	Items     int         `json:"items"`
	Labelled  int         `json:"labelled"` // items that label accuracy counts
	NoLabel   int         `json:"no_label"` // of these, answers that say no label, or several
	Failed    []Failure   `json:"failed"`
	Confusion []Confusion `json:"confusion"`
}

// Abstention is about items whose right answer is that the thing is not there or was not seen.
type Abstention struct {
	Items    int              `json:"items"`
	Accuracy metrics.Interval `json:"accuracy"` // of these, answers that say so
	False    metrics.Interval `json:"false"`    // of the others with a label, answers that say so
}

// Failure names an item without an answer.
type Failure struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// TextScores are the published metrics of a run and of each task as a corpus of its own. A failed item counts as an empty
// answer.
type TextScores struct {
	*metrics.Scores
	Tasks map[stllm.Task]*metrics.Scores `json:"tasks,omitempty"`
}

// Intervals are those of the label accuracies and of the metrics that are means over items.
type Intervals struct {
	LabelAccuracy *metrics.Interval               `json:"label_accuracy,omitempty"`
	Groups        map[string]metrics.Interval     `json:"groups,omitempty"`
	Tasks         map[stllm.Task]metrics.Interval `json:"tasks,omitempty"`
	// Metrics: cider_d, rouge_l and sensim of the raw strings. BLEU and METEOR are no means of items.
	Metrics map[string]metrics.Interval `json:"metrics,omitempty"`
}

// Confusion is the matrix of one task.
type Confusion struct {
	Task stllm.Task `json:"task"`
	metrics.Confusion
}

// Score reads the predictions of a results folder, scores the complete runs and writes scores.json.
func Score(ctx context.Context, dir string, scorer metrics.Scorer) (*Result, error) {
	res, err := load(dir)
	if err != nil {
		return nil, err
	}
	byRun := map[Ablation][]Prediction{}
	var pairs []metrics.Pair
	for _, p := range res.Predictions {
		byRun[p.Run] = append(byRun[p.Run], p)
		if pair, ok := p.pair(); ok {
			pairs = append(pairs, pair)
		}
	}
	if err := scorer.Prepare(pairs); err != nil {
		return nil, fmt.Errorf("score %s: %w", dir, err)
	}
	res.Scores = &Scores{Runs: map[Ablation]*RunScores{}}
	for run, list := range byRun {
		if len(list) < res.Settings.Items {
			if res.Scores.Incomplete == nil {
				res.Scores.Incomplete = map[Ablation]int{}
			}
			res.Scores.Incomplete[run] = len(list)
			continue
		}
		if res.Scores.Runs[run], err = scoreRun(ctx, list, res.Settings.Seed, scorer); err != nil {
			return nil, fmt.Errorf("score run %s of %s: %w", run, dir, err)
		}
	}
	for _, run := range Ablations() { // questions and right answers are the same in all
		if res.Scores.Runs[run] != nil {
			res.Scores.Guessers, res.Scores.TooFewToGuess = guessers(byRun[run], res.Settings.Seed)
			break
		}
	}
	return res, writeJSON(filepath.Join(dir, ScoresFile), res.Scores)
}

// Load reads a results folder with its scores.json.
func Load(dir string) (*Result, error) {
	res, err := load(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ScoresFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("scores: %w", err)
	}
	if err := json.Unmarshal(b, &res.Scores); err != nil {
		return nil, fmt.Errorf("scores %s: %w", path, err)
	}
	if res.Scores == nil {
		return nil, fmt.Errorf("scores %s: no scores in it", path)
	}
	return res, nil
}

// load reads a results folder without its scores.
func load(dir string) (*Result, error) {
	set, err := readSettings(filepath.Join(dir, RunFile))
	if err != nil {
		return nil, err
	}
	all, _, err := ReadPredictions(filepath.Join(dir, PredictionsFile))
	if err != nil {
		return nil, err
	}
	order := Ablations()
	slices.SortStableFunc(all, func(a, b Prediction) int {
		return cmp.Or(slices.Index(order, a.Run)-slices.Index(order, b.Run), a.Index-b.Index)
	})
	return &Result{Settings: *set, Predictions: all}, nil
}

// pair is the item for text metrics; false where there is no reference.
func (p *Prediction) pair() (metrics.Pair, bool) {
	return metrics.Pair{References: []string{p.Reference}, Hypothesis: p.Answer}, strings.TrimSpace(p.Reference) != ""
}

// counted tells whether label accuracy counts an item: one with a label, and one so broken that nothing is known of it.
func (p *Prediction) counted() bool { return p.Label != "" || p.Error != "" && p.Reference == "" }

func hit(p *Prediction) float64 { return one(p.Right()) }

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// accuracyOf counts hits of the counted items, by index of the list.
func accuracyOf(list []Prediction, hit func(i int) bool, seed uint64) Accuracy {
	var all []float64
	groups, tasks := map[string][]float64{}, map[stllm.Task][]float64{}
	for i := range list {
		p := &list[i]
		if !p.counted() {
			continue
		}
		h := one(hit(i))
		all = append(all, h)
		if p.Group != "" {
			groups[p.Group] = append(groups[p.Group], h)
		}
		if p.Task != "" {
			tasks[p.Task] = append(tasks[p.Task], h)
		}
	}
	a := Accuracy{Groups: map[string]float64{}, Tasks: map[stllm.Task]float64{},
		Intervals: Intervals{Groups: map[string]metrics.Interval{}, Tasks: map[stllm.Task]metrics.Interval{}}}
	if len(all) > 0 {
		in := metrics.Bootstrap(all, seed)
		a.LabelAccuracy, a.Intervals.LabelAccuracy = in.Mean, &in
	}
	for g, v := range groups {
		a.Intervals.Groups[g] = metrics.Bootstrap(v, seed)
		a.Groups[g] = a.Intervals.Groups[g].Mean
	}
	for t, v := range tasks {
		a.Intervals.Tasks[t] = metrics.Bootstrap(v, seed)
		a.Tasks[t] = a.Intervals.Tasks[t].Mean
	}
	return a
}

// unseen is the label of an answer that abstains.
var unseen = label.Label{Unseen: true}.String()

func abstention(list []Prediction, seed uint64) *Abstention {
	var yes, no []float64
	for i := range list {
		switch p := &list[i]; {
		case p.Label == unseen:
			yes = append(yes, hit(p))
		case p.Label != "":
			no = append(no, one(p.Said == unseen))
		}
	}
	if len(yes) == 0 {
		return nil
	}
	a := &Abstention{Items: len(yes), Accuracy: metrics.Bootstrap(yes, seed)}
	if len(no) > 0 {
		a.False = metrics.Bootstrap(no, seed)
	}
	return a
}

// minGuessed is the number of labelled items from which guessing from the others says something.
const minGuessed = 50

// guessers scores what can be had without looking; where there are too few items with a label it tells how many.
func guessers(list []Prediction, seed uint64) (scores map[string]*Accuracy, tooFew int) {
	labelled := 0
	for i := range list {
		if list[i].Label != "" {
			labelled++
		}
	}
	if labelled < minGuessed {
		return nil, labelled
	}
	out := map[string]*Accuracy{}
	for name, said := range guesses(list) {
		a := accuracyOf(list, func(i int) bool { return list[i].Label != "" && said[i] == list[i].Label }, seed)
		out[name] = &a
	}
	return out, 0
}

func scoreRun(ctx context.Context, list []Prediction, seed uint64, scorer metrics.Scorer) (*RunScores, error) {
	s := &RunScores{Accuracy: accuracyOf(list, func(i int) bool { return list[i].Right() }, seed), Abstention: abstention(list, seed),
		Items: len(list), Failed: []Failure{}, Confusion: []Confusion{}}
	truth, said := map[stllm.Task][]string{}, map[stllm.Task][]string{}
	var pairs []metrics.Pair
	taskPairs := map[stllm.Task][]metrics.Pair{}
	for i := range list {
		p := &list[i]
		if p.Error != "" {
			s.Failed = append(s.Failed, Failure{p.ID, p.Error})
		}
		if pair, ok := p.pair(); ok {
			pairs = append(pairs, pair)
			taskPairs[p.Task] = append(taskPairs[p.Task], pair)
		}
		if !p.counted() {
			continue
		}
		s.Labelled++
		if p.Said == "" {
			s.NoLabel++
		}
		if p.Label != "" {
			truth[p.Task], said[p.Task] = append(truth[p.Task], p.Label), append(said[p.Task], p.Said)
		}
	}
	for _, t := range sortedTasks(truth) {
		c, err := metrics.Confuse(truth[t], said[t])
		if err != nil {
			return nil, err
		}
		s.Confusion = append(s.Confusion, Confusion{t, c})
	}
	return s, s.text(ctx, pairs, taskPairs, seed, scorer)
}

// text adds the text metrics with the intervals of those that are means.
func (s *RunScores) text(ctx context.Context, pairs []metrics.Pair, byTask map[stllm.Task][]metrics.Pair, seed uint64, scorer metrics.Scorer) (err error) {
	if s.Metrics.Scores, err = scorer.Score(ctx, pairs); err != nil {
		return err
	}
	s.Metrics.Tasks = map[stllm.Task]*metrics.Scores{}
	for t, list := range byTask {
		if t == "" {
			continue
		}
		if s.Metrics.Tasks[t], err = scorer.Score(ctx, list); err != nil {
			return err
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	var cider, rouge, sim []float64
	for _, e := range s.Metrics.Each {
		cider, rouge = append(cider, e.Raw.CIDErD), append(rouge, e.Raw.ROUGEL)
		if e.SenSim != nil {
			sim = append(sim, *e.SenSim)
		}
	}
	s.Intervals.Metrics = map[string]metrics.Interval{"cider_d": metrics.Bootstrap(cider, seed), "rouge_l": metrics.Bootstrap(rouge, seed)}
	if sim != nil {
		s.Intervals.Metrics["sensim"] = metrics.Bootstrap(sim, seed)
	}
	return nil
}

func sortedTasks[V any](m map[stllm.Task]V) []stllm.Task {
	var out []stllm.Task
	for t := range m {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}
