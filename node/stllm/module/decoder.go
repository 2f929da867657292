package module

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
)

// DecoderConfig is a Llama-like language model: Qwen2 (with biases on q, k and v), Llama, SmolLM2.
type DecoderConfig struct {
	VocabSize             int
	HiddenSize            int
	IntermediateSize      int
	NumHiddenLayers       int
	NumAttentionHeads     int
	NumKeyValueHeads      int
	HeadDim               int
	RMSNormEps            float64
	RopeTheta             float64
	MaxPositionEmbeddings int
	HiddenAct             string
	AttentionBias         bool // q, k and v have a bias (Qwen2)
	TieWordEmbeddings     bool
	// RopeFactors divide the rotary frequencies (Llama 3.1 and later), [HeadDim/2]; nil: none.
	RopeFactors []float32
}

// DecoderOf is the language model of a config: Qwen2, whose query, key and value projections have a bias.
func DecoderOf(c *config.Config) DecoderConfig {
	return DecoderConfig{
		VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, NumHiddenLayers: c.NumHiddenLayers,
		NumAttentionHeads: c.NumAttentionHeads, NumKeyValueHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim(), RMSNormEps: c.RMSNormEps,
		RopeTheta: c.RopeTheta, MaxPositionEmbeddings: c.MaxPositionEmbeddings, HiddenAct: c.HiddenAct, AttentionBias: true,
		TieWordEmbeddings: c.TieWordEmbeddings,
	}
}

// Validate names the field that is wrong.
func (c DecoderConfig) Validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"vocab_size", c.VocabSize}, {"hidden_size", c.HiddenSize}, {"intermediate_size", c.IntermediateSize},
		{"num_hidden_layers", c.NumHiddenLayers}, {"num_attention_heads", c.NumAttentionHeads},
		{"num_key_value_heads", c.NumKeyValueHeads}, {"head_dim", c.HeadDim}, {"max_position_embeddings", c.MaxPositionEmbeddings},
	} {
		if f.value < 1 {
			return fmt.Errorf("decoder config: %s is %d, expected at least 1", f.name, f.value)
		}
	}
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		return fmt.Errorf("decoder config: num_attention_heads is %d, expected a multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("decoder config: head_dim is %d, expected an even number", c.HeadDim)
	}
	if c.RopeFactors != nil && len(c.RopeFactors) != c.HeadDim/2 {
		return fmt.Errorf("decoder config: %d rope factors, expected one for each of the %d rotary pairs", len(c.RopeFactors), c.HeadDim/2)
	}
	return nil
}

// DecoderInputs are the inputs of one step over S new positions. The cache may have any room up to DecoderOptions.Positions.
type DecoderInputs struct {
	Embeds  *graph.Value   // [1,S,D], float32 whatever the network computes in
	LastKey *graph.Value   // int32 [1]: positions in the cache after this step, minus one
	Total   *graph.Value   // int32 [1]: positions in the cache after this step
	Keys    []*graph.Value // by layer [1,KV,room,d], the cache
	Values  []*graph.Value
	Place   *graph.Value // int64 [S]: position of each new token; only where RotaryInGraph
}

// RotaryInGraph tells that the rotary embedding is written out: ONNX Runtime's attention has it built in for head sizes that
// are multiples of 16 alone.
func (c DecoderConfig) RotaryInGraph() bool { return c.HeadDim%16 != 0 }

// DecoderOptions choose what a decoder graph gives out.
type DecoderOptions struct {
	Positions int // longest sequence; at most MaxPositionEmbeddings
	AllLogits bool
}

// Inputs declares the decoder's inputs.
func (c DecoderConfig) Inputs(b *Builder, o DecoderOptions) DecoderInputs {
	g := b.G
	in := DecoderInputs{
		Embeds:  g.Input("inputs_embeds", graph.Float32, graph.D(1), graph.N("sequence"), graph.D(c.HiddenSize)),
		LastKey: g.Input("last_key", graph.Int32, graph.D(1)),
		Total:   g.Input("total", graph.Int32, graph.D(1)),
	}
	if c.RotaryInGraph() {
		in.Place = g.Input("place", graph.Int64, graph.N("sequence"))
	}
	for i := range c.NumHiddenLayers {
		shape := graph.Shape{graph.D(1), graph.D(c.NumKeyValueHeads), graph.N("room"), graph.D(c.HeadDim)}
		in.Keys = append(in.Keys, g.Input(fmt.Sprintf("past_key.%d", i), b.DType, shape...))
		in.Values = append(in.Values, g.Input(fmt.Sprintf("past_value.%d", i), b.DType, shape...))
	}
	return in
}

