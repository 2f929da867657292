package module

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/hashweights"
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
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= worst) {
			worst, at = d, i
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

func TestGoldenDecoder(t *testing.T) {
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		r := newRig(t, model, false)
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
	})
}

// hashed gives every weight the value that its name hashes to.
type hashed struct{ salt string }

func (h hashed) tensor(name string, shape ...int64) *checkpoint.Tensor {
	values := hashweights.Core(h.salt, name, shape...)
	data, err := checkpoint.EncodeFloat32(checkpoint.F32, values)
	if err != nil {
		panic(err)
	}
	return &checkpoint.Tensor{Name: name, DType: checkpoint.F32, Shape: shape, Offset: -1, Length: int64(len(data)), Data: data}
}

// shaped is a Finder over hash weights; the wide files do not store names and shapes, so the test lists them.
type shaped struct {
	hashed
	shapes map[string][]int64
	file   *weightFile // nil: weights are made in memory
}

// weightFile holds weights that are computed in their place, as a model folder does: for the decoder, whose half a billion
// values would otherwise be copied several times.
type weightFile struct {
	t    *testing.T
	f    *os.File
	size int64
}

func newWeightFile(t *testing.T) *weightFile {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "weights"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &weightFile{t: t, f: f}
}

func (w *weightFile) tensor(salt, name string, shape []int64) *checkpoint.Tensor {
	x := &checkpoint.Tensor{Name: name, DType: checkpoint.F32, Shape: shape, File: w.f.Name(), Offset: w.size}
	x.Length = 4 * x.Elements()
	w.size += (x.Length + scratchAlign - 1) / scratchAlign * scratchAlign
	const piece = 1 << 18 // values; they stay in the cache
	pieces := make(chan int64)
	var group errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			values := make([]float32, piece)
			var failed error
			for start := range pieces {
				part := values[:min(piece, x.Elements()-start)]
				hashweights.CorePiece(part, start, salt, name, shape...)
				if _, err := w.f.WriteAt(unsafe.Slice((*byte)(unsafe.Pointer(&part[0])), 4*len(part)), x.Offset+4*start); err != nil {
					failed = err
				}
			}
			return failed
		})
	}
	for start := int64(0); start < x.Elements(); start += piece {
		pieces <- start
	}
	close(pieces)
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	if name == "model.embed_tokens.weight" { // which is looked up here, not by the graph
		x.Data = make([]byte, x.Length)
		if _, err := w.f.ReadAt(x.Data, x.Offset); err != nil {
			w.t.Fatal(err)
		}
	}
	return x
}

func (s shaped) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	for _, n := range names {
		if shape, ok := s.shapes[n]; ok {
			if s.file != nil {
				return s.file.tensor(s.salt, n, shape), true
			}
			return s.tensor(n, shape...), true
		}
	}
	return nil, false
}

func wide(t *testing.T, name string) (map[string]testdata.Tensor, string) {
	t.Helper()
	x, meta := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), name+".safetensors"))
	return x, meta["salt"]
}

func sampled(t *testing.T, name string, got []float32, x map[string]testdata.Tensor, key string, tol float64) {
	t.Helper()
	var pick []float32
	for _, i := range x[key+".index"].Float64s() {
		if int(i) >= len(got) {
			t.Fatalf("%s: index %d of %d values", name, int(i), len(got))
		}
		pick = append(pick, got[int(i)])
	}
	compare(t, name, pick, x[key+".value"].Float32s(), tol)
}

func (s shaped) linear(name string, in, out int64) {
	s.shapes[name+".weight"] = []int64{out, in}
	s.shapes[name+".bias"] = []int64{out}
}

func (s shaped) norm(name string, n int64) {
	s.shapes[name+".weight"] = []int64{n}
	s.shapes[name+".bias"] = []int64{n}
}

