package backward

import (
	"math"

	"github.com/stllm/stllm/node/graph"
)

// rule gives the gradients of a node's inputs for the gradient dy of its first output, which of a Split may be nil.
type rule func(t *tape, n *graph.Node, dy *graph.Value)

var rules = map[string]rule{
	"Identity": func(t *tape, n *graph.Node, dy *graph.Value) {
		t.give(n.Inputs[0], func() *graph.Value { return dy })
	},
	"Cast": func(t *tape, n *graph.Node, dy *graph.Value) {
		t.give(n.Inputs[0], func() *graph.Value { return t.g.Cast(dy, n.Inputs[0].DType) })
	},
	"Add": func(t *tape, n *graph.Node, dy *graph.Value) {
		for _, x := range n.Inputs {
			t.give(x, func() *graph.Value { return t.fit(dy, x) })
		}
	},
	"Sub": func(t *tape, n *graph.Node, dy *graph.Value) {
		a, b := n.Inputs[0], n.Inputs[1]
		t.give(a, func() *graph.Value { return t.fit(dy, a) })
		t.give(b, func() *graph.Value { return t.g.Neg(t.fit(dy, b)) })
	},
	"Mul": mul,
	"Div": func(t *tape, n *graph.Node, dy *graph.Value) {
		a, b := n.Inputs[0], n.Inputs[1]
		t.give(a, func() *graph.Value { return t.fit(t.g.Div(dy, b), a) })
		t.give(b, func() *graph.Value {
			return t.fit(t.g.Neg(t.g.Div(t.g.Mul(dy, n.Outputs[0]), b)), b)
		})
	},
	"Neg":        unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Neg(dy) }),
	"Exp":        unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Mul(dy, y) }),
	"Log":        unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Div(dy, x) }),
	"Abs":        unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Mul(dy, g.Sign(x)) }),
	"Sqrt":       unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Scale(g.Div(dy, y), 0.5) }),
	"Reciprocal": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Neg(g.Mul(dy, g.Mul(y, y))) }),
	"Tanh": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value {
		return g.Sub(dy, g.Mul(dy, g.Mul(y, y)))
	}),
	"Sigmoid": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value {
		return g.Mul(dy, g.Sub(y, g.Mul(y, y)))
	}),
	"Sin":  unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Mul(dy, g.Cos(x)) }),
	"Cos":  unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Neg(g.Mul(dy, g.Sin(x))) }),
	"Relu": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value { return g.Mul(dy, g.Sign(y)) }),
	"Gelu": func(t *tape, n *graph.Node, dy *graph.Value) {
		t.give(n.Inputs[0], func() *graph.Value { return gelu(t.g, n, dy) })
	},
	"Erf": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value {
		return g.Mul(dy, g.Scale(g.Exp(g.Neg(g.Mul(x, x))), float32(2/math.Sqrt(math.Pi))))
	}),
	"Pow": func(t *tape, n *graph.Node, dy *graph.Value) {
		g, a, b := t.g, n.Inputs[0], n.Inputs[1]
		t.give(a, func() *graph.Value { return t.fit(g.Mul(dy, g.Mul(b, g.Pow(a, g.Shift(b, -1)))), a) })
		t.give(b, func() *graph.Value { return t.fit(g.Mul(dy, g.Mul(n.Outputs[0], g.Log(a))), b) })
	},
	"Max":             larger(1),
	"Min":             larger(-1),
	"Softmax":         softmax,
	"RotaryEmbedding": rotary,
	"LogSoftmax": unary(func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value {
		return g.Sub(dy, g.Mul(g.Exp(y), g.Sum(dy, -1, true)))
	}),
	"Where": func(t *tape, n *graph.Node, dy *graph.Value) {
		zero := t.g.Scalar(graph.Float32, 0)
		c, a, b := n.Inputs[0], n.Inputs[1], n.Inputs[2]
		t.give(a, func() *graph.Value { return t.fit(t.g.Where(c, dy, zero), a) })
		t.give(b, func() *graph.Value { return t.fit(t.g.Where(c, zero, dy), b) })
	},
	"LayerNormalization":           layerNorm,
	"SimplifiedLayerNormalization": rmsNorm,
	"MatMul":                       matmul,
	"Gemm":                         gemm,
	"ReduceSum":                    reduceSum,
	"ReduceMean":                   reduceMean,
	"ReduceMax":                    reduceMax,
	"AveragePool":                  pool,
	"MaxPool":                      pool,
	"Reshape":                      reshaped,
	"Squeeze":                      reshaped,
	"Unsqueeze":                    reshaped,
	"Transpose":                    transpose,
	"Concat":                       concat,
	"Split":                        split,
	"Slice":                        slice,
	"Gather":                       gather,
	"Expand": func(t *tape, n *graph.Node, dy *graph.Value) {
		t.give(n.Inputs[0], func() *graph.Value { return t.fit(dy, n.Inputs[0]) })
	},
}

