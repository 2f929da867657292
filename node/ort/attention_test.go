package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// Attention equals what float64 gives, of sizes that are multiples of nothing, for high scores as for low ones; and it is the same
// bytes with any number of threads. Rounded to bfloat16 it is off by what that rounds.
func TestAttention(t *testing.T) {
	if !Panels() {
		t.Skip("NOT TESTED: this processor has no AVX-512")
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct{ batch, queries, keys, heads, size int }{
		{1, 1, 1, 1, 1}, {1, 3, 2, 2, 5}, {2, 8, 17, 1, 16}, {1, 129, 191, 2, 64}, {3, 20, 193, 1, 72}, {1, 9, 400, 3, 33}, {2, 130, 577, 1, 128},
	} {
		for _, high := range []float64{1, 30} { // of scores
			for _, rounded := range []bool{false, true} {
				t.Run(fmt.Sprintf("%+v by %g rounded %t", c, high, rounded), func(t *testing.T) {
					if rounded && !RoundedProducts() {
						t.Skip("NOT TESTED: this processor has no products of bfloat16")
					}
					wide := c.heads * c.size
					random := func(rows int, scale float64) []float32 { return normals(r, c.batch*rows*wide, scale) }
					q, k, v := random(c.queries, high), random(c.keys, 1), random(c.keys, 1)
					g := graph.New("attention")
					g.Rounded = rounded
					in := func(name, rows string) *graph.Value {
						return g.Input(name, graph.Float32, graph.N("batch"), graph.N(rows), graph.D(wide))
					}
					g.Output("y", g.Attention(in("q", "queries"), in("k", "keys"), in("v", "keys"), c.heads))
					var ys [2][]float32
					for i := range ys {
						out, err := session(t, g, Options{Threads: 1 + i}).Run(t.Context(), Values{"q": tensor(t, q, c.batch, c.queries, wide),
							"k": tensor(t, k, c.batch, c.keys, wide), "v": tensor(t, v, c.batch, c.keys, wide)}, nil)
						if err != nil {
							t.Fatal(err)
						}
						defer out.Close()
						if ys[i], err = out["y"].Floats(); err != nil {
							t.Fatal(err)
						}
					}
					if !slices.Equal(ys[0], ys[1]) {
						t.Error("two threads give other values than one")
					}
					if rounded { // of what is rounded before it is multiplied, the operator makes no more error than with float32
						for _, x := range []*[]float32{&q, &k, &v} {
							*x = decoded(graph.BFloat16, graph.EncodeFloats(graph.BFloat16, *x))
						}
					}
					limit := 3e-6 * high
					if rounded {
						limit = 1.0 / 128 // of probabilities: 2^-9 each, and of their sum
					}
					for b := range c.batch {
						for h := range c.heads {
							at := func(x []float32, rows, row int) []float32 {
								from := (b*rows+row)*wide + h*c.size
								return x[from : from+c.size]
							}
							for i := range c.queries {
								want := attended(at(q, c.queries, i), c.keys, func(j int) ([]float32, []float32) { return at(k, c.keys, j), at(v, c.keys, j) })
								got := at(ys[0], c.queries, i)
								for d := range want {
									if diff := math.Abs(float64(got[d]) - want[d]); !(diff <= limit*3) {
										t.Fatalf("batch %d, head %d, query %d: %g at %d, expected %g", b, h, i, got[d], d, want[d])
									}
								}
							}
						}
					}
				})
			}
		}
	}
}

// attended is one query's attention in float64.
func attended(q []float32, keys int, at func(j int) (k, v []float32)) []float64 {
	scores, most := make([]float64, keys), math.Inf(-1)
	for j := range scores {
		k, _ := at(j)
		for d := range q {
			scores[j] += float64(q[d]) * float64(k[d]) / math.Sqrt(float64(len(q)))
		}
		most = max(most, scores[j])
	}
	out, total := make([]float64, len(q)), 0.0
	for j, s := range scores {
		p := math.Exp(s - most)
		total += p
		_, v := at(j)
		for d := range out {
			out[d] += p * float64(v[d])
		}
	}
	for d := range out {
		out[d] /= total
	}
	return out
}
