package module

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/testdata"
)

// Tolerances of golden/core/README.md, absolute.
const (
	tolVision  = 3e-5
	tolPos     = 5e-6
	tolQFormer = 2e-5
	tolLayers  = 5e-5
	tolLogits  = 1.5e-4
)

// rig builds one graph and runs it with every probed value as an output.
type rig struct {
	t       *testing.T
	b       *Builder
	options ort.Options
	probes  []string
	values  map[string]*graph.Value
}

func newRig(t *testing.T, find Finder, decompose bool) *rig {
	orttest.Environment(t)
	r := &rig{t: t, values: map[string]*graph.Value{}, options: ort.Options{Device: orttest.Device()}}
	scratch, err := NewScratch(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.b = &Builder{G: graph.New("golden"), Find: find, DType: graph.Float32, Decompose: decompose, Scratch: scratch}
	r.b.Probe = func(name string, v *graph.Value) {
		if _, dup := r.values[name]; !dup && r.b.G.Err() == nil {
			r.values[name] = v
			r.probes = append(r.probes, name)
		}
	}
	return r
}

func (r *rig) run(in ort.Values) map[string][]float32 {
	r.t.Helper()
	for _, name := range r.probes {
		r.b.G.Output("probe."+name, r.values[name])
	}
	m, err := r.b.G.Model()
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := ort.NewSession(orttest.Environment(r.t), m, r.options)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.b.G.Dump())
	}
	defer s.Close()
	out, err := s.Run(r.t.Context(), in, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	got := map[string][]float32{}
	for name, v := range out {
		f, err := v.Floats()
		if err != nil {
			r.t.Fatal(err)
		}
		got[strings.TrimPrefix(name, "probe.")] = append([]float32(nil), f...)
	}
	return got
}

func floats(t *testing.T, data []float32, shape ...int) *ort.Tensor {
	t.Helper()
	x, err := ort.New(data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func compare(t *testing.T, name string, got []float32, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d values, expected %d", name, len(got), len(want))
		return
	}
	worst, at := 0.0, 0
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); d > worst || math.IsNaN(d) {
			worst, at = d, i // once NaN, always NaN
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s: differs by %.3g at %d (%g, expected %g), allowed %.3g", name, worst, at, got[at], want[at], tol)
	}
}

// stage says whether a stored tensor is one of the named, or of a group named by its prefix with a dot.
func stage(name string, of ...string) bool {
	return slices.ContainsFunc(of, func(s string) bool { return name == s || strings.HasSuffix(s, ".") && strings.HasPrefix(name, s) })
}

type goldenCase struct {
	Name    string
	Tensors map[string]json.RawMessage
}

