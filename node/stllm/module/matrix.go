package module

import (
	"fmt"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
)

// Suffixes of the tensors that stand for a quantised matrix in a model folder: codes uint8 [N, K/block, block·bits/8] and
// scales [N, K/block], symmetric (checkpoint.Packed).
const (
	CodesSuffix  = ".codes"
	ScalesSuffix = ".scales"
)

// matrix is a Linear of the language model: x [...,in] to [...,out]. The matrix is quantised where the checkpoint stores it so
// or where the builder says so.
func (b *Builder) matrix(x *graph.Value, prefix string, in, out int, bias bool) *graph.Value {
	g, name := b.G, prefix+".weight"
	if g.Err() != nil {
		return g.Failf("")
	}
	var bv *graph.Value
	if bias {
		bv = b.Weight(prefix+".bias", out)
	}
	if w, ok := b.storedCodes(name, in, out); ok {
		return g.MatMulNBits(x, w, bv)
	}
	t, ok := b.Find.Tensor(name)
	if !ok {
		return g.Failf("weight %s is missing from the checkpoint", name)
	}
	if err := t.Expect(int64(out), int64(in)); err != nil {
		return g.Failf("%w", err)
	}
	q, err := b.packed(t)
	if err != nil {
		return g.Failf("%w", err)
	}
	if q == nil {
		y := b.dot(x, b.Weight(name, out, in))
		if bias {
			y = g.Add(y, bv)
		}
		return y
	}
	blocks := in / q.Block
	y := g.MatMulNBits(x, graph.NBits{
		K: in, N: out, Bits: q.Bits, Block: q.Block,
		Codes:  b.place(name+CodesSuffix, graph.Uint8, q.Codes, out, blocks, q.Block*q.Bits/8),
		Scales: b.place(name+ScalesSuffix, b.DType, graph.EncodeFloats(b.DType, q.Scales), out*blocks),
	}, bv)
	if q.Offsets != nil {
		offsets := b.place(name+".offsets", b.DType, graph.EncodeFloats(b.DType, q.Offsets), out, blocks)
		y = g.Add(y, b.dot(b.blockSums(x, q.Block), offsets))
	}
	return y
}

// dot is x·wᵀ for x [...,K] and w [N,K] as one operator, whatever the rank of x.
func (b *Builder) dot(x, w *graph.Value) *graph.Value {
	g := b.G
	if g.Err() != nil {
		return g.Failf("")
	}
	out := append(append(graph.Shape(nil), x.Shape[:len(x.Shape)-1]...), w.Shape[0])
	if x.Shape[len(x.Shape)-1] != w.Shape[1] {
		return g.Failf("%s times the transpose of %s", x, w)
	}
	return g.Op("FusedMatMul", graph.Microsoft, []*graph.Value{x, w}, []graph.Attr{{Name: "transB", Value: int64(1)}}, graph.Out{DType: x.DType, Shape: out})[0]
}

// blockSums adds x [1,S,K] up in blocks, [1,S,K/block]; matrices that multiply the same x share them.
func (b *Builder) blockSums(x *graph.Value, block int) *graph.Value {
	if b.G.Err() != nil {
		return b.G.Failf("")
	}
	if s, ok := b.sums[x]; ok {
		return s
	}
	blocks := int(x.Shape[2].Size) / block
	s := b.G.Sum(b.G.Reshape(x, x.Shape[0], x.Shape[1], graph.D(blocks), graph.D(block)), 3, false)
	if b.sums == nil {
		b.sums = map[*graph.Value]*graph.Value{}
	}
	b.sums[x] = s
	return s
}

// storedCodes finds a matrix that a folder stores as codes; they stay in their file.
func (b *Builder) storedCodes(name string, in, out int) (graph.NBits, bool) {
	w := graph.NBits{K: in, N: out}
	codes, ok := b.Find.Tensor(name + CodesSuffix)
	if !ok {
		return w, false
	}
	if len(codes.Shape) != 3 || codes.DType != checkpoint.U8 || codes.Shape[1] < 1 || int64(in)%codes.Shape[1] != 0 {
		b.G.Failf("tensor %s is %s %v, expected U8 [%d, %d/block, bytes]", codes.Name, codes.DType, codes.Shape, out, in)
		return w, true
	}
	blocks := int(codes.Shape[1])
	w.Block = in / blocks
	w.Bits = int(codes.Shape[2]) * 8 / w.Block
	scales, ok := b.Find.Tensor(name + ScalesSuffix)
	if !ok {
		b.G.Failf("weight %s is missing from the checkpoint, which has %s", name+ScalesSuffix, codes.Name)
		return w, true
	}
	if err := scales.Expect(int64(out), int64(blocks)); err != nil {
		b.G.Failf("%w", err)
		return w, true
	}
	if err := codes.Expect(int64(out), int64(blocks), int64(w.Block*w.Bits/8)); err != nil {
		b.G.Failf("%w", err)
		return w, true
	}
	w.Codes = b.tensor(codes, codes.Name, out, blocks, int(codes.Shape[2]))
	w.Scales = b.tensor(scales, scales.Name, out, blocks)
	return w, true
}

// packed quantises a matrix, or takes it over where it is stored in blocks; nil where it is to be left as it is.
func (b *Builder) packed(t *checkpoint.Tensor) (*checkpoint.Packed, error) {
	if per, _ := t.DType.Block(); per > 1 && !b.Expand {
		return checkpoint.Repack(t)
	}
	if b.Quant == nil {
		return nil, nil
	}
	values, err := t.Float32()
	if err != nil {
		return nil, err
	}
	q, e, err := checkpoint.QuantiseInt4(values, int(t.Shape[0]), int(t.Shape[1]), b.Quant.Block)
	if err != nil {
		return nil, fmt.Errorf("quantise %s: %w", t.Name, err)
	}
	b.Quantised = append(b.Quantised, QuantisedMatrix{t.Name, e})
	return q, nil
}
