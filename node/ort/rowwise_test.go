package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// SumNorm and Gate equal what float64 gives, for few rows and many, of sizes that are multiples of nothing, for numbers of any size.
func TestRowwise(t *testing.T) {
	if !Panels() {
		t.Skip("NOT TESTED: this processor has no AVX-512")
	}
	r := rand.New(rand.NewPCG(9, 10))
	for _, c := range []struct {
		rows, size int
		scale      float64
	}{{1, 1, 1}, {1, 576, 1}, {8, 17, 10}, {9, 31, 100}, {100, 64, 1e-4}, {3, 48, 1e4}} {
		t.Run(fmt.Sprintf("%dx%d by %g", c.rows, c.size, c.scale), func(t *testing.T) {
			random := func(n int) []float32 { return normals(r, n, c.scale) }
			const eps = 1e-6
			a, b, weight := random(c.rows*c.size), random(c.rows*c.size), random(c.size)
			g := graph.New("rowwise")
			in := func(name string) *graph.Value {
				return g.Input(name, graph.Float32, graph.N("rows"), graph.D(c.size))
			}
			x, delta := in("a"), in("b")
			sum, normed := g.SumNorm(x, delta, g.Floats(graph.Float32, weight, c.size), eps)
			g.Output("sum", sum)
			g.Output("normed", normed)
			g.Output("gate", g.Gate(x, delta))
			g.Output("both", g.Gate(g.Concat(1, x, delta)))
			out, err := session(t, g, Options{Threads: 2}).Run(t.Context(), Values{"a": tensor(t, a, c.rows, c.size), "b": tensor(t, b, c.rows, c.size)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			for row := range c.rows {
				squares := 0.0
				for i := range c.size {
					s := float64(a[row*c.size+i] + b[row*c.size+i])
					squares += s * s
				}
				for i := range c.size {
					at := row*c.size + i
					s, x := float64(a[at]+b[at]), float64(a[at])
					silu := x / (1 + math.Exp(-x)) * float64(b[at])
					for name, want := range map[string]float64{"sum": s, "normed": s / math.Sqrt(squares/float64(c.size)+eps) * float64(weight[i]), "gate": silu, "both": silu} {
						got, err := out[name].Floats()
						if err != nil {
							t.Fatal(err)
						}
						if diff := math.Abs(float64(got[at]) - want); !(diff <= 1e-6*math.Abs(want)+1e-37) {
							t.Fatalf("%s, row %d: %g at %d, expected %g", name, row, got[at], i, want)
						}
					}
				}
			}
		})
	}
}