// cases calls f for every case of the golden folder with its model and tensors.
func cases(t *testing.T, f func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor)) {
	dir := testdata.Golden(t, "core")
	var list struct{ Cases []goldenCase }
	if testdata.JSON(t, filepath.Join(dir, "cases.json"), &list); len(list.Cases) == 0 {
		t.Fatal("cases.json has no cases")
	}
	c, err := config.Load(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	model, err := checkpoint.OpenFolder(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	for _, k := range list.Cases {
		t.Run(k.Name, func(t *testing.T) {
			x, _ := testdata.Tensors(t, filepath.Join(dir, "case_"+k.Name+".safetensors"))
			f(t, c, model, x)
		})
	}
}

const towerPrefix = "model.vision_tower.vision_tower.vision_model."

func TestGoldenVision(t *testing.T) {
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		for _, decompose := range []bool{false, true} {
			r := newRig(t, model, decompose)
			pixels := x["pixels"]
			in := r.b.G.Input("pixels", graph.Float32, graph.N("frames"), graph.D(pixels.Shape[1]), graph.D(pixels.Shape[2]), graph.D(pixels.Shape[3]))
			features := r.b.Vision(in, c.VisionConfig, towerPrefix)
			r.b.probe("siglip.features", features)
			projected := r.b.Projector(features, c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
			r.b.Pool(projected, c.VisionConfig.Grid(), c.PooledGrid(), "bilinear", c.MMSpatialPoolStride)
			for _, mode := range []string{"average", "max"} {
				y := r.b.Pool(projected, c.VisionConfig.Grid(), c.VisionConfig.Grid()/c.MMSpatialPoolStride, mode, c.MMSpatialPoolStride)
				r.b.probe(mode+".pooled", y)
			}
			got := r.run(ort.Values{"pixels": floats(t, pixels.Float32s(), pixels.Shape...)})
			for name, want := range x {
				v, ok := got[name]
				if !ok {
					if stage(name, "siglip.", "projector", "pooled", "average.pooled", "max.pooled") {
						t.Errorf("%s: stored and not compared (decomposed: %v)", name, decompose)
					}
					continue
				}
				compare(t, name, v, want.Float32s(), tolVision)
			}
		}
	})
}

// embed looks up rows of the embedding table; ids below zero are placeholders and left out.
func embed(t *testing.T, model Finder, ids testdata.Tensor, width int) []float32 {
	t.Helper()
	table, ok := model.Tensor("model.embed_tokens.weight")
	if !ok {
		t.Fatal("no embedding table")
	}
	var out []float32
	row := make([]float32, width)
	for _, id := range ids.Float64s() {
		if id < 0 {
			continue
		}
		if err := table.Float32Rows(int64(id), 1, row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row...)
	}
	return out
}

func TestGoldenAligner(t *testing.T) {
	fourier := rays.NewPublishedFourier()
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		for _, decompose := range []bool{false, true} {
			r := newRig(t, model, decompose)
			a := Aligner{c}
			_, ev := a.Build(r.b, a.Inputs(r.b))
			if decompose {
				r.b.probe("evidence.points", ev.Points)
				r.b.probe("evidence.images", ev.Images)
			}
			pooled, points := x["pooled"], x["voxel_features"]
			patches, n := pooled.Shape[0]*pooled.Shape[1], points.Shape[0]
			text := embed(t, model, x["qformer_ids"], c.HiddenSize)
			columns := config.RayColumns(c.PcdViewBasePE)
			pointRays, err := fourier.EncodePoints(x["point.direction"].Float32s())
			if err != nil {
				t.Fatal(err)
			}
			in := ort.Values{
				"images":     floats(t, pooled.Float32s(), patches, pooled.Shape[2]),
				"image_rays": floats(t, x["ray.embedding"].Float32s(), patches, config.RayColumns(c.ImgViewBasePE)),
				"text":       floats(t, text, len(text)/c.HiddenSize, c.HiddenSize),
				"points":     floats(t, points.Float32s(), n, points.Shape[1]),
				"point_rays": floats(t, pointRays, n, columns),
			}
			got := r.run(in)
			for name, want := range x {
				v, ok := got[name]
				if !ok && stage(name, "qformer.", "image_pos", "point_pos", "image_features", "prefix") {
					t.Errorf("%s: stored and not compared (decomposed: %v)", name, decompose)
				}
				if !ok || name == "pooled" {
					continue
				}
				tol := tolQFormer
				if strings.HasSuffix(name, "_pos") {
					tol = tolPos
				}
				compare(t, name, v, want.Float32s(), tol)
			}
			if decompose {
				q := c.QFormerConfig
				cross := (q.NumHiddenLayers + q.CrossAttentionFrequency - 1) / q.CrossAttentionFrequency
				sum := 0.0
				for _, w := range got["evidence.points"] {
					sum += float64(w)
				}
				if want := float64(q.NumQueryTokens * cross * q.NumAttentionHeads); math.Abs(sum-want) > 1e-2 {
					t.Errorf("evidence over voxels sums to %g, expected %g", sum, want)
				}
			}
		}
	})
}

