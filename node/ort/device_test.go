package ort

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

// Tensors from a session's own allocator go through runs as outputs and inputs without ever being looked at: in the
// processor's memory, which ONNX Runtime offers by the same functions as a device's, or with STLLM_TEST_DEVICE=cuda there.
func TestDeviceTensors(t *testing.T) {
	o, memory := Options{Device: os.Getenv("STLLM_TEST_DEVICE")}, "Cpu"
	if o.Device != "" {
		memory = "Cuda"
	}
	for _, dtype := range []graph.DType{graph.Float32, graph.Float16, graph.BFloat16} {
		g := graph.New("pass")
		x := g.Input("x", graph.Float32, graph.D(2), graph.N("n"))
		past := g.Input("past", dtype, graph.D(2), graph.N("n"))
		g.Output("present", g.Cast(x, dtype))
		g.Output("seen", g.Cast(past, graph.Float32))
		s := session(t, g, o)
		d, err := newDevice(s.s, env(t).Path(), memory, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		cache, err := d.blank(dtype, []int{2, 3})
		if err != nil {
			t.Fatal(err)
		}
		defer cache.Close()
		if _, err := cache.Bytes(); !errors.Is(err, errOnDevice) || !cache.OnDevice() || cache.DType() != dtype || !slices.Equal(cache.Shape(), []int{2, 3}) {
			t.Fatalf("%v, %v %v", err, cache.DType(), cache.Shape())
		}
		want := []float32{1, -2, 3, 0.5, 0, 256}
		old, err := Blank(dtype, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		in := tensor(t, want, 2, 3)
		out, err := s.Run(t.Context(), Values{"x": in, "past": old}, Values{"present": cache})
		if err != nil {
			t.Fatal(err)
		}
		out["seen"].Close()
		other, err := d.blank(dtype, []int{2, 3})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if out, err = s.Run(t.Context(), Values{"x": in, "past": cache}, Values{"present": other}); err != nil {
			t.Fatal(err)
		}
		seen, err := out["seen"].Floats()
		if err != nil || !slices.Equal(seen, want) {
			t.Errorf("%s: %v, %v", dtype, seen, err)
		}
		out["seen"].Close()
	}
	g := graph.New("refused")
	g.Output("y", g.Scale(g.Input("x", graph.Float32, graph.D(1)), 2))
	s := session(t, g, Options{})
	if _, err := newDevice(s.s, env(t).Path(), "Nowhere", 0); err == nil {
		t.Error("memory that is not there was opened")
	}
	if _, err := newDevice(s.s, "/nonexistent.so", "Cpu", 0); err == nil {
		t.Error("a library that is not there was opened")
	}
	d, err := newDevice(s.s, env(t).Path(), "Cpu", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for _, bad := range []struct {
		t     graph.DType
		shape []int
	}{{graph.Int64, []int{2}}, {graph.Float32, nil}, {graph.Float32, []int{-1}}} {
		if _, err := d.blank(bad.t, bad.shape); err == nil {
			t.Errorf("%s %v was made", bad.t, bad.shape)
		}
	}
}

// The places of functions are those of the header.
func TestFunctionTable(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "onnxruntime_c_api.h"))
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(data), "struct OrtApi {")
	body, _, end := strings.Cut(body, "\n};")
	if !ok || !end {
		t.Fatal("struct OrtApi is not in the header")
	}
	body = regexp.MustCompile(`(?s)//[^\n]*|/\*.*?\*/`).ReplaceAllString(body, "")
	member := regexp.MustCompile(`ORT_API2_STATUS\s*\(\s*(\w+)|ORT_CLASS_(RELEASE)2?\s*\(\s*(\w+)|\(\s*ORT_API_CALL\s*\*\s*(\w+)\s*\)|ORT_API_T\s*\([^,]*,\s*(\w+)`)
	var names []string
	for _, m := range member.FindAllStringSubmatch(body, -1) {
		switch {
		case m[2] != "":
			names = append(names, "Release"+m[3])
		default:
			names = append(names, m[1]+m[4]+m[5])
		}
	}
	places := functionPlaces()
	maps.Copy(places, productPlaces())
	for name, place := range places {
		if got := slices.Index(names, name); got != place {
			t.Errorf("%s is function %d of %d, the code has %d", name, got, len(names), place)
		}
	}
}
