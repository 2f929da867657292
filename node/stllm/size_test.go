package stllm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/testdata"
)

// quantised writes a folder's 4-bit form.
func quantised(t *testing.T, dir string, block int, rest checkpoint.DType) string {
	t.Helper()
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := filepath.Join(t.TempDir(), "int4")
	told := int64(0)
	made, err := layout.Quantise(t.Context(), f, c, out, layout.QuantiseOptions{Block: block, Rest: rest}, func(done, total int64) {
		if done <= told || done > total {
			t.Errorf("progress went from %d to %d of %d", told, done, total)
		}
		told = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := 7*c.NumHiddenLayers + 1; len(made) != want {
		t.Errorf("%d matrices were quantised, expected %d", len(made), want)
	}
	for _, m := range made {
		if !(m.Error.Relative > 0.01 && m.Error.Relative < 0.15) {
			t.Errorf("%s: relative error %g", m.Name, m.Error.Relative)
		}
	}
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json"} {
		if err := checkpoint.CopyFile(name, dir, out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// ask loads a folder, asks it about two grey pictures and a small map, and returns the answer and the logits after the prompt.
func ask(t *testing.T, dir string, o stllm.Options) (stllm.Answer, []float32) {
	t.Helper()
	o.Log = zerolog.Nop()
	n, err := stllm.Load(t.Context(), orttest.Environment(t), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cloud := &scene.Cloud{HasColor: true}
	for i := range 500 {
		cloud.XYZ = append(cloud.XYZ, float64(i%10)*0.2, float64(i/10%10)*0.2, float64(i/100)*0.2)
		cloud.RGB = append(cloud.RGB, byte(i), byte(2*i), 128)
	}
	img, err := imaging.NewRGB(64, 48)
	if err != nil {
		t.Fatal(err)
	}
	req := stllm.Request{Question: "Where is the sink?", Decoding: stllm.Decoding{MaxNewTokens: 3}}
	for i := range 2 {
		for at := range img.Pix {
			img.Pix[at] = byte(at*(i+1)) | 64
		}
		f := stllm.Frame{Stamp: int64(i) * 1e9, Pose: geometry.Identity(), K: [9]float64{50, 0, 32, 0, 50, 24, 0, 0, 1}, Width: 64, Height: 48}
		if f.Features, err = n.EncodeFrame(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		req.Frames = append(req.Frames, f)
	}
	if req.Map, err = n.EncodeMap(t.Context(), cloud); err != nil {
		t.Fatal(err)
	}
	ans, err := n.Answer(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Evidence = true
	looked, err := n.Answer(t.Context(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if looked.Evidence == nil || len(looked.Evidence.Frames) != 2 {
		t.Errorf("evidence is %+v, expected two frames", looked.Evidence)
	}
	logits, err := n.PromptLogits(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return ans, logits
}

// A folder that was quantised once is the same model as one that is quantised at every load.
func TestQuantisedFolder(t *testing.T) {
	for _, c := range []struct {
		name  string
		block int
		rest  checkpoint.DType
	}{{"nano", 32, ""}, {"nano", 64, ""}, {"published-tiny", 32, checkpoint.F32}} { // the last is stored in bfloat16
		block := c.block
		dir := filepath.Join(t.TempDir(), "model")
		if err := nano.Init(t.Context(), dir, nano.Options{Config: c.name, Seed: 3}); err != nil {
			t.Fatal(err)
		}
		var done, total int64
		wantAnswer, want := ask(t, dir, stllm.Options{Int4: true, Int4Block: block, Progress: func(_ string, d, all int64) { done, total = d, all }})
		if done == 0 || done != total {
			t.Errorf("progress ended at %d of %d bytes", done, total)
		}
		small := quantised(t, dir, block, c.rest)
		done, total = 0, 0
		answer, got := ask(t, small, stllm.Options{Progress: func(_ string, d, all int64) { done, total = d, all }})
		if done == 0 || done != total {
			t.Errorf("quantised folder: progress ended at %d of %d bytes", done, total)
		}
		if !slices.Equal(got, want) || answer.Text != wantAnswer.Text {
			t.Errorf("block %d: quantised once %q %v…, at load %q %v…", block, answer.Text, got[:4], wantAnswer.Text, want[:4])
		}
		if _, err := stllm.Load(t.Context(), orttest.Environment(t), small, stllm.Options{MapWeights: true}); err == nil {
			t.Error("4-bit weights were mapped")
		}
	}
}

// The cache of the Hugging Face hub: links into blobs/ beside the snapshot, which ONNX Runtime would refuse to follow out of the
// folder. The model is the same, with its weights read and with its weights mapped.
func TestCacheFolder(t *testing.T) {
	dir, cache := filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "models--a--b")
	if err := nano.Init(t.Context(), dir, nano.Options{Config: "nano", Seed: 3}); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(cache, "snapshots", "0123abcd")
	for _, d := range []string{snapshot, filepath.Join(cache, "blobs"), filepath.Join(cache, "refs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "refs", "main"), []byte("0123abcd"), 0o644); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		blob := fmt.Sprintf("%064x", i)
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(cache, "blobs", blob)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(snapshot, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	var first []float32
	for _, path := range []string{cache, snapshot} {
		_, read := ask(t, path, stllm.Options{})
		if first == nil {
			first = read
		}
		_, mapped := ask(t, path, stllm.Options{MapWeights: true})
		if len(first) == 0 || !slices.Equal(read, first) || len(mapped) != len(read) {
			t.Fatalf("%s: %d logits read, %d mapped, %d at first", path, len(read), len(mapped), len(first))
		}
		for i := range read { // mapped weights go through other kernels
			if d := read[i] - mapped[i]; !(d < 1e-4 && d > -1e-4) {
				t.Errorf("%s: logit %d is %g with read weights, %g with mapped ones", path, i, read[i], mapped[i])
				break
			}
		}
	}
}

// A tenth of the published depth at the published width: 1.9 G parameters are quantised from their file, at load and once,
// and answer, in memory that holds one copy of what runs.
func TestPublishedTenth(t *testing.T) {
	testdata.Long(t)
	orttest.Environment(t)
	dir := filepath.Join(t.TempDir(), "model")
	if err := nano.Init(t.Context(), dir, nano.Options{Config: "published-tenth", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	wantAnswer, want := ask(t, dir, stllm.Options{Int4: true})
	small := quantised(t, dir, 32, checkpoint.F32)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	answer, got := ask(t, small, stllm.Options{})
	if !slices.Equal(got, want) || answer.Text != wantAnswer.Text || answer.NewTokens == 0 {
		t.Errorf("quantised once %q %v…, at load %q %v…", answer.Text, got[:4], wantAnswer.Text, want[:4])
	}
}
