package trainer

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// link is a part of a training step that is run by itself: it takes named values and gives others, which take the place of those
// of the same name.
type link interface {
	takes() []string
	gives() []string
	// forth computes what the link gives.
	forth(ctx context.Context, in Batch) (Batch, error)
	// back computes the link once more, adds the gradients of its weights to their sums, and turns slopes of the loss along what
	// the link gives into those along what it takes, as far as that depends on something that is trained.
	back(ctx context.Context, in, slopes Batch) (Batch, error)
	// trains tells whether anything in the link or before it is trained; only then has it a way back.
	trains() bool
}

// sequence is links that run one after another.
type sequence []link

// forth works on values and returns what each link took.
func (s sequence) forth(ctx context.Context, values Batch) (took []Batch, err error) {
	for _, l := range s {
		in := pick(values, l.takes())
		out, err := l.forth(ctx, in)
		if err != nil {
			return nil, err
		}
		maps.Copy(values, out)
		took = append(took, in)
	}
	return took, nil
}

// back goes from slopes along what the sequence gives to those along what it takes, and lets go of what the links took.
func (s sequence) back(ctx context.Context, took []Batch, slopes Batch) error {
	for i, l := range slices.Backward(s) {
		in := took[i]
		took[i] = nil
		if !l.trains() {
			continue
		}
		along := pick(slopes, l.gives())
		maps.DeleteFunc(slopes, func(name string, _ Feed) bool { return slices.Contains(l.gives(), name) })
		more, err := l.back(ctx, in, along)
		if err != nil {
			return err
		}
		for name, d := range more {
			if sum, ok := slopes[name]; ok {
				add(sum.Float32s, d.Float32s)
			} else {
				slopes[name] = d
			}
		}
	}
	return nil
}

// pick is the part of b that names name.
func pick(b Batch, names []string) Batch {
	out := Batch{}
	for _, name := range names {
		if f, ok := b[name]; ok {
			out[name] = f
		}
	}
	return out
}

// block is a sequence of which nothing is kept between the way forth and the way back.
type block struct {
	links sequence
	in    []string
}

func newBlock(links ...link) block {
	b := block{links: links}
	var made []string
	for _, l := range links {
		for _, name := range l.takes() {
			if !slices.Contains(made, name) && !slices.Contains(b.in, name) {
				b.in = append(b.in, name)
			}
		}
		made = append(made, l.gives()...)
	}
	return b
}

func (b block) takes() []string { return b.in }
func (b block) gives() []string { return b.links[len(b.links)-1].gives() }
func (b block) trains() bool    { return slices.ContainsFunc(b.links, link.trains) }

func (b block) forth(ctx context.Context, in Batch) (Batch, error) {
	values := maps.Clone(in)
	if _, err := b.links.forth(ctx, values); err != nil {
		return nil, err
	}
	return pick(values, b.gives()), nil
}

func (b block) back(ctx context.Context, in, slopes Batch) (Batch, error) {
	values, last := maps.Clone(in), len(b.links)-1
	took, err := b.links[:last].forth(ctx, values)
	if err != nil {
		return nil, err
	}
	took = append(took, pick(values, b.links[last].takes()))
	return slopes, b.links.back(ctx, took, slopes)
}

// piece is a link of one graph.
type piece struct {
	name      string
	run       *program
	runBack   *program // nil where nothing is trained
	in, along []string // what it takes, and of that what has slopes
	out       []string
	frozen    Batch // weights as they are stored
}

func (p piece) takes() []string { return p.in }
func (p piece) gives() []string { return p.out }
func (p piece) trains() bool    { return p.runBack != nil }

func (p piece) forth(ctx context.Context, in Batch) (Batch, error) {
	f := pick(in, p.in)
	maps.Copy(f, p.frozen)
	shown, _, err := p.run.eval(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return renamed(shown, given, p.out), nil
}

func (p piece) back(ctx context.Context, in, slopes Batch) (Batch, error) {
	f := pick(in, p.in)
	maps.Copy(f, p.frozen)
	for _, name := range p.out {
		f[slope+given+name] = slopes[name]
	}
	shown, _, err := p.runBack.eval(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s, backwards: %w", p.name, err)
	}
	return renamed(shown, slope, p.along), nil
}

// given begins the names of what a piece's graph gives, since it may take what has the same name.
const given = "given "

// renamed is what stands under prefix and name, as name.
func renamed(b Batch, prefix string, names []string) Batch {
	out := Batch{}
	for _, name := range names {
		out[name] = b[prefix+name]
	}
	return out
}

// rows is a link whose rows know nothing of each other, run for a number of them at a time: a row of all that it takes gives as many
// rows of all that it gives.
type rows struct {
	link
	atOnce int
}

func (r rows) forth(ctx context.Context, in Batch) (Batch, error) {
	return r.each(in, func(in, _ Batch) (Batch, error) { return r.link.forth(ctx, in) }, nil)
}

func (r rows) back(ctx context.Context, in, slopes Batch) (Batch, error) {
	return r.each(in, func(in, slopes Batch) (Batch, error) { return r.link.back(ctx, in, slopes) }, slopes)
}

// each joins what f makes of some rows at a time.
func (r rows) each(in Batch, f func(in, slopes Batch) (Batch, error), slopes Batch) (Batch, error) {
	n := in[r.takes()[0]].Shape[0]
	all := Batch{}
	for from := 0; from < n; from += r.atOnce {
		to := min(from+r.atOnce, n)
		out, err := f(cut(in, from, to, n), cut(slopes, from, to, n))
		if err != nil {
			return nil, err
		}
		for name, part := range out {
			whole, ok := all[name]
			if !ok {
				whole.Shape = append([]int{0}, part.Shape[1:]...)
				whole.Float32s = make([]float32, 0, len(part.Float32s)/(to-from)*n)
			}
			whole.Shape[0] += part.Shape[0]
			whole.Float32s = append(whole.Float32s, part.Float32s...)
			all[name] = whole
		}
	}
	return all, nil
}

// cut takes rows [from, to) of n; where a tensor has a multiple of n rows, that many for each.
func cut(b Batch, from, to, n int) Batch {
	out := Batch{}
	for name, f := range b {
		row := len(f.Float32s) / n
		shape := slices.Clone(f.Shape)
		shape[0] = shape[0] / n * (to - from)
		out[name] = Feed{Shape: shape, Float32s: f.Float32s[from*row : to*row]}
	}
	return out
}
