package graph

// MatMul is numpy's: the last two dimensions multiply, those before broadcast.
func (g *Graph) MatMul(a, b *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{a, b}
	if a.DType != b.DType || !a.DType.Float() {
		return g.failOp("MatMul", in, "two floats of one type were expected")
	}
	if len(a.Shape) < 2 || len(b.Shape) < 2 {
		return g.failOp("MatMul", in, "two dimensions or more were expected")
	}
	k, l := a.Shape[len(a.Shape)-1], b.Shape[len(b.Shape)-2]
	if k != l {
		return g.failOp("MatMul", in, "inner dimensions %s and %s differ", k, l)
	}
	s, ok := broadcast(a.Shape[:len(a.Shape)-2], b.Shape[:len(b.Shape)-2])
	if !ok {
		return g.failOp("MatMul", in, "the outer dimensions do not broadcast")
	}
	s = append(append(Shape(nil), s...), a.Shape[len(a.Shape)-2], b.Shape[len(b.Shape)-1])
	return g.one("MatMul", "", in, nil, a.DType, s)
}

// Gemm is x·wᵀ + bias for a matrix x [M,K], a weight w [N,K] as checkpoints store it, and an optional bias [N].
func (g *Graph) Gemm(x, w, bias *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{x, w}
	if bias != nil {
		in = append(in, bias)
	}
	switch {
	case len(x.Shape) != 2 || len(w.Shape) != 2 || x.Shape[1] != w.Shape[1]:
		return g.failOp("Gemm", in, "expected [M,K] and [N,K]")
	case x.DType != w.DType || bias != nil && bias.DType != x.DType:
		return g.failOp("Gemm", in, "the element types differ")
	case bias != nil && (len(bias.Shape) != 1 || bias.Shape[0] != w.Shape[0]):
		return g.failOp("Gemm", in, "the bias does not have %s elements", w.Shape[0])
	}
	return g.one("Gemm", "", in, []Attr{{"transB", int64(1)}}, x.DType, Shape{x.Shape[0], w.Shape[0]})
}

// Linear is Gemm over the last dimension of any tensor: x [...,K], w [N,K], bias [N] or nil.
func (g *Graph) Linear(x, w, bias *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	if len(x.Shape) == 2 {
		return g.Gemm(x, w, bias)
	}
	if len(x.Shape) < 2 || len(w.Shape) != 2 || x.Shape[len(x.Shape)-1] != w.Shape[1] {
		return g.failOp("Linear", []*Value{x, w}, "expected [...,K] and [N,K]")
	}
	out := append(append(Shape(nil), x.Shape[:len(x.Shape)-1]...), w.Shape[0])
	flat := g.Reshape(x, Dim{Name: g.rows(x.Shape)}, w.Shape[1])
	return g.Reshape(g.Gemm(flat, w, bias), out...)
}

// rows names the product of all but the last dimension.
func (g *Graph) rows(s Shape) string { return "rows" + s[:len(s)-1].String() }

// LayerNorm normalises over the last dimension.
func (g *Graph) LayerNorm(x, weight, bias *Value, eps float64) *Value {
	if g.err != nil {
		return g.bad()
	}
	last := x.Shape[len(x.Shape)-1]
	if len(weight.Shape) != 1 || weight.Shape[0] != last || !bias.Shape.Equal(weight.Shape) {
		return g.failOp("LayerNormalization", []*Value{x, weight, bias}, "weight and bias must have %s elements", last)
	}
	return g.one("LayerNormalization", "", []*Value{x, weight, bias}, []Attr{{"axis", int64(-1)}, {"epsilon", float32(eps)}}, x.DType, x.Shape)
}

// RMSNorm is x / sqrt(mean x² + eps) · weight over the last dimension.
func (g *Graph) RMSNorm(x, weight *Value, eps float64) *Value {
	if g.err != nil {
		return g.bad()
	}
	last := x.Shape[len(x.Shape)-1]
	if len(weight.Shape) != 1 || weight.Shape[0] != last {
		return g.failOp("RMSNorm", []*Value{x, weight}, "the weight must have %s elements", last)
	}
	return g.one("SimplifiedLayerNormalization", "", []*Value{x, weight}, []Attr{{"axis", int64(-1)}, {"epsilon", float32(eps)}, {"stash_type", int64(1)}}, x.DType, x.Shape)
}

// Softmax over the last dimension.
func (g *Graph) Softmax(x *Value) *Value { return g.unary("Softmax", "", x, Attr{"axis", int64(-1)}) }

// LogSoftmax over the last dimension.
func (g *Graph) LogSoftmax(x *Value) *Value {
	return g.unary("LogSoftmax", "", x, Attr{"axis", int64(-1)})
}

func (g *Graph) reduce(op string, x *Value, axis int, keep bool) *Value {
	if g.err != nil {
		return g.bad()
	}
	if axis < 0 {
		axis += len(x.Shape)
	}
	if axis < 0 || axis >= len(x.Shape) {
		return g.failOp(op, []*Value{x}, "axis %d is not there", axis)
	}
	var s Shape
	for i, d := range x.Shape {
		switch {
		case i != axis:
			s = append(s, d)
		case keep:
			s = append(s, D(1))
		}
	}
	k := int64(0)
	if keep {
		k = 1
	}
	return g.one(op, "", []*Value{x, g.Ints([]int64{int64(axis)})}, []Attr{{"keepdims", k}}, x.DType, s)
}

// Sum, Mean and ReduceMax go over one axis (negative: from the end).
func (g *Graph) Sum(x *Value, axis int, keep bool) *Value {
	return g.reduce("ReduceSum", x, axis, keep)
}
func (g *Graph) Mean(x *Value, axis int, keep bool) *Value {
	return g.reduce("ReduceMean", x, axis, keep)
}
func (g *Graph) ReduceMax(x *Value, axis int, keep bool) *Value {
	return g.reduce("ReduceMax", x, axis, keep)
}

// MatMulNBits is x·dequantised(w)ᵀ: packed [N][K/block][block/2] with the low nibble first, scales [N·K/block], zero point 8.
func (g *Graph) MatMulNBits(x, packed, scales, bias *Value, k, n, block int) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{x, packed, scales}
	if last := x.Shape[len(x.Shape)-1]; last != D(k) {
		return g.failOp("MatMulNBits", in, "the last dimension is %s, expected %d", last, k)
	}
	blocks := (k + block - 1) / block
	if !packed.Shape.Equal(S(n, blocks, block/2)) || packed.DType != Uint8 || scales.Shape.Elements() != int64(n*blocks) {
		return g.failOp("MatMulNBits", in, "expected packed uint8[%d,%d,%d] and %d scales", n, blocks, block/2, n*blocks)
	}
	out := append(append(Shape(nil), x.Shape[:len(x.Shape)-1]...), D(n))
	y := g.one("MatMulNBits", Microsoft, in, []Attr{{"K", int64(k)}, {"N", int64(n)}, {"bits", int64(4)}, {"block_size", int64(block)}, {"accuracy_level", int64(4)}}, x.DType, out)
	if bias != nil {
		y = g.Add(y, bias)
	}
	return y
}
