package backward

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/points/network"
	"github.com/stllm/stllm/node/stllm/module"
)

// made are weights from a seed: matrices that keep the size of what goes through, and positive variances.
type made struct{ r *rand.Rand }

func (m made) Float32(name string, shape ...int) ([]float32, error) {
	n := 1
	for _, s := range shape {
		n *= s
	}
	out := make([]float32, n)
	for i := range out {
		switch {
		case strings.HasSuffix(name, "running_var"), len(shape) == 1 && strings.HasSuffix(name, "weight"):
			out[i] = float32(0.5 + m.r.Float64())
		case len(shape) == 1:
			out[i] = float32(0.2 * m.r.NormFloat64())
		case len(shape) == 4: // [out, in, 1, 1]
			out[i] = float32(m.r.NormFloat64() / math.Sqrt(float64(shape[1])))
		default:
			out[i] = float32(m.r.NormFloat64() / math.Sqrt(float64(n/shape[len(shape)-1])))
		}
	}
	return out, nil
}

// along compares the gradient for the graph's first input with the difference quotient along some directions.
func along(t *testing.T, g *graph.Graph, r *rand.Rand, y *graph.Value, sizes ...int) {
	t.Helper()
	env := orttest.Environment(t)
	x := g.Inputs()[0]
	loss := scalar(g, y)
	d, err := Of(g, loss, []*graph.Value{x})
	if err != nil {
		t.Fatal(err)
	}
	n := 1
	for _, s := range sizes {
		n *= s
	}
	g.Output("loss", g.Reshape(loss, graph.D(1)))
	g.Output("d", d[0])
	s := session(t, env, g)
	run := func(at []float32, output string) []float32 { return values(t, s, at, output, sizes...) }
	at := make([]float32, n)
	for i := range at {
		at[i] = float32(r.NormFloat64())
	}
	got := run(at, "d")
	if len(got) != n {
		t.Fatalf("gradient of %d numbers, expected %d", len(got), n)
	}
	for k := range 4 {
		// Small steps keep clear of most kinks, where a quotient is of no use.
		const step = 1e-3
		up, down := make([]float32, n), make([]float32, n)
		slope, size := 0.0, 0.0
		for i := range at {
			u := r.NormFloat64() / math.Sqrt(float64(n))
			up[i], down[i] = at[i]+float32(step*u), at[i]-float32(step*u)
			slope += u * float64(got[i])
			size += math.Abs(u * float64(got[i]))
		}
		want := (float64(run(up, "loss")[0]) - float64(run(down, "loss")[0])) / (2 * step)
		if d := math.Abs(slope - want); !(d <= 2e-2*max(size/8, math.Abs(want))) || size == 0 {
			t.Errorf("direction %d: slope %g, difference quotient %g (sum of sizes %g)", k, slope, want, size)
		}
	}
}

// Both point encoders, whole.
func TestPointEncoders(t *testing.T) {
	t.Run("transformer", func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 1))
		n := network.Transformer{Features: 2, Samples: 3, Samples2: 2, Hidden: []int{4, 5}, Hidden2: []int{6, 7}, Width: 8, Heads: 2, FFN: 6, Layers: 2}
		const tokens, kept = 6, 4
		g := graph.New("test")
		x := g.Input("x", graph.Float32, graph.N("tokens"), graph.D(n.Samples), graph.D(3+n.Features))
		mask := func(n int) *graph.Value {
			hide := make([]float32, n*n)
			for i := range hide {
				if i%n != i/n && r.IntN(3) == 0 {
					hide[i] = 1
				}
			}
			return g.Cast(g.Floats(graph.Float32, hide, n, n), graph.Uint8)
		}
		local, err := made{r}.Float32("local", kept, n.Samples2, 3)
		if err != nil {
			t.Fatal(err)
		}
		in := network.TransformerInputs[*graph.Value]{Groups: x, Balls: table(g, r, 0, tokens, kept, n.Samples2),
			Local: g.Floats(graph.Float32, local, kept, n.Samples2, 3), Masks: []*graph.Value{mask(tokens), mask(kept)}}
		// The mask's size is that of the tokens.
		in.Groups = g.Reshape(x, graph.D(tokens), graph.D(n.Samples), graph.D(3+n.Features))
		y, _, err := network.AddTransformer(network.ONNX{Graph: g}, n, made{r}, in)
		if err != nil {
			t.Fatal(err)
		}
		along(t, g, r, y, tokens, n.Samples, 3+n.Features)
	})
	t.Run("sparse U-Net", func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 2))
		m := network.Mink{In: 3, Stem: 4, Encoder: []int{4, 6}, Decoder: []int{5, 4}, Blocks: 1, Kernel: 3, Out: 5, Prefix: "net3d."}
		rows := []int{14, 6, 3}
		g := graph.New("test")
		in := network.MinkInputs[*graph.Value]{Features: g.Input("x", graph.Float32, graph.D(rows[0]), graph.D(m.In)),
			Stem: table(g, r, -1, rows[0], rows[0], 27)}
		for l, n := range rows {
			in.K3 = append(in.K3, table(g, r, -1, n, n, 27))
			if l > 0 {
				in.Down = append(in.Down, table(g, r, -1, rows[l-1], n, 8))
				in.Up = append(in.Up, table(g, r, 0, 8*n, rows[l-1]))
			}
		}
		y, _, err := network.AddMink(network.ONNX{Graph: g}, m, made{r}, in)
		if err != nil {
			t.Fatal(err)
		}
		along(t, g, r, y, rows[0], m.In)
	})
}