func TestGoldenWideVision(t *testing.T) {
	x, salt := wide(t, "wide_siglip")
	v := config.Default().VisionConfig
	v.NumHiddenLayers = 4 // three are stored and run
	w := shaped{hashed: hashed{salt}, shapes: map[string][]int64{}}
	d, m := int64(v.HiddenSize), int64(v.IntermediateSize)
	w.shapes[towerPrefix+"embeddings.patch_embedding.weight"] = []int64{d, 3, int64(v.PatchSize), int64(v.PatchSize)}
	w.shapes[towerPrefix+"embeddings.patch_embedding.bias"] = []int64{d}
	w.shapes[towerPrefix+"embeddings.position_embedding.weight"] = []int64{int64(v.Grid() * v.Grid()), d}
	for i := range v.Layers() {
		p := fmt.Sprintf("%sencoder.layers.%d.", towerPrefix, i)
		w.norm(p+"layer_norm1", d)
		w.norm(p+"layer_norm2", d)
		for _, q := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			w.linear(p+"self_attn."+q, d, d)
		}
		w.linear(p+"mlp.fc1", d, m)
		w.linear(p+"mlp.fc2", m, d)
	}
	r := newRig(t, w, false)
	in := r.b.G.Input("pixels", graph.Float32, graph.D(1), graph.D(3), graph.D(v.ImageSize), graph.D(v.ImageSize))
	r.b.probe("output", r.b.Vision(in, v, towerPrefix))
	r.probes = []string{"siglip.embeddings", "output"}
	s := int64(v.ImageSize)
	got := r.run(ort.Values{"pixels": floats(t, hashweights.Input(salt, "input.pixels", 1, 1, 3, s, s), 1, 3, v.ImageSize, v.ImageSize)})
	sampled(t, "embeddings", got["siglip.embeddings"], x, "embeddings", tolVision)
	sampled(t, "output", got["output"], x, "output", tolVision)
}

