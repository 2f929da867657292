package ort

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/node/graph"
)

// Env loads the library for a test, or skips.
func env(t testing.TB) *Environment {
	t.Helper()
	e, err := OpenDefault()
	var missing *MissingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// normals are normally distributed numbers.
func normals(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(scale * r.NormFloat64())
	}
	return x
}

func session(t testing.TB, g *graph.Graph, o Options) *Session {
	t.Helper()
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(env(t), m, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, g.Dump())
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func tensor(t testing.TB, data []float32, shape ...int) *Tensor {
	t.Helper()
	x, err := New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// weights writes float32 values into a file, at an offset that is aligned to nothing.
func weights(t *testing.T, values []float32) (file string, offset, length int64) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "deep", "w.bin")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	data := graph.EncodeFloats(graph.Float32, values)
	if err := os.WriteFile(file, append([]byte("abc"), data...), 0o644); err != nil {
		t.Fatal(err)
	}
	return file, 3, int64(len(data))
}

func TestExternalWeights(t *testing.T) {
	file, offset, length := weights(t, []float32{1, 2, 3, 4, 5, 6})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link} {
		for _, mapped := range []bool{false, true} {
			g := graph.New("external")
			x := g.Input("x", graph.Float32, graph.N("n"), graph.D(3))
			w := g.External("w", graph.Float32, path, offset, length, 2, 3)
			g.Output("y", g.Gemm(x, w, g.Floats(graph.Float32, []float32{10, 20}, 2)))
			s := session(t, g, Options{MapWeights: mapped})
			out, err := s.Run(t.Context(), Values{"x": tensor(t, []float32{1, 1, 1, 0, 0, 1}, 2, 3)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			y, err := out["y"].Floats()
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []float32{16, 35, 13, 26} {
				if y[i] != want {
					t.Errorf("mapped %v: y[%d] is %g, expected %g", mapped, i, y[i], want)
				}
			}
			out.Close()
		}
	}
}

func TestOutputsInPlace(t *testing.T) {
	g := graph.New("inplace")
	x := g.Input("x", graph.Float32, graph.D(4))
	g.Output("y", g.Shift(x, 1))
	s := session(t, g, Options{})
	buffer := tensor(t, make([]float32, 4), 4)
	for range 3 {
		out, err := s.Run(t.Context(), Values{"x": buffer}, Values{"y": buffer})
		if err != nil {
			t.Fatal(err)
		}
		if out["y"] != buffer {
			t.Error("the output is another tensor than the one that was given")
		}
	}
	if v, _ := buffer.Floats(); v[0] != 3 {
		t.Errorf("after three runs the buffer holds %g, expected 3", v[0])
	}
}

func TestInputsAreChecked(t *testing.T) {
	g := graph.New("checked")
	x := g.Input("x", graph.Float32, graph.N("n"), graph.D(2))
	g.Output("y", g.Relu(x))
	s := session(t, g, Options{})
	ints, err := New([]int64{1, 2}, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer ints.Close()
	for name, in := range map[string]Values{
		"missing":    {},
		"wrong size": {"x": tensor(t, []float32{1, 2, 3}, 1, 3)},
		"wrong rank": {"x": tensor(t, []float32{1, 2}, 2)},
		"wrong type": {"x": ints},
		"unknown":    {"x": tensor(t, []float32{1, 2}, 1, 2), "z": ints},
	} {
		if _, err := s.Run(t.Context(), in, nil); err == nil || !strings.Contains(err.Error(), "checked") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New([]float32{1}, 2); err == nil {
		t.Error("a tensor with too little data was made")
	}
}

// A run that fails within ONNX Runtime is an error, also where the library was to make a float16 output.
func TestFailedRun(t *testing.T) {
	g := graph.New("failing")
	x := g.Input("x", graph.Float32, graph.N("n"), graph.D(2))
	y := g.Op("Reshape", "", []*graph.Value{x, g.Ints([]int64{3, 3})}, nil, graph.Out{DType: graph.Float32, Shape: graph.S(3, 3)})[0]
	g.Output("y", g.Cast(y, graph.Float16))
	s := session(t, g, Options{})
	if _, err := s.Run(t.Context(), Values{"x": tensor(t, []float32{1, 2}, 1, 2)}, nil); err == nil {
		t.Error("a Reshape of 2 elements to 9 ran")
	}
}

// A long run ends soon after its context.
func TestCancel(t *testing.T) {
	g := graph.New("long")
	x := g.Input("x", graph.Float32, graph.D(512), graph.D(512))
	y := x
	for range 400 {
		y = g.MatMul(y, x)
	}
	g.Output("y", y)
	s := session(t, g, Options{})
	in := tensor(t, make([]float32, 512*512), 512, 512)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := s.Run(ctx, Values{"x": in}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled run gave %v", err)
	}
	if _, err := s.Run(ctx, Values{"x": in}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("run after the cancel gave %v", err)
	}
}

func TestFunctions(t *testing.T) {
	g := graph.New("functions")
	x := g.Input("x", graph.Float32, graph.N("n"))
	g.Output("gelu", g.Gelu(x))
	g.Output("tanh", g.GeluTanh(x))
	g.Output("silu", g.Silu(x))
	s := session(t, g, Options{})
	in := []float32{-3, -1, -0.2, 0, 0.7, 2}
	out, err := s.Run(t.Context(), Values{"x": tensor(t, in, len(in))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for name, f := range map[string]func(float64) float64{
		"gelu": func(v float64) float64 { return v * (1 + math.Erf(v/math.Sqrt2)) / 2 },
		"tanh": func(v float64) float64 { return v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) },
		"silu": func(v float64) float64 { return v / (1 + math.Exp(-v)) },
	} {
		got, _ := out[name].Floats()
		for i, v := range in {
			if want := f(float64(v)); math.Abs(float64(got[i])-want) > 1e-6 {
				t.Errorf("%s(%g) is %g, expected %g", name, v, got[i], want)
			}
		}
	}
}

func TestLibraryIsNamedWhenMissing(t *testing.T) {
	t.Setenv("STLLM_ONNXRUNTIME", "")
	t.Setenv("STLLM_CACHE", t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "stllm setup") {
		t.Errorf("%v, expected the command that installs it", err)
	}
	t.Setenv("STLLM_ONNXRUNTIME", "/nowhere/libonnxruntime.so")
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "STLLM_ONNXRUNTIME") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"gpu", "cud", ""} {
		if _, _, err := ParseDevice(bad); err == nil {
			t.Errorf("device %q was accepted", bad)
		}
	}
}

// Bytes of a file are a run's input as they lie there, whatever they are aligned to, in every float type; a session that
// gives its memory back computes the same as another, run after run.
func TestViews(t *testing.T) {
	values := []float32{0.5, -2, 3, 0, 1024, -0.25}
	for _, kind := range []graph.DType{graph.Float32, graph.Float16, graph.BFloat16} {
		for _, o := range []Options{{}, {Shrink: true}, {Lean: true}} {
			data := append([]byte{7}, graph.EncodeFloats(kind, values)...)[1:] // at an odd address
			g := graph.New("view")
			x := g.Cast(g.Input("x", kind, graph.N("rows"), graph.D(3)), graph.Float32)
			g.Output("y", g.Add(x, x))
			s := session(t, g, o)
			for range 2 {
				x, err := View(kind, data, 2, 3)
				if err != nil {
					t.Fatal(err)
				}
				out, err := s.Run(t.Context(), Values{"x": x}, nil)
				if err != nil {
					t.Fatal(err)
				}
				y, err := out["y"].Floats()
				if err != nil {
					t.Fatal(err)
				}
				for i, v := range values {
					if y[i] != 2*v {
						t.Errorf("%s: %v, expected twice %v", kind, y, values)
						break
					}
				}
				out.Close()
				x.Close()
			}
		}
	}
	if _, err := View(graph.Float32, make([]byte, 7), 2); err == nil {
		t.Error("7 bytes were taken for two numbers")
	}
	if _, err := View(graph.Int64, make([]byte, 16), 2); err == nil {
		t.Error("whole numbers were taken")
	}
}
