package checkpoint

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// file builds a safetensors file from a literal header.
func file(header string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, body)...)
}

func TestSafetensorsRefuses(t *testing.T) {
	huge := binary.LittleEndian.AppendUint64(nil, 1<<62)
	long := append(binary.LittleEndian.AppendUint64(nil, 1000), "{}"...)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "0 bytes"},
		{"huge header", huge, "at most"},
		{"header beyond the file", long, "truncated"},
		{"not JSON", file("hello", 0), "invalid"},
		{"array", file("[]", 0), "expected an object"},
		{"no end", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, 4), "EOF"},
		{"two objects", file(`{}{}`, 0), "after the object"},
		{"twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "appears twice"},
		{"dtype", file(`{"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}`, 1), `dtype "F8" is not known`},
		{"block dtype", file(`{"a":{"dtype":"Q4_0","shape":[32],"data_offsets":[0,18]}}`, 18), `dtype "Q4_0" is not known`},
		{"size", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), "needs 8"},
		{"negative", file(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), "negative"},
		{"overflow", file(`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}`, 16), "64 bits"},
		{"backwards", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "expected [begin, end]"},
		{"beyond", file(`{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 8), "truncated"},
		{"overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), "overlap"},
		{"same place", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "overlap"},
		{"hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), "belong to no tensor"},
		{"tail", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 3), "after the last"},
		{"metadata", file(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
		{"shape type", file(`{"a":{"dtype":"U8","shape":["x"],"data_offsets":[0,1]}}`, 1), `tensor "a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseSafetensors(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestSafetensorsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	data := file(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},"s":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}`, 16)
	copy(data[len(data)-16:], []byte{0x80, 0x3f, 0, 0x40, 0x40, 0x40, 0x80, 0xc0, 7})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Metadata["format"] != "pt" || len(s.Tensors) != 3 {
		t.Fatalf("metadata %v, %d tensors", s.Metadata, len(s.Tensors))
	}
	b, _ := s.Tensor("b")
	got, err := b.Float32()
	if err != nil || got[0] != 1 || got[1] != 2 || got[2] != 3 || got[3] != -4 {
		t.Errorf("b = %v, %v", got, err)
	}
	row := make([]float32, 2)
	if err := b.Float32Rows(1, 1, row); err != nil || row[0] != 3 {
		t.Errorf("row 1 = %v, %v", row, err)
	}
	if err := b.Float32Rows(1, 2, make([]float32, 4)); err == nil {
		t.Error("rows beyond the end were read")
	}
	raw, _ := os.ReadFile(b.File)
	if string(raw[b.Offset:b.Offset+b.Length]) != string(b.Data) {
		t.Error("Offset does not point at the tensor's bytes")
	}
	if n, _ := s.Tensor("s"); n.Elements() != 1 || len(n.Shape) != 0 {
		t.Errorf("scalar: %v", n.Shape)
	}
	if err := b.Expect(3, 2); err == nil || !strings.Contains(err.Error(), "[2 2]") {
		t.Errorf("Expect: %v", err)
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{"__metadata__":{"a":"b"}}`, 0))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSafetensors(data)
		if err != nil {
			return
		}
		for _, x := range s.Tensors {
			if x.Elements() > int64(len(data)) {
				t.Fatalf("%s: %d elements of %d bytes", x.Name, x.Elements(), len(data))
			}
			if _, err := x.Float32(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A hostile header must not cost memory: the shape below would be 16 TB.
func TestSafetensorsAllocation(t *testing.T) {
	data := file(`{"a":{"dtype":"F32","shape":[2000000,2000000],"data_offsets":[0,16000000000000]}}`, 8)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := ParseSafetensors(data); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

func TestGoldenSafetensors(t *testing.T) {
	dir := testdata.Golden(t, "core")
	paths, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	for _, path := range paths {
		want, _ := testdata.Tensors(t, path)
		s, err := OpenSafetensors(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Tensors) != len(want) {
			t.Errorf("%s: %d tensors, want %d", path, len(s.Tensors), len(want))
		}
		for name, w := range want {
			x, ok := s.Tensor(name)
			if !ok || string(x.Data) != string(w.Data) || len(x.Shape) != len(w.Shape) {
				t.Errorf("%s: %s differs", path, name)
			}
		}
		s.Close()
	}
}