func TestGoldenWideProjector(t *testing.T) {
	x, salt := wide(t, "wide_projector")
	c := config.Default()
	w := shaped{hashed: hashed{salt}, shapes: map[string][]int64{}}
	w.linear("model.mm_projector.0", int64(c.MMHiddenSize), int64(c.HiddenSize))
	w.linear("model.mm_projector.2", int64(c.HiddenSize), int64(c.HiddenSize))
	r := newRig(t, w, false)
	grid := c.VisionConfig.Grid()
	in := r.b.G.Input("features", graph.Float32, graph.D(1), graph.D(grid*grid), graph.D(c.MMHiddenSize))
	y := r.b.Projector(in, c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
	r.b.probe("pool.bilinear", r.b.Pool(y, grid, c.PooledGrid(), "bilinear", 2))
	r.b.probe("pool.average", r.b.Pool(y, grid, grid/2, "average", 2))
	r.b.probe("pool.max", r.b.Pool(y, grid, grid/2, "max", 2))
	features := hashweights.Input(salt, "input.features", 1.5, 1, int64(grid*grid), int64(c.MMHiddenSize))
	got := r.run(ort.Values{"features": floats(t, features, 1, grid*grid, c.MMHiddenSize)})
	for _, k := range []string{"projector", "pool.bilinear", "pool.average", "pool.max"} {
		sampled(t, k, got[k], x, k, tolVision)
	}
}

func TestGoldenWideRays(t *testing.T) {
	x, salt := wide(t, "wide_rays")
	q := config.Default().QFormerConfig.HiddenSize
	columns := config.RayColumns(config.Default().ImgViewBasePE)
	w := shaped{hashed: hashed{salt}, shapes: map[string][]int64{}}
	r := newRig(t, w, false)
	fed := ort.Values{}
	for _, kind := range []struct{ name, in, layer string }{
		{"image_pos", "ray.embedding", "img_ray_encoder.img_ray_projection_to_qformer"}, {"point_pos", "point.embedding", "pcd_ray_encoder.pcd_ray_projection_to_qformer"},
	} {
		w.linear(kind.layer, int64(columns), int64(q))
		data := x[kind.in].Float32s()
		in := r.b.G.Input(kind.name, graph.Float32, graph.D(len(data)/columns), graph.D(columns))
		r.b.probe(kind.name, r.b.Linear(in, kind.layer, columns, q, true))
		fed[kind.name] = floats(t, data, len(data)/columns, columns)
	}
	got := r.run(fed)
	for _, name := range []string{"image_pos", "point_pos"} {
		sampled(t, name, got[name], x, name, tolPos)
	}
}

func TestGoldenWideQFormer(t *testing.T) {
	x, salt := wide(t, "wide_qformer")
	q := config.Default().QFormerConfig
	q.EncoderHiddenSize = q.HiddenSize
	w := shaped{hashed: hashed{salt}, shapes: map[string][]int64{}}
	d, e, m := int64(q.HiddenSize), int64(q.EncoderHiddenSize), int64(q.IntermediateSize)
	w.norm("qformer.embeddings.layernorm", d)
	for i := range q.NumHiddenLayers {
		p := fmt.Sprintf("qformer.encoder.layer.%d.", i)
		for kind, source := range map[string]int64{"attention.": d, "crossattention.": e} {
			w.linear(p+kind+"attention.query", d, d)
			w.linear(p+kind+"attention.key", source, d)
			w.linear(p+kind+"attention.value", source, d)
			w.linear(p+kind+"output.dense", d, d)
			w.norm(p+kind+"output.LayerNorm", d)
		}
		w.linear(p+"intermediate_query.dense", d, m)
		w.linear(p+"output_query.dense", m, d)
		w.norm(p+"output_query.LayerNorm", d)
	}
	r := newRig(t, w, false)
	const sequence, points = 444, 500 // README: input.sequence 1,444,768; input.points 1,500,768
	a := r.b.G.Input("sequence", graph.Float32, graph.N("s"), graph.D(q.HiddenSize))
	p := r.b.G.Input("points", graph.Float32, graph.N("n"), graph.D(q.EncoderHiddenSize))
	y, _ := r.b.QFormer(a, p, q)
	r.b.probe("output", y)
	r.b.probe("latents", r.b.G.Slice(y, 0, 0, int64(q.NumQueryTokens)))
	got := r.run(ort.Values{
		"sequence": floats(t, hashweights.Input(salt, "input.sequence", 1, 1, sequence, d), sequence, q.HiddenSize),
		"points":   floats(t, hashweights.Input(salt, "input.points", 1, 1, points, e), points, q.EncoderHiddenSize),
	})
	sampled(t, "layer.0", got["qformer.layer.0"], x, "layer.0", tolQFormer)
	sampled(t, "layer.1", got["qformer.layer.1"], x, "layer.1", tolQFormer)
	sampled(t, "output", got["output"], x, "output", tolQFormer)
	sampled(t, "latents", got["latents"], x, "latents", tolQFormer)
}

func TestGoldenWideDecoder(t *testing.T) {
	x, salt := wide(t, "wide_qwen2")
	c := config.Default()
	c.NumHiddenLayers, c.VocabSize = 2, len(x["logits.last"].Float32s())
	d := decoderConfig(c)
	w := shaped{hashed: hashed{salt}, shapes: map[string][]int64{}, file: newWeightFile(t)}
	h, m, v := int64(c.HiddenSize), int64(c.IntermediateSize), int64(c.VocabSize)
	kv := int64(d.NumKeyValueHeads * d.HeadDim)
	w.shapes["model.embed_tokens.weight"] = []int64{v, h}
	w.shapes["lm_head.weight"] = []int64{v, h}
	w.shapes["model.norm.weight"] = []int64{h}
	for i := range d.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		w.shapes[p+"input_layernorm.weight"] = []int64{h}
		w.shapes[p+"post_attention_layernorm.weight"] = []int64{h}
		w.linear(p+"self_attn.q_proj", h, h)
		w.linear(p+"self_attn.k_proj", h, kv)
		w.linear(p+"self_attn.v_proj", h, kv)
		w.linear(p+"self_attn.o_proj", h, h)
		w.linear(p+"mlp.gate_proj", h, m)
		w.linear(p+"mlp.up_proj", h, m)
		w.linear(p+"mlp.down_proj", m, h)
	}
	r := newRig(t, w, false)
	r.options.MapWeights = true
	ids := x["ids"]
	s := ids.Shape[len(ids.Shape)-1]
	o := DecoderOptions{Positions: s, AllLogits: true}
	d.Build(r.b, d.Inputs(r.b, o), o)
	r.probes = []string{"llm.layer.0", "llm.layer.1"}
	in := ort.Values{"inputs_embeds": floats(t, embed(t, w, ids, c.HiddenSize), 1, s, c.HiddenSize)}
	feed(t, d, in, s, s)
	got := r.run(in)
	sampled(t, "layer.0", got["llm.layer.0"], x, "layer.0", tolLayers)
	sampled(t, "layer.1", got["llm.layer.1"], x, "layer.1", tolLayers)
	sampled(t, "logits", got["logits"], x, "logits", tolLogits)
	compare(t, "logits.last", got["logits"][len(got["logits"])-c.VocabSize:], x["logits.last"].Float32s(), tolLogits)

	positions := x["rope.position"].Float64s()
	cos, sin := d.Rotary(int(positions[len(positions)-1]) + 1)
	half := d.HeadDim / 2
	for i, p := range positions {
		// The reference repeats the half in both halves of the head.
		compare(t, fmt.Sprintf("cos at %g", p), cos[int(p)*half:int(p+1)*half], x["rope.cos"].Float32s()[i*d.HeadDim:i*d.HeadDim+half], 1e-6)
		compare(t, fmt.Sprintf("sin at %g", p), sin[int(p)*half:int(p+1)*half], x["rope.sin"].Float32s()[i*d.HeadDim:i*d.HeadDim+half], 1e-6)
	}
}
