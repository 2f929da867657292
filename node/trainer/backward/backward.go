// Package backward is a reverse-mode pass over a graph: it appends ONNX nodes that compute the gradients of a scalar loss, so
// that one run of one session gives both. It walks the graph builder's own intermediate form and works on float32.
package backward

import (
	"fmt"
	"slices"

	"github.com/stllm/stllm/node/graph"
)

// Of appends the gradients of loss, a float32 scalar, with respect to values of its graph; wrt may be inputs, initializers or
// results. A value that the loss does not depend on is an error, as is an operator without a gradient on the way: both are
// named.
func Of(g *graph.Graph, loss *graph.Value, wrt []*graph.Value) ([]*graph.Value, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	if len(loss.Shape) != 0 || loss.DType != graph.Float32 {
		return nil, fmt.Errorf("gradients: the loss is %s, expected a float32 scalar", loss)
	}
	t := &tape{g: g, wanted: map[*graph.Value]bool{}, needed: map[*graph.Value]bool{}, parts: map[*graph.Value][]*graph.Value{}, uses: map[*graph.Value][]*graph.Node{}}
	for _, v := range wrt {
		t.wanted[v], t.needed[v] = true, true
	}
	nodes := slices.Clone(g.Nodes())
	for _, n := range nodes {
		for _, in := range n.Inputs {
			t.uses[in] = append(t.uses[in], n)
			if in != nil && t.needed[in] && in.DType == graph.Float32 {
				for _, out := range n.Outputs {
					if out != nil {
						t.needed[out] = true
					}
				}
			}
		}
	}
	if !t.needed[loss] {
		return nil, fmt.Errorf("gradients: the loss %s depends on none of the %d values asked for", loss, len(wrt))
	}
	t.parts[loss] = []*graph.Value{g.Scalar(graph.Float32, 1)}
	for _, n := range slices.Backward(nodes) {
		reached := slices.IndexFunc(n.Outputs, func(v *graph.Value) bool { return v != nil && len(t.parts[v]) > 0 })
		if reached < 0 {
			continue // leads nowhere
		}
		// Only a Split has a gradient for results other than the first.
		for i, v := range n.Outputs {
			if i > 0 && v != nil && len(t.parts[v]) > 0 && n.Op != "Split" {
				return nil, fmt.Errorf("gradients: node %s: operator %s has no gradient for its result %d, %s", n.Name, n.Op, i, v)
			}
		}
		rule, ok := rules[n.Op]
		if !ok {
			return nil, fmt.Errorf("gradients: node %s: operator %s has no gradient", n.Name, n.Op)
		}
		rule(t, n, t.total(n.Outputs[0]))
		if err := g.Err(); err != nil {
			return nil, fmt.Errorf("gradients: node %s (%s): %w", n.Name, n.Op, err)
		}
	}
	out := make([]*graph.Value, len(wrt))
	for i, v := range wrt {
		if out[i] = t.total(v); out[i] == nil {
			return nil, fmt.Errorf("gradients: the loss does not depend on %s", v)
		}
	}
	return out, g.Err()
}

// tape is the state of the pass.
type tape struct {
	g      *graph.Graph
	wanted map[*graph.Value]bool // asked for
	needed map[*graph.Value]bool // depend on what is asked for
	parts  map[*graph.Value][]*graph.Value
	uses   map[*graph.Value][]*graph.Node // that the graph had before the pass
}

// total is the sum of what has come in for a value; nil when nothing has.
func (t *tape) total(v *graph.Value) *graph.Value {
	parts := t.parts[v]
	if len(parts) == 0 {
		return nil
	}
	sum := parts[0]
	for _, p := range parts[1:] {
		sum = t.g.Add(sum, p)
	}
	t.parts[v] = []*graph.Value{sum}
	return sum
}

// give adds a part to a value's gradient. make is called only when the value is needed.
func (t *tape) give(v *graph.Value, make func() *graph.Value) {
	if t.needed[v] {
		t.parts[v] = append(t.parts[v], make())
	}
}

