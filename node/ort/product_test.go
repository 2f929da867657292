package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// Products equal sums in float64, for few rows and many, in both types, of sizes that are multiples of nothing, from files at
// any offset; and they are the same bytes with any number of threads, and for rows that are fed together or one by one. Where many
// rows are rounded to bfloat16, they are the sums of what was rounded.
//
// CGO_CFLAGS="-O2 -DSTLLM_PLAIN" runs it, and whatever else there is, as on a processor that has nothing for many rows.
func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []float32 { return normals(r, n, 1) }
	for _, c := range []struct{ k, m int }{{1, 1}, {15, 1}, {64, 1}, {577, 1}, {577, 2}, {200, 8}, {200, 9}, {1, 9}, {31, 17}, {96, 40}, {3000, 12}, {1057, 130}} {
		for _, kind := range []struct {
			dtype   graph.DType
			rounded bool
		}{{graph.Float32, false}, {graph.BFloat16, false}, {graph.Float32, true}, {graph.BFloat16, true}} {
			dtype := kind.dtype
			t.Run(fmt.Sprintf("%s %dx%d rounded %t", dtype, c.m, c.k, kind.rounded), func(t *testing.T) {
				if kind.rounded && !RoundedProducts() {
					t.Skip("NOT TESTED: this processor has no products of bfloat16")
				}
				sizes := []int{5, 700, 1}
				g := graph.New("product")
				g.Rounded = kind.rounded
				x := g.Input("x", graph.Float32, graph.D(1), graph.N("rows"), graph.D(c.k))
				var ws []*graph.Value
				var values [][]float32
				file, offset := filepath.Join(t.TempDir(), "w.bin"), int64(3)
				data := []byte("abc")
				for i, n := range sizes {
					encoded := graph.EncodeFloats(dtype, random(n*c.k))
					data = append(data, encoded...)
					values = append(values, decoded(dtype, encoded))
					ws = append(ws, g.External(fmt.Sprint("w", i), dtype, file, offset, int64(len(encoded)), n, c.k))
					offset += int64(len(encoded))
				}
				var biases []*graph.Value
				shift := make([]float32, slices.Max(sizes)) // zeros where there is none
				if c.k%2 == 0 {
					shift = random(len(shift))
					for i, n := range sizes {
						data = append(data, graph.EncodeFloats(graph.Float32, shift[:n])...)
						biases = append(biases, g.External(fmt.Sprint("b", i), graph.Float32, file, offset, int64(4*n), n))
						offset += int64(4 * n)
					}
				}
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
				for i, y := range g.Product(x, ws, biases) {
					g.Output(fmt.Sprint("y", i), y)
				}
				one, two := session(t, g, Options{Threads: 1}), session(t, g, Options{Threads: 2})
				in := random(c.m * c.k)
				first := run(t, one, in, len(sizes), 1, c.m, c.k)
				second := run(t, two, in, len(sizes), 1, c.m, c.k)
				if kind.rounded && c.m > 8 {
					in = decoded(graph.BFloat16, graph.EncodeFloats(graph.BFloat16, in))
					for i, v := range values {
						values[i] = decoded(graph.BFloat16, graph.EncodeFloats(graph.BFloat16, v))
					}
				}
				for i, n := range sizes {
					for j := range c.m {
						for row := range n {
							want := float64(shift[row])
							scale := math.Abs(want)
							for l := range c.k {
								p := float64(in[j*c.k+l]) * float64(values[i][row*c.k+l])
								want, scale = want+p, scale+math.Abs(p)
							}
							if got := float64(first[i][j*n+row]); math.Abs(got-want) > 1e-6*scale {
								t.Fatalf("matrix %d, row %d of x, %d of w: %g, expected %g", i, j, row, got, want)
							}
						}
					}
					if (c.m <= 8 || RoundedProducts()) && !slices.Equal(first[i], second[i]) {
						t.Errorf("matrix %d: two threads give other values than one", i)
					}
				}
				if c.m == 2 {
					for j := range c.m {
						single := run(t, one, in[j*c.k:(j+1)*c.k], len(sizes), 1, 1, c.k)
						for i, n := range sizes {
							if !slices.Equal(single[i], first[i][j*n:(j+1)*n]) {
								t.Errorf("matrix %d, row %d of x: other values alone than beside another", i, j)
							}
						}
					}
				}
			})
		}
	}
}

