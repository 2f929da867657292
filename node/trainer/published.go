package trainer

import (
	"fmt"
	"strings"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/stllm/module"
)

// The published profile is trained in pieces, so that of the language model only one layer is there as float32 and only one
// layer's inner values are kept: the front (projector, pool, aligner and the splice), every layer by itself, and the tail (last
// norm, head and loss). See chain.

// unseen is what a score of the future gets.
const unseen = -1e9

// pieces builds the graphs of one model. Weights that trains names are parameters; the others are inputs as they are stored.
type pieces struct {
	cfg    *config.Config
	find   module.Finder
	trains func(name string) bool
}

func (p pieces) builder(name string) *module.Builder {
	return &module.Builder{G: graph.New(name), Find: p.find, DType: graph.Float32, Decompose: true, Apart: true, Train: p.trains,
		Given: func(name string) bool { return !p.trains(name) }}
}

// sequence is the input of a language model's sequence [1, S, D].
func (p pieces) sequence(g *graph.Graph, name string) *graph.Value {
	return g.Input(name, graph.Float32, graph.D(1), graph.N("sequence"), graph.D(p.cfg.HiddenSize))
}

// product is Σ x·dy: its gradient for what x comes from is what dy gives back through it.
func product(g *graph.Graph, x *graph.Value) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	z := g.Mul(x, g.Input("dy", graph.Float32, x.Shape...))
	for range z.Shape {
		z = g.Sum(z, -1, false)
	}
	return z
}

// front goes from what the frozen encoders see of an item to the spliced sequence [1, S, LLM] (llava_arch.py and aligner.py;
// proven by golden/core):
//
//	features    [T, g², D]      the vision tower's
//	image_rays  [T·P, columns]  encoded rays of the pooled patches
//	text        [L, LLM]        embeddings of the user's turn
//	points      [N, D], point_rays [N, columns]
//	head, middle, tail [·, LLM] embeddings of the text before, between and after the placeholders
func (p pieces) front(b *module.Builder) *graph.Value {
	c, g := p.cfg, b.G
	v, grid := c.VisionConfig, c.PooledGrid()
	input := func(name, rows string, width int) *graph.Value {
		return g.Input(name, graph.Float32, graph.N(rows), graph.D(width))
	}
	d := graph.D(c.HiddenSize)
	features := g.Input("features", graph.Float32, graph.N("frames"), graph.D(v.Grid()*v.Grid()), graph.D(c.MMHiddenSize))
	pooled := b.Pool(b.Projector(features, c.MMHiddenSize, c.HiddenSize, "model.mm_projector."), v.Grid(), grid, c.MMSpatialPoolMode, c.MMSpatialPoolStride)
	spatial, _ := module.Aligner{Config: c}.Build(b, module.AlignerInputs{
		Images:    g.Reshape(pooled, graph.N("patches"), d),
		ImageRays: input("image_rays", "patches", c.ImageColumns()),
		Text:      input("text", "text", c.HiddenSize),
		Points:    input("points", "voxels", c.PcdFeatureDim),
		PointRays: input("point_rays", "voxels", c.PointColumns()),
	})
	rows := g.Reshape(pooled, graph.N("rows"), graph.D(grid), d)
	newline := g.Reshape(b.Weight("model.image_newline", c.HiddenSize), graph.D(1), graph.D(1), d)
	// Zeros of a column's shape spread the newline over all rows.
	line := g.Add(g.Scale(g.Slice(rows, 1, 0, 1), 0), newline)
	video := g.Reshape(g.Concat(1, rows, line), graph.N("video"), d)
	return g.Unsqueeze(g.Concat(0, input("head", "head", c.HiddenSize), spatial, input("middle", "middle", c.HiddenSize), video,
		input("tail", "tail", c.HiddenSize)), 0)
}

// layerPrefix begins the names of a layer's weights.
func layerPrefix(i int) string { return fmt.Sprintf("model.layers.%d.", i) }

// layer is layer i of the language model with a causal mask: x [1, S, D] and the rows cos and sin [S, d/2].
func (p pieces) layer(b *module.Builder, i int) (x, y *graph.Value) {
	g, dec := b.G, module.DecoderOf(p.cfg)
	dec.Apart = true // 6,900 tokens and 28 heads are 5 GB of scores
	x = p.sequence(g, "x")
	s := graph.N("sequence")
	place := g.Input("place", graph.Int64, s)
	future := g.Less(g.Unsqueeze(place, 1), g.Unsqueeze(place, 0))
	mask := g.Where(future, g.Scalar(graph.Float32, unseen), g.Scalar(graph.Float32, 0))
	for range 3 {
		mask = g.Unsqueeze(mask, 0)
	}
	turn := module.Turn{Cos: g.Input("cos", graph.Float32, s, graph.D(dec.HeadDim/2)), Sin: g.Input("sin", graph.Float32, s, graph.D(dec.HeadDim/2))}
	return x, dec.Layer(b, x, mask, i, turn)
}

// tail is the last norm, the head on the labelled rows alone, and the mean cross-entropy; right is the share of labels that are
// the likeliest token [1].
func (p pieces) tail(b *module.Builder) (x, loss, right *graph.Value) {
	c, g := p.cfg, b.G
	x = p.sequence(g, "x")
	answers := graph.N("answers")
	rows := g.Gather(g.Squeeze(x, 0), g.Input("at", graph.Int64, answers), 0)
	label := g.Input("label", graph.Int64, answers)
	rows = g.RMSNorm(rows, b.Weight("model.norm.weight", c.HiddenSize), c.RMSNormEps)
	logits := g.Linear(rows, b.Weight(headName(c), c.VocabSize, c.HiddenSize), nil)
	loss = crossEntropy(g, logits, label, c.VocabSize)
	if g.Err() != nil {
		return x, loss, loss
	}
	top := g.Op("ArgMax", "", []*graph.Value{logits}, []graph.Attr{{Name: "axis", Value: int64(-1)}, {Name: "keepdims", Value: int64(0)}},
		graph.Out{DType: graph.Int64, Shape: graph.Shape{answers}})[0]
	return x, loss, g.Mean(g.Cast(g.Same(top, label), graph.Float32), 0, true)
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

// kind tells layers apart whose graphs differ: by the types of their frozen weights and by which weights are trained.
func (p pieces) kind(i int, names []string) (string, error) {
	var k strings.Builder
	for _, name := range names {
		full := layerPrefix(i) + name
		t, ok := p.find.Tensor(full)
		switch {
		case !ok:
			return "", fmt.Errorf("weight %s is missing from the checkpoint", full)
		case p.trains(full):
			k.WriteString("trained ")
		default:
			fmt.Fprintf(&k, "%s ", t.DType)
		}
	}
	return k.String(), nil
}
