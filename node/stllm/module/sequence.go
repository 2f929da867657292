package module

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/graph"
)

// Sequence is the decoder without a cache, of operators that all have a gradient: whole sequences [B,S,D] to their normed
// hidden states [B,S,D]. place holds the positions, int64 [S]; mask is added to the attention's scores and hides the future
// [1,1,1,S,S]. It computes what Build computes.
func (c DecoderConfig) Sequence(b *Builder, x, place, mask *graph.Value, positions int) *graph.Value {
	g := b.G
	if err := c.Validate(); err != nil {
		return g.Failf("%w", err)
	}
	cos, sin := c.Rotary(positions)
	row := func(table []float32) *graph.Value { // [S,half]
		return g.Gather(g.Floats(b.DType, table, positions, c.HeadDim/2), place, 0)
	}
	turn := Turn{row(cos), row(sin)}
	for i := range c.NumHiddenLayers {
		g.Scope(fmt.Sprintf("llm%d", i), func() { x = c.Layer(b, x, mask, i, turn) })
		if g.Err() != nil {
			return g.Failf("")
		}
	}
	return g.RMSNorm(x, b.Weight("model.norm.weight", c.HiddenSize), c.RMSNormEps)
}

// Turn are the rows of the rotary embedding's tables for the positions of a sequence, [S, HeadDim/2] each.
type Turn struct{ Cos, Sin *graph.Value }

// Layer is layer i of [DecoderConfig.Sequence] alone: [B,S,D] to [B,S,D].
func (c DecoderConfig) Layer(b *Builder, x, mask *graph.Value, i int, rot Turn) *graph.Value {
	q, k, v := c.Queries(b, x, i, rot)
	return c.Feed(b, c.Attended(b, c.heads(b.G, q, k, v, mask), x, i), i)
}

// DecoderWeights begins the names of the weights of layer i.
func DecoderWeights(i int) string { return fmt.Sprintf("model.layers.%d.", i) }

// Queries are the queries of layer i [B,S,heads·d] and its keys and values [B,S,key heads·d], turned by their places.
func (c DecoderConfig) Queries(b *Builder, x *graph.Value, i int, rot Turn) (q, k, v *graph.Value) {
	g, prefix := b.G, DecoderWeights(i)
	wide, narrow := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	h := g.RMSNorm(x, b.Weight(prefix+"input_layernorm.weight", c.HiddenSize), c.RMSNormEps)
	q = b.Linear(h, prefix+"self_attn.q_proj", c.HiddenSize, wide, c.AttentionBias)
	k = b.Linear(h, prefix+"self_attn.k_proj", c.HiddenSize, narrow, c.AttentionBias)
	v = b.Linear(h, prefix+"self_attn.v_proj", c.HiddenSize, narrow, c.AttentionBias)
	turn := func(x *graph.Value) *graph.Value {
		// The rows of the tables are those of the sequence, from 0 on.
		return g.Op("RotaryEmbedding", graph.Microsoft, []*graph.Value{x, g.Ints([]int64{0}), rot.Cos, rot.Sin}, nil, graph.Out{DType: x.DType, Shape: x.Shape})[0]
	}
	return turn(q), turn(k), v
}

// Attended adds to x what layer i has attended to, a [B,S,heads·d].
func (c DecoderConfig) Attended(b *Builder, a, x *graph.Value, i int) *graph.Value {
	return b.G.Add(x, b.Linear(a, DecoderWeights(i)+"self_attn.o_proj", c.NumAttentionHeads*c.HeadDim, c.HiddenSize, false))
}

// Feed is the feed-forward network of layer i, with its norm and residual.
func (c DecoderConfig) Feed(b *Builder, x *graph.Value, i int) *graph.Value {
	g, prefix := b.G, DecoderWeights(i)
	h := g.RMSNorm(x, b.Weight(prefix+"post_attention_layernorm.weight", c.HiddenSize), c.RMSNormEps)
	gate := g.Activation(c.HiddenAct, b.Linear(h, prefix+"mlp.gate_proj", c.HiddenSize, c.IntermediateSize, false))
	up := b.Linear(h, prefix+"mlp.up_proj", c.HiddenSize, c.IntermediateSize, false)
	return g.Add(x, b.Linear(g.Mul(gate, up), prefix+"mlp.down_proj", c.IntermediateSize, c.HiddenSize, false))
}

// heads is the attention of Layer: q [B,S,heads·d], k and v [B,S,key heads·d] to [B,S,heads·d].
func (c DecoderConfig) heads(g *graph.Graph, q, k, v, mask *graph.Value) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	keys, sharing := c.NumKeyValueHeads, c.NumAttentionHeads/c.NumKeyValueHeads
	// Heads that share keys lie side by side: [B, key heads, sharing, S, d].
	split := func(x *graph.Value, sharing int) *graph.Value {
		s := g.Reshape(x, x.Shape[0], x.Shape[1], graph.D(keys), graph.D(sharing), graph.D(c.HeadDim))
		return g.Transpose(s, 0, 2, 3, 1, 4)
	}
	scores := g.MatMul(g.Scale(split(q, sharing), float32(1/math.Sqrt(float64(c.HeadDim)))), g.Transpose(split(k, 1), 0, 1, 2, 4, 3))
	a := g.MatMul(g.Softmax(g.Add(scores, mask)), split(v, 1))
	return g.Reshape(g.Transpose(a, 0, 3, 1, 2, 4), q.Shape...)
}
