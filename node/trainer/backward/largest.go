package backward

import "github.com/stllm/stllm/node/graph"

// larger is the rule of Max (sign 1) and Min (sign -1): the gradient goes to the one that was taken, half to each of equals.
func larger(sign float32) rule {
	return func(t *tape, n *graph.Node, dy *graph.Value) {
		g, a, b := t.g, n.Inputs[0], n.Inputs[1]
		first := func() *graph.Value { return g.Shift(g.Scale(g.Sign(g.Sub(a, b)), sign/2), 0.5) }
		t.give(a, func() *graph.Value { return t.fit(g.Mul(dy, first()), a) })
		t.give(b, func() *graph.Value { return t.fit(g.Sub(dy, g.Mul(dy, first())), b) })
	}
}

// shared gives dy to the elements of x that equal the largest, y, of their window; several that do share it. y and dy
// broadcast to x over the axes of a window.
func (t *tape) shared(x, y, dy *graph.Value, axes ...int) *graph.Value {
	g := t.g
	hit := g.Cast(g.Same(x, y), graph.Float32)
	count := hit
	for _, axis := range axes {
		count = g.Sum(count, axis, true)
	}
	return g.Mul(hit, g.Div(dy, count))
}

func reduceMax(t *tape, n *graph.Node, dy *graph.Value) {
	x := n.Inputs[0]
	t.give(x, func() *graph.Value {
		y, axis := t.open(n, n.Outputs[0])
		dy, _ := t.open(n, dy)
		return t.shared(x, y, dy, axis)
	})
}

// pool goes back through windows that lie side by side, as the builder makes them: [B,C,h·k+rest,w·k+rest] to [B,C,h,w]. The
// rest is in no window.
func pool(t *tape, n *graph.Node, dy *graph.Value) {
	g, x, y := t.g, n.Inputs[0], n.Outputs[0]
	v, _ := n.Attr("kernel_shape")
	sides, _ := v.([]int64)
	h, w := y.Shape[2], y.Shape[3]
	if len(sides) != 2 || sides[0] != sides[1] {
		g.Failf("%s with a window of %v has no gradient here", n.Op, sides)
		return
	}
	k := graph.Dim{Size: sides[0]}
	tall, wide := graph.Dim{Size: h.Size * k.Size}, graph.Dim{Size: w.Size * k.Size}
	open := func(v *graph.Value) *graph.Value { return g.Unsqueeze(g.Unsqueeze(v, 3), 5) }
	t.give(x, func() *graph.Value {
		whole := g.Slice(g.Slice(x, 2, 0, tall.Size), 3, 0, wide.Size)
		windows := g.Reshape(whole, x.Shape[0], x.Shape[1], h, k, w, k)
		var d *graph.Value
		if n.Op == "MaxPool" {
			d = t.shared(windows, open(y), open(dy), 5, 3)
		} else {
			d = t.like("Expand", g.Scale(open(dy), 1/float32(k.Size*k.Size)), windows)
		}
		d = g.Reshape(d, x.Shape[0], x.Shape[1], tall, wide)
		zero := g.Ints([]int64{0})
		for axis, got := range map[int]graph.Dim{2: tall, 3: wide} {
			if rest := x.Shape[axis].Size - got.Size; rest > 0 && g.Err() == nil {
				s := append(graph.Shape(nil), d.Shape...)
				s[axis] = x.Shape[axis]
				d = t.pad(d, axis, zero, g.Ints([]int64{rest}), s)
			}
		}
		return d
	})
}
