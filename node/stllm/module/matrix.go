package module

import (
	"fmt"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
)

// projection is one of several matrices that multiply the same x.
type projection struct {
	name string
	out  int
}

// matrices multiplies x [...,in] by several matrices prefix+name. Where they are stored or made as codes of one kind, or are to
// be converted, it is one product, [...,sum of out], under a name of their own (qkv_proj): the fewer operators a token takes,
// the less its threads wait for one another. Otherwise, where each can be used as it lies in its file, it is a product each.
func (b *Builder) matrices(x *graph.Value, prefix, joint string, parts []projection, in int, bias bool) []*graph.Value {
	g, total := b.G, 0
	for _, p := range parts {
		total += p.out
	}
	w, ok := b.storedCodes(prefix+joint+".weight", in, total)
	var q *checkpoint.Packed
	if !ok && g.Err() == nil {
		tensors, err := b.together(prefix, parts, in)
		switch {
		case err != nil:
			g.Failf("%w", err)
		case tensors == nil:
		case b.stored(tensors[0]):
			if q, err = join(tensors); err != nil {
				g.Failf("%w", err)
			}
		default:
			w, ok = b.quantise(prefix+joint+".weight", tensors), true
		}
	}
	if g.Err() != nil {
		return []*graph.Value{g.Failf("")}
	}
	if !ok && q == nil && b.Products {
		return b.products(x, prefix, parts, in, bias)
	}
	var joined *graph.Value
	if !ok && q == nil {
		if joined = b.converted(prefix, joint, parts, in, total); g.Err() != nil {
			return []*graph.Value{g.Failf("")}
		}
	}
	if !ok && q == nil && joined == nil {
		var out []*graph.Value
		for _, p := range parts {
			out = append(out, b.matrix(x, prefix+p.name, in, p.out, bias))
		}
		return out
	}
	var bv *graph.Value
	if bias {
		var values []*graph.Value
		for _, p := range parts {
			values = append(values, b.Weight(prefix+p.name+".bias", p.out))
		}
		bv = g.Concat(0, values...) // of constants: ONNX Runtime does it once
	}
	switch {
	case ok:
		return []*graph.Value{b.codeProduct(x, w, bv)}
	case q != nil:
		return []*graph.Value{b.multiply(x, q, prefix+joint+".weight", bv)}
	}
	y := b.dot(x, joined)
	if bias {
		y = g.Add(y, bv)
	}
	return []*graph.Value{y}
}

// products multiplies x by matrices of floats as they are stored, in one operator.
func (b *Builder) products(x *graph.Value, prefix string, parts []projection, in int, bias bool) []*graph.Value {
	var ws, biases []*graph.Value
	for _, p := range parts {
		ws = append(ws, b.asStored(prefix+p.name+".weight", p.out, in))
		if bias {
			biases = append(biases, b.Weight(prefix+p.name+".bias", p.out))
		}
	}
	return b.G.Product(x, ws, biases)
}

// asStored is Weight for an operator that takes bfloat16 as well.
func (b *Builder) asStored(name string, sizes ...int) *graph.Value {
	t, ok := b.Find.Tensor(name)
	if !ok || t.DType != checkpoint.BF16 || t.Offset < 0 {
		return b.Weight(name, sizes...)
	}
	want := make([]int64, len(sizes))
	for i, s := range sizes {
		want[i] = int64(s)
	}
	if err := t.Expect(want...); err != nil {
		return b.G.Failf("%w", err)
	}
	return b.G.External(name, graph.BFloat16, t.File, t.Offset, t.Length, sizes...)
}

// converted puts matrices of floats one below the other, [total,in], where none can be used as it lies in its file; nil where
// one can, or is not there, or is an input of the graph.
func (b *Builder) converted(prefix, joint string, parts []projection, in, total int) *graph.Value {
	var tensors []*checkpoint.Tensor
	for _, p := range parts {
		name := prefix + p.name + ".weight"
		t, ok := b.Find.Tensor(name)
		if !ok || b.coded(t) || storedAs[t.DType] == b.DType && t.Offset >= 0 || b.Train != nil && b.Train(name) || b.Given != nil && b.Given(name) {
			return nil
		}
		if err := t.Expect(int64(p.out), int64(in)); err != nil {
			return b.G.Failf("%w", err)
		}
		tensors = append(tensors, t)
	}
	name := prefix + joint + ".weight"
	v, place := b.room(name, b.DType, total, in)
	if b.G.Err() != nil {
		return v
	}
	at := int64(0)
	for _, t := range tensors {
		err := t.Convert(fileType(b.DType), func(offset int64, data []byte) error { return place.write(at+offset, data) })
		if err != nil {
			return b.G.Failf("weight %s: %w", t.Name, err)
		}
		at += t.Shape[0] * int64(in) * int64(b.DType.Size())
	}
	return v
}

