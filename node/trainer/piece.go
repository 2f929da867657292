package trainer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/weights"
)

// layer is the model in the names of one layer, so that layers of one kind have one graph: as begins the names of the weights of
// that layer, is those of the layer that is meant. The zero names are the model's own.
type layer struct {
	*chain
	as, is string
}

func (l layer) name(as string) string {
	if rest, ok := strings.CutPrefix(as, l.as); ok {
		return l.is + rest
	}
	return as
}

// Tensor finds a weight for a graph, Get one that is trained.
func (l layer) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	own := make([]string, len(names))
	for i, name := range names {
		own[i] = l.name(name)
	}
	return l.find.Tensor(own...)
}

func (l layer) Get(name string) (*weights.Tensor, error) { return l.trained.Get(l.name(name)) }

func (l layer) trains(name string) bool {
	_, err := l.Get(name)
	return err == nil
}

func (l layer) builder(name string) *module.Builder {
	return &module.Builder{G: graph.New(l.name(name)), Find: l, DType: graph.Float32, Decompose: true, Train: l.trains,
		Given: func(name string) bool { return !l.trains(name) }}
}

// piece makes a link of a graph's function. What is wrong is kept in c.err.
func (c *chain) piece(name string, of layer, build func(b *module.Builder) map[string]*graph.Value) piece {
	b := of.builder(name)
	out := build(b)
	p := c.outline(b.G, of)
	p.name, p.out = of.name(name), slices.Sorted(maps.Keys(out))
	train := len(p.along) > 0 || slices.ContainsFunc(b.G.Inputs(), func(v *graph.Value) bool { return of.trains(v.Name) })
	for _, name := range p.out {
		c.needed[name] = train
	}
	show := map[string]*graph.Value{}
	for name, v := range out {
		show[given+name] = v
	}
	p.run = c.program(name, of, p.along, b.G, nil, show)
	if !train {
		return p
	}
	b = of.builder(name + ", backwards")
	out = build(b)
	var sum *graph.Value
	for _, name := range p.out {
		if z := product(b.G, out[name], slope+given+name); sum == nil {
			sum = z
		} else {
			sum = b.G.Add(sum, z)
		}
	}
	p.runBack = c.program(name+", backwards", of, p.along, b.G, sum, nil)
	return p
}

// product is Σ x·(an input): its gradient for what x comes from is what that input, as a slope along x, gives back through it.
func product(g *graph.Graph, x *graph.Value, input string) *graph.Value {
	if g.Err() != nil {
		return g.Failf("")
	}
	z := g.Mul(x, g.Input(input, graph.Float32, x.Shape...))
	for range z.Shape {
		z = g.Sum(z, -1, false)
	}
	return z
}

// outline tells a graph's inputs apart: values, those of them that depend on something trained, and frozen weights.
func (c *chain) outline(g *graph.Graph, of layer) piece {
	p := piece{frozen: Batch{}}
	for _, in := range g.Inputs() {
		if of.trains(in.Name) {
			continue
		}
		if t, ok := of.Tensor(in.Name); ok {
			p.frozen[in.Name] = Feed{Stored: t}
			continue
		}
		p.in = append(p.in, in.Name)
		if c.needed[in.Name] {
			p.along = append(p.along, in.Name)
		}
	}
	return p
}

// heads makes the link of an attention. It keeps the memory of its runs, which are many and small.
func (c *chain) heads(sharing, size int, causal bool) heads {
	lean := c.options.Lean
	c.options.Lean = false
	defer func() { c.options.Lean = lean }()
	name := fmt.Sprintf("attention of %d columns, causal: %v", size, causal)
	p := c.piece(name, layer{chain: c}, func(b *module.Builder) map[string]*graph.Value { return attend(b, size, causal) })
	return heads{attend: p, sharing: sharing, causal: causal, scores: c.bounds.scores}
}

// last makes the piece that has the loss; its way forth gives the gradients.
func (c *chain) last(p graphs) piece {
	of := layer{chain: c}
	b := of.builder("loss")
	loss, right := p.loss(b)
	if err := b.G.Err(); err != nil {
		c.fail(err)
		return piece{}
	}
	l := c.outline(b.G, of)
	l.name = "loss"
	l.run = c.program(l.name, of, l.along, b.G, loss, map[string]*graph.Value{"answer_loss": b.G.Unsqueeze(loss, 0), "right": right})
	return l
}

// program makes a graph a program, which gives the gradients of loss, where there is one, for what is trained and for the inputs
// along. Graphs of one kind, the same types of frozen weights and the same parts that are trained share a session.
func (c *chain) program(kind string, of layer, along []string, g *graph.Graph, loss *graph.Value, show map[string]*graph.Value) *program {
	if err := g.Err(); err != nil {
		c.fail(err)
	}
	if c.err != nil {
		return nil
	}
	var back []*graph.Value
	for _, in := range g.Inputs() {
		kind += fmt.Sprintf(" %s %v", in, of.trains(in.Name))
		if loss != nil && slices.Contains(along, in.Name) {
			kind += " along"
			back = append(back, in)
		}
	}
	p, known := c.kinds[kind]
	var err error
	if known {
		p, err = p.with(of)
	} else if p, err = newLink(c.env, g, of, loss, back, show, c.options); err == nil {
		c.kinds[kind], c.open = p, append(c.open, p)
	}
	if err != nil {
		c.fail(err)
		return nil
	}
	if p.trains {
		c.all.names, c.all.params, c.all.grads = append(c.all.names, p.names...), append(c.all.params, p.params...), append(c.all.grads, p.grads...)
	}
	return p
}

func (c *chain) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
