package trainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/trainer/weights"
)

// attention is what heads computes, in float64 and one number at a time.
func attention(q, k, v Feed, sharing int, causal bool) []float64 {
	rows, keys, d := q.Shape[1]*sharing, k.Shape[1], k.Shape[2]
	var out []float64
	for r := range q.Shape[0] * rows {
		first := r / rows * keys
		seen := keys
		if causal {
			seen = r%rows/sharing + 1
		}
		sum, a := 0.0, make([]float64, d)
		for key := first; key < first+seen; key++ {
			score := 0.0
			for i := range d {
				score += float64(q.Float32s[r*d+i]) * float64(k.Float32s[key*d+i])
			}
			p := math.Exp(score / math.Sqrt(float64(d)))
			sum += p
			for i := range a {
				a[i] += p * float64(v.Float32s[key*d+i])
			}
		}
		for i := range a {
			out = append(out, a[i]/sum)
		}
	}
	return out
}

// However small the parts, an attention and its slopes are those of all at once, and no part has more scores than it may.
func TestHeads(t *testing.T) {
	const groups, size = 2, 4
	for _, c := range []struct {
		queries, keys, sharing int
		causal                 bool
	}{{5, 7, 1, false}, {6, 6, 3, true}, {1, 1, 2, true}} {
		for _, scores := range []int{1, 20, 45, 1000} {
			t.Run(fmt.Sprintf("%+v, %d scores", c, scores), func(t *testing.T) {
				none := weights.NewSet()
				chain := &chain{env: orttest.Environment(t), find: none, trained: none, all: &program{}, kinds: map[string]*program{}, bounds: bounds{scores: scores},
					needed: map[string]bool{"q": true, "k": true, "v": true}, options: ort.Options{Threads: 1}}
				h := chain.heads(c.sharing, size, c.causal)
				if chain.err != nil {
					t.Fatal(chain.err)
				}
				defer chain.close()
				r := rand.New(rand.NewPCG(1, 2))
				random := func(shape ...int) Feed {
					f := Feed{Shape: shape}
					for range shape[0] * shape[1] * shape[2] {
						f.Float32s = append(f.Float32s, float32(r.NormFloat64()))
					}
					return f
				}
				in := Batch{"q": random(groups, c.queries, c.sharing*size), "k": random(groups, c.keys, size), "v": random(groups, c.keys, size)}
				err := h.each(in, func(_, _ stretch, in Batch) error {
					if n := in["q"].Shape[0] * in["k"].Shape[0]; n > max(scores, c.sharing*c.keys) {
						t.Errorf("%d scores at once", n)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				value := func() []float64 { return attention(in["q"], in["k"], in["v"], c.sharing, c.causal) }
				got, err := h.forth(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range value() {
					if d := math.Abs(float64(got["a"].Float32s[i]) - want); !(d <= 1e-5) {
						t.Fatalf("number %d is off by %g", i, d)
					}
				}
				along := random(got["a"].Shape...)
				slopes, err := h.back(t.Context(), in, Batch{"a": along})
				if err != nil {
					t.Fatal(err)
				}
				loss := func() (sum float64) {
					for i, a := range value() {
						sum += a * float64(along.Float32s[i])
					}
					return sum
				}
				for name, f := range in {
					for i, x := range f.Float32s {
						const step = 1.0 / 256
						f.Float32s[i] = x + step
						up := loss()
						f.Float32s[i] = x - step
						want := (up - loss()) / (2 * step)
						f.Float32s[i] = x
						if d := math.Abs(float64(slopes[name].Float32s[i]) - want); !(d <= 1e-3) {
							t.Fatalf("slope along %s, number %d: %g, the difference quotient is %g", name, i, slopes[name].Float32s[i], want)
						}
					}
				}
			})
		}
	}
}
