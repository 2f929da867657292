// Package trainer trains ST-LLM: the graph of the node, with the gradients of [backward] behind it, run by ONNX Runtime. See
// Run for the stages.
package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/trainer/backward"
	"github.com/stllm/stllm/node/trainer/weights"
)

// Feed is the data of one input; exactly one of the slices is set.
type Feed struct {
	Shape    []int
	Float32s []float32
	Int32s   []int32
	Int64s   []int64
}

func (f Feed) tensor() (*ort.Tensor, error) {
	switch {
	case f.Int32s != nil:
		return ort.New(f.Int32s, f.Shape...)
	case f.Int64s != nil:
		return ort.New(f.Int64s, f.Shape...)
	}
	return ort.New(f.Float32s, f.Shape...)
}

// Batch is what one run of a program is fed with.
type Batch map[string]Feed

// program is a graph with a loss: its inputs are data and parameters, its outputs the loss, figures to look at, and, when it
// trains, the gradients.
type program struct {
	session *ort.Session
	names   []string // of the parameters
	params  []*weights.Tensor
	grads   [][]float32 // sums since the last step; nil for a program that does not train
	show    []string
	inputs  map[string]bool
}

// takes tells whether the program has an input of a name.
func (p *program) takes(name string) bool { return p.inputs[name] }

// newProgram finishes a graph. Inputs that the weights know by name are parameters; show are values to be returned.
func newProgram(env *ort.Environment, g *graph.Graph, w *weights.Set, loss *graph.Value, show map[string]*graph.Value, o ort.Options) (*program, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	p := &program{inputs: map[string]bool{}}
	var values []*graph.Value
	for _, in := range g.Inputs() {
		p.inputs[in.Name] = true
		t, err := w.Get(in.Name)
		if err != nil {
			continue // data
		}
		p.names, p.params, values = append(p.names, in.Name), append(p.params, t), append(values, in)
	}
	for name, v := range show {
		p.show = append(p.show, name)
		g.Output(name, v)
	}
	slices.Sort(p.show)
	if loss != nil {
		grads, err := backward.Of(g, loss, values)
		if err != nil {
			return nil, err
		}
		g.Output("loss", g.Unsqueeze(loss, 0)) // the Go binding knows no scalars
		for i, d := range grads {
			g.Output("grad "+p.names[i], d)
			p.grads = append(p.grads, make([]float32, len(p.params[i].Data)))
		}
	}
	m, err := g.Model()
	if err != nil {
		return nil, err
	}
	if p.session, err = ort.NewSession(env, m, o); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *program) close() error { return p.session.Close() }

// run returns the loss and the shown values, and adds the gradients to those since the last step.
func (p *program) run(ctx context.Context, b Batch) (loss float64, shown map[string][]float32, err error) {
	in := ort.Values{}
	defer in.Close()
	for name, f := range b {
		if in[name], err = f.tensor(); err != nil {
			return 0, nil, fmt.Errorf("training input %s: %w", name, err)
		}
	}
	for i, t := range p.params {
		if in[p.names[i]], err = ort.New(t.Data, t.Shape...); err != nil {
			return 0, nil, fmt.Errorf("parameter %s: %w", t.Name, err)
		}
	}
	out, err := p.session.Run(ctx, in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer out.Close()
	shown = map[string][]float32{}
	for _, name := range p.show {
		v, err := out[name].Floats()
		if err != nil {
			return 0, nil, fmt.Errorf("training output %s: %w", name, err)
		}
		shown[name] = append([]float32(nil), v...)
	}
	if p.grads == nil {
		return 0, shown, nil
	}
	l, err := out["loss"].Floats()
	if err != nil {
		return 0, nil, err
	}
	if loss = float64(l[0]); math.IsNaN(loss) || math.IsInf(loss, 0) {
		return loss, shown, &NotFiniteError{Tensor: "loss"}
	}
	for i, name := range p.names {
		d, err := out["grad "+name].Floats()
		if err != nil {
			return 0, nil, err
		}
		sum := p.grads[i]
		for j, v := range d {
			sum[j] += v
		}
	}
	return loss, shown, nil
}

// NotFiniteError says where training went out of bounds.
type NotFiniteError struct {
	Step   int
	Tensor string
}

func (e *NotFiniteError) Error() string {
	return fmt.Sprintf("step %d: %s is not finite; lower the learning rate, the last checkpoint is kept", e.Step, e.Tensor)
}
