package network

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/testdata"
)

// stored gives the weights that a golden file holds as w.NAME.
type stored map[string]testdata.Tensor

func (s stored) Float32(name string, shape ...int) ([]float32, error) {
	x, ok := s["w."+name]
	if !ok {
		return nil, fmt.Errorf("tensor %s is missing", name)
	}
	if !slices.Equal(x.Shape, shape) {
		return nil, fmt.Errorf("tensor %s has shape %v, expected %v", name, x.Shape, shape)
	}
	return x.Float32s(), nil
}

// hashed gives the weights of the hash rule of golden/points.
type hashed struct{}

func (hashed) Float32(name string, shape ...int) ([]float32, error) {
	state := uint64(14695981039346656037)
	for _, c := range []byte(name) {
		state = (state ^ uint64(c)) * 1099511628211
	}
	n, fanIn := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			fanIn *= d
		}
	}
	offset, scale := 0.0, math.Sqrt(3/float64(fanIn))
	switch {
	case strings.HasSuffix(name, "running_var"):
		offset, scale = 1, 0.5
	case strings.HasSuffix(name, "running_mean"):
		scale = 0.1
	case strings.HasSuffix(name, ".kernel"):
		occ := map[int]float64{125: 25, 27: 9, 8: 4}[shape[0]]
		if strings.Contains(name, "convtr") || len(shape) == 2 {
			occ = 1
		}
		scale = math.Sqrt(3 / (float64(shape[len(shape)-2]) * occ))
	case len(shape) == 1 && strings.HasSuffix(name, "weight"):
		offset, scale = 1, 0.1
	case len(shape) == 1:
		scale = 0.1
	}
	out := make([]float32, n)
	for i := range out {
		z := state + uint64(i) + 0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		h := float64((z^z>>31)>>40)/(1<<24)*2 - 1
		out[i] = float32(offset + scale*h)
	}
	return out, nil
}

func TestHashRule(t *testing.T) {
	w, _ := hashed{}.Float32("net3d.conv0p1s1.kernel", 125, 3, 32)
	for i, want := range []float32{-0.056592393666505814, 0.1378333866596222, -0.05309729650616646} {
		if w[i] != want {
			t.Errorf("weight %d is %v, expected %v", i, w[i], want)
		}
	}
}

func minkOf(x map[string]testdata.Tensor) (Mink, Weights) {
	m := MinkUNet18A()
	if _, ok := x["w.net3d.final.kernel"]; !ok {
		return m, hashed{}
	}
	width := func(name string) int { s := x["w.net3d."+name].Shape; return s[len(s)-1] }
	m.Stem, m.Out = width("conv0p1s1.kernel"), width("final.kernel")
	for i := range m.Encoder {
		m.Encoder[i] = width(fmt.Sprintf("block%d.0.conv2.kernel", i+1))
		m.Decoder[i] = width(fmt.Sprintf("block%d.0.conv2.kernel", i+5))
	}
	return m, stored(x)
}

// rowsAt finds the rows of coordinates.
func rowsAt(t *testing.T, all, wanted []int32) []int32 {
	t.Helper()
	at := map[[3]int32]int32{}
	for i := range len(all) / 3 {
		at[[3]int32(all[3*i:3*i+3])] = int32(i)
	}
	var rows []int32
	for c := range slices.Chunk(wanted, 3) {
		r, ok := at[[3]int32(c)]
		if !ok {
			t.Fatalf("no voxel at %v", c)
		}
		rows = append(rows, r)
	}
	return rows
}

func pick(x []float32, width int, rows []int32) []float32 {
	var out []float32
	for _, r := range rows {
		out = append(out, x[int(r)*width:(int(r)+1)*width]...)
	}
	return out
}

func sums(x []float32, width int) (out []float32) {
	for row := range slices.Chunk(x, width) {
		s := 0.0
		for _, v := range row {
			s += float64(v)
		}
		out = append(out, float32(s))
	}
	return out
}

