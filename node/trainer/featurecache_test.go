package trainer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
)

// What is kept stays under its bound, comes back as it was, and is made again where it is damaged or gone.
func TestFeatureCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "features")
	made := 0
	value := func(v float32) func() ([]float32, error) {
		return func() ([]float32, error) { made++; return []float32{v, float32(math.Inf(1)), -v}, nil }
	}
	open := func(limit int64) *featureCache {
		c, err := openFeatures(dir, limit)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(100)
	for i := range 20 {
		for range 2 {
			v, err := c.get(fmt.Sprint("k", i), value(float32(i)))
			if err != nil || !slices.Equal(v, []float32{float32(i), float32(math.Inf(1)), -float32(i)}) {
				t.Fatalf("%v %v", v, err)
			}
		}
	}
	if made != 20 {
		t.Errorf("made %d times", made)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) < 4 || len(files) > 6 {
		t.Errorf("%d files of 16 bytes under a bound of 100", len(files))
	}
	if err := os.WriteFile(filepath.Join(dir, "k19.f32"), []byte("0123456789abcdef"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(100).get("k19", value(19)); err != nil || made != 21 {
		t.Errorf("a damaged file: made %d times, %v", made, err)
	}
	if _, err := open(100).get("k18", value(18)); err != nil || made != 21 {
		t.Errorf("a good file of an earlier run: made %d times, %v", made, err)
	}
	fail := errors.New("no")
	if _, err := c.get("bad", func() ([]float32, error) { return nil, fail }); !errors.Is(err, fail) {
		t.Errorf("a failure: %v", err)
	}
	if _, err := open(0).get("k18", value(1)); err != nil || made != 22 {
		t.Errorf("without a bound: made %d times, %v", made, err)
	}
}

func FuzzFeatures(f *testing.F) {
	f.Add(encodeFeatures([]float32{1, 2, 3}))
	f.Add([]byte{})
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, ok := decodeFeatures(data); ok && !bytes.Equal(encodeFeatures(v), data) {
			t.Errorf("%x was read as %v", data, v)
		}
	})
}

// A checkpoint as it is published lies in shards in a cache of links, with the point encoder in a file of its own, whose names have
// no prefix. The result is one folder that has all of it.
func TestTuneFromCache(t *testing.T) {
	o := tune(t)
	o.Steps = 1
	model, points := rawWeights(t, o.Init), []*checkpoint.Tensor(nil)
	var specs []checkpoint.TensorSpec
	for name, x := range model {
		if short, ok := strings.CutPrefix(name, "pcd_encoder."); ok {
			x.Name = short
			points = append(points, x)
		} else {
			specs = append(specs, checkpoint.TensorSpec{Name: name, DType: x.DType, Shape: x.Shape})
		}
	}
	blobs, cache := t.TempDir(), t.TempDir()
	o.PointWeights = filepath.Join(t.TempDir(), "mink.safetensors")
	if err := checkpoint.WriteSafetensors(o.PointWeights, nil, points); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteRandomFolder(t.Context(), blobs, 1, specs, checkpoint.FolderOptions{ShardBytes: 300_000}, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json"} {
		if err := checkpoint.CopyFile(name, o.Init, blobs); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := filepath.Join(cache, "snapshots", "abc")
	if err := errors.Join(os.MkdirAll(snapshot, 0o755), os.MkdirAll(filepath.Join(cache, "refs"), 0o755),
		os.WriteFile(filepath.Join(cache, "refs", "main"), []byte("abc"), 0o644)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(blobs)
	if err != nil || len(entries) < 6 {
		t.Fatalf("%d files: %v", len(entries), err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(blobs, e.Name()), filepath.Join(snapshot, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	o.Init = cache
	out := filepath.Join(t.TempDir(), "out")
	if err := runTune(t, t.Context(), o, out); err != nil {
		t.Fatal(err)
	}
	after := rawWeights(t, filepath.Join(out, "model"))
	if len(after) != len(model) {
		t.Errorf("%d tensors became %d", len(model), len(after))
	}
	for _, x := range points {
		if y := after[x.Name]; y == nil || !bytes.Equal(x.Data, y.Data) {
			t.Errorf("%s is lost or changed", x.Name)
		}
	}
	if shards, _ := filepath.Glob(filepath.Join(out, "model", "*.safetensors")); len(shards) != 2 {
		t.Errorf("files: %v", shards)
	}
	tunedAnswers(t, filepath.Join(out, "model"), o.Items[0])
}
