package backward

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
)

// input is a test's input: sizes at run time, dims in the graph, and numbers from low to high.
type input struct {
	dims      graph.Shape
	sizes     []int
	low, high float64
}

func known(low, high float64, sizes ...int) input {
	return input{graph.S(sizes...), sizes, low, high}
}

// named has a first dimension that only a run knows.
func named(low, high float64, sizes ...int) input {
	in := known(low, high, sizes...)
	in.dims[0] = graph.N("n")
	return in
}

// cases cover every operator with a gradient; each sum of squares weights is a loss that all outputs take part in.
func cases() map[string]struct {
	in    []input
	build func(g *graph.Graph, x []*graph.Value) *graph.Value
} {
	type c = struct {
		in    []input
		build func(g *graph.Graph, x []*graph.Value) *graph.Value
	}
	one := func(in input, f func(g *graph.Graph, x *graph.Value) *graph.Value) c {
		return c{[]input{in}, func(g *graph.Graph, x []*graph.Value) *graph.Value { return f(g, x[0]) }}
	}
	type G = *graph.Graph
	type V = *graph.Value
	wide, positive := known(-2, 2, 3, 4), known(0.3, 2, 3, 4)
	return map[string]c{
		"add broadcast": {[]input{named(-1, 1, 2, 3, 4), known(-1, 1, 4)}, func(g G, x []V) V { return g.Add(x[0], x[1]) }},
		"sub broadcast": {[]input{known(-1, 1, 3, 1), known(-1, 1, 2, 3, 4)}, func(g G, x []V) V { return g.Sub(x[0], x[1]) }},
		"mul broadcast": {[]input{known(-1, 1, 2, 1, 4), known(-1, 1, 3, 1)}, func(g G, x []V) V { return g.Mul(x[0], x[1]) }},
		"div":           {[]input{wide, positive}, func(g G, x []V) V { return g.Div(x[0], x[1]) }},
		"used twice":    {[]input{wide}, func(g G, x []V) V { return g.Mul(x[0], x[0]) }},
		"neg":           one(wide, G.Neg), "exp": one(wide, G.Exp), "log": one(positive, G.Log), "sqrt": one(positive, G.Sqrt),
		"reciprocal": one(positive, G.Reciprocal), "abs": one(positive, G.Abs), "tanh": one(wide, G.Tanh), "sigmoid": one(wide, G.Sigmoid),
		"sin": one(wide, G.Sin), "cos": one(wide, G.Cos), "relu": one(wide, G.Relu), "gelu": one(wide, G.Gelu), "gelu tanh": one(wide, G.GeluTanh),
		"silu": one(wide, G.Silu), "softmax": one(wide, G.Softmax), "log softmax": one(wide, G.LogSoftmax),
		"where":      {[]input{wide, positive}, func(g G, x []V) V { return g.Where(g.Greater(x[0], x[1]), x[0], x[1]) }},
		"layer norm": {[]input{named(-1, 1, 2, 3, 8), known(0.5, 1.5, 8), known(-1, 1, 8)}, func(g G, x []V) V { return g.LayerNorm(x[0], x[1], x[2], 1e-5) }},
		"rms norm":   {[]input{named(-1, 1, 2, 3, 8), known(0.5, 1.5, 8)}, func(g G, x []V) V { return g.RMSNorm(x[0], x[1], 1e-6) }},
		"matmul":     {[]input{known(-1, 1, 3, 4), known(-1, 1, 4, 5)}, func(g G, x []V) V { return g.MatMul(x[0], x[1]) }},
		"matmul batched": {[]input{named(-1, 1, 2, 3, 3, 4), known(-1, 1, 3, 4, 5)}, func(g G, x []V) V {
			return g.MatMul(x[0], x[1])
		}},
		"matmul by one": {[]input{known(-1, 1, 1, 3, 4), known(-1, 1, 2, 4, 5)}, func(g G, x []V) V { return g.MatMul(x[0], x[1]) }},
		"matmul rows":   {[]input{named(-1, 1, 2, 3, 4), known(-1, 1, 4, 5)}, func(g G, x []V) V { return g.MatMul(x[0], x[1]) }},
		"linear":        {[]input{named(-1, 1, 2, 3, 4), known(-1, 1, 5, 4), known(-1, 1, 5)}, func(g G, x []V) V { return g.Linear(x[0], x[1], x[2]) }},
		"sum":           one(named(-1, 1, 2, 3, 4), func(g G, x V) V { return g.Sum(x, 1, false) }),
		"mean":          one(named(-1, 1, 2, 3, 4), func(g G, x V) V { return g.Mean(x, 0, true) }),
		"reshape":       one(named(-1, 1, 2, 3, 4), func(g G, x V) V { return g.Reshape(x, graph.N("m"), graph.D(6)) }),
		"squeeze": one(known(-1, 1, 2, 1, 4), func(g G, x V) V {
			return g.Unsqueeze(g.Squeeze(x, 1), 0)
		}),
		"transpose": one(named(-1, 1, 2, 3, 4), func(g G, x V) V { return g.Transpose(x, 2, 0, 1) }),
		"concat": {[]input{named(-1, 1, 2, 4), known(-1, 1, 3, 4)}, func(g G, x []V) V {
			return g.Concat(0, x[1], x[0], x[1])
		}},
		"slice":      one(named(-1, 1, 5, 4), func(g G, x V) V { return g.Slice(g.Slice(x, 0, 1, graph.End), 1, -3, -1) }),
		"slice last": one(named(-1, 1, 5, 4), func(g G, x V) V { return g.Slice(x, 0, -2, graph.End) }),
		"gather": one(named(-1, 1, 3, 4), func(g G, x V) V {
			return g.Gather(x, g.Ints([]int64{2, 0, 0, -1}, 2, 2), 0)
		}),
		"expand": one(known(-1, 1, 3, 1), func(g G, x V) V { return g.Expand(x, graph.D(2), graph.D(3), graph.D(4)) }),
		"attention": {[]input{named(-1, 1, 2, 3, 3, 4), known(-1, 1, 3, 4, 5)}, func(g G, x []V) V {
			return g.MatMul(g.Softmax(x[0]), x[1])
		}},
		"softmax used twice": {[]input{wide, known(-1, 1, 4, 5)}, func(g G, x []V) V {
			y := g.Softmax(x[0])
			return g.Concat(1, g.MatMul(y, x[1]), y)
		}},
		"softmax on the right": {[]input{known(-2, 2, 4, 4), known(-1, 1, 4, 4)}, func(g G, x []V) V { return g.MatMul(x[1], g.Softmax(x[0])) }},
		"softmax of many":      {[]input{wide, known(-1, 1, 2, 4, 5)}, func(g G, x []V) V { return g.MatMul(g.Softmax(x[0]), x[1]) }},
		"sigmoid used twice": one(wide, func(g G, x V) V {
			y := g.Sigmoid(x)
			return g.Add(g.Mul(x, y), y)
		}),
		"rotary": one(named(-1, 1, 2, 3, 8), func(g G, x V) V { // two heads of four columns
			cos, sin := []float32{1, 1, 0.5, 0.9, -0.4, 0.6}, []float32{0, 0, 0.8, 0.4, 0.9, -0.8}
			in := []V{x, g.Ints([]int64{0}), g.Floats(graph.Float32, cos, 3, 2), g.Floats(graph.Float32, sin, 3, 2)}
			return g.Op("RotaryEmbedding", graph.Microsoft, in, nil, graph.Out{DType: graph.Float32, Shape: x.Shape})[0]
		}),
		"pow": {[]input{positive, known(0.5, 2, 4)}, func(g G, x []V) V { return g.Pow(x[0], x[1]) }},
		"erf": one(wide, G.Erf), "max": {[]input{wide, known(-1.9, 2.2, 4)}, func(g G, x []V) V { return g.Max(x[0], x[1]) }},
		"min":         {[]input{known(-1.9, 2.2, 4), wide}, func(g G, x []V) V { return g.Min(x[0], x[1]) }},
		"reduce max":  one(named(-2, 2, 2, 3, 4), func(g G, x V) V { return g.ReduceMax(x, 1, false) }),
		"largest row": one(named(-2, 2, 2, 3, 4), func(g G, x V) V { return g.ReduceMax(x, -1, true) }),
		"average pool": one(named(-1, 1, 2, 3, 5, 4), func(g G, x V) V {
			return g.Pool2D("AveragePool", x, 2)
		}),
		"max pool": one(named(-1, 1, 2, 3, 4, 5), func(g G, x V) V { return g.Pool2D("MaxPool", x, 2) }),
		"slice of what is short": one(named(-1, 1, 2, 4), func(g G, x V) V {
			return g.Slice(x, 0, -3, graph.End)
		}),
		"split": one(known(-1, 1, 3, 6), func(g G, x V) V {
			out := func(n int) graph.Out { return graph.Out{DType: graph.Float32, Shape: graph.S(3, n)} }
			y := g.Op("Split", "", []V{x, g.Ints([]int64{1, 2, 3})}, []graph.Attr{{Name: "axis", Value: int64(-1)}}, out(1), out(2), out(3))
			return g.Mul(y[2], y[0]) // nobody uses the second
		}),
		"cast": one(wide, func(g G, x V) V { return g.Identity(g.Cast(x, graph.Float32)) }),
	}
}

