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
	Embeds  *graph.Value   // [1,S,D]
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
		Embeds:  g.Input("inputs_embeds", b.DType, graph.D(1), graph.N("sequence"), graph.D(c.HiddenSize)),
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
	x := in.Embeds
	for i := range c.NumHiddenLayers {
		g.Scope(fmt.Sprintf("llm%d", i), func() {
			x = c.layer(b, x, in, i, rot)
		})
		if g.Err() != nil {
			return
		}
		b.probe(fmt.Sprintf("llm.layer.%d", i), x)
	}
	x = g.RMSNorm(x, b.Weight("model.norm.weight", c.HiddenSize), c.RMSNormEps)
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

func (c DecoderConfig) layer(b *Builder, x *graph.Value, in DecoderInputs, i int, rot rotary) *graph.Value {
	g := b.G
	prefix := fmt.Sprintf("model.layers.%d.", i)
	h := g.RMSNorm(x, b.Weight(prefix+"input_layernorm.weight", c.HiddenSize), c.RMSNormEps)
	wide, narrow := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	q := b.matrix(h, prefix+"self_attn.q_proj", c.HiddenSize, wide, c.AttentionBias)
	k := b.matrix(h, prefix+"self_attn.k_proj", c.HiddenSize, narrow, c.AttentionBias)
	v := b.matrix(h, prefix+"self_attn.v_proj", c.HiddenSize, narrow, c.AttentionBias)
	if g.Err() != nil {
		return g.Failf("")
	}
	attrs := []graph.Attr{{Name: "num_heads", Value: int64(c.NumAttentionHeads)}, {Name: "kv_num_heads", Value: int64(c.NumKeyValueHeads)}}
	inputs := []*graph.Value{q, k, v, in.Keys[i], in.Values[i], in.LastKey, in.Total}
	if c.RotaryInGraph() {
		inputs[0], inputs[1] = rot.turn(g, q, c.NumAttentionHeads, c), rot.turn(g, k, c.NumKeyValueHeads, c)
	} else {
		inputs = append(inputs, rot.cos, rot.sin)
		attrs = append(attrs, graph.Attr{Name: "do_rotary", Value: int64(1)}, graph.Attr{Name: "rotary_interleaved", Value: int64(0)})
	}
	if g.Err() != nil {
		return g.Failf("")
	}
	outs := g.Op("GroupQueryAttention", graph.Microsoft, inputs, attrs,
		graph.Out{DType: b.DType, Shape: q.Shape}, graph.Out{DType: b.DType, Shape: in.Keys[i].Shape}, graph.Out{DType: b.DType, Shape: in.Values[i].Shape})
	g.OutputAs(fmt.Sprintf("present_key.%d", i), outs[1])
	g.OutputAs(fmt.Sprintf("present_value.%d", i), outs[2])
	x = g.Add(x, b.matrix(outs[0], prefix+"self_attn.o_proj", wide, c.HiddenSize, false))
	h = g.RMSNorm(x, b.Weight(prefix+"post_attention_layernorm.weight", c.HiddenSize), c.RMSNormEps)
	gate := g.Activation(c.HiddenAct, b.matrix(h, prefix+"mlp.gate_proj", c.HiddenSize, c.IntermediateSize, false))
	up := b.matrix(h, prefix+"mlp.up_proj", c.HiddenSize, c.IntermediateSize, false)
	return g.Add(x, b.matrix(g.Mul(gate, up), prefix+"mlp.down_proj", c.IntermediateSize, c.HiddenSize, false))
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
