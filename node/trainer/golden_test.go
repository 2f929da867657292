package trainer

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/trainer/weights"
)

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
	model, err := checkpoint.OpenFolder(filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	tried := 0
	for _, file := range files {
		x, _ := testdata.Tensors(t, file)
		if _, ok := x["train.loss"]; !ok {
			continue
		}
		tried++
		for name, limits := range map[string]bounds{"whole": boundsOf(""), "in parts": {scores: 200, rows: 3, frames: 1}} {
			t.Run(filepath.Base(file)+" "+name, func(t *testing.T) { goldenStep(t, c, model, limits, x) })
		}
	}
	if tried == 0 {
		t.Error("no case has a training step")
	}
}

// goldenStep runs what a fine-tune of the published profile runs.
func goldenStep(t *testing.T, c *config.Config, model *checkpoint.Folder, limits bounds, x map[string]testdata.Tensor) {
	env := orttest.Environment(t)
	names, err := tunable(c, []string{paper})
	if err != nil {
		t.Fatal(err)
	}
	trained, err := weights.Pick(model, names)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newChain(env, c, model, trained, limits, ort.Options{Device: orttest.Device()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	item := seen{frames: x["siglip.features"].Shape[0], features: x["siglip.features"].Float32s(), imageRays: x["ray.embedding"].Float32s(),
		points: x["voxel_features"].Float32s()}
	if item.pointRays, err = rays.NewPublishedFourier().EncodePoints(x["point.direction"].Float32s()); err != nil {
		t.Fatal(err)
	}
	text := prompt.Training{IDs: x["train.input_ids"].Int32s(), Labels: x["train.labels"].Int32s()}
	text.QFormer = userTurn(t, text.IDs)
	table, _ := model.Tensor("model.embed_tokens.weight")
	b, err := item.batch(c, table, text)
	if err != nil {
		t.Fatal(err)
	}
	sameLabels(t, b, x["train.spliced_labels"].Int32s())
	got, shown, err := p.run(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	// The reference sums in float32 in another order; the loss is a mean of logarithms of sums over the vocabulary.
	if want := x["train.loss"].Float64s()[0]; math.Abs(got-want) > 1e-4*math.Abs(want) {
		t.Errorf("loss %v, expected %v", got, want)
	}
	if r := shown["right"]; len(r) != 1 || !(r[0] >= 0 && r[0] <= 1) {
		t.Errorf("share of right tokens: %v", r)
	}
	goldenSums(t, p.sums(), x)
	// Once more without training: the same loss and no further gradients.
	first := slices.Clone(p.sums().grads[0])
	if again, _, err := p.step(t.Context(), b, false); err != nil || again != got {
		t.Errorf("without training: loss %v, expected %v: %v", again, got, err)
	}
	if !slices.Equal(first, p.sums().grads[0]) {
		t.Error("a measurement has changed the gradients")
	}
}

// userTurn is what lies between the second and the third <|im_start|>, without placeholders.
func userTurn(t *testing.T, ids []int32) []int32 {
	var starts []int
	for i, id := range ids {
		if id == ids[0] {
			starts = append(starts, i)
		}
	}
	if len(starts) != 3 {
		t.Fatalf("%d turns, expected system, user and assistant", len(starts))
	}
	return slices.DeleteFunc(slices.Clone(ids[starts[1]:starts[2]]), func(id int32) bool { return id < 0 })
}

// sameLabels compares a batch with the labels of a spliced sequence.
func sameLabels(t *testing.T, b Batch, spliced []int32) {
	var at, label []int64
	for i, l := range spliced {
		if i > 0 && l >= 0 {
			at, label = append(at, int64(i-1)), append(label, int64(l))
		}
	}
	if len(at) == 0 || !slices.Equal(b["at"].Int64s, at) || !slices.Equal(b["label"].Int64s, label) {
		t.Errorf("labels %v at %v, expected %v at %v", b["label"].Int64s, b["at"].Int64s, label, at)
	}
}

func goldenSums(t *testing.T, p *program, x map[string]testdata.Tensor) {
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
