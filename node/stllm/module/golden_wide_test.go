package module

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/hashweights"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/testdata"
)

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
	r.b.Products = orttest.Device() == ""
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