// Rows without numbers give the bias, few of them and many.
func TestProductOfNothing(t *testing.T) {
	g := graph.New("nothing")
	w, bias := g.Inline("w", graph.BFloat16, nil, 2, 0), g.Inline("b", graph.Float32, graph.EncodeFloats(graph.Float32, []float32{3, 4}), 2)
	g.Output("y0", g.Product(g.Input("x", graph.Float32, graph.N("rows"), graph.D(0)), []*graph.Value{w}, []*graph.Value{bias})[0])
	s := session(t, g, Options{})
	for _, m := range []int{1, 9} {
		if y := run(t, s, nil, 1, m, 0)[0]; !slices.Equal(y, slices.Repeat([]float32{3, 4}, m)) {
			t.Errorf("%d rows: %v", m, y)
		}
	}
}

// A session on a GPU refuses the operators, before it looks for one.
func TestProductOnCUDA(t *testing.T) {
	g := graph.New("product")
	g.Output("y", g.Product(g.Input("x", graph.Float32, graph.D(1)), []*graph.Value{g.Inline("w", graph.Float32, make([]byte, 4), 1, 1)}, nil)[0])
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSession(env(t), m, Options{Device: "cuda:0"}); err == nil || !strings.Contains(err.Error(), "graph.Product") {
		t.Errorf("%v", err)
	}
}

// Close waits for the runs that are under way, so that none reads a weight that is not mapped any more; what comes later is
// refused. A second Close does nothing.
func TestCloseWhileRunning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.bin")
	const size = 1024
	if err := os.WriteFile(file, make([]byte, 4*size*size), 0o644); err != nil {
		t.Fatal(err)
	}
	g := graph.New("closing")
	y := g.Input("x", graph.Float32, graph.N("rows"), graph.D(size))
	w := g.External("w", graph.Float32, file, 0, 4*size*size, size, size)
	for range 8 {
		y = g.Product(y, []*graph.Value{w}, nil)[0]
	}
	g.Output("y", y)
	s := session(t, g, Options{Threads: 2})
	first, ended := make(chan struct{}, 4), make(chan error, 4)
	for range cap(ended) {
		x := tensor(t, make([]float32, size), 1, size)
		go func() {
			for {
				out, err := s.Run(t.Context(), Values{"x": x}, nil)
				if err != nil {
					ended <- err
					return
				}
				out.Close()
				select {
				case first <- struct{}{}:
				default:
				}
			}
		}()
	}
	<-first
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range cap(ended) {
		if err := <-ended; !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	}
}

// What is not a number stays so: it is not rounded to one.
func TestCodeProductOfNaN(t *testing.T) {
	if !CodeProducts() {
		t.Skip("NOT TESTED: this processor has no products of bytes")
	}
	const k, block = 64, 32
	g := graph.New("nan")
	w := graph.NBits{K: k, N: 1, Bits: 4, Block: block, Codes: g.Inline("codes", graph.Uint8, slices.Repeat([]byte{0x99}, k/2), 1, k/block, block/2),
		Scales: g.Inline("scales", graph.Float32, graph.EncodeFloats(graph.Float32, []float32{1, 1}), 1, k/block)}
	g.Output("y0", g.CodeProduct(g.Input("x", graph.Float32, graph.N("rows"), graph.D(k)), w, nil))
	s := session(t, g, Options{})
	for _, m := range []int{1, 9} {
		for i := range k {
			x := slices.Repeat([]float32{1}, m*k)
			x[i] = float32(math.NaN())
			y := run(t, s, x, 1, m, k)[0]
			if y[0] == y[0] || m > 1 && y[1] != y[1] {
				t.Fatalf("%d rows, NaN at %d of the first: %v", m, i, y)
			}
		}
	}
}

// A file that is shorter than the model says is an error, before anything reads beyond its end.
func TestProductOfTruncatedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "w.bin")
	for _, size := range []int{0, 20} {
		if err := os.WriteFile(file, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		g := graph.New("short")
		g.Output("y", g.Product(g.Input("x", graph.Float32, graph.D(4)), []*graph.Value{g.External("w", graph.Float32, file, 0, 32, 2, 4)}, nil)[0])
		m, err := g.Model()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := NewSession(env(t), m, Options{}); err == nil {
			s.Close()
			t.Errorf("a file of %d bytes was taken", size)
		}
	}
}

func decoded(t graph.DType, data []byte) []float32 {
	out := make([]float32, len(data)/t.Size())
	for i := range out {
		b := uint32(0)
		for j := range t.Size() {
			b |= uint32(data[i*t.Size()+j]) << (8 * (4 - t.Size() + j))
		}
		out[i] = math.Float32frombits(b)
	}
	return out
}