// Build adds the decoder: layers with grouped-query attention over the cache (written in place: the outputs present_key.i and
// present_value.i are meant to be the same tensors as the inputs), final norm and head. The output "logits" is [1,V] of the
// last position, or [S,V] with AllLogits.
func (c DecoderConfig) Build(b *Builder, in DecoderInputs, o DecoderOptions) {
	g := b.G
	if err := c.Validate(); err != nil {
		g.Failf("%w", err)
		return
	}
	if o.Positions < 1 || o.Positions > c.MaxPositionEmbeddings {
		g.Failf("room for %d positions, expected 1 to max_position_embeddings %d", o.Positions, c.MaxPositionEmbeddings)
		return
	}
	rot := c.rotary(b, in, o.Positions)
	x, delta := g.Cast(in.Embeds, b.DType), (*graph.Value)(nil)
	for i := range c.NumHiddenLayers {
		g.Scope(fmt.Sprintf("llm%d", i), func() {
			x, delta = c.layer(b, x, delta, in, i, rot)
		})
		if g.Err() != nil {
			return
		}
	}
	last, x := b.normSum(x, delta, "model.norm.weight", c)
	b.probe(fmt.Sprintf("llm.layer.%d", c.NumHiddenLayers-1), last)
	b.probe("llm.normed", x)
	if !o.AllLogits {
		x = g.Slice(x, 1, -1, graph.End)
	}
	head := "lm_head"
	if c.TieWordEmbeddings {
		head = "model.embed_tokens"
	}
	logits := b.matrix(x, head, c.HiddenSize, c.VocabSize, false)
	g.Output("logits", g.Cast(g.Squeeze(logits, 0), graph.Float32))
}

// normSum adds what the last block gave and normalises the sum: both in one operator, where there is something to add.
func (b *Builder) normSum(x, delta *graph.Value, weight string, c DecoderConfig) (sum, normed *graph.Value) {
	g, w := b.G, b.Weight(weight, c.HiddenSize)
	if delta == nil || g.Err() != nil {
		return x, g.RMSNorm(x, w, c.RMSNormEps)
	}
	if b.Panels {
		return g.SumNorm(x, delta, w, c.RMSNormEps)
	}
	outs := g.Op("SkipSimplifiedLayerNormalization", graph.Microsoft, []*graph.Value{x, delta, w}, []graph.Attr{{Name: "epsilon", Value: float32(c.RMSNormEps)}},
		graph.Out{DType: x.DType, Shape: x.Shape}, graph.Out{Skip: true}, graph.Out{Skip: true}, graph.Out{DType: x.DType, Shape: x.Shape})
	return outs[3], outs[0]
}

// layer runs one layer over x + delta and returns its x and delta: sums are made where they are normalised.
func (c DecoderConfig) layer(b *Builder, x, delta *graph.Value, in DecoderInputs, i int, rot rotary) (sum, last *graph.Value) {
	prefix := fmt.Sprintf("model.layers.%d.", i)
	x, h := b.normSum(x, delta, prefix+"input_layernorm.weight", c)
	if i > 0 {
		b.probe(fmt.Sprintf("llm.layer.%d", i-1), x)
	}
	wide := c.NumAttentionHeads * c.HeadDim
	a := c.attention(b, h, in, i, rot)
	delta = b.matrix(a, prefix+"self_attn.o_proj", wide, c.HiddenSize, false)
	x, h = b.normSum(x, delta, prefix+"post_attention_layernorm.weight", c)
	parts := b.matrices(h, prefix+"mlp.", "gate_up_proj", []projection{{"gate_proj", c.IntermediateSize}, {"up_proj", c.IntermediateSize}}, c.HiddenSize, false)
	return x, b.matrix(b.gated(parts, c), prefix+"mlp.down_proj", c.IntermediateSize, c.HiddenSize, false)
}

// gated is the activation of gate times up, which may be one value.
func (b *Builder) gated(parts []*graph.Value, c DecoderConfig) *graph.Value {
	g := b.G
	if b.Panels && c.HiddenAct == "silu" {
		return g.Gate(parts...)
	}
	if len(parts) == 1 {
		parts = b.split(parts[0], c.IntermediateSize, c.IntermediateSize)
	}
	if g.Err() != nil {
		return g.Failf("")
	}
	return g.Mul(g.Activation(c.HiddenAct, parts[0]), parts[1])
}

