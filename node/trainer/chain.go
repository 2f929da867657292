package trainer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/weights"
)

// chain is one training step of the published model, piece by piece: forwards through front, layers and tail, of which only
// the sequences between the pieces are kept, then backwards, each piece computing its inner values again (Chen et al.,
// Training Deep Nets with Sublinear Memory Cost). A frozen weight is read from its file, in its stored type, each time that its
// piece runs.
type chain struct {
	pieces
	trained  *weights.Set
	cos, sin []float32 // of the rotary embedding [positions, half]

	front, frontBack *program // frontBack is nil where nothing of the front is trained
	layers           []layerLink
	tail             *program
	all              *program // of every piece, for the optimizer: names, parameters and sums
	open             []*program
}

// layerLink is one layer of the language model; layers of one kind share sessions.
type layerLink struct {
	forth, back *program
	frozen      Batch
}

// newChain builds the pieces. find finds all weights of the model; those in trained are trained.
func newChain(env *ort.Environment, p pieces, trained *weights.Set, o ort.Options) (*chain, error) {
	p.trains = func(name string) bool {
		_, err := trained.Get(name)
		return err == nil
	}
	c := &chain{pieces: p, trained: trained, all: &program{}}
	dec := module.DecoderOf(p.cfg)
	if err := dec.Validate(); err != nil {
		return nil, err
	}
	c.cos, c.sin = dec.Rotary(p.cfg.MaxPositionEmbeddings)
	if err := c.build(env, o); err != nil {
		return nil, errors.Join(err, c.close())
	}
	for _, name := range trained.Names() {
		if !slices.Contains(c.all.names, name) {
			return nil, errors.Join(fmt.Errorf("weight %s is to be trained and no part of the graph", name), c.close())
		}
	}
	return c, nil
}

// keep takes a program over, and its sums when it trains.
func (c *chain) keep(p *program, err error) (*program, error) {
	if err != nil {
		return nil, err
	}
	c.open = append(c.open, p)
	c.adopt(p)
	return p, nil
}

func (c *chain) adopt(p *program) {
	if p.grads != nil {
		c.all.names, c.all.params, c.all.grads = append(c.all.names, p.names...), append(c.all.params, p.params...), append(c.all.grads, p.grads...)
	}
}

func (c *chain) build(env *ort.Environment, o ort.Options) (err error) {
	b := c.builder("front")
	if c.front, err = c.keep(newProgram(env, b.G, c.trained, nil, map[string]*graph.Value{"y": c.pieces.front(b)}, o)); err != nil {
		return err
	}
	if len(c.front.names) > 0 {
		b = c.builder("front back")
		if c.frontBack, err = c.keep(newProgram(env, b.G, c.trained, product(b.G, c.pieces.front(b)), nil, o)); err != nil {
			return err
		}
	}
	if err := c.buildLayers(env, o); err != nil {
		return err
	}
	b = c.builder("tail")
	x, loss, right := c.pieces.tail(b)
	if err := b.G.Err(); err != nil {
		return err
	}
	show := map[string]*graph.Value{"answer_loss": b.G.Unsqueeze(loss, 0), "right": right}
	c.tail, err = c.keep(newLink(env, b.G, c.trained, loss, x, show, o))
	return err
}

func (c *chain) buildLayers(env *ort.Environment, o ort.Options) error {
	type pair struct {
		forth, back *program
		of          int
	}
	kinds := map[string]pair{}
	for i := range c.cfg.NumHiddenLayers {
		names := c.layerWeights()
		kind, err := c.kind(i, names)
		if err != nil {
			return err
		}
		k, ok := kinds[kind]
		if !ok {
			k.of = i
			b := c.builder("layer")
			_, y := c.layer(b, i)
			if k.forth, err = c.keep(newProgram(env, b.G, c.trained, nil, map[string]*graph.Value{"y": y}, o)); err != nil {
				return err
			}
			b = c.builder("layer back")
			x, y := c.layer(b, i)
			if k.back, err = c.keep(newLink(env, b.G, c.trained, product(b.G, y), x, nil, o)); err != nil {
				return err
			}
			kinds[kind] = k
		}
		link := layerLink{forth: k.forth, back: k.back, frozen: Batch{}}
		if ok {
			if link.forth, err = k.forth.other(c.trained, k.of, i); err == nil {
				link.back, err = k.back.other(c.trained, k.of, i)
			}
			if err != nil {
				return err
			}
			c.adopt(link.back)
		}
		for _, name := range names {
			if full := layerPrefix(i) + name; !c.trains(full) {
				t, _ := c.find.Tensor(full) // kind has found all of them
				link.frozen[layerPrefix(k.of)+name] = Feed{Stored: t}
			}
		}
		c.layers = append(c.layers, link)
	}
	return nil
}

