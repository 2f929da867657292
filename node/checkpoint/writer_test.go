package checkpoint

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func specs() []TensorSpec {
	return []TensorSpec{
		{Name: "a", DType: F32, Shape: []int64{300, 1000}, Init: Init{Normal, 0.5}},
		{Name: "b", DType: BF16, Shape: []int64{1000, 1000}, Init: Init{Uniform, 2}},
		{Name: "c", DType: F16, Shape: []int64{7}, Init: Init{Constant, 1}},
		{Name: "d", DType: I64, Shape: nil},
		{Name: "e", DType: F32, Shape: []int64{0, 4}, Init: Init{Normal, 1}},
	}
}

func TestWriteRandomFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(seed uint64, shard int64) map[string][]byte {
		t.Helper()
		last := int64(0)
		if err := WriteRandomFolder(t.Context(), dir, seed, specs(), FolderOptions{ShardBytes: shard}, func(done, total int64) { last = total - done }); err != nil {
			t.Fatal(err)
		}
		if last != 0 {
			t.Errorf("progress ended %d bytes short", last)
		}
		files := map[string][]byte{}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			files[e.Name()], _ = os.ReadFile(filepath.Join(dir, e.Name()))
		}
		return files
	}
	one := write(1, 0)
	if len(one) != 1 {
		t.Errorf("%d files, want model.safetensors", len(one))
	}
	if !bytes.Equal(one["model.safetensors"], write(1, 0)["model.safetensors"]) {
		t.Error("the same seed gives other bytes")
	}
	if bytes.Equal(one["model.safetensors"], write(2, 0)["model.safetensors"]) {
		t.Error("another seed gives the same bytes")
	}
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, mean, std, top float64) {
		x, _ := f.Tensor(name)
		values, err := x.Float32()
		if err != nil {
			t.Fatal(err)
		}
		var sum, square, most float64
		for _, v := range values {
			sum += float64(v)
			square += float64(v) * float64(v)
			most = max(most, math.Abs(float64(v)))
		}
		n := float64(len(values))
		if got := math.Sqrt(square/n - sum/n*sum/n); math.Abs(sum/n-mean) > 0.02 || math.Abs(got-std) > 0.01*std+1e-9 || most > top {
			t.Errorf("%s: mean %v, deviation %v, largest %v", name, sum/n, got, most)
		}
	}
	check("a", 0, 0.5, 2.5)
	check("b", 0, 2/math.Sqrt(3), 2)
	check("c", 1, 0, 1)
	check("d", 0, 0, 0)
	if n := f.Parameters("a", "c"); n != 300_007 {
		t.Errorf("%d parameters", n)
	}
	f.Close()

	shards := write(2, 2_100_000)
	if len(shards) != 3 || shards["model.safetensors"] != nil {
		t.Errorf("%d files, want two shards and an index", len(shards))
	}
	g, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if missing, unexpected := g.Compare([]string{"a", "b", "x"}); len(missing) != 1 || len(unexpected) != 3 {
		t.Errorf("missing %v, unexpected %v", missing, unexpected)
	}
	g.Close()
	os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors"))
	if _, err := OpenFolder(dir); err == nil || !strings.Contains(err.Error(), "1 of 2 shards are missing: model-00002-of-00002.safetensors") {
		t.Errorf("a missing shard: %v", err)
	}
}

func TestFolderRefuses(t *testing.T) {
	write := func(dir, name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := string(file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1))
	const index = "model.safetensors.index.json"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "neither model.safetensors"},
		{"index is no JSON", map[string]string{index: "x"}, index},
		{"index is empty", map[string]string{index: "{}"}, "weight_map is empty"},
		{"index leaves the folder", map[string]string{index: `{"weight_map":{"a":"../x"}}`}, `"../x"`},
		{"tensor not in its shard", map[string]string{index: `{"weight_map":{"b":"s.safetensors"}}`, "s.safetensors": good}, "b (expected in s.safetensors)"},
		{"two pth", map[string]string{"model.safetensors": good, "x.pth": "", "y.pth": ""}, "say which one"},
		{"bad pth", map[string]string{"model.safetensors": good, "x.pth": "hello"}, "x.pth"},
		{"truncated", map[string]string{"model.safetensors": good[:20]}, "truncated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				write(dir, name, content)
			}
			if _, err := OpenFolder(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	dir := t.TempDir()
	write(dir, "model.safetensors", good)
	write(dir, "other.safetensors", good)
	if _, err := OpenFolder(dir, filepath.Join(dir, "other.safetensors")); err == nil || !strings.Contains(err.Error(), "is both in") {
		t.Errorf("a tensor in two files: %v", err)
	}
}

func TestWriterErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	w, err := CreateSafetensors(path, nil, specs())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteTensor("c", make([]byte, 3)); err == nil || !strings.Contains(err.Error(), "expected 14") {
		t.Errorf("a short tensor: %v", err)
	}
	if err := w.WriteTensor("z", nil); err == nil {
		t.Error("an unknown tensor was written")
	}
	if err := w.Zero("d"); err != nil {
		t.Error(err)
	}
	if err := w.Zero("d"); err == nil {
		t.Error("a tensor was written twice")
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "were not written: a, b") {
		t.Errorf("Close: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("%d files are left", len(entries))
	}
	if _, err := CreateSafetensors(path, nil, []TensorSpec{{Name: "q", DType: Q4_0, Shape: []int64{32}}}); err == nil {
		t.Error("block types were accepted")
	}
}

// All 65,536 binary16 values, and what lies between them.
func TestHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := HalfToFloat32(h)
		if back := Float32ToHalf(f); back != h && f == f {
			t.Fatalf("%#04x is %v and back %#04x", h, f, back)
		}
		if h&0x7fff < 0x7bff { // finite, with a finite neighbour: the middle goes to the even one
			middle := (f + HalfToFloat32(h+1)) / 2
			want := h + h&1
			if got := Float32ToHalf(middle); got != want {
				t.Fatalf("%v became %#04x, want %#04x", middle, got, want)
			}
		}
	}
	for _, c := range []struct {
		f    float32
		want uint16
	}{{65519.996, 0x7bff}, {65520, 0x7c00}, {1e-9, 0}, {-1e-9, 0x8000}, {float32(math.Inf(-1)), 0xfc00}} {
		if got := Float32ToHalf(c.f); got != c.want {
			t.Errorf("%v became %#04x, want %#04x", c.f, got, c.want)
		}
	}
	for _, c := range []struct {
		f    float32
		want uint16
	}{{1, 0x3f80}, {1.00390625, 0x3f80}, {1.01171875, 0x3f82}, {math.MaxFloat32, 0x7f80}} {
		if got := Float32ToBFloat(c.f); got != c.want {
			t.Errorf("%v became bf16 %#04x, want %#04x", c.f, got, c.want)
		}
	}
	if f := BFloatToFloat32(Float32ToBFloat(float32(math.NaN()))); f == f {
		t.Error("NaN was lost")
	}
}

func BenchmarkRandom(b *testing.B) {
	spec := TensorSpec{Name: "w", DType: BF16, Shape: []int64{64, 1 << 20}, Init: Init{Normal, 0.02}}
	b.SetBytes(128 << 20)
	for b.Loop() {
		w, err := CreateSafetensors(filepath.Join(b.TempDir(), "x"), nil, []TensorSpec{spec})
		if err == nil {
			err = w.Random(b.Context(), "w", 1)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