// nearSums compares the sums of all rows with those of the float64 run. golden/points/README.md has a tolerance for one value,
// and 7e-6 of the largest of a tensor in general. A sum of W values, whose roundings go either way, is off by √W of one: the
// smaller of the two bounds holds.
func nearSums(t *testing.T, out []float32, width int, want []float64, tolerance float64) {
	t.Helper()
	testdata.Near(t, "row sums of out", sums(out, width), want, min(tolerance*math.Sqrt(float64(width)), 7e-6*testdata.Largest(want)))
}

func TestGoldenMink(t *testing.T) {
	tiny, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "points"), "mink_tiny.safetensors"))
	for _, path := range testdata.GoldenFiles(t, "points", "mink_*.safetensors") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) {
			x, _ := testdata.Tensors(t, path)
			full := x["out"].Shape[1] == 768
			if !full { // the small files share the weights of mink_tiny
				for name, w := range tiny {
					if strings.HasPrefix(name, "w.") {
						x[name] = w
					}
				}
			}
			m, weights := minkOf(x)
			tab, err := points.NewTables(x["coords"].Int32s(), m.Levels())
			if err != nil {
				t.Fatal(err)
			}
			kept := pick(x["feats"].Float32s(), m.In, tab.KeptRows)
			tolerance := 1e-5
			if full {
				tolerance = 2e-4
			}
			for name, run := range map[string]func(*testing.T, Mink, Weights, *points.Tables, []float32) ([]float32, []Stage[[]float32]){"go": runMink, "onnx": onnxMink, "own": ownMink} {
				t.Run(name, func(t *testing.T) {
					out, stages := run(t, m, weights, tab, kept)
					compareMink(t, x, m, tab, out, stages, tolerance)
				})
			}
		})
	}
}

func compareMink(t *testing.T, x map[string]testdata.Tensor, m Mink, tab *points.Tables, out []float32, stages []Stage[[]float32], tolerance float64) {
	t.Helper()
	for _, s := range stages {
		v := s.Value
		if c, ok := x["stage_coords."+s.Name]; ok {
			v = pick(v, s.Channels, rowsAt(t, tab.Coords[s.Level], c.Int32s()))
		}
		testdata.Near(t, s.Name, v, x["stage."+s.Name].Float64s(), tolerance)
	}
	if rows, ok := x["out_rows"]; ok {
		nearSums(t, out, m.Out, x["out_row_sum"].Float64s(), tolerance)
		out = pick(out, m.Out, rows.Int32s())
	}
	testdata.Near(t, "out", out, x["out"].Float64s(), tolerance)
}

// numbersOf are the numbers of stages.
func numbersOf(stages []Stage[*value]) (out []Stage[[]float32]) {
	for _, s := range stages {
		out = append(out, Stage[[]float32]{s.Name, s.Channels, s.Level, s.Value.f})
	}
	return out
}

// runMink runs the network in plain Go.
func runMink(t *testing.T, m Mink, weights Weights, tab *points.Tables, features []float32) ([]float32, []Stage[[]float32]) {
	t.Helper()
	in := MinkInputs[*value]{Features: floats(features, tab.Rows(0), m.In), Stem: ints(tab.Stem, tab.Rows(0), m.Kernel*m.Kernel*m.Kernel)}
	for l := range tab.K3 {
		in.K3 = append(in.K3, ints(tab.K3[l], tab.Rows(l), 27))
		if l < len(tab.Up) {
			in.Down = append(in.Down, ints(tab.Down[l], tab.Rows(l+1), 8))
			in.Up = append(in.Up, ints(tab.Up[l], tab.Rows(l)))
		}
	}
	out, stages, err := AddMink(&evaluator{weights: map[string]bool{}}, m, weights, in)
	if err != nil {
		t.Fatal(err)
	}
	return out.f, numbersOf(stages)
}

