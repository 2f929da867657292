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
		var tokens [stepFacts]map[float32]int // by sign
		for column := range tokens {
			tokens[column] = map[float32]int{}
		}
		for k, at := range words {
			for column, sign := range factsOf(k, last, len(list)) {
				tokens[column][sign] += len(at)
			}
		}
		for k, at := range words {
			for column, sign := range factsOf(k, last, len(list)) {
				if sign == 0 {
					continue
				}
				for _, j := range at {
					j = (i*length+lead+j)*stepFacts + column
					fact[j], weight[j] = sign, 0.5/float32(tokens[column][sign])
				}
			}
		}
	}
	shape := []int{n, length, stepFacts}
	b["fact"] = Feed{Shape: shape, Float32s: fact}
	b["fact_weight"] = Feed{Shape: shape, Float32s: weight}
	return nil
}

// factsOf is what holds of step k of a round of n steps of which last was done last: 1, or -1 for what does not. A round may have
// been begun anywhere: whether other steps than that and the next one were done nobody knows, 0.
func factsOf(k, last, n int) [stepFacts]float32 {
	switch k {
	case last:
		return [stepFacts]float32{stepDone: 1, stepLatest: 1, stepNext: -1}
	case (last + 1) % n:
		return [stepFacts]float32{stepDone: -1, stepLatest: -1, stepNext: 1}
	}
	return [stepFacts]float32{stepLatest: -1, stepNext: -1}
}

// taskSteps gives the steps of a round that a question lists in their order, and the index of the last one done. A question
// without an answer that says what was done lists none.
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
