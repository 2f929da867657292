// Package trainer trains ST-LLM: the graph of the node, with the gradients of [backward] behind it, run by ONNX Runtime. See
// Run for the stages.
package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/backward"
	"github.com/stllm/stllm/node/trainer/weights"
)

// Feed is the data of one input; exactly one of the slices, or Stored, is set.
type Feed struct {
	Shape    []int
	Float32s []float32
	Int32s   []int32
	Int64s   []int64
	Stored   *checkpoint.Tensor // a weight in the type that it has in its file, by its own shape
}

func (f Feed) tensor() (*ort.Tensor, error) {
	switch {
	case f.Stored != nil:
		return storedTensor(f.Stored)
	case f.Int32s != nil:
		return ort.New(f.Int32s, f.Shape...)
	case f.Int64s != nil:
		return ort.New(f.Int64s, f.Shape...)
	}
	return ort.New(f.Float32s, f.Shape...)
}

// storedTensor views a float tensor of a file.
func storedTensor(t *checkpoint.Tensor) (*ort.Tensor, error) {
	kind, ok := module.StoredAs(t.DType)
	if !ok {
		return nil, fmt.Errorf("%s is stored as %s, expected F32, F16 or BF16", t.Name, t.DType)
	}
	shape := make([]int, len(t.Shape))
	for i, d := range t.Shape {
		shape[i] = int(d)
	}
	return ort.View(kind, t.Data, shape...)
}

// Batch is what one run of a program is fed with.
type Batch map[string]Feed

// program is a graph with a loss: its inputs are data and parameters, its outputs the loss, figures to look at, and, when it
// trains, the gradients.
type program struct {
	session *ort.Session
	names   []string // of the parameters
	as      []string // their names in the graph
	params  []*weights.Tensor
	trains  bool        // gives gradients of the parameters
	weighs  bool        // gives the loss
	grads   [][]float32 // sums since the last step; nil for a program that does not train
	show    []string
	inputs  map[string]bool
}

// parameters finds what is trained by its name in a graph, which may be another than the tensor's own.
type parameters interface {
	Get(name string) (*weights.Tensor, error)
}

// takes tells whether the program has an input of a name.
func (p *program) takes(name string) bool { return p.inputs[name] }

// newProgram finishes a graph. Inputs that the weights know by name are parameters; show are values to be returned.
func newProgram(env *ort.Environment, g *graph.Graph, w parameters, loss *graph.Value, show map[string]*graph.Value, o ort.Options) (*program, error) {
	return newLink(env, g, w, loss, nil, show, o)
}

// newLink is newProgram that also returns the gradients of values, each under [slope] and its name, where there are any in place of
// the loss: what only the loss needs is not computed then.
func newLink(env *ort.Environment, g *graph.Graph, w parameters, loss *graph.Value, back []*graph.Value, show map[string]*graph.Value, o ort.Options) (*program, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	p := &program{inputs: map[string]bool{}}
	var values []*graph.Value
	for _, in := range g.Inputs() {
		p.inputs[in.Name] = true
		if _, err := w.Get(in.Name); err != nil {
			continue // data
		}
		p.as, values = append(p.as, in.Name), append(values, in)
	}
	for name, v := range show {
		p.show = append(p.show, name)
		g.Output(name, v)
	}
	if loss != nil {
		grads, err := backward.Of(g, loss, append(values, back...))
		if err != nil {
			return nil, err
		}
		for i, v := range back {
			p.show = append(p.show, slope+v.Name)
			g.Output(slope+v.Name, grads[len(p.as)+i])
		}
		if p.weighs = len(back) == 0; p.weighs {
			g.Output("loss", g.Unsqueeze(loss, 0)) // the Go binding knows no scalars
		}
		for i, name := range p.as {
			g.Output("grad "+name, grads[i])
		}
		p.trains = len(p.as) > 0
	}
	slices.Sort(p.show)
	m, err := g.Model()
	if err != nil {
		return nil, err
	}
	if err := p.bind(w); err != nil {
		return nil, err
	}
	if p.session, err = ort.NewSession(env, m, o); err != nil {
		return nil, err
	}
	return p, nil
}

// bind gives the program its parameters.
func (p *program) bind(w parameters) error {
	for _, name := range p.as {
		t, err := w.Get(name)
		if err != nil {
			return err
		}
		p.names, p.params = append(p.names, t.Name), append(p.params, t)
		if p.trains {
			p.grads = append(p.grads, make([]float32, len(t.Data)))
		}
	}
	return nil
}

// with is the same program for other parameters of the same shapes. Sessions are shared.
func (p *program) with(w parameters) (*program, error) {
	q := &program{session: p.session, as: p.as, trains: p.trains, weighs: p.weighs, show: p.show, inputs: p.inputs}
	return q, q.bind(w)
}

// slope begins the names under which a program shows the gradients of the values that newLink was asked for.
const slope = "slope of "

func (p *program) close() error {
	if p == nil {
		return nil
	}
	return p.session.Close()
}

// sums is what the optimizer looks at.
func (p *program) sums() *program { return p }

// runner is what a stage runs: one program, or several that make one step together.
type runner interface {
	run(ctx context.Context, b Batch) (loss float64, shown map[string][]float32, err error)
	sums() *program
	close() error
}

// run returns the loss and the shown values, and adds the gradients to those since the last step.
func (p *program) run(ctx context.Context, b Batch) (loss float64, shown map[string][]float32, err error) {
	out, loss, err := p.eval(ctx, b)
	shown = map[string][]float32{}
	for name, f := range out {
		shown[name] = f.Float32s
	}
	return loss, shown, err
}

// eval is run with the shapes of what is shown.
func (p *program) eval(ctx context.Context, b Batch) (shown Batch, loss float64, err error) {
	in := ort.Values{}
	defer in.Close()
	for name, f := range b {
		if in[name], err = f.tensor(); err != nil {
			return nil, 0, fmt.Errorf("training input %s: %w", name, err)
		}
	}
	for i, t := range p.params {
		if in[p.as[i]], err = ort.New(t.Data, t.Shape...); err != nil {
			return nil, 0, fmt.Errorf("parameter %s: %w", t.Name, err)
		}
	}
	out, err := p.session.Run(ctx, in, nil)
	if err != nil {
		return nil, 0, err
	}
	defer out.Close()
	shown = Batch{}
	for _, name := range p.show {
		v, err := out[name].Floats()
		if err != nil {
			return nil, 0, fmt.Errorf("training output %s: %w", name, err)
		}
		shown[name] = Feed{Shape: slices.Clone(out[name].Shape()), Float32s: slices.Clone(v)}
	}
	if p.weighs {
		l, err := out["loss"].Floats()
		if err != nil {
			return nil, 0, err
		}
		loss = float64(l[0])
		if err := finite("loss", loss); err != nil {
			return shown, loss, err
		}
	}
	for i := range p.grads {
		name := p.as[i]
		d, err := out["grad "+name].Floats()
		if err != nil {
			return nil, 0, err
		}
		add(p.grads[i], d)
	}
	return shown, loss, nil
}

// add adds b to a.
func add(a, b []float32) {
	for i, v := range b {
		a[i] += v
	}
}

func finite(what string, v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return &NotFiniteError{Tensor: what}
	}
	return nil
}

// NotFiniteError says where training went out of bounds.
type NotFiniteError struct {
	Step   int
	Tensor string
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("step %d: %s is not finite; lower the learning rate, the last checkpoint is kept", e.Step, e.Tensor)
}
