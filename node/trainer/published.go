package trainer

import (
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/stllm/module"
)

// The graphs of the published profile, in the pieces that a [chain] runs. An item's values are what the frozen encoders see of it,
// and text:
//
//	features    [T, g², D]      the vision tower's
//	image_rays  [T·P, columns]  encoded rays of the pooled patches
//	text        [L, LLM]        embeddings of the user's turn
//	points      [N, D], point_rays [N, columns]
//	head, middle, tail [·, LLM] embeddings of the text before, between and after the placeholders
//	at, label   [A]             rows that say a token of the answer, and the token
//	cos, sin    [S, d/2]        of the rotary embedding
//
// The pieces make of them pooled [T·P, LLM], memory [N, D], and x, the sequence of the Q-Former [·, D] and behind it that of the
// language model [S, LLM].

// graphs builds the pieces of one model.
type graphs struct{ cfg *config.Config }

func (p graphs) input(b *module.Builder, name, rows string, width int) *graph.Value {
	return b.G.Input(name, graph.Float32, graph.N(rows), graph.D(width))
}

func (p graphs) pooled(b *module.Builder) map[string]*graph.Value {
	c, g := p.cfg, b.G
	grid := c.VisionConfig.Grid()
	features := g.Input("features", graph.Float32, graph.N("frames"), graph.D(grid*grid), graph.D(c.MMHiddenSize))
	y := b.Pool(b.Projector(features, c.MMHiddenSize, c.HiddenSize, "model.mm_projector."), grid, c.PooledGrid(), c.MMSpatialPoolMode, c.MMSpatialPoolStride)
	return map[string]*graph.Value{"pooled": g.Reshape(y, graph.N("patches"), graph.D(c.HiddenSize))}
}

func (p graphs) memory(b *module.Builder) map[string]*graph.Value {
	c := p.cfg
	return map[string]*graph.Value{"memory": module.Aligner{Config: c}.Memory(b, module.AlignerInputs{
		Points:    p.input(b, "points", "voxels", c.PcdFeatureDim),
		PointRays: p.input(b, "point_rays", "voxels", c.PointColumns()),
	})}
}

func (p graphs) qformerInput(b *module.Builder) map[string]*graph.Value {
	c := p.cfg
	x := module.Aligner{Config: c}.Sequence(b, module.AlignerInputs{
		Images:    p.input(b, "pooled", "patches", c.HiddenSize),
		ImageRays: p.input(b, "image_rays", "patches", c.ImageColumns()),
		Text:      p.input(b, "text", "text", c.HiddenSize),
	})
	return map[string]*graph.Value{"x": b.QFormerNorm(x, c.QFormerConfig)}
}

// grouped splits the columns of x [rows, groups·width] into [groups, rows, width]; ungrouped is an input of that shape, joined
// again.
func grouped(g *graph.Graph, x *graph.Value, groups int) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	return g.Transpose(g.Reshape(x, x.Shape[0], graph.D(groups), graph.D(int(x.Shape[1].Size)/groups)), 1, 0, 2)
}

func ungrouped(g *graph.Graph, name, rows string, groups, width int) *graph.Value {
	x := g.Input(name, graph.Float32, graph.D(groups), graph.N(rows), graph.D(width))
	return g.Reshape(g.Transpose(x, 1, 0, 2), graph.N(rows), graph.D(groups*width))
}

// An attention of the Q-Former, of the weights that prefix begins: over its own sequence, or over the memory.
func (p graphs) qformerQueries(b *module.Builder, prefix string, overMemory bool) map[string]*graph.Value {
	q := p.cfg.QFormerConfig
	x := p.input(b, "x", "sequence", q.HiddenSize)
	source, width := x, q.HiddenSize
	if overMemory {
		width = q.EncoderHiddenSize
		source = p.input(b, "memory", "voxels", width)
	}
	query, key, value := b.QFormerQueries(x, source, prefix, q, width)
	n := q.NumAttentionHeads
	return map[string]*graph.Value{"q": grouped(b.G, query, n), "k": grouped(b.G, key, n), "v": grouped(b.G, value, n)}
}

func (p graphs) qformerAttended(b *module.Builder, prefix string) map[string]*graph.Value {
	q := p.cfg.QFormerConfig
	a := ungrouped(b.G, "a", "sequence", q.NumAttentionHeads, q.HiddenSize/q.NumAttentionHeads)
	return map[string]*graph.Value{"x": b.QFormerAttended(a, p.input(b, "x", "sequence", q.HiddenSize), prefix, q)}
}

func (p graphs) qformerFeed(b *module.Builder, prefix string) map[string]*graph.Value {
	q := p.cfg.QFormerConfig
	return map[string]*graph.Value{"x": b.QFormerFeed(p.input(b, "x", "sequence", q.HiddenSize), prefix, q)}
}

