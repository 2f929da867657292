package network

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// value is a tensor of the evaluator: plain Go, so that the networks are tested apart from ONNX Runtime.
type value struct {
	shape []int
	f     []float32
	i     []int32
	b     []uint8
}

func floats(f []float32, shape ...int) *value { return &value{shape: shape, f: f} }
func ints(i []int32, shape ...int) *value     { return &value{shape: shape, i: i} }

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// evaluator runs each operation as it is added.
type evaluator struct{ weights map[string]bool }

func (e *evaluator) Weight(name string, data []float32, shape ...int) *value {
	if e.weights[name] {
		panic("weight " + name + " added twice")
	}
	e.weights[name] = true
	if len(data) != size(shape) {
		panic(fmt.Sprintf("weight %s: %d numbers of shape %v", name, len(data), shape))
	}
	return floats(data, shape...)
}

func (e *evaluator) Gather(x, rows *value) *value {
	c := size(x.shape[1:])
	out := floats(make([]float32, 0, len(rows.i)*c), append(slices.Clone(rows.shape), x.shape[1:]...)...)
	for _, r := range rows.i {
		if r < 0 {
			r += int32(x.shape[0])
		}
		out.f = append(out.f, x.f[int(r)*c:(int(r)+1)*c]...)
	}
	return out
}

func (e *evaluator) Reshape(x *value, shape ...int) *value {
	shape = slices.Clone(shape)
	for i, d := range shape {
		if d < 0 {
			shape[i] = 1
			shape[i] = len(x.f) / size(shape)
		}
	}
	if size(shape) != len(x.f) {
		panic(fmt.Sprintf("reshape %v to %v", x.shape, shape))
	}
	return floats(x.f, shape...)
}

func (e *evaluator) Transpose(x *value, permutation ...int) *value {
	stride := make([]int, len(x.shape))
	for i, n := len(stride)-1, 1; i >= 0; i-- {
		stride[i] = n
		n *= x.shape[i]
	}
	out := floats(make([]float32, 0, len(x.f)))
	for _, p := range permutation {
		out.shape = append(out.shape, x.shape[p])
	}
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(permutation) {
			out.f = append(out.f, x.f[at])
			return
		}
		for i := range out.shape[axis] {
			walk(axis+1, at+i*stride[permutation[axis]])
		}
	}
	walk(0, 0)
	return out
}

func (e *evaluator) Concat(axis int, x ...*value) *value {
	out := floats(nil, slices.Clone(x[0].shape)...)
	out.shape[axis] = 0
	for _, v := range x {
		out.shape[axis] += v.shape[axis]
	}
	for outer := range size(out.shape[:axis]) {
		for _, v := range x {
			n := size(v.shape[axis:])
			out.f = append(out.f, v.f[outer*n:(outer+1)*n]...)
		}
	}
	return out
}

func (e *evaluator) Gemm(x, w, bias *value) *value {
	out := e.MatMul(x, w)
	for i := range out.f {
		out.f[i] += bias.f[i%len(bias.f)]
	}
	return out
}

func (e *evaluator) MatMul(a, b *value) *value {
	ra, rb := len(a.shape), len(b.shape)
	m, k, n := a.shape[ra-2], a.shape[ra-1], b.shape[rb-1]
	if b.shape[rb-2] != k || ra != rb || !slices.Equal(a.shape[:ra-2], b.shape[:rb-2]) {
		panic(fmt.Sprintf("multiply %v by %v", a.shape, b.shape))
	}
	batch := size(a.shape[:ra-2])
	out := floats(make([]float32, batch*m*n), append(slices.Clone(a.shape[:ra-1]), n)...)
	for i := range batch {
		gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, m, n, k, 1, a.f[i*m*k:], k, b.f[i*k*n:], n, 0, out.f[i*m*n:], n)
	}
	return out
}

func (e *evaluator) Add(a, b *value) *value {
	return e.each(a, func(i int, v float32) float32 { return v + b.f[i%len(b.f)] })
}

func (e *evaluator) each(x *value, f func(i int, v float32) float32) *value {
	out := floats(make([]float32, len(x.f)), x.shape...)
	for i, v := range x.f {
		out.f[i] = f(i, v)
	}
	return out
}

func (e *evaluator) Scale(x *value, by float32) *value {
	return e.each(x, func(_ int, v float32) float32 { return v * by })
}

func (e *evaluator) Relu(x *value) *value {
	return e.each(x, func(_ int, v float32) float32 { return max(v, 0) })
}

func (e *evaluator) ReduceMax(x *value, axis int) *value {
	inner, n := size(x.shape[axis+1:]), x.shape[axis]
	out := floats(make([]float32, len(x.f)/n), append(slices.Clone(x.shape[:axis]), x.shape[axis+1:]...)...)
	for i := range out.f {
		best := float32(math.Inf(-1))
		for j := range n {
			best = max(best, x.f[(i/inner*n+j)*inner+i%inner])
		}
		out.f[i] = best
	}
	return out
}

func (e *evaluator) LayerNorm(x, weight, bias *value, epsilon float32) *value {
	d := x.shape[len(x.shape)-1]
	out := floats(make([]float32, 0, len(x.f)), x.shape...)
	for row := range slices.Chunk(x.f, d) {
		mean, variance := 0.0, 0.0
		for _, v := range row {
			mean += float64(v) / float64(d)
		}
		for _, v := range row {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(d)
		}
		s := 1 / math.Sqrt(variance+float64(epsilon))
		for i, v := range row {
			out.f = append(out.f, float32((float64(v)-mean)*s)*weight.f[i]+bias.f[i])
		}
	}
	return out
}

func (e *evaluator) Softmax(x *value) *value {
	d := x.shape[len(x.shape)-1]
	out := floats(make([]float32, 0, len(x.f)), x.shape...)
	for row := range slices.Chunk(x.f, d) {
		top, sum := slices.Max(row), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v - top))
		}
		for _, v := range row {
			out.f = append(out.f, float32(math.Exp(float64(v-top))/sum))
		}
	}
	return out
}

func (e *evaluator) Hide(x, mask *value) *value {
	return e.each(x, func(i int, v float32) float32 {
		if mask.b[i%len(mask.b)] != 0 {
			return float32(math.Inf(-1))
		}
		return v
	})
}
