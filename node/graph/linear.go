package graph

import "slices"

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

// CodeProduct is MatMulNBits for x of float32 and codes without zero points, by codes that are not repacked; offsets
// [N, K/Block] of float32, or nil, are added to what each code of a block stands for. Of up to eight rows, x is rounded to 8 bits a
// block; of more, x stays as it is, or is rounded as the graph says. It runs on a CPU that has products of bytes (ort.CodeProducts).
func (g *Graph) CodeProduct(x *Value, w NBits, offsets *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{x, w.Codes, w.Scales}
	if offsets != nil {
		in = append(in, offsets)
	}
	if w.Block < 1 || w.K%w.Block != 0 {
		return g.failOp("CodeProduct", in, "rows of %d in blocks of %d", w.K, w.Block)
	}
	if bytes := w.Block * w.Bits / 8; w.Block%16 != 0 || bytes < 64 && 64%max(bytes, 1) != 0 || bytes > 64 && bytes%64 != 0 {
		return g.failOp("CodeProduct", in, "blocks of %d, expected 16, 32, 64, 128 or 256", w.Block)
	}
	blocks := int64(w.N * (w.K / w.Block))
	switch {
	case x.DType != Float32 || len(x.Shape) == 0 || x.Shape[len(x.Shape)-1] != D(w.K):
		return g.failOp("CodeProduct", in, "expected x [...,%d] of float32", w.K)
	case w.Bits != 4 && w.Bits != 8 || w.ZeroPoints != nil:
		return g.failOp("CodeProduct", in, "%d bits, expected 4 or 8 without zero points", w.Bits)
	case w.Codes.DType != Uint8 || !w.Codes.Shape.Equal(S(w.N, w.K/w.Block, w.Block*w.Bits/8)):
		return g.failOp("CodeProduct", in, "expected codes uint8%s", S(w.N, w.K/w.Block, w.Block*w.Bits/8))
	}
	for _, v := range in[2:] {
		if v.DType != Float32 || v.Shape.Elements() != blocks {
			return g.failOp("CodeProduct", in, "expected %d scales and offsets of float32", blocks)
		}
	}
	out := append(append(Shape(nil), x.Shape[:len(x.Shape)-1]...), D(w.N))
	return g.one("CodeProduct", Own, in, g.arithmetic(), Float32, out)
}

// mostProducts is how many matrices a Product takes.
const mostProducts = 4