// together are the matrices where all are to be codes of one kind; nil where they are not.
func (b *Builder) together(prefix string, parts []projection, in int) ([]*checkpoint.Tensor, error) {
	var tensors []*checkpoint.Tensor
	for _, p := range parts {
		t, ok := b.Find.Tensor(prefix + p.name + ".weight")
		if !ok {
			return nil, nil // matrix says what is missing
		}
		if err := t.Expect(int64(p.out), int64(in)); err != nil {
			return nil, err
		}
		if !b.coded(t) || len(tensors) > 0 && t.DType != tensors[0].DType {
			return nil, nil
		}
		tensors = append(tensors, t)
	}
	return tensors, nil
}

// join takes matrices over that are stored in blocks, one below the other.
func join(tensors []*checkpoint.Tensor) (*checkpoint.Packed, error) {
	var all *checkpoint.Packed
	for _, t := range tensors {
		q, err := checkpoint.Repack(t)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = q
			continue
		}
		all.N += q.N
		all.Codes, all.Scales, all.Offsets = append(all.Codes, q.Codes...), append(all.Scales, q.Scales...), append(all.Offsets, q.Offsets...)
	}
	return all, nil
}

// quantise makes 4-bit codes of matrices of one width, one below the other: a few rows at a time, from file to file where
// there is a scratch file.
func (b *Builder) quantise(name string, tensors []*checkpoint.Tensor) graph.NBits {
	w := graph.NBits{K: int(tensors[0].Shape[1]), Bits: 4, Block: b.Quant.Block}
	for _, t := range tensors {
		w.N += int(t.Shape[0])
	}
	if w.K%w.Block != 0 {
		b.G.Failf("quantise %s: rows of %d, expected a multiple of the block size %d", name, w.K, w.Block)
		return w
	}
	blocks := w.K / w.Block
	codes, toCodes := b.room(name+checkpoint.CodesSuffix, graph.Uint8, w.N, blocks, w.Block/2)
	scales, toScales := b.room(name+checkpoint.ScalesSuffix, b.DType, w.N*blocks)
	w.Codes, w.Scales = codes, scales
	if b.G.Err() != nil {
		return w
	}
	row := 0
	for _, t := range tensors {
		e, err := checkpoint.QuantiseRows(t, w.Block, func(first int, codes []byte, scales []float32) error {
			at := int64(row + first)
			if err := toCodes.write(at*int64(w.K/2), codes); err != nil {
				return err
			}
			return toScales.write(at*int64(blocks*b.DType.Size()), graph.EncodeFloats(b.DType, scales))
		})
		if err != nil {
			b.G.Failf("%w", err)
			return w
		}
		b.Quantised = append(b.Quantised, QuantisedMatrix{Name: t.Name, Error: e})
		row += int(t.Shape[0])
	}
	return w
}

// split cuts the last dimension up.
func (b *Builder) split(x *graph.Value, sizes ...int) []*graph.Value {
	if b.G.Err() != nil {
		return make([]*graph.Value, len(sizes))
	}
	var wide []int64
	var outs []graph.Out
	for _, n := range sizes {
		wide = append(wide, int64(n))
		shape := append(append(graph.Shape(nil), x.Shape[:len(x.Shape)-1]...), graph.D(n))
		outs = append(outs, graph.Out{DType: x.DType, Shape: shape})
	}
	return b.G.Op("Split", "", []*graph.Value{x, b.G.Ints(wide)}, []graph.Attr{{Name: "axis", Value: int64(-1)}}, outs...)
}

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
		return b.codeProduct(x, w, bv)
	}
	t, ok := b.Find.Tensor(name)
	if !ok {
		return g.Failf("weight %s is missing from the checkpoint", name)
	}
	if err := t.Expect(int64(out), int64(in)); err != nil {
		return g.Failf("%w", err)
	}
	if b.stored(t) {
		q, err := checkpoint.Repack(t)
		if err != nil {
			return g.Failf("%w", err)
		}
		return b.multiply(x, q, name, bv)
	}
	if b.coded(t) {
		return b.codeProduct(x, b.quantise(name, []*checkpoint.Tensor{t}), bv)
	}
	if b.Products {
		return b.products(x, "", []projection{{prefix, out}}, in, bias)[0]
	}
	y := b.dot(x, b.Weight(name, out, in))
	if bias {
		y = g.Add(y, bv)
	}
	return y
}

