package network

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/testdata"
)

// Both .pth files hold the weights of mink_tiny and must give its output.
func TestGoldenMinkFromPTH(t *testing.T) {
	dir := testdata.Golden(t, "points")
	x, _ := testdata.Tensors(t, filepath.Join(dir, "mink_tiny.safetensors"))
	m, _ := minkOf(x)
	tab, err := points.NewTables(x["coords"].Int32s(), m.Levels())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"mink_tiny_zip.pth", "mink_tiny_legacy.pth"} {
		p, err := checkpoint.OpenPTH(testdata.Golden(t, "points", file))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		out, _ := runMink(t, m, Stored{TensorsOf(p.StateDict()), []string{"module."}}, tab, x["feats"].Float32s())
		testdata.Near(t, file, out, x["out"].Float64s(), 1e-5)
	}
}

func TestSpecs(t *testing.T) {
	specs, err := MinkUNet18A().Specs()
	if err != nil {
		t.Fatal(err)
	}
	if len(specs) != 289 {
		t.Errorf("MinkUNet18A has %d tensors, expected the published 289", len(specs))
	}
	seen := map[string]bool{}
	for _, s := range specs {
		if seen[s.Name] || !strings.HasPrefix(s.Name, "net3d.") {
			t.Errorf("tensor %s is listed twice or has another prefix", s.Name)
		}
		seen[s.Name] = true
	}
	m := MinkUNet18A()
	m.Encoder = m.Encoder[:2]
	if _, err := m.Specs(); err == nil || !strings.Contains(err.Error(), "2 encoder and 4 decoder stages") {
		t.Errorf("error %v", err)
	}
	n := PublishedTransformer()
	if specs, err = n.Specs(); err != nil || len(specs) != 6*6+3*12 {
		t.Errorf("the transformer has %d tensors (%v), expected %d", len(specs), err, 6*6+3*12)
	}
	n.Heads = 3
	if _, err := n.Specs(); err == nil || !strings.Contains(err.Error(), "not a multiple of 3 heads") {
		t.Errorf("error %v", err)
	}
}

// The golden files hold exactly the tensors that the specs list (num_batches_tracked is left out there).
func TestGoldenSpecs(t *testing.T) {
	x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "points"), "mink_tiny.safetensors"))
	m, _ := minkOf(x)
	specs, err := m.Specs()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range specs {
		if strings.HasSuffix(s.Name, "num_batches_tracked") {
			continue
		}
		n++
		if w, ok := x["w."+s.Name]; !ok || fmt.Sprint(w.Shape) != fmt.Sprint(s.Shape) {
			t.Errorf("tensor %s: shape %v in the file, %v in the specs", s.Name, w.Shape, s.Shape)
		}
	}
	for name := range x {
		if strings.HasPrefix(name, "w.") {
			n--
		}
	}
	if n != 0 {
		t.Errorf("%d tensors more in the specs than in the file", n)
	}
}

func TestStoredNamesWhatIsWrong(t *testing.T) {
	s := Stored{TensorsOf([]*checkpoint.Tensor{{Name: "module.a", File: "f.pth", DType: checkpoint.F32, Shape: []int64{2}, Data: make([]byte, 8)}}), []string{"module."}}
	if v, err := s.Float32("a", 2); err != nil || len(v) != 2 {
		t.Errorf("%v %v", v, err)
	}
	if _, err := s.Float32("a", 3); err == nil || !strings.Contains(err.Error(), "module.a of f.pth has shape [2], expected [3]") {
		t.Errorf("error %v", err)
	}
	if _, err := s.Float32("b", 3); err == nil || !strings.Contains(err.Error(), "tensor b is missing (looked for b, module.b)") {
		t.Errorf("error %v", err)
	}
}
