package trainer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/weights"
)

// chain is one training step of the published model, link by link: forwards, of which only what goes from link to link is kept,
// then backwards, each link computing its inner values again (Chen et al., Training Deep Nets with Sublinear Memory Cost). A frozen
// weight is read from its file, in its stored type, each time that its link runs. See graphs for the values that go along.
type chain struct {
	cfg      *config.Config
	find     module.Finder
	trained  *weights.Set
	bounds   bounds
	cos, sin []float32 // of the rotary embedding [positions, half]

	links sequence
	loss  piece
	all   *program // of every piece, for the optimizer: names, parameters and sums

	env     *ort.Environment
	options ort.Options
	kinds   map[string]*program // by what tells their graphs apart
	open    []*program
	needed  map[string]bool // values that depend on something trained, while the links are put together
	err     error           // the first of putting together
}

// bounds are how much of a link runs at once.
type bounds struct {
	scores int // numbers in an attention's table of scores
	rows   int // of the language model's feed-forward network, whose inner rows are wide
	frames int // in the projector
}

// boundsOf suits a device: a processor gains nothing by larger parts, a GPU loses by many small ones.
func boundsOf(device string) bounds {
	if ort.OnCUDA(device) {
		return bounds{scores: 1 << 28, rows: 8192, frames: 32}
	}
	return bounds{scores: 1 << 23, rows: 2048, frames: 4}
}

// newChain builds the links. find finds all weights of the model; those in trained are trained.
func newChain(env *ort.Environment, cfg *config.Config, find module.Finder, trained *weights.Set, b bounds, o ort.Options) (*chain, error) {
	c := &chain{cfg: cfg, find: find, trained: trained, bounds: b, all: &program{}, env: env, options: o, kinds: map[string]*program{}, needed: map[string]bool{}}
	dec := module.DecoderOf(cfg)
	if err := dec.Validate(); err != nil {
		return nil, err
	}
	c.cos, c.sin = dec.Rotary(cfg.MaxPositionEmbeddings)
	c.assemble(graphs{cfg})
	for _, name := range trained.Names() {
		if c.err == nil && !slices.Contains(c.all.names, name) {
			c.err = fmt.Errorf("weight %s is to be trained and no part of the graph", name)
		}
	}
	if c.err != nil {
		return nil, errors.Join(c.err, c.close())
	}
	return c, nil
}

// assemble makes the links in their order.
func (c *chain) assemble(p graphs) {
	whole := layer{chain: c}
	then := func(l link) { c.links = append(c.links, l) }
	then(rows{c.piece("projector", whole, p.pooled), c.bounds.frames})
	then(c.piece("memory", whole, p.memory))
	then(c.piece("Q-Former input", whole, p.qformerInput))
	q := c.cfg.QFormerConfig
	for i := range q.NumHiddenLayers {
		at, first := layer{c, module.QFormerWeights(0), module.QFormerWeights(i)}, module.QFormerWeights(0)
		attention := func(prefix string, overMemory bool) {
			queries := c.piece(prefix+"queries", at, func(b *module.Builder) map[string]*graph.Value { return p.qformerQueries(b, prefix, overMemory) })
			heads := c.heads(1, q.HiddenSize/q.NumAttentionHeads, false)
			then(newBlock(queries, heads, c.piece(prefix+"output", at, func(b *module.Builder) map[string]*graph.Value { return p.qformerAttended(b, prefix) })))
		}
		attention(first+"attention.", false)
		if module.CrossAttends(q, i) {
			attention(first+"crossattention.", true)
		}
		then(c.piece(first+"feed", at, func(b *module.Builder) map[string]*graph.Value { return p.qformerFeed(b, first) }))
	}
	then(c.piece("splice", whole, p.splice))
	dec := module.DecoderOf(c.cfg)
	for i := range dec.NumHiddenLayers {
		at, first := layer{c, module.DecoderWeights(0), module.DecoderWeights(i)}, module.DecoderWeights(0)
		queries := c.piece(first+"queries", at, p.queries)
		heads := c.heads(dec.NumAttentionHeads/dec.NumKeyValueHeads, dec.HeadDim, true)
		then(newBlock(queries, heads, c.piece(first+"output", at, p.attended)))
		then(rows{c.piece(first+"feed", at, p.feed), c.bounds.rows})
	}
	c.loss = c.last(p)
}

// run takes an item's values. It shows the share of right tokens.
func (c *chain) run(ctx context.Context, b Batch) (loss float64, shown map[string][]float32, err error) {
	return c.step(ctx, b, true)
}

// step runs forwards, and backwards where it is to train.
func (c *chain) step(ctx context.Context, b Batch, train bool) (loss float64, shown map[string][]float32, err error) {
	values := maps.Clone(b)
	if err := c.turn(values); err != nil {
		return 0, nil, err
	}
	took, err := c.links.forth(ctx, values)
	if err != nil {
		return 0, nil, err
	}
	if !train {
		took = nil
		defer c.loss.run.forget()
	}
	f := pick(values, c.loss.in)
	maps.Copy(f, c.loss.frozen)
	out, _, err := c.loss.run.eval(ctx, f)
	if err != nil {
		return 0, nil, fmt.Errorf("loss: %w", err)
	}
	loss, shown = float64(out["answer_loss"].Float32s[0]), map[string][]float32{"right": out["right"].Float32s}
	if err := finite("loss", loss); err != nil || !train {
		return loss, shown, err
	}
	clear(values) // what is needed of them the links have
	return loss, shown, c.links.back(ctx, took, renamed(out, slope, c.loss.along))
}

// turn adds the rotary embedding of the sequence that an item makes.
func (c *chain) turn(values Batch) error {
	grid := c.cfg.PooledGrid()
	n := c.cfg.QFormerConfig.NumQueryTokens + values["features"].Shape[0]*grid*(grid+1)
	for _, text := range []string{"head", "middle", "tail"} {
		n += values[text].Shape[0]
	}
	if n > c.cfg.MaxPositionEmbeddings {
		return fmt.Errorf("the sequence has %d tokens, config field max_position_embeddings is %d", n, c.cfg.MaxPositionEmbeddings)
	}
	half := c.cfg.HeadDim() / 2
	values["cos"] = Feed{Shape: []int{n, half}, Float32s: c.cos[:n*half]}
	values["sin"] = Feed{Shape: []int{n, half}, Float32s: c.sin[:n*half]}
	return nil
}

// forget clears the sums of a run that was to train nothing.
func (p *program) forget() {
	for _, g := range p.grads {
		clear(g)
	}
}

func (c *chain) sums() *program { return c.all }

func (c *chain) close() error {
	var errs []error
	for _, p := range c.open {
		errs = append(errs, p.close())
	}
	c.open = nil
	return errors.Join(errs...)
}