// splice puts the sequence of the language model together (llava_arch.py; proven by golden/core).
func (p graphs) splice(b *module.Builder) map[string]*graph.Value {
	c, g := p.cfg, b.G
	grid, d := c.PooledGrid(), graph.D(c.HiddenSize)
	text := func(name string) *graph.Value { return p.input(b, name, name, c.HiddenSize) }
	spatial := module.Aligner{Config: c}.Spatial(b, p.input(b, "x", "sequence", c.QFormerConfig.HiddenSize))
	rows := g.Reshape(p.input(b, "pooled", "patches", c.HiddenSize), graph.N("rows"), graph.D(grid), d)
	newline := g.Reshape(b.Weight("model.image_newline", c.HiddenSize), graph.D(1), graph.D(1), d)
	// Zeros of a column's shape spread the newline over all rows.
	line := g.Add(g.Scale(g.Slice(rows, 1, 0, 1), 0), newline)
	video := g.Reshape(g.Concat(1, rows, line), graph.N("video"), d)
	return map[string]*graph.Value{"x": g.Concat(0, text("head"), spatial, text("middle"), video, text("tail"))}
}

// A layer of the language model: layer 0, which stands for all of them.
func (p graphs) queries(b *module.Builder) map[string]*graph.Value {
	g, dec := b.G, module.DecoderOf(p.cfg)
	turn := module.Turn{Cos: p.input(b, "cos", "sequence", dec.HeadDim/2), Sin: p.input(b, "sin", "sequence", dec.HeadDim/2)}
	q, k, v := dec.Queries(b, g.Unsqueeze(p.input(b, "x", "sequence", dec.HiddenSize), 0), 0, turn)
	out := func(x *graph.Value) *graph.Value { return grouped(g, g.Squeeze(x, 0), dec.NumKeyValueHeads) }
	return map[string]*graph.Value{"q": out(q), "k": out(k), "v": out(v)}
}

func (p graphs) attended(b *module.Builder) map[string]*graph.Value {
	dec := module.DecoderOf(p.cfg)
	a := ungrouped(b.G, "a", "sequence", dec.NumKeyValueHeads, dec.NumAttentionHeads/dec.NumKeyValueHeads*dec.HeadDim)
	return map[string]*graph.Value{"x": dec.Attended(b, a, p.input(b, "x", "sequence", dec.HiddenSize), 0)}
}

func (p graphs) feed(b *module.Builder) map[string]*graph.Value {
	return map[string]*graph.Value{"x": module.DecoderOf(p.cfg).Feed(b, p.input(b, "x", "sequence", p.cfg.HiddenSize), 0)}
}

// loss is the last norm, the head on the labelled rows alone, and the mean cross-entropy; right is the share of labels that are
// the likeliest token [1].
func (p graphs) loss(b *module.Builder) (loss, right *graph.Value) {
	c, g := p.cfg, b.G
	x := p.input(b, "x", "sequence", c.HiddenSize)
	answers := graph.N("answers")
	rows := g.Gather(x, g.Input("at", graph.Int64, answers), 0)
	label := g.Input("label", graph.Int64, answers)
	rows = g.RMSNorm(rows, b.Weight("model.norm.weight", c.HiddenSize), c.RMSNormEps)
	logits := g.Linear(rows, b.Weight(headName(c), c.VocabSize, c.HiddenSize), nil)
	loss = crossEntropy(g, logits, label, c.VocabSize)
	if g.Err() != nil {
		return loss, loss
	}
	top := g.Op("ArgMax", "", []*graph.Value{logits}, []graph.Attr{{Name: "axis", Value: int64(-1)}, {Name: "keepdims", Value: int64(0)}},
		graph.Out{DType: graph.Int64, Shape: graph.Shape{answers}})[0]
	return loss, g.Mean(g.Cast(g.Same(top, label), graph.Float32), 0, true)
}

// headName is the tensor that makes logits.
func headName(c *config.Config) string {
	if c.TieWordEmbeddings {
		return "model.embed_tokens.weight"
	}
	return "lm_head.weight"
}

// crossEntropy is the mean of −log p of labels [A] by logits [A, V].
func crossEntropy(g *graph.Graph, logits, label *graph.Value, vocabulary int) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	values := g.Floats(graph.Float32, []float32{0, 1}, 2)
	hot := g.Op("OneHot", "", []*graph.Value{label, g.Ints([]int64{int64(vocabulary)}), values}, []graph.Attr{{Name: "axis", Value: int64(-1)}},
		graph.Out{DType: graph.Float32, Shape: logits.Shape})[0]
	return g.Neg(mean(g, g.Sum(g.Mul(g.LogSoftmax(logits), hot), 1, false)))
}