// codeProduct multiplies by codes as they are stored or were made; bias may be nil.
func (b *Builder) codeProduct(x *graph.Value, w graph.NBits, bias *graph.Value) *graph.Value {
	if b.ownCodes(w) {
		return b.biased(b.G.CodeProduct(x, w, nil), bias)
	}
	return b.G.MatMulNBits(x, w, bias)
}

// ownCodes tells whether graph.CodeProduct takes a matrix.
func (b *Builder) ownCodes(w graph.NBits) bool {
	return b.CodeProducts && b.G.Err() == nil && w.Block%16 == 0 && w.Scales.DType == graph.Float32
}

func (b *Builder) biased(y, bias *graph.Value) *graph.Value {
	if bias == nil {
		return y
	}
	return b.G.Add(y, bias)
}

// multiply is x times the transpose of a matrix of codes, plus a bias or nil.
func (b *Builder) multiply(x *graph.Value, q *checkpoint.Packed, name string, bias *graph.Value) *graph.Value {
	g, blocks := b.G, q.K/q.Block
	w := graph.NBits{
		K: q.K, N: q.N, Bits: q.Bits, Block: q.Block,
		Codes:  b.place(name+checkpoint.CodesSuffix, graph.Uint8, q.Codes, q.N, blocks, q.Block*q.Bits/8),
		Scales: b.place(name+checkpoint.ScalesSuffix, b.DType, graph.EncodeFloats(b.DType, q.Scales), q.N*blocks),
	}
	var offsets *graph.Value
	if q.Offsets != nil {
		offsets = b.place(name+".offsets", b.DType, graph.EncodeFloats(b.DType, q.Offsets), q.N, blocks)
	}
	if b.ownCodes(w) {
		return b.biased(g.CodeProduct(x, w, offsets), bias)
	}
	y := g.MatMulNBits(x, w, bias)
	if offsets != nil {
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

// blockSums adds x [1,S,K] up in blocks, [1,S,K/block]; matrices that multiply the same x share them. It is a product with codes
// as well, one in a block and nothing elsewhere: the sums are then of x as the product beside them has rounded it to 8 bits, so
// that what the rounding did to a block meets the whole weights, not weights less their offsets, which are larger.
func (b *Builder) blockSums(x *graph.Value, block int) *graph.Value {
	g := b.G
	if g.Err() != nil {
		return g.Failf("")
	}
	if s, ok := b.sums[x]; ok {
		return s
	}
	k := int(x.Shape[len(x.Shape)-1].Size)
	blocks := k / block
	w := graph.NBits{K: k, N: blocks, Bits: 4, Block: block}
	name := fmt.Sprintf("block_sums.%d.%d", k, block)
	var ok bool
	if w.Codes, ok = g.Value(name + checkpoint.CodesSuffix); !ok {
		codes, ones := make([]byte, blocks*k/2), make([]float32, blocks*blocks)
		for i := range codes {
			codes[i] = 0x88 // zeros
		}
		for i := range blocks {
			row := codes[i*k/2:]
			for j := range block / 2 {
				row[i*block/2+j] = 0x99 // ones
			}
		}
		for i := range ones {
			ones[i] = 1
		}
		g.Inline(name+checkpoint.CodesSuffix, graph.Uint8, codes, blocks, blocks, block/2)
		g.Inline(name+checkpoint.ScalesSuffix, b.DType, graph.EncodeFloats(b.DType, ones), blocks*blocks)
		w.Codes, _ = g.Value(name + checkpoint.CodesSuffix)
	}
	w.Scales, _ = g.Value(name + checkpoint.ScalesSuffix)
	if g.Err() != nil {
		return g.Failf("")
	}
	s := g.MatMulNBits(x, w, nil)
	if b.sums == nil {
		b.sums = map[*graph.Value]*graph.Value{}
	}
	b.sums[x] = s
	return s
}

// storedCodes finds a matrix that a folder stores as codes; they stay in their file.
func (b *Builder) storedCodes(name string, in, out int) (graph.NBits, bool) {
	w := graph.NBits{K: in, N: out}
	codes, ok := b.Find.Tensor(name + checkpoint.CodesSuffix)
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
	scales, ok := b.Find.Tensor(name + checkpoint.ScalesSuffix)
	if !ok {
		b.G.Failf("weight %s is missing from the checkpoint, which has %s", name+checkpoint.ScalesSuffix, codes.Name)
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

// stored tells whether a matrix is stored in blocks of codes that are to be multiplied as they are.
func (b *Builder) stored(t *checkpoint.Tensor) bool {
	per, _ := t.DType.Block()
	return per > 1 && !b.Expand
}

// coded tells whether a matrix is to be multiplied as codes.
func (b *Builder) coded(t *checkpoint.Tensor) bool { return b.stored(t) || b.Quant != nil }
