package hashweights

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/testdata"
)

func TestGoldenCore(t *testing.T) {
	data, err := os.ReadFile(testdata.Golden(t, "core", "weights.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Salt    string `json:"salt"`
		Tensors []struct {
			Name  string    `json:"name"`
			Shape []int64   `json:"shape"`
			Hash  string    `json:"fnv1a64"`
			Unit  []float64 `json:"unit"`
			First []float32 `json:"first"`
			Sum   float64   `json:"sum"`
		} `json:"tensors"`
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	for _, g := range golden.Tensors {
		if want, err := strconv.ParseUint(g.Hash, 0, 64); err != nil || hash(golden.Salt+g.Name) != want {
			t.Errorf("%s: hash %#x, want %s", g.Name, hash(golden.Salt+g.Name), g.Hash)
		}
		for i, u := range g.Unit {
			if got := Unit(golden.Salt+g.Name, int64(i)); got != u {
				t.Errorf("%s: unit %d is %v, want %v", g.Name, i, got, u)
			}
		}
		sum := 0.0
		got := Core(golden.Salt, g.Name, g.Shape...)
		for i, v := range got {
			sum += float64(v)
			if i < len(g.First) && v != g.First[i] {
				t.Errorf("%s: value %d is %v, want %v", g.Name, i, v, g.First[i])
			}
		}
		if math.Abs(sum-g.Sum) > 1e-6 {
			t.Errorf("%s: sum %v, want %v", g.Name, sum, g.Sum)
		}
	}
	f, err := checkpoint.OpenFolder(testdata.Golden(t, "core", "model"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors {
		values, err := x.Float32()
		if err != nil {
			t.Fatal(err)
		}
		want := Core(golden.Salt, x.Name, x.Shape...)
		for i := range values {
			if values[i] != want[i] {
				t.Errorf("%s: value %d is %v, want %v", x.Name, i, values[i], want[i])
				break
			}
		}
	}
}

func TestGoldenPoints(t *testing.T) {
	if hash("net3d.conv0p1s1.kernel") != 0x9a9e72862f8032f7 {
		t.Error("hash")
	}
	for i, want := range []float32{-0.056592393666505814, 0.1378333866596222, -0.05309729650616646} {
		if got := Points("net3d.conv0p1s1.kernel", 125, 3, 32)[i]; got != want {
			t.Errorf("value %d is %v, want %v", i, got, want)
		}
	}
	for _, name := range []string{"mink_tiny.safetensors", "encoder_tiny.safetensors"} {
		tensors, _ := testdata.Tensors(t, testdata.Golden(t, "points", name))
		seen := 0
		for key, x := range tensors {
			weight, ok := strings.CutPrefix(key, "w.")
			if !ok {
				continue
			}
			seen++
			shape := make([]int64, len(x.Shape))
			for i, d := range x.Shape {
				shape[i] = int64(d)
			}
			want := x.Float32s()
			for i, v := range Points(weight, shape...) {
				if v != want[i] {
					t.Errorf("%s: %s: value %d is %v, want %v", name, weight, i, v, want[i])
					break
				}
			}
		}
		if seen == 0 {
			t.Errorf("%s holds no weights", name)
		}
	}
}