// scalar turns any result into a loss in which every element has its own weight.
func scalar(g *graph.Graph, y *graph.Value) *graph.Value {
	y = g.Mul(y, g.Sin(g.Shift(g.Scale(y, 0.7), 0.3)))
	for len(y.Shape) > 0 {
		weights := y
		y = g.Sum(g.Mul(weights, g.Shift(g.Sigmoid(weights), 0.5)), len(y.Shape)-1, false)
	}
	return y
}

func TestGradientsAgainstDifferences(t *testing.T) {
	env := orttest.Environment(t)
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			g := graph.New("test")
			var x []*graph.Value
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			var data [][]float32
			for i, in := range c.in {
				x = append(x, g.Input(string(rune('a'+i)), graph.Float32, in.dims...))
				n := 1
				for _, s := range in.sizes {
					n *= s
				}
				// Evenly spaced and shuffled: no two lie so near each other, nor to zero, that a step goes over a kink.
				v := make([]float32, n)
				for j, at := range r.Perm(n) {
					v[j] = float32(in.low + (in.high-in.low)*(float64(at)+0.5)/float64(n))
				}
				data = append(data, v)
			}
			loss := scalar(g, c.build(g, x))
			grads, err := Of(g, loss, x)
			if err != nil {
				t.Fatal(err)
			}
			g.Output("loss", g.Unsqueeze(loss, 0)) // the Go binding knows no scalars
			for i, d := range grads {
				if !d.Shape.Equal(x[i].Shape) {
					t.Errorf("gradient of %s is %s", x[i], d)
				}
				g.Output("d"+x[i].Name, d)
			}
			s := session(t, env, g)
			run := func() (float64, [][]float32) {
				in := ort.Values{}
				defer in.Close()
				for i := range x {
					if in[x[i].Name], err = ort.New(data[i], c.in[i].sizes...); err != nil {
						t.Fatal(err)
					}
				}
				out, err := s.Run(t.Context(), in, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				l, err := out["loss"].Floats()
				if err != nil {
					t.Fatal(err)
				}
				var d [][]float32
				for i := range x {
					f, err := out["d"+x[i].Name].Floats()
					if err != nil {
						t.Fatal(err)
					}
					d = append(d, append([]float32(nil), f...))
				}
				return float64(l[0]), d
			}
			_, got := run()
			const step = 2e-3
			for i := range data {
				for j := range data[i] {
					was := data[i][j]
					data[i][j] = was + step
					up, _ := run()
					data[i][j] = was - step
					down, _ := run()
					data[i][j] = was
					want := (up - down) / (2 * step)
					if d := math.Abs(float64(got[i][j]) - want); d > 5e-3*max(1, math.Abs(want)) {
						t.Errorf("input %d element %d: gradient %g, difference quotient %g", i, j, got[i][j], want)
					}
				}
			}
		})
	}
}

