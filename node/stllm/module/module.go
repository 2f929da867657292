// Package module holds the networks of ST-LLM as functions that add nodes to a graph: SigLIP, projector, pool, Q-Former and
// Qwen2. Each takes a config struct with Hugging Face field names and finds its weights by their published names.
package module

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
)

// Finder finds stored tensors; a checkpoint.Folder is one.
type Finder interface {
	Tensor(names ...string) (*checkpoint.Tensor, bool)
}

// Builder joins a graph with weights.
type Builder struct {
	G     *graph.Graph
	Find  Finder
	DType graph.DType // of weights and activations
	// Quant quantises the language model's matrices to 4 bits; nil leaves them as they are.
	Quant *Quant
	// Expand makes floats of matrices that a GGUF file stores in blocks of codes, instead of multiplying by the codes.
	Expand bool
	// Products multiplies matrices of floats as they are stored, by graph.Product: on the CPU alone, and with x in float32. Those
	// that have to be converted are left to ONNX Runtime, but for the language model's, or with Panels.
	Products bool
	// CodeProducts multiplies its matrices of codes by graph.CodeProduct, likewise; see ort.CodeProducts.
	CodeProducts bool
	// Panels writes attention, and what stands between a language model's products, by operators of our own, and lets Products
	// multiply by converted matrices too; see ort.Panels.
	Panels bool
	// Decompose writes attention as plain products and a softmax: slower, but every step can be seen and has a gradient.
	Decompose bool
	// Probe, when not nil, is told intermediate values by name, so that a test or an explanation can ask for them and a
	// trainer can put a loss on them.
	Probe func(name string, v *graph.Value)
	// Scratch, when not nil, takes large converted weights, which would otherwise lie in the model's bytes.
	Scratch *Scratch
	// Train, when not nil, tells which weights are inputs of the graph rather than constants, so that a trainer can change
	// them from run to run.
	Train func(name string) bool
	// Given, when not nil, tells which weights are inputs of the graph in the type that they are stored in, so that one graph
	// does for layers of one kind and no file has to be converted as a whole.
	Given func(name string) bool
	// Quantised collects the error of each matrix that was quantised.
	Quantised []QuantisedMatrix

	sums map[*graph.Value]*graph.Value // by x, its sums by block
}

// Quant are the settings of 4-bit weights.
type Quant struct {
	Block int // 32, 64 or 128
}

// QuantisedMatrix names a quantised matrix and how far it is from the original.
type QuantisedMatrix = checkpoint.QuantisedMatrix

func (b *Builder) probe(name string, v *graph.Value) *graph.Value {
	if b.Probe != nil {
		b.Probe(name, v)
	}
	return v
}

// Weight finds a tensor and makes it an initializer. What is stored in the builder's type stays in its file; the rest is
// converted and lies in memory.
func (b *Builder) Weight(name string, sizes ...int) *graph.Value {
	t, ok := b.Find.Tensor(name)
	if !ok {
		return b.G.Failf("weight %s is missing from the checkpoint", name)
	}
	want := make([]int64, len(sizes))
	n := 1
	for i, s := range sizes {
		want[i] = int64(s)
		n *= s
	}
	if err := t.Expect(want...); err != nil {
		return b.G.Failf("%w", err)
	}
	if b.Train != nil && b.Train(name) {
		return b.parameter(name, b.DType, sizes)
	}
	if b.Given != nil && b.Given(name) {
		return b.given(t, name, sizes)
	}
	return b.tensor(t, name, sizes...)
}

// given is a weight as an input of its stored type.
func (b *Builder) given(t *checkpoint.Tensor, name string, sizes []int) *graph.Value {
	stored, ok := storedAs[t.DType]
	if !ok {
		return b.G.Failf("weight %s is stored as %s, expected F32, F16 or BF16", name, t.DType)
	}
	return b.G.Cast(b.parameter(name, stored, sizes), b.DType)
}

// parameter is a weight as an input of the graph; a weight that is used twice is one input.
func (b *Builder) parameter(name string, t graph.DType, sizes []int) *graph.Value {
	if v, ok := b.G.Value(name); ok {
		return v
	}
	return b.G.Input(name, t, graph.S(sizes...)...)
}

// Reshaped is Weight for a tensor that the graph sees in another shape of the same size.
func (b *Builder) Reshaped(name string, stored []int, sizes ...int) *graph.Value {
	t, ok := b.Find.Tensor(name)
	if !ok {
		return b.G.Failf("weight %s is missing from the checkpoint", name)
	}
	want := make([]int64, len(stored))
	for i, s := range stored {
		want[i] = int64(s)
	}
	if err := t.Expect(want...); err != nil {
		return b.G.Failf("%w", err)
	}
	if b.Train != nil && b.Train(name) {
		return b.G.Reshape(b.parameter(name, b.DType, stored), graph.S(sizes...)...)
	}
	if b.Given != nil && b.Given(name) {
		return b.G.Reshape(b.given(t, name, stored), graph.S(sizes...)...)
	}
	return b.tensor(t, name, sizes...)
}

// storedAs pairs the element types of files and graphs.
var storedAs = map[checkpoint.DType]graph.DType{
	checkpoint.F32: graph.Float32, checkpoint.F16: graph.Float16, checkpoint.BF16: graph.BFloat16,
}

// StoredAs is the type that a graph has for what a file stores as floats.
func StoredAs(t checkpoint.DType) (as graph.DType, ok bool) {
	as, ok = storedAs[t]
	return as, ok
}

