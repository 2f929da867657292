package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// Attention over a cache equals what float64 gives, for one row and many, with heads that share keys and not, in place and into
// another cache, which gets what was there before; and rows fed together give nearly what they give one by one.
func TestCachedAttention(t *testing.T) {
	if !Panels() {
		t.Skip("NOT TESTED: this processor has no AVX-512")
	}
	env(t) // before there are tensors
	r := rand.New(rand.NewPCG(7, 8))
	random := func(n int) []float32 { return normals(r, n, 1) }
	const positions = 700
	for _, c := range []struct{ heads, shared, size, past, new int }{
		{1, 1, 16, 0, 1}, {4, 2, 32, 5, 1}, {9, 3, 64, 630, 1}, {2, 1, 128, 33, 1}, {6, 2, 48, 20, 3}, {3, 3, 64, 0, 131}, {4, 1, 64, 190, 260}, {14, 2, 64, 16, 1},
	} {
		for _, joint := range []bool{false, true} {
			for _, rounded := range []bool{false, true} {
				t.Run(fmt.Sprintf("%+v joint %t rounded %t", c, joint, rounded), func(t *testing.T) {
					if rounded && !RoundedProducts() {
						t.Skip("NOT TESTED: this processor has no products of bfloat16")
					}
					wide, narrow, room, half := c.heads*c.size, c.shared*c.size, c.past+c.new+3, c.size/2
					q, k, v := random(c.new*wide), random(c.new*narrow), random(c.new*narrow)
					past := [2][]float32{random(room * narrow), random(room * narrow)}
					cos, sin := random(positions*half), random(positions*half)
					for i := range cos {
						s, c := math.Sincos(float64(cos[i]))
						cos[i], sin[i] = float32(c), float32(s)
					}
					g := graph.New("cached")
					g.Rounded = rounded
					shape := graph.Shape{graph.D(1), graph.D(c.shared), graph.N("room"), graph.D(c.size)}
					cache := graph.Cache{Keys: g.Input("keys", graph.Float32, shape...), Values: g.Input("values", graph.Float32, shape...), Last: g.Input("last", graph.Int32, graph.D(1)),
						Cos: g.Floats(graph.Float32, cos, positions, half), Sin: g.Floats(graph.Float32, sin, positions, half)}
					last, err := New([]int32{int32(c.past + c.new - 1)}, 1)
					if err != nil {
						t.Fatal(err)
					}
					in := Values{"last": last}
					var xs []*graph.Value
					give := func(name string, data []float32, width int) {
						xs = append(xs, g.Input(name, graph.Float32, graph.D(1), graph.N("rows"), graph.D(width)))
						in[name] = tensor(t, data, 1, c.new, width)
					}
					if joint {
						var all []float32
						for i := range c.new {
							all = slices.Concat(all, q[i*wide:(i+1)*wide], k[i*narrow:(i+1)*narrow], v[i*narrow:(i+1)*narrow])
						}
						give("qkv", all, wide+2*narrow)
					} else {
						give("q", q, wide)
						give("k", k, narrow)
						give("v", v, narrow)
					}
					y, keys, values := g.CachedAttention(xs, cache, c.heads)
					g.Output("y", y)
					g.OutputAs("new keys", keys)
					g.OutputAs("new values", values)
					s := session(t, g, Options{Threads: 2})
					var results [2]map[string][]float32
					for i, inPlace := range []bool{false, true} {
						in["keys"], in["values"] = tensor(t, slices.Clone(past[0]), 1, c.shared, room, c.size), tensor(t, slices.Clone(past[1]), 1, c.shared, room, c.size)
						into := Values{}
						if inPlace {
							into["new keys"], into["new values"] = in["keys"], in["values"]
						}
						out, err := s.Run(t.Context(), in, into)
						if err != nil {
							t.Fatal(err)
						}
						results[i] = map[string][]float32{}
						for name, x := range out {
							f, err := x.Floats()
							if err != nil {
								t.Fatal(err)
							}
							results[i][name] = slices.Clone(f)
						}
						out.Close()
					}
					if !slices.Equal(results[0]["y"], results[1]["y"]) {
						t.Error("in place it gives other values than into another cache")
					}
					turned := func(x []float32, position int) []float32 {
						out := make([]float32, c.size)
						for i := range half {
							a, b, cos, sin := x[i], x[half+i], cos[position*half+i], sin[position*half+i]
							out[i], out[half+i] = a*cos-b*sin, b*cos+a*sin
						}
						return out
					}
					limit := 2e-5
					if rounded && c.new > 1 {
						limit = 0.05
					}
					for i := range c.new {
						for h := range c.heads {
							shares := h / (c.heads / c.shared)
							at := func(j int) (key, value []float32) {
								if j < c.past {
									from := (shares*room + j) * c.size
									return past[0][from : from+c.size], past[1][from : from+c.size]
								}
								from := (j-c.past)*narrow + shares*c.size
								return turned(k[from:from+c.size], j), v[from : from+c.size]
							}
							want := attended(turned(q[i*wide+h*c.size:i*wide+(h+1)*c.size], c.past+i), c.past+i+1, at)
							for d, w := range want {
								if got := float64(results[1]["y"][i*wide+h*c.size+d]); !(math.Abs(got-w) <= limit) {
									t.Fatalf("row %d, head %d: %g at %d, expected %g", i, h, got, d, w)
								}
							}
							for _, result := range results {
								key, value := at(c.past + i/2)
								from := (shares*room + c.past + i/2) * c.size
								for d := range c.size {
									if math.Abs(float64(result["new keys"][from+d]-key[d])) > 1e-6 || result["new values"][from+d] != value[d] {
										t.Fatalf("cache of position %d differs at %d", c.past+i/2, d)
									}
								}
								if first := shares * room * c.size; c.past > 0 && result["new keys"][first] != past[0][first] {
									t.Fatal("the cache lost what was there before")
								}
							}
						}
					}
				})
			}
		}
	}
}