func run(t *testing.T, s *Session, in []float32, outputs int, shape ...int) [][]float32 {
	t.Helper()
	out, err := s.Run(t.Context(), Values{"x": tensor(t, slices.Clone(in), shape...)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var ys [][]float32
	for i := range outputs {
		y, err := out[fmt.Sprint("y", i)].Floats()
		if err != nil {
			t.Fatal(err)
		}
		ys = append(ys, slices.Clone(y))
	}
	return ys
}

// Products with codes equal sums in float64: of many rows with x as it is, or both rounded to bfloat16; of few with x rounded to 8
// bits a block.
func TestCodeProduct(t *testing.T) {
	if !CodeProducts() {
		t.Skip("NOT TESTED: this processor has no products of bytes")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ k, n, m, bits, block int }{
		{32, 1, 1, 4, 32}, {576, 700, 1, 4, 32}, {576, 6, 3, 4, 32}, {192, 7, 8, 4, 64}, {384, 9, 1, 4, 128}, {768, 5, 1, 4, 256}, {48, 5, 2, 4, 16},
		{96, 70, 1, 8, 32}, {128, 3, 2, 8, 64}, {576, 700, 9, 4, 32}, {256, 65, 20, 8, 32}, {384, 66, 12, 4, 128}, {2064, 49, 11, 4, 16},
	} {
		for _, kind := range []struct{ shifted, rounded bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			shifted := kind.shifted
			t.Run(fmt.Sprintf("%dx%dx%d %d bits of %d %+v", c.m, c.k, c.n, c.bits, c.block, kind), func(t *testing.T) {
				if kind.rounded && !RoundedProducts() {
					t.Skip("NOT TESTED: this processor has no products of bfloat16")
				}
				round := func(x float32) float32 { return x }
				if kind.rounded && c.m > 8 {
					round = func(x float32) float32 {
						return decoded(graph.BFloat16, graph.EncodeFloats(graph.BFloat16, []float32{x}))[0]
					}
				}
				blocks := c.k / c.block
				codes := make([]byte, c.n*c.k*c.bits/8)
				for i := range codes {
					codes[i] = byte(r.IntN(256))
				}
				random := func(n int) []float32 { return normals(r, n, 1) }
				scales, offsets, in := random(c.n*blocks), random(c.n*blocks), random(c.m*c.k)
				clear(in[:c.block]) // a block of zeros
				g := graph.New("codes")
				g.Rounded = kind.rounded
				file, data := filepath.Join(t.TempDir(), "w.bin"), []byte("abc")
				stored := func(name string, dtype graph.DType, encoded []byte, sizes ...int) *graph.Value {
					offset := int64(len(data))
					data = append(data, encoded...)
					return g.External(name, dtype, file, offset, int64(len(encoded)), sizes...)
				}
				w := graph.NBits{K: c.k, N: c.n, Bits: c.bits, Block: c.block, Codes: stored("codes", graph.Uint8, codes, c.n, blocks, c.block*c.bits/8),
					Scales: stored("scales", graph.Float32, graph.EncodeFloats(graph.Float32, scales), c.n, blocks)}
				var shift *graph.Value
				if shifted {
					shift = stored("offsets", graph.Float32, graph.EncodeFloats(graph.Float32, offsets), c.n, blocks)
				}
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
				g.Output("y0", g.CodeProduct(g.Input("x", graph.Float32, graph.D(1), graph.N("rows"), graph.D(c.k)), w, shift))
				y := run(t, session(t, g, Options{Threads: 1}), in, 1, 1, c.m, c.k)[0]
				if c.m <= 8 {
					if !slices.Equal(y, run(t, session(t, g, Options{Threads: 2}), in, 1, 1, c.m, c.k)[0]) {
						t.Error("two threads give other values than one")
					}
					for i := 0; i < len(in); i += c.block {
						roundBlock(in[i : i+c.block])
					}
				}
				for j := range c.m {
					for n := range c.n {
						want, size := 0.0, 0.0
						for k := range c.k {
							i := n*c.k + k
							code := codes[i*c.bits/8]
							if c.bits == 4 {
								code = codes[i/2] >> (4 * (i % 2)) & 15
							}
							zero := -8 * scales[i/c.block]
							if c.bits == 8 {
								zero *= 16
							}
							if shifted {
								zero += offsets[i/c.block]
							}
							number := float32(math.FMA(float64(code), float64(scales[i/c.block]), float64(zero)))
							p := float64(round(number)) * float64(round(in[j*c.k+k]))
							want, size = want+p, size+math.Abs(p)
						}
						if got := float64(y[j*c.n+n]); math.Abs(got-want) > 2e-6*size {
							t.Fatalf("row %d of x, %d of w: %g, expected %g", j, n, got, want)
						}
					}
				}
			})
		}
	}
}

// roundBlock is what x is rounded to.
func roundBlock(x []float32) {
	most := float32(0)
	for _, v := range x {
		most = max(most, float32(math.Abs(float64(v))))
	}
	if most == 0 {
		return
	}
	scale, inverse := most/127, 127/most
	for i, v := range x {
		x[i] = float32(math.RoundToEven(float64(v*inverse))) * scale
	}
}
