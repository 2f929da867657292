package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// Neighbours equals what float64 gives, of sizes that are multiples of nothing, with few neighbours and with all, and is the same
// bytes with any number of threads; a number that is no row's is an error.
func TestNeighbours(t *testing.T) {
	if !Panels() {
		t.Skip("NOT TESTED: this processor has no AVX-512")
	}
	r := rand.New(rand.NewPCG(11, 12))
	for _, c := range []struct {
		rows, places, neighbours, in, out int
		there                             float64 // share of neighbours
		wrong                             int32   // a number for the last place's last neighbour
	}{
		{1, 1, 1, 1, 1, 1, 0}, {7, 9, 27, 5, 17, 0.3, 0}, {300, 257, 8, 3, 48, 0.5, 0}, {100, 600, 27, 33, 100, 0.3, 0}, {50, 513, 3, 600, 49, 1, 0}, {5, 20, 4, 7, 32, 0, 0},
		{7, 9, 27, 5, 17, 0.3, 7}, {7, 9, 27, 5, 17, 0.3, -2}, {7, 9, 2, 5, 17, 0.3, math.MinInt32}, {7, 300, 2, 5, 17, 0.3, math.MaxInt32},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			x, w, bias := normals(r, c.rows*c.in, 1), normals(r, c.neighbours*c.in*c.out, 1), normals(r, c.out, 1)
			table := make([]int32, c.places*c.neighbours)
			for i := range table {
				table[i] = -1
				if r.Float64() < c.there {
					table[i] = int32(r.IntN(c.rows))
				}
			}
			if c.wrong != 0 {
				table[len(table)-1] = c.wrong
			}
			g := graph.New("neighbours")
			in := g.Input("x", graph.Float32, graph.N("rows"), graph.D(c.in))
			numbers := g.Input("table", graph.Int32, graph.N("places"), graph.D(c.neighbours))
			g.Output("y", g.Neighbours(in, numbers, g.Floats(graph.Float32, w, c.neighbours*c.in, c.out), g.Floats(graph.Float32, bias, c.out)))
			var ys [2][]float32
			for i := range ys {
				s := session(t, g, Options{Threads: 1 + i})
				rows, err := New(table, c.places, c.neighbours)
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				out, err := s.Run(t.Context(), Values{"x": tensor(t, x, c.rows, c.in), "table": rows}, nil)
				if c.wrong != 0 {
					if err == nil {
						t.Fatal("a number that is no row's was taken")
					}
					return
				}
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
			for p := range c.places {
				for o := range c.out {
					want, size := float64(bias[o]), math.Abs(float64(bias[o]))
					for k := range c.neighbours {
						row := int(table[p*c.neighbours+k])
						for i := 0; row >= 0 && i < c.in; i++ {
							term := float64(x[row*c.in+i]) * float64(w[(k*c.in+i)*c.out+o])
							want, size = want+term, size+math.Abs(term)
						}
					}
					if diff := math.Abs(float64(ys[0][p*c.out+o]) - want); !(diff <= 1e-6*size) {
						t.Fatalf("place %d: %g at %d, expected %g", p, ys[0][p*c.out+o], o, want)
					}
				}
			}
		})
	}
}
