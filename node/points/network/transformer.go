package network

import (
	"fmt"
	"math"
)

// Transformer is the shape of the masked transformer encoder (3DETR-m in LL3DA and Vote2Cap-DETR).
type Transformer struct {
	Features int   // input features per point besides its place
	Samples  int   // points per ball of the first set abstraction
	Samples2 int   // tokens per ball of the second
	Hidden   []int // widths of the first MLP before Width: 64, 128
	Hidden2  []int // widths of the second before Width: 256, 256
	Width    int
	Heads    int
	FFN      int
	Layers   int
	// Prefix is "detector." in published checkpoints.
	Prefix string
}

// PublishedTransformer is the encoder of LL3DA.
func PublishedTransformer() Transformer {
	return Transformer{Features: 7, Samples: 64, Samples2: 32, Hidden: []int{64, 128}, Hidden2: []int{256, 256}, Width: 256, Heads: 4, FFN: 128, Layers: 3, Prefix: "detector."}
}

// Validate reports the first field that does not fit.
func (t Transformer) Validate() error {
	for _, f := range []struct {
		name string
		size int
	}{{"samples", t.Samples}, {"second samples", t.Samples2}, {"width", t.Width}, {"heads", t.Heads}, {"ffn", t.FFN}, {"layers", t.Layers}, {"features + 1", t.Features + 1}} {
		if f.size < 1 {
			return fmt.Errorf("masked transformer: %s is %d, expected 1 or more", f.name, f.size)
		}
	}
	if t.Width%t.Heads != 0 {
		return fmt.Errorf("masked transformer: width %d is not a multiple of %d heads", t.Width, t.Heads)
	}
	for _, n := range append(append([]int{}, t.Hidden...), t.Hidden2...) {
		if n < 1 {
			return fmt.Errorf("masked transformer: an MLP has a layer of %d channels, expected 1 or more", n)
		}
	}
	return nil
}

// TransformerInputs are the inputs of the network, as in [points.Sets].
type TransformerInputs[V any] struct {
	Groups V   // [Tokens, Samples, 3+Features]
	Balls  V   // [Kept, Samples2], rows of the tokens
	Local  V   // [Kept, Samples2, 3]
	Masks  []V // one per layer: bytes [n, n], 1 = hidden
}

// AddTransformer adds the network to a graph and returns its features [Kept, Width] and the stages tokens, layer0, interim,
// layer1, …. After the first layer the second set abstraction keeps fewer tokens.
func AddTransformer[V any](g Ops[V], t Transformer, weights Weights, in TransformerInputs[V]) (out V, stages []Stage[V], err error) {
	if err := t.Validate(); err != nil {
		return out, nil, err
	}
	if len(in.Masks) != t.Layers {
		return out, nil, fmt.Errorf("masked transformer: %d masks, expected one for each of %d layers", len(in.Masks), t.Layers)
	}
	b := transformerBuilder[V]{g: g, t: t, weights: reader{from: weights}}
	keep := func(name string, v V) V {
		stages = append(stages, Stage[V]{Name: name, Channels: t.Width, Value: v})
		return v
	}
	x := keep("tokens", b.abstraction(in.Groups, "tokenizer.mlp_module.", t.Samples, 3+t.Features, t.Hidden))
	for i := range t.Layers {
		x = keep(fmt.Sprintf("layer%d", i), b.layer(x, in.Masks[i], fmt.Sprintf("encoder.layers.%d.", i)))
		if i == 0 {
			groups := g.Concat(2, in.Local, g.Gather(x, in.Balls))
			x = keep("interim", b.abstraction(groups, "encoder.interim_downsampling.mlp_module.", t.Samples2, 3+t.Width, t.Hidden2))
		}
	}
	if b.weights.err != nil {
		return out, nil, fmt.Errorf("masked transformer: %w", b.weights.err)
	}
	return x, stages, nil
}

type transformerBuilder[V any] struct {
	g       Ops[V]
	t       Transformer
	weights reader
}

