package module

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
)

// shelf is a Finder over made tensors.
type shelf map[string]*checkpoint.Tensor

func (s shelf) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	for _, name := range names {
		if t, ok := s[name]; ok {
			return t, true
		}
	}
	return nil, false
}

func (s shelf) put(name string, d checkpoint.DType, data []byte, shape ...int64) {
	s[name] = &checkpoint.Tensor{Name: name, DType: d, Shape: shape, Offset: -1, Length: int64(len(data)), Data: data}
}

// randomBlocks are the bytes of a matrix of any type, with scales that keep products near one.
func randomBlocks(r *rand.Rand, d checkpoint.DType, n, k int) []byte {
	per, size := d.Block()
	data := make([]byte, n*k/per*size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for at := 0; at < len(data); at += size {
		switch d {
		case checkpoint.Q4_1:
			binary.LittleEndian.PutUint16(data[at+2:], checkpoint.Float32ToHalf(float32(r.NormFloat64()*0.1)))
			fallthrough
		case checkpoint.Q4_0:
			binary.LittleEndian.PutUint16(data[at:], checkpoint.Float32ToHalf(float32(r.NormFloat64()*0.02)))
		case checkpoint.Q8_0:
			binary.LittleEndian.PutUint16(data[at:], checkpoint.Float32ToHalf(float32(r.NormFloat64()*0.001)))
		case checkpoint.F32:
			binary.LittleEndian.PutUint32(data[at:], math.Float32bits(float32(r.NormFloat64()*0.1)))
		}
	}
	return data
}

// Products with matrices as they are stored equal those with their float32 values, but for the 8-bit rounding of x; and
// with Expand they are those.
func TestStoredMatrices(t *testing.T) {
	env := orttest.Environment(t)
	r := rand.New(rand.NewPCG(5, 6))
	const rows = 3
	for _, c := range []struct {
		dtype  checkpoint.DType
		n, k   int
		bias   bool
		expand bool
		quant  int
		tol    float64 // relative to the size of the result
	}{
		{checkpoint.F32, 40, 96, true, false, 0, 1e-5},
		{checkpoint.Q4_0, 40, 96, false, false, 0, 0.01}, {checkpoint.Q4_0, 576, 576, true, false, 0, 0.01},
		{checkpoint.Q4_1, 40, 96, false, false, 0, 0.01}, {checkpoint.Q4_1, 192, 576, true, false, 0, 0.01},
		{checkpoint.Q8_0, 40, 96, true, false, 0, 0.01}, {checkpoint.Q8_0, 576, 1536, false, false, 0, 0.01},
		{checkpoint.Q4_1, 40, 96, true, true, 0, 1e-5}, {checkpoint.Q8_0, 40, 96, false, true, 0, 1e-5},
		{checkpoint.F32, 48, 128, true, false, 64, 0.15},
	} {
		t.Run(fmt.Sprintf("%s %dx%d expand %v quant %d", c.dtype, c.n, c.k, c.expand, c.quant), func(t *testing.T) {
			s := shelf{}
			s.put("w.weight", c.dtype, randomBlocks(r, c.dtype, c.n, c.k), int64(c.n), int64(c.k))
			s.put("w.bias", checkpoint.F32, randomBlocks(r, checkpoint.F32, 1, c.n), int64(c.n))
			w, err := s["w.weight"].Float32()
			if err != nil {
				t.Fatal(err)
			}
			bias, err := s["w.bias"].Float32()
			if err != nil {
				t.Fatal(err)
			}
			b := &Builder{G: graph.New("matrix"), Find: s, DType: graph.Float32, Expand: c.expand}
			if c.quant > 0 {
				b.Quant = &Quant{Block: c.quant}
			}
			x := make([]float32, rows*c.k)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			in := b.G.Input("x", graph.Float32, graph.D(1), graph.N("s"), graph.D(c.k))
			b.G.Output("y", b.matrix(in, "w", c.k, c.n, c.bias))
			m, err := b.G.Model()
			if err != nil {
				t.Fatal(err)
			}
			session, err := ort.NewSession(env, m, ort.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			out, err := session.Run(t.Context(), ort.Values{"x": floats(t, x, 1, rows, c.k)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			got, err := out["y"].Floats()
			if err != nil {
				t.Fatal(err)
			}
			distance := func(x []float32) float64 {
				difference, size := 0.0, 0.0
				for i := range rows {
					for j := range c.n {
						want := 0.0
						if c.bias {
							want = float64(bias[j])
						}
						for k := range c.k {
							want += float64(w[j*c.k+k]) * float64(x[i*c.k+k])
						}
						difference += math.Pow(float64(got[i*c.n+j])-want, 2)
						size += want * want
					}
				}
				return math.Sqrt(difference / size)
			}
			if e := distance(x); !(e <= c.tol) {
				t.Errorf("relative error %.3g, allowed %.3g", e, c.tol)
			}
			// Nothing else is rounded: with x rounded alike it is the same product, offsets included.
			if per, _ := c.dtype.Block(); per > 1 && !c.expand {
				if e := distance(rounded(x)); !(e <= 1e-3) {
					t.Errorf("relative error %.3g with x rounded to 8 bits in blocks, allowed 1e-3", e)
				}
			}
		})
	}
}

// rounded rounds x to 8 bits in blocks of 32.
func rounded(x []float32) []float32 {
	out := make([]float32, 0, len(x))
	for block := range slices.Chunk(x, 32) {
		scale := max(slices.Max(block), -slices.Min(block)) / 127
		for _, v := range block {
			out = append(out, scale*float32(math.RoundToEven(float64(v/scale))))
		}
	}
	return out
}
