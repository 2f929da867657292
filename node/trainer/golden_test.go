package trainer

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/trainer/weights"
)

// tuned are the parts that the published recipe trains (mm_tunable_parts: mm_mlp_adapter, qformer, ray_encoder).
func tuned() []string {
	return []string{"model.mm_projector.", "qformer.e", "latent_query.", "pcd_ray_encoder.", "img_ray_encoder.", "img_encoder_to_qformer_projection.",
		"text_embed_to_qformer_projection.", "qformer_to_language_projection."}
}

// goldenFiles are the cases that carry a training step.
func goldenFiles(t *testing.T) (dir string, files []string) {
	dir = testdata.Golden(t, "core")
	files, err := filepath.Glob(filepath.Join(dir, "case_*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	return dir, files
}

// One whole item: the loss of an answer and its gradients through projector, pool, aligner and language model.
func TestGoldenGradients(t *testing.T) {
	dir, files := goldenFiles(t)
	c, err := config.Load(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := weights.Read(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range files {
		x, _ := testdata.Tensors(t, file)
		if _, ok := x["train.loss"]; !ok {
			continue
		}
		tried++
		t.Run(filepath.Base(file), func(t *testing.T) { goldenStep(t, c, w, x) })
	}
	if tried == 0 {
		t.Error("no case has a training step")
	}
}

// userTurn is what lies between the second and the third <|im_start|>: a training text has a line break that the inference
// text lacks.
func userTurn(t *testing.T, ids []float64) []float64 {
	var starts []int
	for i, id := range ids {
		if id == ids[0] {
			starts = append(starts, i)
		}
	}
	if len(starts) != 3 {
		t.Fatalf("%d turns, expected system, user and assistant", len(starts))
	}
	return ids[starts[1]:starts[2]]
}

func goldenStep(t *testing.T, c *config.Config, w *weights.Set, x map[string]testdata.Tensor) {
	env := orttest.Environment(t)
	b := builder("golden", w, tuned()...)
	g := b.G
	feeds := Batch{}
	input := func(name string, data []float32, dims ...int) *graph.Value {
		feeds[name] = Feed{Shape: dims, Float32s: data}
		return g.Input(name, graph.Float32, graph.S(dims...)...)
	}
	table, err := w.Get("model.embed_tokens.weight")
	if err != nil {
		t.Fatal(err)
	}
	embed := func(name string, ids []float64) *graph.Value {
		var rows []float32
		n := 0
		for _, id := range ids {
			if id >= 0 {
				rows = append(rows, table.Data[int(id)*c.HiddenSize:(int(id)+1)*c.HiddenSize]...)
				n++
			}
		}
		return input(name, rows, n, c.HiddenSize)
	}
	features := x["siglip.features"]
	frames := features.Shape[0]
	grid := c.PooledGrid()
	y := b.Projector(input("features", features.Float32s(), features.Shape...), c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
	pooled := b.Pool(y, c.VisionConfig.Grid(), grid, c.MMSpatialPoolMode, c.MMSpatialPoolStride)
	images := g.Reshape(pooled, graph.D(frames*grid*grid), graph.D(c.HiddenSize))
	pointRays, err := rays.NewPublishedFourier().EncodePoints(x["point.direction"].Float32s())
	if err != nil {
		t.Fatal(err)
	}
	voxels := x["voxel_features"]
	in := module.AlignerInputs{
		Images:    images,
		ImageRays: input("image_rays", x["ray.embedding"].Float32s(), frames*grid*grid, c.ImageColumns()),
		Text:      embed("text", userTurn(t, x["train.input_ids"].Float64s())),
		Points:    input("points", voxels.Float32s(), voxels.Shape...),
		PointRays: input("point_rays", pointRays, voxels.Shape[0], c.PointColumns()),
	}
	prefix, _ := module.Aligner{Config: c}.Build(b, in)

	rows := g.Reshape(pooled, graph.D(frames*grid), graph.D(grid), graph.D(c.HiddenSize))
	newline := g.Reshape(b.Weight("model.image_newline", c.HiddenSize), graph.D(1), graph.D(1), graph.D(c.HiddenSize))
	video := g.Concat(1, rows, g.Expand(newline, graph.D(frames*grid), graph.D(1), graph.D(c.HiddenSize)))
	video = g.Reshape(video, graph.D(frames*grid*(grid+1)), graph.D(c.HiddenSize))
	var parts []*graph.Value
	from := 0
	ids := x["train.input_ids"].Float64s()
	for i, id := range append(ids, -1) {
		if id >= 0 {
			continue
		}
		parts = append(parts, embed("part"+string(rune('0'+len(parts))), ids[from:i]))
		from = i + 1
		switch int32(id) {
		case prompt.PointCloud:
			parts = append(parts, prefix)
		case prompt.Video:
			parts = append(parts, video)
		}
	}
	sequence := g.Unsqueeze(g.Concat(0, parts...), 0)
	if err := g.Err(); err != nil {
		t.Fatal(err)
	}
	n := int(sequence.Shape[1].Size)
	labels := x["train.spliced_labels"].Float64s()
	if len(labels) != n {
		t.Fatalf("%d labels for a sequence of %d", len(labels), n)
	}
	place, causal := make([]int64, n), make([]float32, n*n)
	hot, count := make([]float32, n*c.VocabSize), float32(0)
	for i := range n {
		place[i] = int64(i)
		for j := i + 1; j < n; j++ {
			causal[i*n+j] = hidden
		}
		if i+1 < n && labels[i+1] >= 0 {
			hot[i*c.VocabSize+int(labels[i+1])] = 1
			count++
		}
	}
	feeds["place"] = Feed{Shape: []int{n}, Int64s: place}
	mask := input("causal", causal, 1, 1, 1, n, n)
	h := module.DecoderOf(c).Sequence(b, sequence, g.Input("place", graph.Int64, graph.D(n)), mask, n)
	head := "lm_head.weight"
	if c.TieWordEmbeddings {
		head = "model.embed_tokens.weight"
	}
	logits := g.Linear(g.Squeeze(h, 0), b.Weight(head, c.VocabSize, c.HiddenSize), nil)
	loss := g.Sum(g.Sum(g.Mul(g.LogSoftmax(logits), input("hot", hot, n, c.VocabSize)), 1, false), 0, false)
	p, err := newProgram(env, g, w, g.Scale(loss, -1/count), nil, ort.Options{Device: orttest.Device()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	got, _, err := p.run(t.Context(), feeds)
	if err != nil {
		t.Fatal(err)
	}
	// The reference sums in float32 in another order; the loss is a mean of logarithms of sums over the vocabulary.
	if want := x["train.loss"].Float64s()[0]; math.Abs(got-want) > 1e-4*math.Abs(want) {
		t.Errorf("loss %v, expected %v", got, want)
	}
	squares := 0.0
	compared := 0
	for i, name := range p.names {
		for _, v := range p.grads[i] {
			squares += float64(v) * float64(v)
		}
		want, ok := x["train.grad."+name]
		if !ok {
			continue
		}
		compared++
		worst, size := 0.0, 0.0
		for j, v := range want.Float64s() {
			worst, size = max(worst, math.Abs(v-float64(p.grads[i][j]))), max(size, math.Abs(v))
		}
		if worst > 1e-3*size {
			t.Errorf("gradient of %s is off by %.3g of at most %.3g", name, worst, size)
		}
	}
	stored := 0
	for name := range x {
		if strings.HasPrefix(name, "train.grad.") {
			stored++
		}
	}
	if compared != stored {
		t.Errorf("%d gradients compared of %d stored", compared, stored)
	}
	if want := x["train.grad_norm"].Float64s()[0]; math.Abs(math.Sqrt(squares)-want) > 1e-3*want {
		t.Errorf("norm of the gradient %v, expected %v", math.Sqrt(squares), want)
	}
}
