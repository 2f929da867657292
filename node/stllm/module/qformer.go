package module

import (
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
)

// Aligner is the Q-Former with its projections (aligner.py): one sequence of latent queries, image tokens with their ray
// encodings and the text of the user turn attends to itself, and every token of it to all voxels with theirs; the first
// outputs become the spatial tokens.
type Aligner struct {
	Config *config.Config
}

// AlignerInputs are the inputs of the aligner's graph.
type AlignerInputs struct {
	Images    *graph.Value // pooled features of all frames [T·P, LLM]
	ImageRays *graph.Value // ray encodings [T·P, columns]
	Text      *graph.Value // embeddings of the user turn [L, LLM]
	Points    *graph.Value // voxel features [N, D]
	PointRays *graph.Value // ray encodings [N, columns]
	// Patches and PatchRays go beside the voxels where the config has a patch memory; nil otherwise.
	Patches   *graph.Value // unpooled features of all frames [M, D]
	PatchRays *graph.Value // encodings of their places [M, columns]
}

// Inputs declares the inputs in the builder's graph: float32, whatever the network computes in (ray encodings are bfloat16
// numbers in the published profile).
func (a Aligner) Inputs(b *Builder) AlignerInputs {
	c, g := a.Config, b.G
	in := AlignerInputs{
		Images:    g.Input("images", graph.Float32, graph.N("patches"), graph.D(c.ImgEncoderFeatureDim)),
		ImageRays: g.Input("image_rays", graph.Float32, graph.N("patches"), graph.D(c.ImageColumns())),
		Text:      g.Input("text", graph.Float32, graph.N("text"), graph.D(c.HiddenSize)),
		Points:    g.Input("points", graph.Float32, graph.N("voxels"), graph.D(c.PcdFeatureDim)),
		PointRays: g.Input("point_rays", graph.Float32, graph.N("voxels"), graph.D(c.PointColumns())),
	}
	if c.RobotConfig != nil && c.RobotConfig.PatchMemory {
		in.Patches = g.Input("patches", graph.Float32, graph.N("memory"), graph.D(c.HiddenSize))
		in.PatchRays = g.Input("patch_rays", graph.Float32, graph.N("memory"), graph.D(c.PointColumns()))
	}
	return in
}