// fit sums a gradient over the dimensions in which x was broadcast.
func (t *tape) fit(dy, x *graph.Value) *graph.Value {
	lead := len(dy.Shape) - len(x.Shape)
	if lead > 0 {
		axes := make([]int64, lead)
		for i := range axes {
			axes[i] = int64(i)
		}
		dy = t.reduce(dy, axes, false)
	}
	var axes []int64
	for i, d := range x.Shape {
		if d == graph.D(1) && dy.Shape[i] != d {
			axes = append(axes, int64(i))
		}
	}
	if axes != nil {
		dy = t.reduce(dy, axes, true)
	}
	return dy
}

func (t *tape) reduce(x *graph.Value, axes []int64, keep bool) *graph.Value {
	var s graph.Shape
	for i, d := range x.Shape {
		switch {
		case !slices.Contains(axes, int64(i)):
			s = append(s, d)
		case keep:
			s = append(s, graph.D(1))
		}
	}
	k := int64(0)
	if keep {
		k = 1
	}
	return t.g.Op("ReduceSum", "", []*graph.Value{x, t.g.Ints(axes)}, []graph.Attr{{Name: "keepdims", Value: k}}, graph.Out{DType: x.DType, Shape: s})[0]
}

// shape is a value's shape at run time.
func (t *tape) shape(x *graph.Value) *graph.Value {
	return t.g.Op("Shape", "", []*graph.Value{x}, nil, graph.Out{DType: graph.Int64, Shape: graph.S(len(x.Shape))})[0]
}

// like gives v the shape of x.
func (t *tape) like(op string, v, x *graph.Value) *graph.Value {
	return t.g.Op(op, "", []*graph.Value{v, t.shape(x)}, nil, graph.Out{DType: v.DType, Shape: x.Shape})[0]
}

// product is a·b with either turned, in one operator.
func (t *tape) product(a, b *graph.Value, turnA, turnB bool) *graph.Value {
	dims := func(v *graph.Value, turn bool) (m, n graph.Dim) {
		m, n = v.Shape[len(v.Shape)-2], v.Shape[len(v.Shape)-1]
		if turn {
			m, n = n, m
		}
		return m, n
	}
	m, _ := dims(a, turnA)
	_, n := dims(b, turnB)
	outer := a.Shape[:len(a.Shape)-2]
	if len(b.Shape) > len(a.Shape) {
		outer = b.Shape[:len(b.Shape)-2]
	}
	for i := range outer {
		// Of two outer dimensions the one that is not 1.
		if j := len(a.Shape) - 2 - len(outer) + i; outer[i] == graph.D(1) && j >= 0 && a.Shape[j] != graph.D(1) {
			outer = append(graph.Shape(nil), outer...)
			outer[i] = a.Shape[j]
		} else if j := len(b.Shape) - 2 - len(outer) + i; outer[i] == graph.D(1) && j >= 0 {
			outer = append(graph.Shape(nil), outer...)
			outer[i] = b.Shape[j]
		}
	}
	flag := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	out := graph.Out{DType: graph.Float32, Shape: append(append(graph.Shape(nil), outer...), m, n)}
	if len(a.Shape) == 2 && len(b.Shape) == 2 {
		return t.g.Op("Gemm", "", []*graph.Value{a, b}, []graph.Attr{{Name: "transA", Value: flag(turnA)}, {Name: "transB", Value: flag(turnB)}}, out)[0]
	}
	return t.g.Op("FusedMatMul", graph.Microsoft, []*graph.Value{a, b}, []graph.Attr{{Name: "transA", Value: flag(turnA)}, {Name: "transB", Value: flag(turnB)}}, out)[0]
}

func text(n *graph.Node, name string) string {
	v, _ := n.Attr(name)
	s, _ := v.(string)
	return s
}

func number(n *graph.Node, name string) int64 {
	v, _ := n.Attr(name)
	i, _ := v.(int64)
	return i
}