// table is a constant of row numbers from low up to rows.
func table(g *graph.Graph, r *rand.Rand, low, rows int, sizes ...int) *graph.Value {
	n := 1
	for _, s := range sizes {
		n *= s
	}
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(low + r.IntN(rows-low))
	}
	return g.Ints(out, sizes...)
}

// Every way to pool a picture's patches.
func TestPool(t *testing.T) {
	for i, mode := range []string{"bilinear", "average", "max"} {
		t.Run(mode, func(t *testing.T) {
			g := graph.New("test")
			x := g.Input("x", graph.Float32, graph.N("frames"), graph.D(25), graph.D(3))
			pooled := 2
			if mode == "bilinear" {
				pooled = 3
			}
			b := module.Builder{G: g, DType: graph.Float32}
			along(t, g, rand.New(rand.NewPCG(4, uint64(i))), b.Pool(x, 5, pooled, mode, 2), 2, 25, 3)
		})
	}
}

// Broadcasting, in any shapes: the gradient of what was stretched is the sum over what it was stretched to.
func TestShapes(t *testing.T) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(5, seed))
		full := make([]int, 1+r.IntN(4))
		for i := range full {
			full[i] = 1 + r.IntN(3)
		}
		// shrunk loses leading dimensions, and some others become 1.
		shrunk := func(s []int) []int {
			s = append([]int(nil), s[r.IntN(len(s)+1):]...)
			for i := range s {
				if r.IntN(3) == 0 {
					s[i] = 1
				}
			}
			return s
		}
		a, b := shrunk(full), shrunk(full)
		if len(a) == 0 {
			a = []int{1}
		}
		t.Run(fmt.Sprintf("%v by %v", a, b), func(t *testing.T) {
			constant := func(sizes ...int) (g *graph.Graph, x, c *graph.Value) {
				g = graph.New("test")
				data, err := made{r}.Float32("", append(sizes, 1)...)
				if err != nil {
					t.Fatal(err)
				}
				for i := range data {
					data[i] += 3 // nothing to divide by is near zero
				}
				return g, g.Input("x", graph.Float32, graph.S(a...)...), g.Floats(graph.Float32, data, sizes...)
			}
			g, x, c := constant(b...)
			along(t, g, r, g.Div(g.Mul(g.Sub(c, x), x), c), a...)
			g, x, c = constant(b...)
			taken := g.Max(g.Where(g.Greater(x, g.Scale(x, -0.5)), x, g.Shift(c, -3)), g.Shift(c, -3.5))
			along(t, g, r, g.Add(taken, g.Scale(x, 0.5)), a...)

			// The same as outer dimensions of a product, on either side.
			k, other := 1+r.IntN(3), 1+r.IntN(3)
			left := append(append([]int(nil), a...), 2, k)
			right := append(append([]int(nil), b...), k, other)
			g = graph.New("test")
			data, err := made{r}.Float32("", right...)
			if err != nil {
				t.Fatal(err)
			}
			x = g.Input("x", graph.Float32, graph.S(left...)...)
			along(t, g, r, g.MatMul(x, g.Floats(graph.Float32, data, right...)), left...)
			g = graph.New("test")
			x = g.Input("x", graph.Float32, graph.S(left...)...)
			flipped := append(append([]int(nil), b...), other, 2)
			data, err = made{r}.Float32("", flipped...)
			if err != nil {
				t.Fatal(err)
			}
			along(t, g, r, g.MatMul(g.Floats(graph.Float32, data, flipped...), x), left...)
		})
	}
}
