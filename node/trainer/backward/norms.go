package backward

import "github.com/stllm/stllm/node/graph"

// statistic is what a norm has found for each row, as a further result of its node.
func (t *tape) statistic(n *graph.Node, index int) *graph.Value {
	s := append(graph.Shape(nil), n.Inputs[0].Shape...)
	s[len(s)-1] = graph.D(1)
	return t.g.Also(n, index, graph.Out{DType: graph.Float32, Shape: s})
}

func layerNorm(t *tape, n *graph.Node, dy *graph.Value) {
	g, x, weight, bias := t.g, n.Inputs[0], n.Inputs[1], n.Inputs[2]
	inv := t.statistic(n, 2)
	unit := g.Mul(g.Sub(x, t.statistic(n, 1)), inv)
	t.give(weight, func() *graph.Value { return t.fit(g.Mul(dy, unit), weight) })
	t.give(bias, func() *graph.Value { return t.fit(dy, bias) })
	t.give(x, func() *graph.Value {
		d := g.Mul(dy, weight)
		return g.Mul(inv, g.Sub(g.Sub(d, g.Mean(d, -1, true)), g.Mul(unit, g.Mean(g.Mul(d, unit), -1, true))))
	})
}

func rmsNorm(t *tape, n *graph.Node, dy *graph.Value) {
	g, x, weight := t.g, n.Inputs[0], n.Inputs[1]
	inv := t.statistic(n, 1)
	unit := g.Mul(x, inv)
	t.give(weight, func() *graph.Value { return t.fit(g.Mul(dy, unit), weight) })
	t.give(x, func() *graph.Value {
		d := g.Mul(dy, weight)
		return g.Mul(inv, g.Sub(d, g.Mul(unit, g.Mean(g.Mul(d, unit), -1, true))))
	})
}

// softmax is y·(dy − Σ dy·y). In attention the sum over the keys is one over the columns of what came out, z = y·v: Σ dy·y =
// Σ dz·z, a fraction of the size (Dao et al., FlashAttention, section 3.1).
func softmax(t *tape, n *graph.Node, dy *graph.Value) {
	g, y := t.g, n.Outputs[0]
	t.give(n.Inputs[0], func() *graph.Value {
		a, b := dy, y
		if uses := t.uses[y]; len(uses) == 1 && uses[0].Op == "MatMul" && uses[0].Inputs[1] != y {
			if z := uses[0].Outputs[0]; z.Shape[:len(z.Shape)-1].Equal(y.Shape[:len(y.Shape)-1]) {
				a, b = t.total(z), z
			}
		}
		return g.Mul(y, g.Sub(dy, g.Sum(g.Mul(a, b), -1, true)))
	})
}

func mul(t *tape, n *graph.Node, dy *graph.Value) {
	g, a, b := t.g, n.Inputs[0], n.Inputs[1]
	if p := b.Producer; p != nil && p.Op == "Sigmoid" && p.Inputs[0] == a && !t.wanted[b] {
		// x·σ(x), whose slope is σ + y·(1 − σ).
		t.give(a, func() *graph.Value {
			rest := g.Mul(n.Outputs[0], g.Sub(g.Scalar(graph.Float32, 1), b))
			return g.Mul(dy, g.Add(b, rest))
		})
		return
	}
	t.give(a, func() *graph.Value { return t.fit(g.Mul(dy, b), a) })
	t.give(b, func() *graph.Value { return t.fit(g.Mul(dy, a), b) })
}

// rotary turns back.
func rotary(t *tape, n *graph.Node, dy *graph.Value) {
	g, x, cos, sin := t.g, n.Inputs[0], n.Inputs[2], n.Inputs[3]
	if t.needed[cos] || t.needed[sin] {
		g.Failf("the tables of a RotaryEmbedding have no gradient")
		return
	}
	t.give(x, func() *graph.Value {
		return g.Op(n.Op, n.Domain, []*graph.Value{dy, n.Inputs[1], cos, g.Neg(sin)}, n.Attrs, graph.Out{DType: dy.DType, Shape: dy.Shape})[0]
	})
}
