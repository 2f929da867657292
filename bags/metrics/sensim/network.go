package sensim

import (
	"math"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/stllm/module"
)

// config is what is read of a sentence-transformers folder's config.json, with Hugging Face names.
type config struct {
	ModelType    string  `json:"model_type"`
	Hidden       int     `json:"hidden_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	Intermediate int     `json:"intermediate_size"`
	Positions    int     `json:"max_position_embeddings"`
	Vocabulary   int     `json:"vocab_size"`
	Types        int     `json:"type_vocab_size"`
	Epsilon      float64 `json:"layer_norm_eps"`
	Activation   string  `json:"hidden_act"`
	PositionType string  `json:"position_embedding_type"`
}

// Names of the graph's inputs and output.
const (
	inIDs       = "ids"
	inPositions = "positions"
	outVectors  = "vectors"
)

// build makes BERT (Devlin et al. 2018; transformers' BertModel) with mean pooling over all tokens and L2 normalisation:
// ids [B,L] int64 and positions [L] int64 to vectors [B,hidden]. All sentences of a batch have the same length, so that no
// mask is needed.
func build(c config, find module.Finder) (*graph.Model, error) {
	g := graph.New("sentence-embedding")
	b := &module.Builder{G: g, Find: find, DType: graph.Float32}
	batch, length := graph.N("batch"), graph.N("length")
	ids := g.Input(inIDs, graph.Int64, batch, length)
	positions := g.Input(inPositions, graph.Int64, length)

	norm := func(name string, x *graph.Value) *graph.Value {
		return g.LayerNorm(x, b.Weight(name+".weight", c.Hidden), b.Weight(name+".bias", c.Hidden), c.Epsilon)
	}
	linear := func(name string, x *graph.Value, in, out int) *graph.Value {
		// Linear would join batch and length into rows, which cannot be parted again.
		return g.Add(g.MatMul(x, g.Transpose(b.Weight(name+".weight", out, in), 1, 0)), b.Weight(name+".bias", out))
	}
	x := g.Gather(b.Weight("embeddings.word_embeddings.weight", c.Vocabulary, c.Hidden), ids, 0)
	x = g.Add(x, g.Gather(b.Weight("embeddings.position_embeddings.weight", c.Positions, c.Hidden), positions, 0))
	// All tokens are of the first type: one sentence, not a pair.
	x = g.Add(x, g.Slice(b.Weight("embeddings.token_type_embeddings.weight", c.Types, c.Hidden), 0, 0, 1))
	x = norm("embeddings.LayerNorm", x)

	headSize := c.Hidden / c.Heads
	heads := func(v *graph.Value, perm ...int) *graph.Value {
		return g.Transpose(g.Reshape(v, batch, length, graph.D(c.Heads), graph.D(headSize)), perm...)
	}
	for i := range c.Layers {
		p := layerName(i)
		g.Scope(p, func() {
			query := heads(linear(p+".attention.self.query", x, c.Hidden, c.Hidden), 0, 2, 1, 3)
			key := heads(linear(p+".attention.self.key", x, c.Hidden, c.Hidden), 0, 2, 3, 1)
			value := heads(linear(p+".attention.self.value", x, c.Hidden, c.Hidden), 0, 2, 1, 3)
			weights := g.Softmax(g.Scale(g.MatMul(query, key), float32(1/math.Sqrt(float64(headSize)))))
			seen := g.Reshape(g.Transpose(g.MatMul(weights, value), 0, 2, 1, 3), batch, length, graph.D(c.Hidden))
			x = norm(p+".attention.output.LayerNorm", g.Add(linear(p+".attention.output.dense", seen, c.Hidden, c.Hidden), x))
			inner := g.Gelu(linear(p+".intermediate.dense", x, c.Hidden, c.Intermediate))
			x = norm(p+".output.LayerNorm", g.Add(linear(p+".output.dense", inner, c.Intermediate, c.Hidden), x))
		})
	}
	pooled := g.Mean(x, 1, false)
	size := g.Sqrt(g.Sum(g.Mul(pooled, pooled), -1, true))
	// torch's normalize never divides by less.
	g.Output(outVectors, g.Div(pooled, g.Max(size, g.Scalar(graph.Float32, 1e-12))))
	return g.Model()
}