func unary(f func(g *graph.Graph, x, y, dy *graph.Value) *graph.Value) rule {
	return func(t *tape, n *graph.Node, dy *graph.Value) {
		t.give(n.Inputs[0], func() *graph.Value { return f(t.g, n.Inputs[0], n.Outputs[0], dy) })
	}
}

// gelu is dy·(Φ(x) + x·φ(x)), or the derivative of the tanh form.
func gelu(g *graph.Graph, n *graph.Node, dy *graph.Value) *graph.Value {
	x := n.Inputs[0]
	if text(n, "approximate") == "tanh" {
		// x·(1 + tanh u)/2 is x·σ(2u), with 2u = x·a and its slope 3a − 4c.
		c := float32(math.Sqrt(2 / math.Pi))
		a := g.Shift(g.Scale(g.Mul(x, x), 2*0.044715*c), 2*c)
		part := g.Sigmoid(g.Mul(x, a))
		rest := g.Mul(n.Outputs[0], g.Sub(g.Scalar(graph.Float32, 1), part))
		return g.Mul(dy, g.Add(part, g.Mul(rest, g.Shift(g.Scale(a, 3), -4*c))))
	}
	cdf := g.Scale(g.Shift(g.Erf(g.Scale(x, math.Sqrt2/2)), 1), 0.5)
	pdf := g.Scale(g.Exp(g.Scale(g.Mul(x, x), -0.5)), float32(1/math.Sqrt(2*math.Pi)))
	return g.Mul(dy, g.Add(cdf, g.Mul(x, pdf)))
}

func matmul(t *tape, n *graph.Node, dy *graph.Value) {
	a, b := n.Inputs[0], n.Inputs[1]
	t.give(a, func() *graph.Value { return t.fit(t.product(dy, b, false, true), a) })
	t.give(b, func() *graph.Value {
		if len(b.Shape) == 2 && len(a.Shape) > 2 {
			// One product over all rows instead of one for each outer index and a sum.
			return t.product(t.rows(a), t.rows(dy), true, false)
		}
		return t.fit(t.product(a, dy, true, false), b)
	})
}

// rows joins all dimensions but the last.
func (t *tape) rows(x *graph.Value) *graph.Value {
	last := x.Shape[len(x.Shape)-1]
	return t.g.Reshape(x, graph.N("rows of "+x.Shape[:len(x.Shape)-1].String()), last)
}

// gemm is x·wᵀ + bias, as the builder makes it; the pass itself makes others, which nobody differentiates.
func gemm(t *tape, n *graph.Node, dy *graph.Value) {
	x, w := n.Inputs[0], n.Inputs[1]
	if number(n, "transB") != 1 || number(n, "transA") != 0 {
		t.g.Failf("Gemm with transA %d and transB %d has no gradient here", number(n, "transA"), number(n, "transB"))
		return
	}
	t.give(x, func() *graph.Value { return t.product(dy, w, false, false) })
	t.give(w, func() *graph.Value { return t.product(dy, x, true, false) })
	if len(n.Inputs) > 2 {
		t.give(n.Inputs[2], func() *graph.Value { return t.fit(dy, n.Inputs[2]) })
	}
}

// open puts back the dimension that a reduction took out.
func (t *tape) open(n *graph.Node, dy *graph.Value) (*graph.Value, int) {
	x := n.Inputs[0]
	axis := reducedAxis(n)
	if axis < 0 {
		t.g.Failf("a reduction over more than one axis has no gradient here")
		return dy, 0
	}
	if len(dy.Shape) < len(x.Shape) {
		dy = t.g.Unsqueeze(dy, axis)
	}
	return dy, axis
}

// reducedAxis finds the axis by what the builder made of the shape: axes lie in a constant.
func reducedAxis(n *graph.Node) int {
	data := n.Inputs[1].Init.Data
	if len(data) != 8 {
		return -1
	}
	return int(data[0])
}

func reduceSum(t *tape, n *graph.Node, dy *graph.Value) {
	t.give(n.Inputs[0], func() *graph.Value {
		dy, _ := t.open(n, dy)
		return t.like("Expand", dy, n.Inputs[0])
	})
}

func reduceMean(t *tape, n *graph.Node, dy *graph.Value) {
	t.give(n.Inputs[0], func() *graph.Value {
		g, x := t.g, n.Inputs[0]
		dy, axis := t.open(n, dy)
		count := g.Cast(g.Gather(t.shape(x), g.Ints([]int64{int64(axis)}), 0), graph.Float32)
		return t.like("Expand", g.Div(dy, count), x)
	})
}

