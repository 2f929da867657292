package trainer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/record"
)

// headSteps and headStepsEarly tell from a word of a task's step what is known of the step [stepFacts, D]. The answer alone
// says it of two steps, and names them by many tokens: too little to learn from what doing a step looks like. The early head
// reads the middle of the Q-Former: which step is next has to stand there if the layers behind are to look for its place.
const (
	headSteps      = "train.head.steps.weight"
	headStepsEarly = "train.head.early_steps.weight"
)

// The columns of these heads.
const (
	stepDone   = iota // the step was done
	stepLatest        // it was done last
	stepNext          // it comes next
	stepFacts
)

// stepsWeight is that of the loss on each head.
const stepsWeight = 1.0

// steps adds what is known of the words of the batch's questions that belong to steps of a task, +1 or -1 for each fact. The
// weights of a question's words sum to one for each fact, half of it to either sign; other questions have none.
func (t *Trainer) steps(b Batch, w windowBatch, asked [][]int32) error {
	n, length := len(w.questions), b["text_mask"].Shape[3]
	lead := t.cfg.QFormerConfig.NumQueryTokens + len(w.window.Frames)
	fact, weight := make([]float32, n*length*stepFacts), make([]float32, n*length*stepFacts)
	for i, q := range w.questions {
		list, last, err := taskSteps(q)
		if err != nil {
			return err
		}
		words := t.spans(asked[i], list)
		next := 0
		if len(list) > 0 {
			next = (last + 1) % len(list)
		}
		// A round may have been begun anywhere: of other steps than these two nobody knows whether they were done.
		for column, of := range [stepFacts]struct{ step, other int }{stepDone: {last, next}, stepLatest: {last, -1}, stepNext: {next, -1}} {
			var count [2]int
			for k, at := range words {
				if of.other < 0 || k == of.step || k == of.other {
					count[sign(k == of.step)] += len(at)
				}
			}
			for k, at := range words {
				if of.other >= 0 && k != of.step && k != of.other {
					continue
				}
				side := sign(k == of.step)
				for _, j := range at {
					j = (i*length+lead+j)*stepFacts + column
					fact[j] = float32(2*side - 1)
					weight[j] = 0.5 / float32(count[side])
				}
			}
		}
	}
	shape := []int{n, length, stepFacts}
	b["fact"] = Feed{Shape: shape, Float32s: fact}
	b["fact_weight"] = Feed{Shape: shape, Float32s: weight}
	return nil
}

// sign is 1 for what holds.
func sign(holds bool) int {
	if holds {
		return 1
	}
	return 0
}

// taskSteps gives the steps of a round that a question lists in their order, and the index of the last one done. A question without an
// answer that says what was done lists none.
func taskSteps(q record.Question) (list []string, last int, err error) {
	if !strings.HasPrefix(q.Label, "done ") {
		return nil, 0, nil
	}
	l, err := label.Parse(stllm.Task(q.Task), q.Answer)
	if err == nil && l.Done == nil {
		err = errors.New("no such sentence")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("what answer %q says was done: %w", q.Answer, err)
	}
	_, text, _ := strings.Cut(q.Text, ": ")
	text, _, _ = strings.Cut(text, ". ")
	list, last = strings.Split(text, ", "), -1
	for i, step := range list {
		if step == label.Narrate(*l.Done) {
			last = i
		}
	}
	if last < 0 || len(list) < 2 {
		return nil, 0, fmt.Errorf("question %q lists no step %q, or none beside it", q.Text, label.Narrate(*l.Done))
	}
	return list, last, nil
}

// spans finds the tokens of pieces of text that follow one another in ids.
func (t *Trainer) spans(ids []int32, pieces []string) [][]int {
	var text strings.Builder
	var start []int
	for _, id := range ids {
		start = append(start, text.Len())
		text.Write(t.tok.Bytes(id))
	}
	all, from := text.String(), 0
	out := make([][]int, len(pieces))
	for k, piece := range pieces {
		i := strings.Index(all[from:], piece)
		if i < 0 {
			continue
		}
		i, from = from+i, from+i+len(piece)
		for j, at := range start {
			if end := at + len(t.tok.Bytes(ids[j])); at < from && end > i {
				out[k] = append(out[k], j)
			}
		}
	}
	return out
}

// stepFacts is what the words of early and last, layers of the Q-Former [B, S, D], say of their steps, that of the last layer
// [B, S, facts], and the loss on both.
func (t *Trainer) stepFacts(b *module.Builder, early, last *graph.Value, sequence graph.Dim) (said, loss *graph.Value) {
	g := b.G
	if early == nil || last == nil || g.Err() != nil {
		x := g.Failf("the Q-Former has no layer")
		return x, x
	}
	shape := []graph.Dim{graph.N("questions"), sequence, graph.D(stepFacts)}
	fact, weight := g.Input("fact", graph.Float32, shape...), g.Input("fact_weight", graph.Float32, shape...)
	sum := func(v *graph.Value) *graph.Value { return g.Sum(g.Sum(g.Sum(v, 2, false), 1, false), 0, false) }
	whole := g.Shift(sum(weight), 1e-3)
	read := func(x *graph.Value, head string) *graph.Value {
		said = g.Linear(x, b.Weight(head, stepFacts, t.cfg.QFormerConfig.HiddenSize), nil)
		likely := g.Log(g.Shift(g.Sigmoid(g.Mul(said, fact)), 1e-9))
		return g.Scale(g.Neg(g.Div(sum(g.Mul(likely, weight)), whole)), stepsWeight)
	}
	loss = g.Add(read(early, headStepsEarly), read(last, headSteps))
	return said, loss
}