func session(t *testing.T, env *ort.Environment, g *graph.Graph) *ort.Session {
	t.Helper()
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.NewSession(env, m, ort.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Every rule is covered by a case above.
func TestEveryRuleIsTested(t *testing.T) {
	used := map[string]bool{}
	for _, c := range cases() {
		g := graph.New("test")
		var x []*graph.Value
		for i, in := range c.in {
			x = append(x, g.Input(string(rune('a'+i)), graph.Float32, in.dims...))
		}
		scalar(g, c.build(g, x))
		for _, n := range g.Nodes() {
			used[n.Op] = true
		}
	}
	for op := range rules {
		if !used[op] && op != "Cast" {
			t.Errorf("operator %s has a rule and no test", op)
		}
	}
}

func TestMissingGradientsAreNamed(t *testing.T) {
	g := graph.New("test")
	x := g.Input("x", graph.Float32, graph.D(3))
	y := g.Sum(g.Sign(x), 0, false)
	if _, err := Of(g, y, []*graph.Value{x}); err == nil || !strings.Contains(err.Error(), "Sign") {
		t.Errorf("error %v, expected one that names Sign", err)
	}
	z := g.Sum(g.Neg(x), 0, false)
	if _, err := Of(g, z, []*graph.Value{g.Input("other", graph.Float32, graph.D(1))}); err == nil {
		t.Error("a value that the loss does not depend on has a gradient")
	}
	// A result beside the first, as of the fused sum and norm, is not passed over.
	for _, skip := range []bool{false, true} {
		g := graph.New("test")
		x := g.Input("x", graph.Float32, graph.D(3))
		out := graph.Out{DType: graph.Float32, Shape: graph.S(3)}
		first := out
		first.Skip = skip
		y := g.Op("LayerNormalization", "", []*graph.Value{x, x}, nil, first, out)
		if _, err := Of(g, g.Sum(y[1], 0, false), []*graph.Value{x}); err == nil || !strings.Contains(err.Error(), "result 1") {
			t.Errorf("first result left out %v: error %v, expected one that names result 1", skip, err)
		}
	}
}

// Results have gradients as inputs do, also where rules look through them: of x·σ(x) that of σ(x) is x.
func TestResults(t *testing.T) {
	env := orttest.Environment(t)
	g := graph.New("test")
	x := g.Input("x", graph.Float32, graph.D(3))
	part := g.Sigmoid(x)
	d, err := Of(g, g.Sum(g.Mul(x, part), 0, false), []*graph.Value{part})
	if err != nil {
		t.Fatal(err)
	}
	g.Output("d", d[0])
	at := []float32{-1, 0.5, 2}
	for i, v := range values(t, session(t, env, g), at, "d", 3) {
		if v != at[i] {
			t.Errorf("gradient %v, expected %v", v, at[i])
		}
	}
}

// Equals share a gradient: it is neither lost nor counted twice.
func TestEquals(t *testing.T) {
	env := orttest.Environment(t)
	for name, build := range map[string]func(g *graph.Graph, x *graph.Value) *graph.Value{
		"max":        func(g *graph.Graph, x *graph.Value) *graph.Value { return g.Max(x, g.Identity(x)) },
		"min":        func(g *graph.Graph, x *graph.Value) *graph.Value { return g.Min(x, g.Identity(x)) },
		"reduce max": func(g *graph.Graph, x *graph.Value) *graph.Value { return g.Scale(g.ReduceMax(x, 0, true), 4) },
	} {
		t.Run(name, func(t *testing.T) {
			g := graph.New("test")
			x := g.Input("x", graph.Float32, graph.D(4))
			d, err := Of(g, g.Sum(build(g, x), 0, false), []*graph.Value{x})
			if err != nil {
				t.Fatal(err)
			}
			g.Output("d", d[0])
			for _, v := range values(t, session(t, env, g), []float32{2, 2, 2, 2}, "d", 4) {
				if v != 1 {
					t.Errorf("gradient %v, expected 1", v)
				}
			}
		})
	}
}

// values gives an output of a session for its input x.
func values(t *testing.T, s *ort.Session, x []float32, output string, sizes ...int) []float32 {
	t.Helper()
	data, err := ort.New(x, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	in := ort.Values{"x": data}
	defer in.Close()
	out, err := s.Run(t.Context(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	v, err := out[output].Floats()
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), v...)
}