func (b *Builder) tensor(t *checkpoint.Tensor, name string, sizes ...int) *graph.Value {
	if t.DType == checkpoint.U8 && t.Offset >= 0 {
		return b.G.External(name, graph.Uint8, t.File, t.Offset, t.Length, sizes...)
	}
	if storedAs[t.DType] == b.DType && t.Offset >= 0 {
		return b.G.External(name, b.DType, t.File, t.Offset, t.Length, sizes...)
	}
	if storedAs[t.DType] == b.DType {
		return b.place(name, b.DType, t.Data, sizes...)
	}
	if v, ok := b.G.Value(name); ok && v.Init != nil {
		return v // converted already
	}
	v, place := b.room(name, b.DType, sizes...)
	if b.G.Err() != nil {
		return v
	}
	if err := t.Convert(fileType(b.DType), place.write); err != nil {
		return b.G.Failf("weight %s: %w", name, err)
	}
	return v
}

// fileType is the type of a file's tensors that a graph's has.
func fileType(t graph.DType) checkpoint.DType {
	for stored, as := range storedAs {
		if as == t {
			return stored
		}
	}
	return ""
}

// spillAt is the size from which converted weights go to the scratch file.
const spillAt = 1 << 20

// place is where the bytes of an initializer go: into memory, or into the scratch file when they are many.
type place struct {
	memory  []byte
	scratch *Scratch
	offset  int64
}

func (p place) write(offset int64, data []byte) error {
	if p.scratch == nil {
		copy(p.memory[offset:], data)
		return nil
	}
	_, err := p.scratch.WriteAt(data, p.offset+offset)
	return err
}

// room makes an initializer whose bytes are still to be written.
func (b *Builder) room(name string, t graph.DType, sizes ...int) (*graph.Value, place) {
	length := graph.S(sizes...).Elements() * int64(t.Size())
	if b.Scratch == nil || length < spillAt {
		p := place{memory: make([]byte, length)}
		return b.G.Inline(name, t, p.memory, sizes...), p
	}
	file, offset := b.Scratch.Reserve(length)
	return b.G.External(name, t, file, offset, length, sizes...), place{scratch: b.Scratch, offset: offset}
}

// place makes an initializer of bytes.
func (b *Builder) place(name string, t graph.DType, data []byte, sizes ...int) *graph.Value {
	if b.Scratch == nil || len(data) < spillAt {
		return b.G.Inline(name, t, data, sizes...)
	}
	v, p := b.room(name, t, sizes...)
	if err := p.write(0, data); err != nil {
		return b.G.Failf("weight %s: %w", name, err)
	}
	return v
}

// mapped tells whether graph.Product takes a matrix as it lies in its file.
func (b *Builder) mapped(t *checkpoint.Tensor) bool {
	return t.Offset >= 0 && (t.DType == checkpoint.F32 || t.DType == checkpoint.BF16)
}

// Linear applies prefix.weight [out,in] and, with bias, prefix.bias [out].
func (b *Builder) Linear(x *graph.Value, prefix string, in, out int, bias bool) *graph.Value {
	if t, ok := b.Find.Tensor(prefix + ".weight"); ok && b.Products && (b.Panels || b.mapped(t)) {
		return b.products(x, "", []projection{{prefix, out}}, in, bias)[0]
	}
	var bv *graph.Value
	if bias {
		bv = b.Weight(prefix+".bias", out)
	}
	return b.G.Linear(x, b.Weight(prefix+".weight", out, in), bv)
}

// Norm applies the LayerNorm prefix.weight, prefix.bias.
func (b *Builder) Norm(x *graph.Value, prefix string, size int, eps float64) *graph.Value {
	return b.G.LayerNorm(x, b.Weight(prefix+".weight", size), b.Weight(prefix+".bias", size), eps)
}

// Attention is multi-head attention: q [B,S,D], k and v [B,L,D] with D = heads·d; mask, which needs Decompose, is added to the
// scores [B,heads,S,L] where it is not nil. It returns [B,S,D], and with Decompose the weights [B,heads,S,L].
func (b *Builder) Attention(q, k, v, mask *graph.Value, heads int) (out, weights *graph.Value) {
	g := b.G
	if g.Err() != nil {
		return g.Failf(""), nil
	}
	d := q.Shape[len(q.Shape)-1]
	if len(q.Shape) != 3 || !d.Known() || d.Size%int64(heads) != 0 {
		return g.Failf("attention over %s with %d heads", q, heads), nil
	}
	if !b.Decompose {
		if mask != nil {
			return g.Failf("attention with a mask needs Decompose"), nil
		}
		if b.Panels && d.Size/int64(heads) <= graph.MostHead {
			return g.Attention(q, k, v, heads), nil
		}
		y := g.Op("MultiHeadAttention", graph.Microsoft, []*graph.Value{q, k, v}, []graph.Attr{{Name: "num_heads", Value: int64(heads)}},
			graph.Out{DType: q.DType, Shape: q.Shape})[0]
		return y, nil
	}
	size := int(d.Size) / heads
	split := func(x *graph.Value) *graph.Value {
		return g.Transpose(g.Reshape(x, x.Shape[0], x.Shape[1], graph.D(heads), graph.D(size)), 0, 2, 1, 3)
	}
	scores := g.MatMul(g.Scale(split(q), float32(1/math.Sqrt(float64(size)))), g.Transpose(split(k), 0, 1, 3, 2))
	if mask != nil {
		scores = g.Add(scores, mask)
	}
	weights = g.Softmax(scores)
	y := g.Transpose(g.MatMul(weights, split(v)), 0, 2, 1, 3)
	return g.Reshape(y, q.Shape...), weights
}

// errUnsupported names a config value that has no network here.
func errUnsupported(field, value string) error {
	return fmt.Errorf("config field %s is %q, which is not supported", field, value)
}
