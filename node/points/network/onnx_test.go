package network

import (
	"slices"
	"testing"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/testdata"
)

// session is a built model.
type session struct {
	s       *ort.Session
	outputs []*graph.Value
}

func newSession(t testing.TB, g *graph.Graph, feeds []Feed) session {
	t.Helper()
	model, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range model.Inputs {
		if v.Name != feeds[i].Name {
			t.Fatalf("input %d is %s, its data are of %s", i, v.Name, feeds[i].Name)
		}
	}
	s, err := ort.NewSession(orttest.Environment(t), model, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return session{s, model.Outputs}
}

func (s session) run(t testing.TB, feeds []Feed) [][]float32 {
	t.Helper()
	in := ort.Values{}
	defer in.Close()
	for _, f := range feeds {
		var err error
		if in[f.Name], err = tensor(f); err != nil {
			t.Fatalf("input %s: %v", f.Name, err)
		}
	}
	out, err := s.s.Run(t.Context(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var data [][]float32
	for _, v := range s.outputs {
		f, err := out[v.Name].Floats()
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, slices.Clone(f))
	}
	return data
}

func tensor(f Feed) (*ort.Tensor, error) {
	shape := make([]int, len(f.Shape))
	for i, d := range f.Shape {
		shape[i] = int(d)
	}
	switch {
	case f.Float32s != nil:
		return ort.New(f.Float32s, shape...)
	case f.Int32s != nil:
		return ort.New(f.Int32s, shape...)
	}
	return ort.New(f.Uint8s, shape...)
}

// named adds every stage as an output, then the result.
func named(t testing.TB, g *graph.Graph, stages []Stage[*graph.Value], out *graph.Value) {
	t.Helper()
	for _, s := range stages {
		g.Output("stage."+s.Name, s.Value)
	}
	g.Output("out", out)
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
}

func plain(stages []Stage[*graph.Value], data [][]float32) (out []float32, plain []Stage[[]float32]) {
	for i, s := range stages {
		plain = append(plain, Stage[[]float32]{s.Name, s.Channels, s.Level, data[i]})
	}
	return data[len(data)-1], plain
}

func onnxMink(t *testing.T, m Mink, weights Weights, tab *points.Tables, features []float32) ([]float32, []Stage[[]float32]) {
	return mink(t, false, m, weights, tab, features)
}

// ownMink is the network with convolutions of our own.
func ownMink(t *testing.T, m Mink, weights Weights, tab *points.Tables, features []float32) ([]float32, []Stage[[]float32]) {
	if !ort.Panels() {
		t.Skip("NOT TESTED: this processor has no AVX-512")
	}
	return mink(t, true, m, weights, tab, features)
}

func mink(t *testing.T, own bool, m Mink, weights Weights, tab *points.Tables, features []float32) ([]float32, []Stage[[]float32]) {
	t.Helper()
	g := graph.New("mink")
	out, stages, err := AddMink(ONNX{g, own}, m, weights, m.Inputs(g))
	if err != nil {
		t.Fatal(err)
	}
	named(t, g, stages, out)
	feeds, err := m.Feeds(tab, features)
	if err != nil {
		t.Fatal(err)
	}
	return plain(stages, newSession(t, g, feeds).run(t, feeds))
}

func onnxTransformer(t *testing.T, n Transformer, weights Weights, s *points.Sets) ([]float32, []Stage[[]float32]) {
	t.Helper()
	g := graph.New("transformer")
	out, stages, err := AddTransformer(ONNX{Graph: g}, n, weights, n.Inputs(g))
	if err != nil {
		t.Fatal(err)
	}
	named(t, g, stages, out)
	feeds, err := n.Feeds(s)
	if err != nil {
		t.Fatal(err)
	}
	return plain(stages, newSession(t, g, feeds).run(t, feeds))
}

// One session must serve maps of any size.
func TestOneSessionServesEveryMap(t *testing.T) {
	m := Mink{In: 3, Stem: 4, Encoder: []int{4, 8}, Decoder: []int{8, 6}, Blocks: 1, Kernel: 3, Out: 5, Prefix: "net3d."}
	var s session
	for i, coords := range [][]int32{{0, 0, 0}, {0, 0, 0, 5, -9, 2, 5, -8, 2, 100, 7, 7}, {1, 2, 3, 1, 2, 4}} {
		tab, err := points.NewTables(coords, m.Levels())
		if err != nil {
			t.Fatal(err)
		}
		features := make([]float32, len(coords))
		for k := range features {
			features[k] = float32(k%7) - 3
		}
		feeds, err := m.Feeds(tab, features)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			g := graph.New("mink")
			out, _, err := AddMink(ONNX{g, ort.Panels()}, m, hashed{}, m.Inputs(g))
			if err != nil {
				t.Fatal(err)
			}
			named(t, g, nil, out)
			s = newSession(t, g, feeds)
		}
		want, _ := runMink(t, m, hashed{}, tab, features)
		var wide []float64
		for _, v := range want {
			wide = append(wide, float64(v))
		}
		testdata.Near(t, "out", s.run(t, feeds)[0], wide, 1e-5)
	}
	tab, err := points.NewTables([]int32{0, 0, 0}, points.MinkUNetLevels)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Feeds(tab, make([]float32, 3)); err == nil {
		t.Error("tables of other levels were accepted")
	}
}

// BenchmarkMinkUNet18A runs the published size on a room.
func BenchmarkMinkUNet18A(b *testing.B) {
	m := MinkUNet18A()
	var coords []int32
	for x := range int32(80) { // floor and two walls of 4.8 × 4.8 × 2.4 m
		for y := range int32(80) {
			coords = append(coords, x, y, 0)
		}
		for z := int32(1); z < 40; z++ {
			coords = append(coords, x, 0, z, 0, x, z)
		}
	}
	tab, err := points.NewTables(coords, m.Levels())
	if err != nil {
		b.Fatal(err)
	}
	feeds, err := m.Feeds(tab, make([]float32, 3*tab.Rows(0)))
	if err != nil {
		b.Fatal(err)
	}
	g := graph.New("mink")
	out, _, err := AddMink(ONNX{g, ort.Panels()}, m, hashed{}, m.Inputs(g))
	if err != nil {
		b.Fatal(err)
	}
	named(b, g, nil, out)
	s := newSession(b, g, feeds)
	for b.Loop() {
		s.run(b, feeds)
	}
	b.ReportMetric(float64(tab.Rows(0)), "voxels")
}