// The other pool modes make fewer patches: the aligner takes any number of them, with rays pooled alike.
func TestGoldenAlignerPools(t *testing.T) {
	fourier := rays.NewPublishedFourier()
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		var voxels []rays.Pose
		for p := range slices.Chunk(x["c2w_voxel"].Float64s(), 16) {
			voxels = append(voxels, rays.Pose(p))
		}
		pointRays, err := fourier.EncodePoints(x["point.direction"].Float32s())
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"average", "max"} {
			pooled, points := x[mode+".pooled"], x["voxel_features"]
			patches := pooled.Shape[0] * pooled.Shape[1]
			grid := int(math.Round(math.Sqrt(float64(pooled.Shape[1]))))
			pixels, err := rays.PatchRays(voxels, [9]float64(x["K_scaled"].Float64s()), c.VisionConfig.ImageSize, grid)
			if err != nil {
				t.Fatal(err)
			}
			imageRays, err := fourier.Encode(pixels, 3)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, model, false)
			a := Aligner{c}
			a.Build(r.b, a.Inputs(r.b))
			text := embed(t, model, x["qformer_ids"], c.HiddenSize)
			got := r.run(ort.Values{
				"images":     floats(t, pooled.Float32s(), patches, pooled.Shape[2]),
				"image_rays": floats(t, imageRays, patches, config.RayColumns(c.ImgViewBasePE)),
				"text":       floats(t, text, len(text)/c.HiddenSize, c.HiddenSize),
				"points":     floats(t, points.Float32s(), points.Shape...),
				"point_rays": floats(t, pointRays, points.Shape[0], config.RayColumns(c.PcdViewBasePE)),
			})
			compare(t, mode+".image_pos", got["image_pos"], x[mode+".image_pos"].Float32s(), tolPos)
			compare(t, mode+".prefix", got["prefix"], x[mode+".prefix"].Float32s(), tolQFormer)
		}
	})
}

func decoderConfig(c *config.Config) DecoderConfig {
	return DecoderConfig{
		VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, NumHiddenLayers: c.NumHiddenLayers,
		NumAttentionHeads: c.NumAttentionHeads, NumKeyValueHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim(), RMSNormEps: c.RMSNormEps,
		RopeTheta: c.RopeTheta, MaxPositionEmbeddings: c.MaxPositionEmbeddings, HiddenAct: c.HiddenAct, AttentionBias: true,
		TieWordEmbeddings: c.TieWordEmbeddings,
	}
}

// feed adds the cache and its counters to a decoder's inputs.
func feed(t *testing.T, d DecoderConfig, in ort.Values, positions, total int) {
	t.Helper()
	ints := func(v int) *ort.Tensor {
		x, err := ort.New([]int32{int32(v)}, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		return x
	}
	in["last_key"], in["total"] = ints(total-1), ints(total)
	if d.RotaryInGraph() {
		n := in["inputs_embeds"].Shape()[1]
		place := make([]int64, n)
		for i := range place {
			place[i] = int64(total - n + i)
		}
		x, err := ort.New(place, n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		in["place"] = x
	}
	for i := range d.NumHiddenLayers {
		for _, kind := range []string{"key", "value"} {
			name := fmt.Sprintf("past_%s.%d", kind, i)
			if in[name] == nil {
				in[name] = floats(t, make([]float32, d.NumKeyValueHeads*positions*d.HeadDim), 1, d.NumKeyValueHeads, positions, d.HeadDim)
			}
		}
	}
}

// By ONNX Runtime's products, and on the CPU also by our own.
func TestGoldenDecoder(t *testing.T) {
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		goldenDecoder(t, c, model, x, false)
		if orttest.Device() == "" {
			goldenDecoder(t, c, model, x, true)
		}
	})
}

func goldenDecoder(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor, products bool) {
	r := newRig(t, model, false)
	r.b.Products = products
	d := decoderConfig(c)
	embeds := x["inputs_embeds"]
	s := embeds.Shape[0]
	o := DecoderOptions{Positions: s + 8, AllLogits: true}
	d.Build(r.b, d.Inputs(r.b, o), o)
	in := ort.Values{"inputs_embeds": floats(t, embeds.Float32s(), 1, s, embeds.Shape[1])}
	feed(t, d, in, o.Positions, s)
	got := r.run(in)
	for name, want := range x {
		v, ok := got[name]
		if !ok {
			if stage(name, "llm.", "logits") {
				t.Errorf("%s: stored and not compared", name)
			}
			continue
		}
		tol := tolLayers
		w := want.Float32s()
		if name == "logits" {
			tol, v = tolLogits, v[len(v)-len(w):] // the last eight positions are stored
		}
		compare(t, name, v, w, tol)
	}
}