// Product is x·wᵀ + bias for x [...,K] of float32 and each matrix w [N,K] of float32 or bfloat16, one operator for all; biases are
// [N] of float32, one for each, or none. The matrices are not repacked: one row of x is multiplied as fast as they can be read.
// Up to eight rows are multiplied in float32, more in the graph's arithmetic. It runs on the CPU only.
func (g *Graph) Product(x *Value, ws, biases []*Value) []*Value {
	if g.err != nil {
		return slices.Repeat([]*Value{g.bad()}, len(ws))
	}
	in := slices.Concat([]*Value{x}, ws, biases)
	fail := func(why string, args ...any) []*Value {
		return slices.Repeat([]*Value{g.failOp("Product", in, why, args...)}, len(ws))
	}
	if len(ws) < 1 || len(ws) > mostProducts || len(biases) != 0 && len(biases) != len(ws) {
		return fail("%d matrices and %d biases, expected 1 to %d, and as many or none", len(ws), len(biases), mostProducts)
	}
	if x.DType != Float32 || len(x.Shape) == 0 {
		return fail("expected x [...,K] of float32")
	}
	var outs []Out
	last := len(x.Shape) - 1
	for i, w := range ws {
		if len(w.Shape) != 2 || w.Shape[1] != x.Shape[last] || w.DType != Float32 && w.DType != BFloat16 {
			return fail("expected matrices [N,%s] of float32 or bfloat16", x.Shape[last])
		}
		if biases != nil && (biases[i].DType != Float32 || !biases[i].Shape.Equal(w.Shape[:1])) {
			return fail("expected biases of float32, one for each row")
		}
		outs = append(outs, Out{DType: Float32, Shape: append(append(Shape(nil), x.Shape[:last]...), w.Shape[0])})
	}
	return slices.Clone(g.Op("Product", Own, in, g.arithmetic(), outs...))
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
	unknown := 0
	for _, d := range x.Shape[:len(x.Shape)-1] {
		if !d.Known() {
			unknown++
		}
	}
	if unknown > 1 {
		// A reshape could not find back to two sizes that only a run knows.
		y := g.MatMul(x, g.Transpose(w, 1, 0))
		if bias != nil {
			y = g.Add(y, bias)
		}
		return y
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
	if len(x.Shape) == 0 {
		return g.failOp("LayerNormalization", []*Value{x}, "a number has no dimension to normalise over")
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
	if len(x.Shape) == 0 {
		return g.failOp("RMSNorm", []*Value{x}, "a number has no dimension to normalise over")
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

// NBits is a matrix [N, K] of 4- or 8-bit codes in blocks along K: element (n, k) is (code − zero)·scale of its block.
type NBits struct {
	K, N, Bits, Block int
	Codes             *Value // uint8 [N, K/Block, Block·Bits/8], low nibble first
	Scales            *Value // [N·K/Block], of the type of x
	ZeroPoints        *Value // uint8, codes packed along each row as Codes are; nil: 8 of 4 bits, 128 of 8
}

// MatMulNBits is x·dequantised(w)ᵀ + bias for x [...,K] and a bias [N] or nil. On the CPU the rows of x are rounded to 8 bits
// a block (accuracy level 4): exact products at an eighth of the time.
func (g *Graph) MatMulNBits(x *Value, w NBits, bias *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	if bias != nil && x.DType != Float32 {
		return g.Add(g.MatMulNBits(x, w, nil), bias) // the product on CUDA has no bias
	}
	in := []*Value{x, w.Codes, w.Scales}
	if w.Bits != 4 && w.Bits != 8 {
		return g.failOp("MatMulNBits", in, "%d bits, expected 4 or 8", w.Bits)
	}
	if len(x.Shape) == 0 || x.Shape[len(x.Shape)-1] != D(w.K) {
		return g.failOp("MatMulNBits", in, "the last dimension of the first was expected to be %d", w.K)
	}
	blocks := (w.K + w.Block - 1) / w.Block
	if codes := S(w.N, blocks, w.Block*w.Bits/8); !w.Codes.Shape.Equal(codes) || w.Codes.DType != Uint8 || w.Scales.Shape.Elements() != int64(w.N*blocks) {
		return g.failOp("MatMulNBits", in, "expected codes uint8%s and %d scales", codes, w.N*blocks)
	}
	if zero := w.ZeroPoints; zero != nil || bias != nil {
		if zero != nil && (zero.DType != Uint8 || zero.Shape.Elements() != int64(w.N*((blocks*w.Bits+7)/8))) {
			return g.failOp("MatMulNBits", append(in, zero), "expected %d bytes of zero points", w.N*((blocks*w.Bits+7)/8))
		}
		in = append(in, zero)
	}
	if bias != nil {
		if !bias.Shape.Equal(S(w.N)) {
			return g.failOp("MatMulNBits", append(in, bias), "the bias does not have %d elements", w.N)
		}
		in = append(in, nil, bias) // between them: g_idx
	}
	out := append(append(Shape(nil), x.Shape[:len(x.Shape)-1]...), D(w.N))
	attrs := []Attr{{"K", int64(w.K)}, {"N", int64(w.N)}, {"bits", int64(w.Bits)}, {"block_size", int64(w.Block)}, {"accuracy_level", int64(4)}}
	return g.one("MatMulNBits", Microsoft, in, attrs, x.DType, out)
}
