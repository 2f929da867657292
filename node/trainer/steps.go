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

// headSteps tells from a word of a task's step whether the step was done [1, D]. The answer alone says it of one step only,
// the last one done, and names it by many tokens: too little to learn from what doing it looks like.
const headSteps = "train.head.steps.weight"

// stepsWeight is that of the loss on it.
const stepsWeight = 1.0

// steps adds which words of the batch's questions belong to steps that were done, +1, and which to steps that were not, -1.
// The weights of a question's words sum to one; other questions have none.
func (t *Trainer) steps(b Batch, w windowBatch, asked [][]int32) error {
	n, length := len(w.questions), b["text_mask"].Shape[3]
	lead := t.cfg.QFormerConfig.NumQueryTokens + len(w.window.Frames)
	done, weight := make([]float32, n*length), make([]float32, n*length)
	for i, q := range w.questions {
		list, last, err := taskSteps(q)
		if err != nil {
			return err
		}
		words := t.spans(asked[i], list)
		total := 0
		for _, at := range words {
			total += len(at)
		}
		for k, at := range words {
			for _, j := range at {
				j += i*length + lead
				if weight[j] = 1 / float32(total); k <= last {
					done[j] = 1
				} else {
					done[j] = -1
				}
			}
		}
	}
	b["done"] = Feed{Shape: []int{n, length}, Float32s: done}
	b["done_weight"] = Feed{Shape: []int{n, length}, Float32s: weight}
	return nil
}

// taskSteps gives the steps that a question lists in their order, and the index of the last one done. A question without an
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
	if last < 0 || last == len(list)-1 {
		return nil, 0, fmt.Errorf("question %q lists no step after %q", q.Text, label.Narrate(*l.Done))
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

// stepsDone is what the words of x [B, S, D] say of their steps [B, S], and the loss on it.
func (t *Trainer) stepsDone(b *module.Builder, x *graph.Value, sequence graph.Dim) (said, loss *graph.Value) {
	g, questions := b.G, graph.N("questions")
	if x == nil || g.Err() != nil {
		x = g.Failf("the Q-Former has no layer")
		return x, x
	}
	said = g.Squeeze(g.Linear(x, b.Weight(headSteps, 1, t.cfg.QFormerConfig.HiddenSize), nil), 2)
	done := g.Input("done", graph.Float32, questions, sequence)
	weight := g.Input("done_weight", graph.Float32, questions, sequence)
	likely := g.Log(g.Shift(g.Sigmoid(g.Mul(said, done)), 1e-9))
	sum := func(v *graph.Value) *graph.Value { return g.Sum(g.Sum(v, 1, false), 0, false) }
	return said, g.Scale(g.Neg(g.Div(sum(g.Mul(likely, weight)), g.Shift(sum(weight), 1e-3))), stepsWeight)
}
