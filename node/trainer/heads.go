package trainer

import (
	"context"
	"math"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/stllm/module"
)

// unseen is what a score of the future gets.
const unseen = -1e9

// heads is an attention as a link: q [groups, S, sharing·d], k and v [groups, L, d] to a of the shape of q. It runs for one group
// and some rows of q at a time, so that never more than a bounded number of scores is there: all of 12 heads, 6,400 rows and
// 10,000 keys are 3 GB.
type heads struct {
	attend  piece
	sharing int  // heads of a group, which share keys and values
	causal  bool // a row sees the keys up to its own
	scores  int  // of a run, at most; one row is always run whole
}

func (h heads) takes() []string { return []string{"q", "k", "v"} }
func (h heads) gives() []string { return []string{"a"} }
func (h heads) trains() bool    { return h.attend.trains() }

// attend is the attention of one head, or of several that share keys, whose rows then lie one after another: q [rows, d], k and
// v [keys, d] to a [rows, d]. place and key_place, where causal, are positions in the sequence.
func attend(b *module.Builder, size int, causal bool) map[string]*graph.Value {
	g, rows, keys, d := b.G, graph.N("rows"), graph.N("keys"), graph.D(size)
	q, k, v := g.Input("q", graph.Float32, rows, d), g.Input("k", graph.Float32, keys, d), g.Input("v", graph.Float32, keys, d)
	scores := g.MatMul(g.Scale(q, float32(1/math.Sqrt(float64(size)))), g.Transpose(k, 1, 0))
	if causal {
		future := g.Less(g.Unsqueeze(g.Input("place", graph.Int64, rows), 1), g.Unsqueeze(g.Input("key_place", graph.Int64, keys), 0))
		scores = g.Add(scores, g.Where(future, g.Scalar(graph.Float32, unseen), g.Scalar(graph.Float32, 0)))
	}
	return map[string]*graph.Value{"a": g.MatMul(g.Softmax(scores), v)}
}

// stretch is a part of a slice.
type stretch struct{ from, to int }

func (s stretch) of(x []float32) []float32 { return x[s.from:s.to] }

// each runs f for all rows of all groups: where they lie in q, where their keys lie in k, and what attend takes.
func (h heads) each(in Batch, f func(rows, keys stretch, in Batch) error) error {
	q, k, v := in["q"], in["k"], in["v"]
	groups, queries, all, size := q.Shape[0], q.Shape[1], k.Shape[1], k.Shape[2]
	place := make([]int64, queries*h.sharing)
	for i := range place {
		place[i] = int64(i / h.sharing)
	}
	keyPlace := make([]int64, all)
	for i := range keyPlace {
		keyPlace[i] = int64(i)
	}
	block := max(1, h.scores/(all*h.sharing))
	for group := range groups {
		for from := 0; from < queries; from += block {
			to, seen := min(from+block, queries), all
			if h.causal {
				seen = to
			}
			n := (to - from) * h.sharing
			rows := stretch{(group*queries + from) * h.sharing * size, (group*queries + to) * h.sharing * size}
			keys := stretch{group * all * size, (group*all + seen) * size}
			b := Batch{"q": {Shape: []int{n, size}, Float32s: rows.of(q.Float32s)},
				"k": {Shape: []int{seen, size}, Float32s: keys.of(k.Float32s)}, "v": {Shape: []int{seen, size}, Float32s: keys.of(v.Float32s)}}
			if h.causal {
				b["place"] = Feed{Shape: []int{n}, Int64s: place[from*h.sharing : to*h.sharing]}
				b["key_place"] = Feed{Shape: []int{seen}, Int64s: keyPlace[:seen]}
			}
			if err := f(rows, keys, b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h heads) forth(ctx context.Context, in Batch) (Batch, error) {
	a := blank(in["q"])
	err := h.each(in, func(rows, _ stretch, in Batch) error {
		out, err := h.attend.forth(ctx, in)
		copy(rows.of(a.Float32s), out["a"].Float32s)
		return err
	})
	return Batch{"a": a}, err
}

func (h heads) back(ctx context.Context, in, slopes Batch) (Batch, error) {
	dq, dk, dv := blank(in["q"]), blank(in["k"]), blank(in["v"])
	err := h.each(in, func(rows, keys stretch, in Batch) error {
		out, err := h.attend.back(ctx, in, Batch{"a": {Shape: in["q"].Shape, Float32s: rows.of(slopes["a"].Float32s)}})
		if err != nil {
			return err
		}
		copy(rows.of(dq.Float32s), out["q"].Float32s)
		add(keys.of(dk.Float32s), out["k"].Float32s)
		add(keys.of(dv.Float32s), out["v"].Float32s)
		return nil
	})
	return Batch{"q": dq, "k": dk, "v": dv}, err
}

// blank is zeros of a shape.
func blank(f Feed) Feed { return Feed{Shape: f.Shape, Float32s: make([]float32, len(f.Float32s))} }