// Memory is what the sequence cross-attends to: voxels, then patches, then the empty token, as far as the config has them
// [N + M + 1, D].
func (a Aligner) Memory(b *Builder, in AlignerInputs) *graph.Value {
	c, g := a.Config, b.G
	const layer = "pcd_ray_encoder.pcd_ray_projection_to_qformer"
	pos := b.Linear(g.Cast(in.PointRays, b.DType), layer, c.PointColumns(), c.PcdFeatureDim, true)
	b.probe("point_pos", pos)
	parts := []*graph.Value{g.Add(g.Cast(in.Points, b.DType), pos)}
	if in.Patches != nil {
		// A patch's place is encoded by the voxels' own layer: both lie in one space.
		pos := b.Linear(g.Cast(in.PatchRays, b.DType), layer, c.PointColumns(), c.PcdFeatureDim, true)
		parts = append(parts, g.Add(g.Cast(in.Patches, b.DType), pos))
	}
	if c.RobotConfig != nil && c.RobotConfig.EmptyMemory {
		parts = append(parts, b.Weight("memory_empty.weight", 1, c.PcdFeatureDim))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return g.Concat(0, parts...)
}

// text brings embeddings [B, L, LLM] into the Q-Former [B, L, D]: each token's own, and with text_context those of its
// neighbours, each offset through a matrix of its own.
func (a Aligner) text(b *Builder, text *graph.Value) *graph.Value {
	c, q, g := a.Config, a.Config.QFormerConfig, b.G
	own := b.Linear(text, "text_embed_to_qformer_projection", c.HiddenSize, q.HiddenSize, true)
	if c.RobotConfig == nil || c.RobotConfig.TextContext == 0 || g.Err() != nil {
		return own
	}
	around := c.RobotConfig.TextContext
	none := g.Scale(g.Slice(text, 1, 0, 1), 0) // [B, 1, LLM]
	parts := make([]*graph.Value, 0, 2*around+1)
	for range around {
		parts = append(parts, none)
	}
	parts = append(append(parts, text), parts[:around]...)
	wide := g.Concat(1, parts...) // text with around empty tokens at either end
	var near []*graph.Value
	for offset := -around; offset <= around; offset++ {
		if offset == 0 {
			continue
		}
		to := int64(offset - around) // from the end
		if to == 0 {
			to = graph.End
		}
		near = append(near, g.ReshapeLike(g.Slice(wide, 1, int64(around+offset), to), text))
	}
	w := b.Weight("text_context_projection.weight", q.HiddenSize, 2*around*c.HiddenSize)
	return g.Add(own, g.Linear(g.Concat(2, near...), w, nil))
}

// Evidence is where the latent queries looked: weights summed over cross-attention layers and heads, and over self-attention
// layers and heads for the image tokens.
type Evidence struct {
	Points *graph.Value // [N]
	Images *graph.Value // [T·P]
	// Last is where every token of the sequence looked in the last cross-attention layer, summed over heads [S, N]; nil unless
	// the whole sequence becomes spatial tokens.
	Last *graph.Value
}

// Build adds the aligner and returns the spatial tokens [queries, LLM]. Evidence is nil unless the builder decomposes.
func (a Aligner) Build(b *Builder, in AlignerInputs) (prefix *graph.Value, evidence *Evidence) {
	q, g := a.Config.QFormerConfig, b.G
	g.Scope("aligner", func() {
		if g.Err() != nil {
			return
		}
		x := a.Sequence(b, in)
		points := a.Memory(b, in)
		b.probe("qformer.points", points)
		x, evidence = b.QFormer(x, points, q)
		prefix = a.Spatial(b, x)
		if evidence != nil {
			n := int64(q.NumQueryTokens)
			evidence.Images = g.Sum(g.Slice(g.Slice(evidence.Images, 0, 0, n), 1, n, graph.End), 0, false)
			evidence.Points = g.Sum(g.Slice(evidence.Points, 0, 0, n), 0, false)
			if !a.whole() {
				evidence.Last = nil
			}
		}
	})
	return prefix, evidence
}

// Sequence is what the Q-Former takes, before its first norm [S, D]: the latent queries, the image tokens with their rays, and
// the text.
func (a Aligner) Sequence(b *Builder, in AlignerInputs) *graph.Value {
	c, q, g := a.Config, a.Config.QFormerConfig, b.G
	imagePos := b.Linear(g.Cast(in.ImageRays, b.DType), "img_ray_encoder.img_ray_projection_to_qformer", c.ImageColumns(), q.HiddenSize, true)
	b.probe("image_pos", imagePos)
	images := b.Linear(g.Cast(in.Images, b.DType), "img_encoder_to_qformer_projection", c.ImgEncoderFeatureDim, q.HiddenSize, true)
	b.probe("image_features", images)
	text := g.Squeeze(a.text(b, g.Unsqueeze(g.Cast(in.Text, b.DType), 0)), 0)
	latent := b.Weight("latent_query.weight", q.NumQueryTokens, q.HiddenSize)
	return b.probe("qformer.input", g.Concat(0, latent, g.Add(images, imagePos), text))
}

// Spatial brings what the Q-Former makes of its sequence [S, D] to the language model [queries, LLM].
func (a Aligner) Spatial(b *Builder, x *graph.Value) *graph.Value {
	q := a.Config.QFormerConfig
	if !a.whole() {
		x = b.G.Slice(x, 0, 0, int64(q.NumQueryTokens))
	}
	b.probe("qformer.latents", x)
	return b.probe("prefix", b.Linear(x, "qformer_to_language_projection", q.HiddenSize, a.Config.HiddenSize, true))
}

// whole tells whether all of the Q-Former's sequence becomes spatial tokens.
func (a Aligner) whole() bool {
	return a.Config.RobotConfig != nil && a.Config.RobotConfig.SequenceTokens
}

// Questions builds the aligner for several questions about one window at a time, text [B, L, LLM], up to the latents
// [B, queries, D], or the whole sequence where it becomes spatial tokens, before they are projected to the language model. mask makes the additive mask [B,1,1,S] for the sequence's
// dimension; see QFormers.
func (a Aligner) Questions(b *Builder, in AlignerInputs, mask func(sequence graph.Dim) *graph.Value) *graph.Value {
	c, q, g := a.Config, a.Config.QFormerConfig, b.G
	images := b.Linear(g.Cast(in.Images, b.DType), "img_encoder_to_qformer_projection", c.ImgEncoderFeatureDim, q.HiddenSize, true)
	images = g.Add(images, b.Linear(in.ImageRays, "img_ray_encoder.img_ray_projection_to_qformer", c.ImageColumns(), q.HiddenSize, true))
	text := a.text(b, g.Cast(in.Text, b.DType))
	latent := b.Weight("latent_query.weight", q.NumQueryTokens, q.HiddenSize)
	if g.Err() != nil {
		return g.Failf("")
	}
	// Repeated for every question by adding rows of zeros.
	zero := g.Scale(g.Slice(text, 1, 0, 1), 0)
	x := g.Concat(1, g.Add(g.Unsqueeze(latent, 0), zero), g.Add(g.Unsqueeze(images, 0), zero), text)
	if g.Err() != nil {
		return g.Failf("")
	}
	x, _ = b.QFormers(x, g.Unsqueeze(a.Memory(b, in), 0), mask(x.Shape[1]), q)
	if a.whole() {
		return x
	}
	return g.Slice(x, 1, 0, int64(q.NumQueryTokens))
}

// QFormerLayer is the name under which a builder's Probe is told what a layer of the Q-Former gives: [S, D], of several
// sequences [B, S, D].
func QFormerLayer(i int) string { return fmt.Sprintf("qformer.layer.%d", i) }

// QFormer runs InstructBLIP's Q-Former over a whole sequence x [S,D] with encoder states points [N,E]: LayerNorm over the
// sequence, then post-norm layers in which every token takes the query path (transformers' modeling_instructblip.py with the
// query length set to the sequence's). With Decompose the summed attention weights come back: Images over the sequence
// [S,S], Points [S,N].
func (b *Builder) QFormer(x, points *graph.Value, q config.QFormer) (*graph.Value, *Evidence) {
	g := b.G
	if g.Err() != nil {
		return g.Failf(""), nil
	}
	x, evidence := b.QFormers(g.Unsqueeze(x, 0), g.Unsqueeze(points, 0), nil, q)
	return g.Squeeze(x, 0), evidence
}

// QFormers is [Builder.QFormer] for several sequences x [B,S,D] that look at one memory [1,N,E]. mask, which may be nil, is
// added to the self-attention's scores [B,1,1,S]: 0 for a token, a large negative number for what only fills up a row.
func (b *Builder) QFormers(x, points, mask *graph.Value, q config.QFormer) (*graph.Value, *Evidence) {
	g := b.G
	x = b.QFormerNorm(x, q)
	if g.Err() != nil {
		return g.Failf(""), nil
	}
	single := x.Shape[0] == graph.D(1)
	see := func(name string, x *graph.Value) {
		if single && b.Probe != nil {
			x = g.Squeeze(x, 0)
		}
		b.probe(name, x)
	}
	see("qformer.normed_input", x)
	var ev Evidence
	overHeads := func(w *graph.Value) *graph.Value {
		if w == nil || !single {
			return nil
		}
		return g.Sum(g.Squeeze(w, 0), 0, false)
	}
	sum := func(total, w *graph.Value) *graph.Value {
		if total == nil || w == nil {
			return w
		}
		return g.Add(total, w)
	}
	for i := range q.NumHiddenLayers {
		prefix := QFormerWeights(i)
		var w *graph.Value
		g.Scope(fmt.Sprintf("layer%d", i), func() {
			x, w = b.attend(x, x, mask, prefix+"attention.", q, q.HiddenSize)
			ev.Images = sum(ev.Images, overHeads(w))
			if CrossAttends(q, i) {
				x, w = b.attend(x, points, nil, prefix+"crossattention.", q, q.EncoderHiddenSize)
				ev.Last = overHeads(w)
				ev.Points = sum(ev.Points, ev.Last)
			}
			x = b.QFormerFeed(x, prefix, q)
		})
		if g.Err() != nil {
			return g.Failf(""), nil
		}
		see(QFormerLayer(i), x)
	}
	if !b.Decompose || !single {
		return x, nil
	}
	return x, &ev
}

// QFormerNorm is the norm before the first layer.
func (b *Builder) QFormerNorm(x *graph.Value, q config.QFormer) *graph.Value {
	return b.Norm(x, "qformer.embeddings.layernorm", q.HiddenSize, q.LayerNormEps)
}

// QFormerWeights begins the names of the weights of layer i; behind it stands "attention." or "crossattention.", where
// [CrossAttends], for those of an attention.
func QFormerWeights(i int) string { return fmt.Sprintf("qformer.encoder.layer.%d.", i) }

// CrossAttends tells whether layer i looks at the memory.
func CrossAttends(q config.QFormer, i int) bool { return i%q.CrossAttentionFrequency == 0 }

// QFormerQueries are queries of x and keys and values of source, of the width sourceSize, in an attention. The queries stand last
// in the graph: of what an attention needs ONNX Runtime first makes what stands last, and all that this needs in turn. Were that the
// keys or the values, those of every layer would be made before the first layer runs, and lie in memory at a time.
func (b *Builder) QFormerQueries(x, source *graph.Value, prefix string, q config.QFormer, sourceSize int) (query, key, value *graph.Value) {
	d := q.HiddenSize
	key = b.Linear(source, prefix+"attention.key", sourceSize, d, true)
	value = b.Linear(source, prefix+"attention.value", sourceSize, d, true)
	return b.Linear(x, prefix+"attention.query", d, d, true), key, value
}

// QFormerAttended adds what x has attended to: output projection, residual, post-norm.
func (b *Builder) QFormerAttended(a, x *graph.Value, prefix string, q config.QFormer) *graph.Value {
	a = b.Linear(a, prefix+"output.dense", q.HiddenSize, q.HiddenSize, true)
	return b.Norm(b.G.Add(a, x), prefix+"output.LayerNorm", q.HiddenSize, q.LayerNormEps)
}

// QFormerFeed is the feed-forward network of a layer, with residual and post-norm.
func (b *Builder) QFormerFeed(x *graph.Value, prefix string, q config.QFormer) *graph.Value {
	h := b.G.Activation(q.HiddenAct, b.Linear(x, prefix+"intermediate_query.dense", q.HiddenSize, q.IntermediateSize, true))
	h = b.Linear(h, prefix+"output_query.dense", q.IntermediateSize, q.HiddenSize, true)
	return b.Norm(b.G.Add(h, x), prefix+"output_query.LayerNorm", q.HiddenSize, q.LayerNormEps)
}

// attend is one BERT attention block. Several sequences that look at one source are one long sequence to it.
func (b *Builder) attend(x, source, mask *graph.Value, prefix string, q config.QFormer, sourceSize int) (y, weights *graph.Value) {
	query, key, value := b.QFormerQueries(x, source, prefix, q, sourceSize)
	if b.G.Err() != nil {
		return b.G.Failf(""), nil
	}
	whole := query
	if source.Shape[0] == graph.D(1) && query.Shape[0] != graph.D(1) {
		query = b.G.Reshape(query, graph.D(1), graph.N("all of "+query.Shape[:2].String()), graph.D(q.HiddenSize))
	}
	a, weights := b.Attention(query, key, value, mask, q.NumAttentionHeads)
	if query != whole {
		a = b.G.ReshapeLike(a, whole)
	}
	return b.QFormerAttended(a, x, prefix, q), weights
}