// attention is grouped-query attention of layer i over the cache.
func (c DecoderConfig) attention(b *Builder, h *graph.Value, in DecoderInputs, i int, rot rotary) *graph.Value {
	g := b.G
	wide, narrow := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	qkv := b.matrices(h, fmt.Sprintf("model.layers.%d.self_attn.", i), "qkv_proj", []projection{{"q_proj", wide}, {"k_proj", narrow}, {"v_proj", narrow}},
		c.HiddenSize, c.AttentionBias)
	if g.Err() != nil {
		return g.Failf("")
	}
	if len(qkv) == 1 && c.RotaryInGraph() {
		qkv = b.split(qkv[0], wide, narrow, narrow)
	}
	if b.Panels && !c.RotaryInGraph() && c.HeadDim <= graph.MostHead {
		y, keys, values := g.CachedAttention(qkv, graph.Cache{Keys: in.Keys[i], Values: in.Values[i], Last: in.LastKey, Cos: rot.cos, Sin: rot.sin}, c.NumAttentionHeads)
		g.OutputAs(fmt.Sprintf("present_key.%d", i), keys)
		g.OutputAs(fmt.Sprintf("present_value.%d", i), values)
		return y
	}
	attrs := []graph.Attr{{Name: "num_heads", Value: int64(c.NumAttentionHeads)}, {Name: "kv_num_heads", Value: int64(c.NumKeyValueHeads)}}
	inputs := []*graph.Value{qkv[0], nil, nil, in.Keys[i], in.Values[i], in.LastKey, in.Total} // queries, keys and values in one
	copy(inputs, qkv)
	if c.RotaryInGraph() {
		inputs[0], inputs[1] = rot.turn(g, qkv[0], c.NumAttentionHeads, c), rot.turn(g, qkv[1], c.NumKeyValueHeads, c)
	} else {
		inputs = append(inputs, rot.cos, rot.sin)
		attrs = append(attrs, graph.Attr{Name: "do_rotary", Value: int64(1)}, graph.Attr{Name: "rotary_interleaved", Value: int64(0)})
	}
	if g.Err() != nil {
		return g.Failf("")
	}
	outs := g.Op("GroupQueryAttention", graph.Microsoft, inputs, attrs, graph.Out{DType: b.DType, Shape: graph.Shape{h.Shape[0], h.Shape[1], graph.D(wide)}},
		graph.Out{DType: b.DType, Shape: in.Keys[i].Shape}, graph.Out{DType: b.DType, Shape: in.Values[i].Shape})
	g.OutputAs(fmt.Sprintf("present_key.%d", i), outs[1])
	g.OutputAs(fmt.Sprintf("present_value.%d", i), outs[2])
	return outs[0]
}

// rotary are the tables of the rotary embedding: of all positions [positions, d/2] for the built-in form, or the rows of this
// step [1, S, 1, d/2] for the written-out one.
type rotary struct{ cos, sin *graph.Value }

func (c DecoderConfig) rotary(b *Builder, in DecoderInputs, positions int) rotary {
	g := b.G
	cos, sin := c.Rotary(positions)
	r := rotary{g.Floats(b.DType, cos, positions, c.HeadDim/2), g.Floats(b.DType, sin, positions, c.HeadDim/2)}
	if !c.RotaryInGraph() {
		return r
	}
	row := func(table *graph.Value) *graph.Value {
		return g.Unsqueeze(g.Unsqueeze(g.Gather(table, in.Place, 0), 0), 2)
	}
	return rotary{row(r.cos), row(r.sin)}
}

// turn applies the embedding to [1,S,heads·d]: the two halves of each head are the two coordinates that turn.
func (r rotary) turn(g *graph.Graph, x *graph.Value, heads int, c DecoderConfig) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	h := g.Reshape(x, x.Shape[0], x.Shape[1], graph.D(heads), graph.D(c.HeadDim))
	half := int64(c.HeadDim / 2)
	a, b := g.Slice(h, 3, 0, half), g.Slice(h, 3, half, graph.End)
	h = g.Concat(3, g.Sub(g.Mul(a, r.cos), g.Mul(b, r.sin)), g.Add(g.Mul(b, r.cos), g.Mul(a, r.sin)))
	return g.Reshape(h, x.Shape...)
}

// Rotary returns cos and sin of the rotary embedding, [positions, d/2] each. The angle is float32(position)·float32(inverse
// frequency), as the reference computes it; anything else is off by up to 5e-4 at position 32,767.
func (c DecoderConfig) Rotary(positions int) (cos, sin []float32) {
	half := c.HeadDim / 2
	cos, sin = make([]float32, 0, positions*half), make([]float32, 0, positions*half)
	inverse := make([]float32, half)
	for i := range inverse {
		// In float32 step by step: the power, then its reciprocal.
		inverse[i] = 1 / float32(math.Pow(c.RopeTheta, float64(float32(2*i)/float32(c.HeadDim))))
		if c.RopeFactors != nil {
			inverse[i] /= c.RopeFactors[i]
		}
	}
	for p := range positions {
		for _, f := range inverse {
			a := float64(float32(p) * f)
			cos, sin = append(cos, float32(math.Cos(a))), append(sin, float32(math.Sin(a)))
		}
	}
	return cos, sin
}
