package trainer

import (
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/module"
)

// The regression head, which is trained with the aligner and not part of the model.
const (
	headPlaces = "train.head.places.weight" // [targets, latents·D]
	headClass  = "train.head.class.weight"  // [classes, D]
	headUnseen = "train.head.unseen.weight" // [1, D]
	headFrames = "train.head.frames.weight" // [frameTargets, D]
)

// The columns of the head on frame tokens: where the first thing is as seen from the frame (x, y), and how likely the frame
// shows the moment asked about.
const frameTargets = 3

// headLatents is the number of latent queries that the places are read from.
const headLatents = 4

// alignerPrefixes and decoderPrefixes are the parts that the last two stages train.
func alignerPrefixes() []string {
	return []string{"train.head.", "qformer.", "latent_query.", "memory_empty.", "pcd_ray_encoder.", "img_ray_encoder.",
		"img_encoder_to_qformer_projection.", "text_embed_to_qformer_projection.", "text_context_projection."}
}

func decoderPrefixes() []string {
	return []string{"qformer_to_language_projection.", "model.layers.", "model.norm.", "lm_head."}
}

// Weights of the losses beside that of the answer.
const (
	placesWeight = 1.0
	classWeight  = 0.15
	unseenWeight = 0.4
	framesWeight = 0.5
	momentWeight = 0.2
)

// answerProgram is the aligner over several questions about one window, and with decoder the language model behind it. A
// program without losses only shows what is said.
func (t *Trainer) answerProgram(env *ort.Environment, decoder, train bool, freeze []string) (*program, error) {
	var prefixes []string
	if train {
		prefixes = append(prefixes, alignerPrefixes()...)
		if decoder {
			prefixes = append(prefixes, decoderPrefixes()...)
		}
	}
	b := builder("train answers", t.w, prefixes...)
	if len(freeze) > 0 {
		trains := b.Train
		b.Train = func(name string) bool { return trains(name) && !hasPrefix(name, freeze) }
	}
	g := b.G
	a := t.align(b)
	show := map[string]*graph.Value{"places": a.places, "steps": a.steps}
	total := a.loss
	if decoder {
		logits, loss := t.say(b, a.latents)
		show["logits"] = logits
		total = g.Add(total, loss)
		show["answer_loss"] = g.Unsqueeze(loss, 0)
	}
	show["align_loss"] = g.Unsqueeze(a.loss, 0)
	if !train {
		total = nil
	} else {
		delete(show, "logits")
		delete(show, "places")
		delete(show, "steps")
	}
	return newProgram(env, g, t.w, total, show, t.runs())
}

// aligned is what the aligner gives and what its heads say.
type aligned struct {
	latents *graph.Value // [B, queries, D], with robot_config.sequence_tokens [B, S, D]
	places  *graph.Value // [B, targets]
	steps   *graph.Value // [B, S]: above 0 at words of a step that was done
	loss    *graph.Value // sum of the heads'
}

// align builds the aligner with its heads.
func (t *Trainer) align(b *module.Builder) aligned {
	c, q, g := t.cfg, t.cfg.QFormerConfig, b.G
	a := module.Aligner{Config: c}
	columns := c.PointColumns()
	in := module.AlignerInputs{
		Images:    g.Input("images", graph.Float32, graph.N("frames"), graph.D(c.HiddenSize)),
		ImageRays: g.Input("image_rays", graph.Float32, graph.N("frames"), graph.D(c.ImageColumns())),
		Text:      g.Input("text", graph.Float32, graph.N("questions"), graph.N("text"), graph.D(c.HiddenSize)),
		Points:    g.Input("points", graph.Float32, graph.N("voxels"), graph.D(c.PcdFeatureDim)),
		PointRays: g.Input("point_rays", graph.Float32, graph.N("voxels"), graph.D(columns)),
	}
	if c.RobotConfig.PatchMemory {
		in.Patches = g.Input("patches", graph.Float32, graph.N("memory"), graph.D(c.HiddenSize))
		in.PatchRays = g.Input("patch_rays", graph.Float32, graph.N("memory"), graph.D(columns))
	}
	questions := graph.N("questions")
	var sequence graph.Dim
	var middle, early, last *graph.Value // the middle layer, what the last one reads, and what it gives
	b.Probe = func(name string, x *graph.Value) {
		if name == module.QFormerLayer(q.NumHiddenLayers/2) {
			middle = x
		}
		switch name {
		case module.QFormerLayer(q.NumHiddenLayers - 2):
			early = x
		case module.QFormerLayer(q.NumHiddenLayers - 1):
			last = x
		}
	}
	latents := a.Questions(b, in, func(d graph.Dim) *graph.Value {
		sequence = d
		return g.Input("text_mask", graph.Float32, questions, graph.D(1), graph.D(1), d)
	})
	if g.Err() != nil {
		return aligned{latents, latents, latents, latents}
	}
	joined := g.Reshape(g.Slice(latents, 1, 0, headLatents), questions, graph.D(headLatents*q.HiddenSize))
	places := g.Gemm(joined, b.Weight(headPlaces, targets, headLatents*q.HiddenSize), nil)
	one := func(i int) *graph.Value {
		return g.Reshape(g.Slice(latents, 1, int64(i), int64(i+1)), questions, graph.D(q.HiddenSize))
	}
	target := g.Input("target", graph.Float32, questions, graph.D(targets))
	weight := g.Input("target_weight", graph.Float32, questions, graph.D(targets))
	loss := g.Scale(smoothL1(g, g.Sub(places, target), weight), placesWeight)

	n := len(t.space.Direction)
	class := g.Input("class", graph.Float32, questions, graph.D(n))
	said := g.LogSoftmax(g.Gemm(one(headLatents), b.Weight(headClass, n, q.HiddenSize), nil))
	loss = g.Add(loss, g.Scale(g.Neg(mean(g, g.Sum(g.Mul(said, class), 1, false))), classWeight))
	unseen := g.Input("unseen", graph.Float32, questions, graph.D(1))
	there := g.Gemm(one(headLatents+1), b.Weight(headUnseen, 1, q.HiddenSize), nil)
	loss = g.Add(loss, g.Scale(g.Neg(mean(g, g.Sum(g.Log(g.Shift(g.Sigmoid(g.Mul(there, unseen)), 1e-9)), 1, false))), unseenWeight))
	steps, wrong := t.stepFacts(b, middle, last, sequence)
	return aligned{latents, places, steps, g.Add(g.Add(loss, wrong), t.frames(b, early, sequence))}
}