func TestGoldenTransformer(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "encoder_*.safetensors") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) {
			x, meta := testdata.Tensors(t, path)
			number := func(key string) int {
				n, err := strconv.Atoi(meta[key])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			n := PublishedTransformer()
			n.Width, n.FFN, n.Heads = number("dim"), number("ffn"), number("heads")
			c := points.PublishedSets()
			c.Tokens, c.Kept = number("npoint"), number("npoint")/2
			xyz := x["xyz"].Float32s()
			var features []float32
			var weights Weights = stored(x)
			tolerance := 2e-5
			if f, ok := x["features"]; ok {
				features = f.Float32s()
			} else {
				weights, tolerance = hashed{}, 5e-5
				nh := x["normals_height"].Float32s()
				var normals []float32
				for i := 0; i < len(nh); i += 4 {
					normals = append(normals, nh[i:i+3]...)
				}
				var err error
				if features, err = points.ColorNormalHeight(xyz, x["colors"].Data, normals, 0); err != nil {
					t.Fatal(err)
				}
				for i := 3; i < len(nh); i += 4 {
					features[i/4*7+6] = nh[i]
				}
			}
			sets, err := points.NewSets(xyz, features, 7, c)
			if err != nil {
				t.Fatal(err)
			}
			for name, run := range map[string]func(*testing.T, Transformer, Weights, *points.Sets) ([]float32, []Stage[[]float32]){"go": runTransformer, "onnx": onnxTransformer} {
				t.Run(name, func(t *testing.T) {
					out, stages := run(t, n, weights, sets)
					compareTransformer(t, x, n, out, stages, tolerance)
				})
			}
		})
	}
}

func compareTransformer(t *testing.T, x map[string]testdata.Tensor, n Transformer, out []float32, stages []Stage[[]float32], tolerance float64) {
	t.Helper()
	for _, s := range stages {
		v := s.Value
		rows := "rows1"
		if s.Name == "tokens" || s.Name == "layer0" {
			rows = "rows0"
		}
		if r, ok := x[rows]; ok {
			v = pick(v, n.Width, r.Int32s())
		}
		testdata.Near(t, s.Name, v, x[s.Name].Float64s(), tolerance)
	}
	if want, ok := x["out_row_sum"]; ok {
		nearSums(t, out, n.Width, want.Float64s(), tolerance)
		out = pick(out, n.Width, x["rows1"].Int32s())
	}
	testdata.Near(t, "out", out, x["out"].Float64s(), tolerance)
}

func runTransformer(t *testing.T, n Transformer, weights Weights, s *points.Sets) ([]float32, []Stage[[]float32]) {
	t.Helper()
	c := s.Config
	in := TransformerInputs[*value]{
		Groups: floats(s.Groups, c.Tokens, c.Samples, s.Channels),
		Balls:  ints(s.Balls, c.Kept, c.Samples2),
		Local:  floats(s.Local, c.Kept, c.Samples2, 3),
	}
	for i, m := range s.Masks {
		size := c.Kept
		if i == 0 {
			size = c.Tokens
		}
		in.Masks = append(in.Masks, &value{shape: []int{size, size}, b: m})
	}
	out, stages, err := AddTransformer(&evaluator{weights: map[string]bool{}}, n, weights, in)
	if err != nil {
		t.Fatal(err)
	}
	return out.f, numbersOf(stages)
}

func TestMissingWeightIsNamed(t *testing.T) {
	m := MinkUNet18A()
	m.Stem, m.Encoder, m.Decoder = 2, []int{2}, []int{2}
	tab, err := points.NewTables([]int32{0, 0, 0}, m.Levels())
	if err != nil {
		t.Fatal(err)
	}
	in := MinkInputs[*value]{Features: floats([]float32{1, 2, 3}, 1, 3), Stem: ints(tab.Stem, 1, 125), K3: []*value{ints(tab.K3[0], 1, 27), ints(tab.K3[1], 1, 27)},
		Down: []*value{ints(tab.Down[0], 1, 8)}, Up: []*value{ints(tab.Up[0], 1)}}
	if _, _, err := AddMink(&evaluator{weights: map[string]bool{}}, m, stored{}, in); err == nil || !strings.Contains(err.Error(), "net3d.bn0.bn.weight is missing") {
		t.Errorf("error %v", err)
	}
	if _, _, err := AddMink(&evaluator{weights: map[string]bool{}}, m, hashed{}, in); err != nil {
		t.Errorf("a network of two levels: %v", err)
	}
	in.Up = nil
	if _, _, err := AddMink(&evaluator{weights: map[string]bool{}}, m, hashed{}, in); err == nil || !strings.Contains(err.Error(), "0 up, expected 2, 1 and 1") {
		t.Errorf("error %v", err)
	}
}
