package network

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/points"
)

// Finder finds stored tensors: a [checkpoint.Folder], or [Tensors].
type Finder interface {
	Tensor(names ...string) (*checkpoint.Tensor, bool)
}

// Tensors is a list of tensors as a [Finder], such as the state dict of a .pth file.
type Tensors map[string]*checkpoint.Tensor

// TensorsOf makes a [Finder] of a list.
func TensorsOf(list []*checkpoint.Tensor) Tensors {
	m := make(Tensors, len(list))
	for _, t := range list {
		m[t.Name] = t
	}
	return m
}

// Tensor returns the first of the given names that is there.
func (t Tensors) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	for _, n := range names {
		if x, ok := t[n]; ok {
			return x, true
		}
	}
	return nil, false
}

// Stored gives the weights of a checkpoint. A name is looked for as it is and with each prefix before it: "pcd_encoder." in
// a folder of the published model, "module." in a file saved by a parallel trainer.
type Stored struct {
	From     Finder
	Prefixes []string
}

// Float32 implements [Weights].
func (s Stored) Float32(name string, shape ...int) ([]float32, error) {
	names := []string{name}
	for _, p := range s.Prefixes {
		names = append(names, p+name)
	}
	x, ok := s.From.Tensor(names...)
	if !ok {
		return nil, fmt.Errorf("tensor %s is missing (looked for %s)", name, strings.Join(names, ", "))
	}
	if !slices.EqualFunc(x.Shape, shape, func(a int64, b int) bool { return a == int64(b) }) {
		return nil, fmt.Errorf("tensor %s of %s has shape %v, expected %v", x.Name, x.File, x.Shape, shape)
	}
	return x.Float32()
}

// Specs lists the tensors of the network in the order in which they are used, with starting values for training:
// 289 for [MinkUNet18A].
func (m Mink) Specs() ([]checkpoint.TensorSpec, error) {
	r := &recorder{}
	in := MinkInputs[none]{K3: make([]none, len(m.Encoder)+1), Down: make([]none, len(m.Encoder)), Up: make([]none, len(m.Encoder))}
	if _, _, err := AddMink(nothing{}, m, r, in); err != nil {
		return nil, err
	}
	return r.specs, nil
}

// Specs lists the tensors of the network in the order in which they are used, with starting values for training.
func (t Transformer) Specs() ([]checkpoint.TensorSpec, error) {
	r := &recorder{}
	if _, _, err := AddTransformer(nothing{}, t, r, TransformerInputs[none]{Masks: make([]none, max(t.Layers, 0))}); err != nil {
		return nil, err
	}
	return r.specs, nil
}

// Sets are the sizes of the index work for this network, with the published radii.
func (t Transformer) Sets(tokens, kept int) points.SetConfig {
	c := points.PublishedSets()
	c.Tokens, c.Kept, c.Samples, c.Samples2 = tokens, kept, t.Samples, t.Samples2
	return c
}

// recorder is a [Weights] that writes down what is asked for.
type recorder struct{ specs []checkpoint.TensorSpec }

func (r *recorder) Float32(name string, shape ...int) ([]float32, error) {
	spec := checkpoint.TensorSpec{Name: name, DType: checkpoint.F32}
	size := 1
	for _, n := range shape {
		size *= n
		spec.Shape = append(spec.Shape, int64(n))
	}
	spec.Init = start(name, shape)
	r.specs = append(r.specs, spec)
	if norm, ok := strings.CutSuffix(name, ".running_var"); ok {
		r.specs = append(r.specs, checkpoint.TensorSpec{Name: norm + ".num_batches_tracked", DType: checkpoint.I64})
	}
	return make([]float32, size), nil
}

// start is how an untrained tensor begins: norms as the identity, matrices uniform with the variance 1/fan-in.
func start(name string, shape []int) checkpoint.Init {
	uniform := func(fanIn float64) checkpoint.Init {
		return checkpoint.Init{Kind: checkpoint.Uniform, Value: math.Sqrt(3 / fanIn)}
	}
	switch {
	case strings.HasSuffix(name, ".running_var"), len(shape) == 1 && strings.HasSuffix(name, ".weight"):
		return checkpoint.Init{Kind: checkpoint.Constant, Value: 1}
	case len(shape) == 1:
		return checkpoint.Init{}
	case strings.HasSuffix(name, ".kernel"): // offsets × in × out; on a surface about a third of the neighbours are there
		fanIn := float64(shape[len(shape)-2])
		if len(shape) == 3 && !strings.Contains(name, "convtr") {
			fanIn *= math.Ceil(float64(shape[0]) / 3)
		}
		return uniform(fanIn)
	}
	fanIn := 1
	for _, n := range shape[1:] {
		fanIn *= n
	}
	return uniform(float64(fanIn))
}

// none and nothing are a graph that is thrown away.
type none struct{}

type nothing struct{}

func (nothing) Weight(string, []float32, ...int) (v none)    { return v }
func (nothing) Gather(none, none) (v none)                   { return v }
func (nothing) Reshape(none, ...int) (v none)                { return v }
func (nothing) Transpose(none, ...int) (v none)              { return v }
func (nothing) Concat(int, ...none) (v none)                 { return v }
func (nothing) Gemm(none, none, none) (v none)               { return v }
func (nothing) MatMul(none, none) (v none)                   { return v }
func (nothing) Add(none, none) (v none)                      { return v }
func (nothing) Scale(none, float32) (v none)                 { return v }
func (nothing) Relu(none) (v none)                           { return v }
func (nothing) ReduceMax(none, int) (v none)                 { return v }
func (nothing) LayerNorm(none, none, none, float32) (v none) { return v }
func (nothing) Softmax(none) (v none)                        { return v }
func (nothing) Hide(none, none) (v none)                     { return v }