func reshaped(t *tape, n *graph.Node, dy *graph.Value) {
	t.give(n.Inputs[0], func() *graph.Value { return t.like("Reshape", dy, n.Inputs[0]) })
}

func transpose(t *tape, n *graph.Node, dy *graph.Value) {
	v, _ := n.Attr("perm")
	perm, _ := v.([]int64)
	back := make([]int, len(perm))
	for i, p := range perm {
		back[p] = i
	}
	t.give(n.Inputs[0], func() *graph.Value { return t.g.Transpose(dy, back...) })
}

// part slices dy along an axis by run-time bounds [1] each.
func (t *tape) part(dy *graph.Value, axis int64, from, to *graph.Value, s graph.Shape) *graph.Value {
	return t.g.Op("Slice", "", []*graph.Value{dy, from, to, t.g.Ints([]int64{axis})}, nil, graph.Out{DType: dy.DType, Shape: s})[0]
}

// size is the length of x along an axis at run time, [1].
func (t *tape) size(x *graph.Value, axis int64) *graph.Value {
	if d := x.Shape[axis]; d.Known() {
		return t.g.Ints([]int64{d.Size})
	}
	return t.g.Gather(t.shape(x), t.g.Ints([]int64{axis}), 0)
}

func concat(t *tape, n *graph.Node, dy *graph.Value) {
	axis := number(n, "axis")
	at := t.g.Ints([]int64{0})
	for _, x := range n.Inputs {
		end := t.add(at, t.size(x, axis))
		from := at
		t.give(x, func() *graph.Value { return t.part(dy, axis, from, end, x.Shape) })
		at = end
	}
}

func (t *tape) add(a, b *graph.Value) *graph.Value { return t.g.Add(a, b) }

// split joins the gradients of the pieces; a piece that nobody uses has zeros.
func split(t *tape, n *graph.Node, _ *graph.Value) {
	t.give(n.Inputs[0], func() *graph.Value {
		var parts []*graph.Value
		for _, y := range n.Outputs {
			d := t.total(y)
			if d == nil {
				d = t.zeros(y)
			}
			parts = append(parts, d)
		}
		return t.g.Concat(int(number(n, "axis")), parts...)
	})
}

func (t *tape) zeros(like *graph.Value) *graph.Value {
	return t.g.Op("ConstantOfShape", "", []*graph.Value{t.shape(like)}, nil, graph.Out{DType: graph.Float32, Shape: like.Shape})[0]
}

// slice pads with zeros where nothing was taken.
func slice(t *tape, n *graph.Node, dy *graph.Value) {
	x := n.Inputs[0]
	t.give(x, func() *graph.Value {
		g := t.g
		from, axis := int64Of(n.Inputs[1]), int64Of(n.Inputs[3])
		if axis < 0 {
			axis += int64(len(x.Shape))
		}
		before := g.Ints([]int64{from})
		if from < 0 {
			// A dimension may be shorter than what was asked for from its end.
			before = g.Max(t.add(t.size(x, axis), before), g.Ints([]int64{0}))
		}
		return t.pad(dy, int(axis), before, g.Sub(g.Sub(t.size(x, axis), before), t.size(dy, axis)), x.Shape)
	})
}

// pad puts zeros before and after along an axis, [1] each.
func (t *tape) pad(x *graph.Value, axis int, before, after *graph.Value, s graph.Shape) *graph.Value {
	g := t.g
	var pads []*graph.Value
	for _, amount := range []*graph.Value{before, after} {
		for i := range s {
			if i == axis {
				pads = append(pads, amount)
			} else {
				pads = append(pads, g.Ints([]int64{0}))
			}
		}
	}
	return g.Op("Pad", "", []*graph.Value{x, g.Concat(0, pads...), g.Scalar(graph.Float32, 0)}, nil, graph.Out{DType: x.DType, Shape: s})[0]
}

func int64Of(v *graph.Value) int64 {
	var out uint64
	for i := range 8 {
		out |= uint64(v.Init.Data[i]) << (8 * i)
	}
	return int64(out)
}

// gather adds rows back to where they were taken from.
func gather(t *tape, n *graph.Node, dy *graph.Value) {
	table, index := n.Inputs[0], n.Inputs[1]
	t.give(table, func() *graph.Value {
		g := t.g
		if number(n, "axis") != 0 {
			return g.Failf("Gather along axis %d has no gradient here", number(n, "axis"))
		}
		at := g.Unsqueeze(g.Cast(index, graph.Int64), len(index.Shape))
		return g.Op("ScatterND", "", []*graph.Value{t.zeros(table), at, dy}, []graph.Attr{{Name: "reduction", Value: "add"}}, graph.Out{DType: graph.Float32, Shape: table.Shape})[0]
	})
}
