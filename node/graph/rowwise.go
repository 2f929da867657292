package graph

// Neighbours is a sparse convolution: of x [rows,in], a table int32 [places,K] that says which row of x is a place's neighbour k, or
// −1 for none, matrices [K·in,out], one below the other, and a bias [out], all of float32. It is Gather and Gemm in one, always in
// float32, and runs where Attention does.
func (g *Graph) Neighbours(x, table, matrices, bias *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{x, table, matrices, bias}
	if x.DType != Float32 || matrices.DType != Float32 || bias.DType != Float32 || table.DType != Int32 {
		return g.failOp("Neighbours", in, "expected float32, and numbers of rows of int32")
	}
	if len(x.Shape) != 2 || len(table.Shape) != 2 || len(matrices.Shape) != 2 || !x.Shape[1].Known() || !table.Shape[1].Known() ||
		matrices.Shape[0] != (Dim{Size: table.Shape[1].Size * x.Shape[1].Size}) || !bias.Shape.Equal(matrices.Shape[1:]) {
		return g.failOp("Neighbours", in, "expected x [rows,in], numbers of rows [places,K], matrices [K·in,out] and a bias [out]")
	}
	return g.one("Neighbours", Own, in, []Attr{{"arithmetic", int64(Float32)}}, Float32, Shape{table.Shape[0], matrices.Shape[1]})
}

// SumNorm is the sum of x and delta [...,K], and its RMSNorm with weights [K], of float32. It runs where Attention does.
func (g *Graph) SumNorm(x, delta, weight *Value, eps float64) (sum, normed *Value) {
	if g.err != nil {
		return g.bad(), g.bad()
	}
	in := []*Value{x, delta, weight}
	if x.DType != Float32 || delta.DType != Float32 || weight.DType != Float32 || len(x.Shape) == 0 || !delta.Shape.Equal(x.Shape) || !weight.Shape.Equal(x.Shape[len(x.Shape)-1:]) {
		return g.failOp("SumNorm", in, "expected x and delta of one shape and a weight for each number of a row, of float32"), g.bad()
	}
	out := Out{DType: Float32, Shape: x.Shape}
	outs := g.Op("SumNorm", Own, in, append(g.arithmetic(), Attr{"epsilon", float32(eps)}), out, out)
	return outs[1], outs[0]
}

// Gate is silu(gate)·up for two values of one shape, or for one whose last dimension holds gate and up. It runs where Attention
// does.
func (g *Graph) Gate(in ...*Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	if len(in) != 1 && len(in) != 2 {
		return g.failOp("Gate", in, "expected one value or two")
	}
	x := in[0]
	if x.DType != Float32 || len(x.Shape) == 0 || len(in) == 2 && (in[1].DType != Float32 || !in[1].Shape.Equal(x.Shape)) {
		return g.failOp("Gate", in, "expected float32 of one shape")
	}
	if len(in) == 2 {
		return g.one("Gate", Own, in, g.arithmetic(), Float32, x.Shape)
	}
	last := len(x.Shape) - 1
	if !x.Shape[last].Known() || x.Shape[last].Size%2 != 0 {
		return g.failOp("Gate", in, "expected an even last dimension")
	}
	return g.one("Gate", Own, in, g.arithmetic(), Float32, append(append(Shape(nil), x.Shape[:last]...), D(int(x.Shape[last].Size/2))))
}
