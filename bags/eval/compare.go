package eval

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/stllm"
)

// Comparison sets two evaluations of the same items side by side.
type Comparison struct {
	Names [2]string                  `json:"answerers"`
	Run   Ablation                   `json:"run"`
	Items int                        `json:"items"` // in both, with the same question and right answer
	Only  [2]int                     `json:"only"`  // items that only one of them has
	Label *PairedLabel               `json:"label_accuracy,omitempty"`
	Tasks map[stllm.Task]PairedLabel `json:"tasks,omitempty"`
	// Metrics are paired tests of the scores that are means over items: cider_d and rouge_l.
	Metrics map[string]Paired `json:"metrics,omitempty"`
}

// Paired is a score of both with the test of their difference, B minus A.
type Paired struct {
	A float64 `json:"a"`
	B float64 `json:"b"`
	metrics.Comparison
}

// PairedLabel is a paired test of label accuracy, with what each has right alone.
type PairedLabel struct {
	Paired
	OnlyA int `json:"only_a"` // items that A alone has right
	OnlyB int `json:"only_b"`
}

// Compare tests whether B differs from A in a run. Items are paired by id and must ask the same and have the same right
// answer; two folders without any common item are an error.
func Compare(dirA, dirB string, run Ablation, seed uint64) (*Comparison, error) {
	a, err := load(dirA)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	b, err := load(dirB)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	c := &Comparison{Names: [2]string{a.Settings.Answerer, b.Settings.Answerer}, Run: run, Tasks: map[stllm.Task]PairedLabel{}}
	ofB := map[string]*Prediction{}
	for i := range b.Predictions {
		if p := &b.Predictions[i]; p.Run == run {
			ofB[p.ID] = p
		}
	}
	var left, right []*Prediction
	for i := range a.Predictions {
		p := &a.Predictions[i]
		if p.Run != run {
			continue
		}
		q, ok := ofB[p.ID]
		if !ok {
			c.Only[0]++
			continue
		}
		delete(ofB, p.ID)
		if p.Question != q.Question || p.Reference != q.Reference || p.Label != q.Label {
			return nil, fmt.Errorf("compare: item %s asks or expects something else in %s than in %s", p.ID, dirB, dirA)
		}
		left, right = append(left, p), append(right, q)
	}
	c.Only[1], c.Items = len(ofB), len(left)
	if c.Items == 0 {
		return nil, fmt.Errorf("compare: %s and %s have no item in common in run %s", dirA, dirB, run)
	}
	return c, c.test(left, right, seed)
}

func (c *Comparison) test(a, b []*Prediction, seed uint64) error {
	all, byTask := [2][]*Prediction{}, map[stllm.Task][2][]*Prediction{}
	var pairs [2][]metrics.Pair
	for i := range a {
		if a[i].counted() && b[i].counted() {
			all[0], all[1] = append(all[0], a[i]), append(all[1], b[i])
			of := byTask[a[i].Task]
			byTask[a[i].Task] = [2][]*Prediction{append(of[0], a[i]), append(of[1], b[i])}
		}
		pa, ok := a[i].pair()
		pb, _ := b[i].pair()
		if ok {
			pairs[0], pairs[1] = append(pairs[0], pa), append(pairs[1], pb)
		}
	}
	if len(all[0]) > 0 {
		p, err := labels(all, seed)
		if err != nil {
			return err
		}
		c.Label = &p
	}
	for _, t := range sortedTasks(byTask) {
		p, err := labels(byTask[t], seed)
		if err != nil {
			return err
		}
		if t != "" {
			c.Tasks[t] = p
		}
	}
	if len(pairs[0]) == 0 {
		return nil
	}
	c.Metrics = map[string]Paired{}
	ciderA, _, eachA, _ := metrics.CIDEr(pairs[0])
	ciderB, _, eachB, _ := metrics.CIDEr(pairs[1])
	rougeA, rougesA := metrics.ROUGEL(pairs[0])
	rougeB, rougesB := metrics.ROUGEL(pairs[1])
	d, err1 := metrics.Compare(eachA, eachB, seed)
	r, err2 := metrics.Compare(rougesA, rougesB, seed)
	c.Metrics["cider_d"], c.Metrics["rouge_l"] = Paired{ciderA, ciderB, d}, Paired{rougeA, rougeB, r}
	return errors.Join(err1, err2)
}

func labels(both [2][]*Prediction, seed uint64) (PairedLabel, error) {
	var out PairedLabel
	var hits [2][]float64
	for i := range both[0] {
		a, b := hit(both[0][i]), hit(both[1][i])
		hits[0], hits[1] = append(hits[0], a), append(hits[1], b)
		out.A += a
		out.B += b
		if a > b {
			out.OnlyA++
		}
		if b > a {
			out.OnlyB++
		}
	}
	n := float64(len(hits[0]))
	out.A /= n
	out.B /= n
	var err error
	out.Comparison, err = metrics.Compare(hits[0], hits[1], seed)
	return out, err
}

// String writes the comparison for a terminal.
func (c *Comparison) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "A %s\nB %s\nrun %s, %d items in both, %d only in A, %d only in B\n", c.Names[0], c.Names[1], c.Run, c.Items, c.Only[0], c.Only[1])
	line := func(name string, p Paired) {
		fmt.Fprintf(&b, "%-22s A %.4f  B %.4f  difference %+.4f [%+.4f, %+.4f]  p %.4f\n", name, p.A, p.B,
			p.Difference.Mean, p.Difference.Low, p.Difference.High, p.P)
	}
	if c.Label != nil {
		line("label accuracy", c.Label.Paired)
	}
	for _, t := range sortedTasks(c.Tasks) {
		line("  "+string(t), c.Tasks[t].Paired)
	}
	for _, m := range []string{"cider_d", "rouge_l"} {
		if p, ok := c.Metrics[m]; ok {
			line(m, p)
		}
	}
	return b.String()
}
