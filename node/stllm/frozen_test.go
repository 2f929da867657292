package stllm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/testdata"
)

// frozenGolden loads the frozen parts of the reference's small model, with a point encoder from a seed.
func frozenGolden(t *testing.T) *Frozen {
	t.Helper()
	dir := testdata.Golden(t, "core", "model")
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	specs, err := layout.PointEncoderSpecs(c)
	if err != nil {
		t.Fatal(err)
	}
	points := t.TempDir()
	if err := checkpoint.WriteRandomFolder(t.Context(), points, 1, specs, checkpoint.FolderOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := LoadFrozen(t.Context(), orttest.Environment(t), dir, Options{PointWeights: filepath.Join(points, "model.safetensors")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// From pictures, poses and intrinsics to what a fine-tune takes: the reference's features, and its rays bit for bit.
func TestGoldenFrozen(t *testing.T) {
	f := frozenGolden(t)
	for _, c := range goldenCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
			req := request(t, golden(t), c, x)
			var features []float32
			for i := range c.FrameTimes {
				data, err := os.ReadFile(filepath.Join(testdata.Golden(t, "core", "frames"), fmt.Sprintf("%s_%d.png", c.Name, i)))
				if err != nil {
					t.Fatal(err)
				}
				img, err := imaging.DecodeBytes(data)
				if err != nil {
					t.Fatal(err)
				}
				one, err := f.Picture(t.Context(), img)
				if err != nil {
					t.Fatal(err)
				}
				features = append(features, one...)
			}
			within(t, "siglip.features", features, x["siglip.features"].Float32s(), 3e-5)
			images, points, err := f.Rays(req.Frames, req.Map)
			if err != nil {
				t.Fatal(err)
			}
			if want := x["ray.embedding"].Float32s(); len(want) == 0 || !slices.Equal(images, want) {
				t.Error("the pictures' rays differ")
			}
			// Of some cases a part of the rows is stored; the directions of all are compared in rays.
			if want := x["point.embedding"].Float32s(); len(want) == len(points) && !slices.Equal(points, want) || len(points) != len(x["coords"].Int32s())/3*765 {
				t.Error("the map's rays differ")
			}
		})
	}
}

// A map's features are kept by whoever wants to, and a map or picture that cannot be used is told from a run that failed.
func TestFrozenMap(t *testing.T) {
	f := frozenGolden(t)
	cloud := &scene.Cloud{XYZ: testdata.Room(2000), HasColor: true, RGB: make([]uint8, 6000)}
	m, first, err := f.Map(t.Context(), cloud, nil)
	if err != nil || m.Voxels() == 0 || len(first) != m.Voxels()*f.Config().PcdFeatureDim {
		t.Fatalf("%d features: %v", len(first), err)
	}
	made := 0
	kept := func(encode func() ([]float32, error)) ([]float32, error) { made++; return encode() }
	if _, again, err := f.Map(t.Context(), cloud, kept); err != nil || made != 1 || !slices.Equal(first, again) {
		t.Errorf("once more: made %d times, %v", made, err)
	}
	if _, _, err := f.Map(t.Context(), cloud, func(func() ([]float32, error)) ([]float32, error) { return first[1:], nil }); err == nil {
		t.Error("features of another map were taken")
	}
	var input *InputError
	if _, _, err := f.Map(t.Context(), &scene.Cloud{}, nil); !errors.As(err, &input) {
		t.Errorf("an empty map: %v", err)
	}
	if _, err := f.Picture(t.Context(), &imaging.RGB{}); !errors.As(err, &input) {
		t.Errorf("an empty picture: %v", err)
	}
	if _, _, err := f.Rays(nil, m); !errors.As(err, &input) {
		t.Errorf("no frames: %v", err)
	}
	if _, _, err := f.Rays([]Frame{{}}, nil); err == nil {
		t.Error("no map was taken for one")
	}
}
