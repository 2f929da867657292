package graph

import (
	"fmt"
	"strings"
)

// Reshape gives other dimensions. At most one may be of a size that neither is known nor stands in x; it is inferred.
func (g *Graph) Reshape(x *Value, dims ...Dim) *Value {
	if g.err != nil {
		return g.bad()
	}
	s := Shape(dims)
	if a, b := x.Shape.Elements(), s.Elements(); a >= 0 && b >= 0 && a != b {
		return g.failOp("Reshape", []*Value{x}, "%d elements do not fit %s", a, s)
	}
	target := make([]int64, len(s))
	inferred := -1
	for i, d := range s {
		switch {
		case d.Known():
			target[i] = d.Size
		case i < len(x.Shape) && x.Shape[i] == d:
			target[i] = 0 // copied from x
		case inferred >= 0:
			return g.failOp("Reshape", []*Value{x}, "both %s and %s of %s would have to be inferred", s[inferred], d, s)
		default:
			inferred = i
			target[i] = -1
		}
	}
	return g.one("Reshape", "", []*Value{x, g.Ints(target)}, nil, x.DType, s)
}

// ReshapeLike gives x the shape that like has when the model runs.
func (g *Graph) ReshapeLike(x, like *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	if a, b := x.Shape.Elements(), like.Shape.Elements(); a >= 0 && b >= 0 && a != b {
		return g.failOp("Reshape", []*Value{x, like}, "%d elements do not fit %s", a, like.Shape)
	}
	shape := g.one("Shape", "", []*Value{like}, nil, Int64, S(len(like.Shape)))
	return g.one("Reshape", "", []*Value{x, shape}, nil, x.DType, like.Shape)
}

// Transpose permutes dimensions.
func (g *Graph) Transpose(x *Value, perm ...int) *Value {
	if g.err != nil {
		return g.bad()
	}
	s := make(Shape, len(perm))
	attr := make([]int64, len(perm))
	seen := map[int]bool{}
	for i, p := range perm {
		if p < 0 || p >= len(x.Shape) || seen[p] || len(perm) != len(x.Shape) {
			return g.failOp("Transpose", []*Value{x}, "permutation %v", perm)
		}
		seen[p] = true
		s[i], attr[i] = x.Shape[p], int64(p)
	}
	return g.one("Transpose", "", []*Value{x}, []Attr{{"perm", attr}}, x.DType, s)
}

// Unsqueeze inserts a dimension of 1; Squeeze takes one out.
func (g *Graph) Unsqueeze(x *Value, axis int) *Value {
	if g.err != nil {
		return g.bad()
	}
	if axis < 0 || axis > len(x.Shape) {
		return g.failOp("Unsqueeze", []*Value{x}, "axis %d", axis)
	}
	s := append(append(append(Shape(nil), x.Shape[:axis]...), D(1)), x.Shape[axis:]...)
	return g.one("Unsqueeze", "", []*Value{x, g.Ints([]int64{int64(axis)})}, nil, x.DType, s)
}

// Squeeze takes out a dimension of 1.
func (g *Graph) Squeeze(x *Value, axis int) *Value {
	if g.err != nil {
		return g.bad()
	}
	if axis < 0 || axis >= len(x.Shape) || x.Shape[axis] != D(1) {
		return g.failOp("Squeeze", []*Value{x}, "axis %d is not 1", axis)
	}
	s := append(append(Shape(nil), x.Shape[:axis]...), x.Shape[axis+1:]...)
	return g.one("Squeeze", "", []*Value{x, g.Ints([]int64{int64(axis)})}, nil, x.DType, s)
}

// Concat joins along an axis. A sum with a named dimension gets a name of its own.
func (g *Graph) Concat(axis int, parts ...*Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	if len(parts) == 0 {
		return g.Failf("Concat of nothing")
	}
	first := parts[0]
	if axis < 0 {
		axis += len(first.Shape)
	}
	if axis < 0 || axis >= len(first.Shape) {
		return g.failOp("Concat", parts, "axis %d", axis)
	}
	s := append(Shape(nil), first.Shape...)
	var names []string
	known := int64(0)
	for _, p := range parts {
		if p.DType != first.DType || len(p.Shape) != len(first.Shape) {
			return g.failOp("Concat", parts, "element types or ranks differ")
		}
		for i, d := range p.Shape {
			if i != axis && d != first.Shape[i] {
				return g.failOp("Concat", parts, "dimension %d is %s in one part and %s in another", i, first.Shape[i], d)
			}
		}
		if d := p.Shape[axis]; d.Known() {
			known += d.Size
		} else {
			names = append(names, d.Name)
		}
	}
	s[axis] = Dim{Size: known}
	if len(names) > 0 {
		if known > 0 {
			names = append(names, D(int(known)).String())
		}
		s[axis] = N(strings.Join(names, "+"))
	}
	return g.one("Concat", "", parts, []Attr{{"axis", int64(axis)}}, first.DType, s)
}