// frames is the loss on what the frame tokens of x [B, S, D] know before the last layer gathers it: where the thing asked for
// is from each frame, and which frame shows the moment. Inputs cover the whole sequence and weigh its frames alone.
func (t *Trainer) frames(b *module.Builder, x *graph.Value, sequence graph.Dim) *graph.Value {
	g, questions := b.G, graph.N("questions")
	if x == nil || g.Err() != nil {
		return g.Failf("the Q-Former has fewer than two layers")
	}
	said := g.Linear(x, b.Weight(headFrames, frameTargets, t.cfg.QFormerConfig.HiddenSize), nil)
	flat := func(v *graph.Value) *graph.Value { return g.Reshape(v, graph.N("tokens"), graph.D(2)) }
	target := g.Input("frame_target", graph.Float32, questions, sequence, graph.D(2))
	weight := g.Input("frame_weight", graph.Float32, questions, sequence, graph.D(2))
	loss := g.Scale(smoothL1(g, g.Sub(flat(g.Slice(said, 2, 0, 2)), flat(target)), flat(weight)), framesWeight)
	mask := g.Input("moment_mask", graph.Float32, graph.D(1), sequence)
	share := g.Input("moment", graph.Float32, questions, sequence)
	likely := g.LogSoftmax(g.Add(g.Squeeze(g.Slice(said, 2, 2, 3), 2), mask))
	return g.Add(loss, g.Scale(g.Neg(mean(g, g.Sum(g.Mul(likely, share), 1, false))), momentWeight))
}

func mean(g *graph.Graph, x *graph.Value) *graph.Value { return g.Mean(x, 0, false) }

// smoothL1 is the mean over weighted entries of Huber's loss with a corner at 0.2.
func smoothL1(g *graph.Graph, d, weight *graph.Value) *graph.Value {
	const corner = 0.2
	size := g.Abs(d)
	bowl := g.Scale(g.Mul(d, d), 0.5/corner)
	loss := g.Mul(g.Where(g.Less(size, g.Scalar(graph.Float32, corner)), bowl, g.Shift(size, -corner/2)), weight)
	sum := func(x *graph.Value) *graph.Value { return g.Sum(g.Sum(x, 1, false), 0, false) }
	return g.Div(sum(loss), g.Shift(sum(weight), 1e-3))
}

// say builds the decoder behind the aligner: logits at the answers' tokens [A, V] and their mean cross-entropy.
func (t *Trainer) say(b *module.Builder, latents *graph.Value) (logits, loss *graph.Value) {
	c, q, g := t.cfg, t.cfg.QFormerConfig, b.G
	if g.Err() != nil {
		return latents, latents
	}
	d, questions := graph.D(c.HiddenSize), graph.N("questions")
	spatial := b.Linear(latents, "qformer_to_language_projection", q.HiddenSize, c.HiddenSize, true)
	tail := g.Input("tail", graph.Float32, questions, graph.N("tail"), d)
	// What all questions share is repeated for each: zeros of the right shape plus one row of it.
	zero := g.Scale(g.Slice(tail, 1, 0, 1), 0) // [questions, 1, D]
	shared := func(x *graph.Value) *graph.Value { return g.Add(g.Unsqueeze(x, 0), zero) }
	head := shared(g.Input("head", graph.Float32, graph.N("head"), d))
	middle := shared(g.Input("middle", graph.Float32, graph.N("middle"), d))
	images, _ := g.Value("images")
	newline := g.Reshape(b.Weight("model.image_newline", c.HiddenSize), graph.D(1), graph.D(1), d)
	// A frame's one token and its newline.
	frame := g.Unsqueeze(images, 1)
	line := g.Add(g.Scale(frame, 0), newline)
	video := shared(g.Reshape(g.Concat(1, frame, line), graph.N("video"), d))
	x := g.Concat(1, head, spatial, middle, video, tail)
	if g.Err() != nil {
		return latents, latents
	}
	s := x.Shape[1]
	// The words of short questions leave gaps: what is there moves together, so that it stands where the node has it.
	all := g.Gather(g.Reshape(x, graph.N("all"), d), g.Input("order", graph.Int64, graph.N("all")), 0)
	x = g.ReshapeLike(all, x)
	place := g.Input("place", graph.Int64, s)
	causal := g.Input("causal", graph.Float32, graph.D(1), graph.D(1), graph.D(1), s, s)
	x = t.decoder.Sequence(b, x, place, causal, c.MaxPositionEmbeddings)
	at := g.Input("at", graph.Int64, graph.N("answers"))
	rows := g.Gather(g.Reshape(x, graph.N("all"), d), at, 0)
	logits = g.Linear(rows, b.Weight("lm_head.weight", c.VocabSize, c.HiddenSize), nil)
	label := g.Input("label", graph.Int64, graph.N("answers"))
	return logits, crossEntropy(g, logits, label, c.VocabSize)
}