func (b *transformerBuilder[V]) vector(name string, n int) V {
	return b.g.Weight(b.t.Prefix+name, b.weights.read(b.t.Prefix+name, n), n)
}

// linear is x·Wᵀ + b of a tensor [out, in], stored turned for the product.
func (b *transformerBuilder[V]) linear(x V, weight, bias string, in, out int) V {
	w := transposed(b.weights.read(b.t.Prefix+weight, out, in), out, in)
	return b.g.Gemm(x, b.g.Weight(b.t.Prefix+weight, w, in, out), b.vector(bias, out))
}

// abstraction runs the MLP on every grouped point and takes the largest of each group: [n, samples, in] to [n, Width].
func (b *transformerBuilder[V]) abstraction(groups V, name string, samples, in int, hidden []int) V {
	x := b.g.Reshape(groups, -1, in)
	for i, out := range append(append([]int{}, hidden...), b.t.Width) {
		layer := fmt.Sprintf("%s%slayer%d.", b.t.Prefix, name, i)
		bn := b.weights.batchNorm(layer+"bn.bn", out)
		w := bn.columns(transposed(b.weights.read(layer+"conv.weight", out, in, 1, 1), out, in))
		x = b.g.Relu(b.g.Gemm(x, b.g.Weight(layer+"conv.weight", w, in, out), b.g.Weight(layer+"bn.bias", bn.bias(), out)))
		in = out
	}
	return b.g.ReduceMax(b.g.Reshape(x, -1, samples, b.t.Width), 1)
}

// layer is a pre-norm transformer layer without positions or a final norm.
func (b *transformerBuilder[V]) layer(x, mask V, name string) V {
	g, d, head := b.g, b.t.Width, b.t.Width/b.t.Heads
	const epsilon = 1e-5
	h := g.LayerNorm(x, b.vector(name+"norm1.weight", d), b.vector(name+"norm1.bias", d), epsilon)
	// torch keeps the three projections in one tensor.
	w := transposed(b.weights.read(b.t.Prefix+name+"self_attn.in_proj_weight", 3*d, d), 3*d, d)
	bias := b.weights.read(b.t.Prefix+name+"self_attn.in_proj_bias", 3*d)
	var part [3]V
	for i, letter := range [3]string{"q", "k", "v"} {
		wi := make([]float32, 0, d*d)
		for r := range d {
			wi = append(wi, w[r*3*d+i*d:r*3*d+(i+1)*d]...)
		}
		part[i] = g.Gemm(h, g.Weight(b.t.Prefix+name+"self_attn."+letter, wi, d, d), g.Weight(b.t.Prefix+name+"self_attn."+letter+"_bias", bias[i*d:(i+1)*d], d))
		part[i] = g.Reshape(part[i], -1, b.t.Heads, head)
	}
	q, k, v := g.Transpose(part[0], 1, 0, 2), g.Transpose(part[1], 1, 2, 0), g.Transpose(part[2], 1, 0, 2)
	scores := g.MatMul(g.Scale(q, float32(1/math.Sqrt(float64(head)))), k)
	seen := g.MatMul(g.Softmax(g.Hide(scores, mask)), v) // [heads, n, head]
	y := g.Reshape(g.Transpose(seen, 1, 0, 2), -1, d)
	x = g.Add(x, b.linear(y, name+"self_attn.out_proj.weight", name+"self_attn.out_proj.bias", d, d))
	h = g.LayerNorm(x, b.vector(name+"norm2.weight", d), b.vector(name+"norm2.bias", d), epsilon)
	h = g.Relu(b.linear(h, name+"linear1.weight", name+"linear1.bias", d, b.t.FFN))
	return g.Add(x, b.linear(h, name+"linear2.weight", name+"linear2.bias", b.t.FFN, d))
}

// transposed turns a matrix [rows, columns].
func transposed(m []float32, rows, columns int) []float32 {
	out := make([]float32, len(m))
	for r := range rows {
		for c := range columns {
			out[c*rows+r] = m[r*columns+c]
		}
	}
	return out
}
