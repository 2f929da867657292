// Package network adds the two point encoders to a graph: the sparse U-Net MinkUNet (encoder A of the released code) and the
// masked transformer with set abstraction (encoder B of the paper's text).
//
// Sparse convolutions are a Gather of neighbour rows and one matrix product, or both in one operator of our own; the tables are
// inputs of the graph, so that one session serves every map. BatchNorm is folded into the weights when they are read.
package network

import (
	"fmt"
	"math"
)

// Ops is what the encoders need of a graph. V is one tensor of it. Shapes are row-major; −1 is a dimension found at run time.
type Ops[V any] interface {
	// Weight is a constant of the graph.
	Weight(name string, data []float32, shape ...int) V
	// Gather picks rows of x [n, c] by rows, an integer tensor [a] or [a, b], giving [a, c] or [a, b, c]. Negative numbers
	// count from the end.
	Gather(x, rows V) V
	Reshape(x V, shape ...int) V
	Transpose(x V, permutation ...int) V
	Concat(axis int, x ...V) V
	// Gemm is x [n, k] times w [k, m] plus bias [m].
	Gemm(x, w, bias V) V
	// MatMul multiplies the last two dimensions, for each of those before.
	MatMul(a, b V) V
	Add(a, b V) V
	Scale(x V, by float32) V
	Relu(x V) V
	ReduceMax(x V, axis int) V
	LayerNorm(x, weight, bias V, epsilon float32) V // over the last dimension
	Softmax(x V) V                                  // over the last dimension
	// Hide sets x to minus infinity where mask (bytes, broadcast from the right) is 1.
	Hide(x, mask V) V
}

// Neighbours is what an Ops may offer besides: a sparse convolution in one, of rows of x that a table numbers or says to be missing
// (−1), times matrices that lie one below the other, plus a bias.
type Neighbours[V any] interface {
	// Neighbours says by ok whether it is offered.
	Neighbours(x, table, matrices, bias V) (y V, ok bool)
}

// Training is what an Ops offers besides when the encoder is trained: weights that change from run to run, and BatchNorm by
// the statistics of the batch instead of folded ones.
type Training[V any] interface {
	Parameter(name string, shape ...int) V
	// BatchNorm normalises the columns of x [n, channels] and scales them by name.weight and name.bias.
	BatchNorm(x V, name string, channels int) V
}

// Weights gives tensors of a checkpoint by their published name, as float32. An error names the tensor, and the shapes where
// they differ.
type Weights interface {
	Float32(name string, shape ...int) ([]float32, error)
}

// reader reads weights and keeps the first error, so that a network can be written down without an if per tensor. After an
// error it gives zeros of the right size, and the graph is thrown away.
type reader struct {
	from Weights
	err  error
}

func (r *reader) read(name string, shape ...int) []float32 {
	size := 1
	for _, n := range shape {
		size *= n
	}
	if r.err == nil {
		data, err := r.from.Float32(name, shape...)
		if err == nil && len(data) != size {
			err = fmt.Errorf("tensor %s: %d numbers, expected %d of shape %v", name, len(data), size, shape)
		}
		if err == nil {
			return data
		}
		r.err = err
	}
	return make([]float32, size)
}

// batchNormEpsilon is torch's and MinkowskiEngine's default.
const batchNormEpsilon = 1e-5

// folded is a BatchNorm in evaluation as y = x·scale + shift.
type folded struct{ scale, shift []float64 }

func (r *reader) batchNorm(name string, n int) folded {
	weight, bias := r.read(name+".weight", n), r.read(name+".bias", n)
	mean, variance := r.read(name+".running_mean", n), r.read(name+".running_var", n)
	f := folded{make([]float64, n), make([]float64, n)}
	for i := range n {
		if r.err == nil && !(variance[i] >= 0) {
			r.err = fmt.Errorf("tensor %s.running_var: element %d is %v, expected 0 or more", name, i, variance[i])
		}
		f.scale[i] = float64(weight[i]) / math.Sqrt(float64(variance[i])+batchNormEpsilon)
		f.shift[i] = float64(bias[i]) - float64(mean[i])*f.scale[i]
	}
	return f
}

// columns scales the columns of a matrix [k, n]. The product is rounded once.
func (f folded) columns(matrix []float32) []float32 {
	out, n := make([]float32, len(matrix)), len(f.scale)
	for i, v := range matrix {
		out[i] = float32(float64(v) * f.scale[i%n])
	}
	return out
}

func (f folded) bias() []float32 {
	out := make([]float32, len(f.shift))
	for i, v := range f.shift {
		out[i] = float32(v)
	}
	return out
}