// Slice takes [from, to) along an axis; negative ends count from the end, and a to of End goes to it. Of a named dimension
// the caller promises that it reaches as far as a slice that counts from its beginning; what counts from its end may be
// shorter than asked for and gets a name, except for the last element alone.
func (g *Graph) Slice(x *Value, axis int, from, to int64) *Value {
	if g.err != nil {
		return g.bad()
	}
	if axis < 0 {
		axis += len(x.Shape)
	}
	if axis < 0 || axis >= len(x.Shape) {
		return g.failOp("Slice", []*Value{x}, "axis %d", axis)
	}
	s := append(Shape(nil), x.Shape...)
	d := x.Shape[axis]
	abs := func(v int64) int64 {
		if v < 0 {
			v += d.Size
		}
		return min(max(v, 0), d.Size)
	}
	switch {
	case d.Known():
		n := abs(to) - abs(from)
		if n <= 0 {
			return g.failOp("Slice", []*Value{x}, "nothing lies in [%d, %d) of %s", from, to, d)
		}
		s[axis] = Dim{Size: n}
	case to == 0 || to <= from && (from < 0) == (to < 0):
		return g.failOp("Slice", []*Value{x}, "nothing lies in [%d, %d)", from, to)
	case from == 0 && to == End: // all of it
	case from >= 0 && to > 0 && to != End:
		s[axis] = Dim{Size: to - from}
	case from == -1 && to == End:
		s[axis] = D(1)
	case to == End:
		s[axis] = N(fmt.Sprintf("%s[%d:]", d.Name, from))
	default:
		s[axis] = N(fmt.Sprintf("%s[%d:%d]", d.Name, from, to))
	}
	in := []*Value{x, g.Ints([]int64{from}), g.Ints([]int64{to}), g.Ints([]int64{int64(axis)})}
	return g.one("Slice", "", in, nil, x.DType, s)
}

// End is "to the end" for Slice.
const End = int64(1)<<62 - 1

// Gather takes rows by index: table [V,...], index of any shape; the result is index's shape with the rest of the table's.
func (g *Graph) Gather(table, index *Value, axis int) *Value {
	if g.err != nil {
		return g.bad()
	}
	if index.DType != Int64 && index.DType != Int32 || axis < 0 || axis >= len(table.Shape) {
		return g.failOp("Gather", []*Value{table, index}, "int indices and an axis of the table were expected, axis is %d", axis)
	}
	s := append(append(append(Shape(nil), table.Shape[:axis]...), index.Shape...), table.Shape[axis+1:]...)
	return g.one("Gather", "", []*Value{table, index}, []Attr{{"axis", int64(axis)}}, table.DType, s)
}

// Expand broadcasts to a shape whose dimensions are known, or stand in x already.
func (g *Graph) Expand(x *Value, dims ...Dim) *Value {
	if g.err != nil {
		return g.bad()
	}
	s, ok := broadcast(x.Shape, dims)
	if !ok || !s.Equal(dims) {
		return g.failOp("Expand", []*Value{x}, "does not broadcast to %s", Shape(dims))
	}
	target := make([]int64, len(dims))
	off := len(dims) - len(x.Shape)
	for i, d := range dims {
		target[i] = 1 // keeps what x has there
		if d.Known() {
			target[i] = d.Size
		} else if i < off || x.Shape[i-off] != d {
			return g.failOp("Expand", []*Value{x}, "the size of %s is not known here", d)
		}
	}
	return g.one("Expand", "", []*Value{x, g.Ints(target)}, nil, x.DType, s)
}

// Pool2D is AveragePool or MaxPool with a square window and stride over [B,C,H,W].
func (g *Graph) Pool2D(op string, x *Value, window int) *Value {
	if g.err != nil {
		return g.bad()
	}
	if len(x.Shape) != 4 || !x.Shape[2].Known() || !x.Shape[3].Known() {
		return g.failOp(op, []*Value{x}, "[B,C,H,W] of known size was expected")
	}
	k := int64(window)
	s := Shape{x.Shape[0], x.Shape[1], {Size: x.Shape[2].Size / k}, {Size: x.Shape[3].Size / k}}
	return g.one(op, "", []*Value{x}, []Attr{{"kernel_shape", []int64{k, k}}, {"strides", []int64{k, k}}}, x.DType, s)
}