// layerWeights are the names of a layer's weights without its prefix.
func (c *chain) layerWeights() []string {
	out := []string{"input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
		"self_attn.o_proj.weight"}
	for _, name := range []string{"q", "k", "v"} {
		out = append(out, "self_attn."+name+"_proj.weight")
		if module.DecoderOf(c.cfg).AttentionBias {
			out = append(out, "self_attn."+name+"_proj.bias")
		}
	}
	return out
}

// other is a layer's program for the weights of another layer.
func (p *program) other(w *weights.Set, from, to int) (*program, error) {
	q := &program{session: p.session, show: p.show, inputs: p.inputs}
	for _, name := range p.as {
		full := layerPrefix(to) + strings.TrimPrefix(name, layerPrefix(from))
		t, err := w.Get(full)
		if err != nil {
			return nil, err
		}
		q.names, q.as, q.params = append(q.names, full), append(q.as, name), append(q.params, t)
		if p.grads != nil {
			q.grads = append(q.grads, make([]float32, len(t.Data)))
		}
	}
	return q, nil
}

// frozenFor are the stored weights that a program takes.
func (c *chain) frozenFor(p *program) Batch {
	b := Batch{}
	for name := range p.inputs {
		if _, err := c.trained.Get(name); err == nil {
			continue
		}
		if t, ok := c.find.Tensor(name); ok {
			b[name] = Feed{Stored: t}
		}
	}
	return b
}

// run takes the front's inputs, and of the tail "at" and "label". It shows the share of right tokens.
func (c *chain) run(ctx context.Context, b Batch) (loss float64, shown map[string][]float32, err error) {
	return c.step(ctx, b, true)
}

// step runs forwards, and backwards where it is to train.
func (c *chain) step(ctx context.Context, b Batch, train bool) (loss float64, shown map[string][]float32, err error) {
	at, label := b["at"], b["label"]
	in := maps.Clone(b)
	delete(in, "at")
	delete(in, "label")
	maps.Copy(in, c.frozenFor(c.front))
	_, out, err := c.front.run(ctx, in)
	if err != nil {
		return 0, nil, fmt.Errorf("front: %w", err)
	}
	x := out["y"]
	n := len(x) / c.cfg.HiddenSize
	if n > c.cfg.MaxPositionEmbeddings {
		return 0, nil, fmt.Errorf("the sequence has %d tokens, config field max_position_embeddings is %d", n, c.cfg.MaxPositionEmbeddings)
	}
	place := make([]int64, n)
	for i := range place {
		place[i] = int64(i)
	}
	half := c.cfg.HeadDim() / 2
	feed := func(x []float32) Batch {
		return Batch{"x": c.rows(x), "place": {Shape: []int{n}, Int64s: place},
			"cos": {Shape: []int{n, half}, Float32s: c.cos[:n*half]}, "sin": {Shape: []int{n, half}, Float32s: c.sin[:n*half]}}
	}
	between := [][]float32{x}
	for i, l := range c.layers {
		f := feed(between[i])
		maps.Copy(f, l.frozen)
		if _, out, err = l.forth.run(ctx, f); err != nil {
			return 0, nil, fmt.Errorf("layer %d: %w", i, err)
		}
		between = append(between, out["y"])
	}
	f := Batch{"x": c.rows(between[len(c.layers)]), "at": at, "label": label}
	maps.Copy(f, c.frozenFor(c.tail))
	if !train {
		defer c.tail.forget()
	}
	_, out, err = c.tail.run(ctx, f)
	if err == nil {
		loss = float64(out["answer_loss"][0])
		err = finite("loss", loss)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("tail: %w", err)
	}
	shown = map[string][]float32{"right": out["right"]}
	if !train {
		return loss, shown, nil
	}
	dy := out[slope]
	for i := len(c.layers) - 1; i >= 0; i-- {
		l := c.layers[i]
		f := feed(between[i])
		between[i+1] = nil // not needed any more
		f["dy"] = c.rows(dy)
		maps.Copy(f, l.frozen)
		if _, out, err = l.back.run(ctx, f); err != nil {
			return 0, nil, fmt.Errorf("layer %d, backwards: %w", i, err)
		}
		dy = out[slope]
	}
	if c.frontBack != nil {
		in["dy"] = c.rows(dy)
		if _, _, err = c.frontBack.run(ctx, in); err != nil {
			return 0, nil, fmt.Errorf("front, backwards: %w", err)
		}
	}
	return loss, shown, nil
}

// rows is a sequence [1, S, D].
func (c *chain) rows(x []float32) Feed {
	return Feed{Shape: []int{1, len(x) / c.cfg.HiddenSize, c.cfg.HiddenSize}, Float32s: x}
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
