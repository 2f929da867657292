package module

import (
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
)

// Vision is the SigLIP tower: pixels [T,3,S,S] to features [T,g²,D]. The stored layers are all that run: the published code
// deletes the last layer and the head at load and applies no final norm (llava/model/multimodal_encoder/siglip_encoder.py).
func (b *Builder) Vision(pixels *graph.Value, c config.Vision, prefix string) *graph.Value {
	g := b.G
	grid, p, d := c.Grid(), c.PatchSize, c.HiddenSize
	var x *graph.Value
	g.Scope("siglip", func() {
		if g.Err() != nil {
			return
		}
		t := pixels.Shape[0]
		if edge := grid * p; edge < c.ImageSize {
			// A convolution leaves out what does not fill a patch: 6 of 384 pixels.
			pixels = g.Slice(g.Slice(pixels, 2, 0, int64(edge)), 3, 0, int64(edge))
		}
		// The patch convolution as a product: the kernel's memory is [D, C·P·P] already.
		patches := g.Reshape(pixels, t, graph.D(c.NumChannels), graph.D(grid), graph.D(p), graph.D(grid), graph.D(p))
		patches = g.Transpose(patches, 0, 2, 4, 1, 3, 5)
		patches = g.Reshape(patches, t, graph.D(grid*grid), graph.D(c.NumChannels*p*p))
		kernel := b.Reshaped(prefix+"embeddings.patch_embedding.weight", []int{d, c.NumChannels, p, p}, d, c.NumChannels*p*p)
		x = g.Linear(patches, kernel, b.Weight(prefix+"embeddings.patch_embedding.bias", d))
		x = g.Add(x, b.Weight(prefix+"embeddings.position_embedding.weight", grid*grid, d))
		b.probe("siglip.embeddings", x)
		for i := range c.Layers() {
			x = b.visionLayer(x, c, fmt.Sprintf("%sencoder.layers.%d.", prefix, i), i)
			b.probe(fmt.Sprintf("siglip.layer.%d", i), x)
		}
	})
	return x
}

func (b *Builder) visionLayer(x *graph.Value, c config.Vision, prefix string, index int) *graph.Value {
	g, d := b.G, c.HiddenSize
	h := b.Norm(x, prefix+"layer_norm1", d, c.LayerNormEps)
	q := b.Linear(h, prefix+"self_attn.q_proj", d, d, true)
	k := b.Linear(h, prefix+"self_attn.k_proj", d, d, true)
	v := b.Linear(h, prefix+"self_attn.v_proj", d, d, true)
	a, _ := b.Attention(q, k, v, nil, c.NumAttentionHeads)
	a = b.Linear(a, prefix+"self_attn.out_proj", d, d, true)
	b.probe(fmt.Sprintf("siglip.layer.%d.attention", index), a)
	x = g.Add(x, a)
	h = b.Norm(x, prefix+"layer_norm2", d, c.LayerNormEps)
	h = g.Activation(c.HiddenAct, b.Linear(h, prefix+"mlp.fc1", d, c.IntermediateSize, true))
	return g.Add(x, b.Linear(h, prefix+"mlp.fc2", c.IntermediateSize, d, true))
}

// Projector is mlp2x_gelu: Linear, GELU (erf), Linear, from the tower's width to the language model's.
func (b *Builder) Projector(x *graph.Value, in, out int, prefix string) *graph.Value {
	var y *graph.Value
	b.G.Scope("projector", func() {
		y = b.G.Gelu(b.Linear(x, prefix+"0", in, out, true))
		y = b.Linear(y, prefix+"2", out, out, true)
	})
	return b.probe("projector", y)
}

// Pool brings [T,g²,D] down to [T,p²,D] by the config's mode: bilinear to ceil(g/stride), or average or max over windows of
// stride (llava_arch.py, get_2dPool).
func (b *Builder) Pool(x *graph.Value, grid, pooled int, mode string, stride int) *graph.Value {
	g := b.G
	var y *graph.Value
	g.Scope("pool", func() {
		if g.Err() != nil {
			return
		}
		t, d := x.Shape[0], x.Shape[2]
		if mode == "bilinear" {
			// Two products, one for each direction: the patches need not be transposed, and there is a gradient.
			w := g.Floats(b.DType, bilinear(grid, pooled), pooled, grid)
			y = g.MatMul(w, g.Reshape(x, t, graph.D(grid), graph.D(grid*int(d.Size))))
			y = g.MatMul(w, g.Reshape(y, t, graph.D(pooled), graph.D(grid), d))
			y = g.Reshape(y, t, graph.D(pooled*pooled), d)
			return
		}
		op, known := map[string]string{"average": "AveragePool", "max": "MaxPool"}[mode]
		if !known {
			g.Failf("%w", errUnsupported("mm_spatial_pool_mode", mode))
			return
		}
		y = g.Transpose(g.Reshape(x, t, graph.D(grid), graph.D(grid), d), 0, 3, 1, 2)
		y = g.Cast(g.Pool2D(op, g.Cast(y, graph.Float32), stride), b.DType) // there are no pools in bfloat16
		y = g.Reshape(g.Transpose(y, 0, 2, 3, 1), t, graph.D(pooled*pooled), d)
	})
	if g.Err() != nil {
		return g.Failf("")
	}
	return b.probe("pooled", y)
}

// bilinear is the matrix [to, from] of torch's bilinear interpolate in one direction (align_corners false, no antialias).
func bilinear(from, to int) []float32 {
	w := make([]float32, to*from)
	for i := range to {
		at := max((float64(i)+0.5)*float64(from)/float64(to)-0.5, 0)
		lo := min(int(at), from-1)
		hi := min(lo+1, from-1)
		w[i*from+lo] += float32(1 - (at - float64(lo)))
		w[i*from+hi] += float32(at - float64(lo))
	}
	return w
}
