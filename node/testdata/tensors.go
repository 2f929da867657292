package testdata

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// Tensor is one tensor of a golden file, as its bytes.
type Tensor struct {
	DType string
	Shape []int
	Data  []byte
}

// Tensors reads a whole golden .safetensors file. It is for trusted small files: the program's own reader is in
// node/checkpoint, and the tests of other packages should not depend on it.
func Tensors(t testing.TB, path string) (tensors map[string]Tensor, metadata map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	var head map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &head); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	body := b[8+n:]
	tensors = map[string]Tensor{}
	for name, raw := range head {
		if name == "__metadata__" {
			if err := json.Unmarshal(raw, &metadata); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			continue
		}
		var e struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		tensors[name] = Tensor{e.DType, e.Shape, body[e.Offsets[0]:e.Offsets[1]]}
	}
	return tensors, metadata
}

// Float64s returns the numbers of a tensor of any type; int64 beyond 2^53 is not exact.
func (x Tensor) Float64s() []float64 {
	var size int
	var at func(b []byte) float64
	switch le := binary.LittleEndian; x.DType {
	case "F64":
		size, at = 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
	case "F32":
		size, at = 4, func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) }
	case "BF16":
		size, at = 2, func(b []byte) float64 { return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16)) }
	case "I64":
		size, at = 8, func(b []byte) float64 { return float64(int64(le.Uint64(b))) }
	case "I32":
		size, at = 4, func(b []byte) float64 { return float64(int32(le.Uint32(b))) }
	case "U8", "BOOL":
		size, at = 1, func(b []byte) float64 { return float64(b[0]) }
	default:
		panic("testdata: tensor type " + x.DType)
	}
	out := make([]float64, len(x.Data)/size)
	for i := range out {
		out[i] = at(x.Data[i*size:])
	}
	return out
}

// Float32s returns the numbers of a tensor of any type as float32.
func (x Tensor) Float32s() []float32 {
	wide := x.Float64s()
	out := make([]float32, len(wide))
	for i, v := range wide {
		out[i] = float32(v)
	}
	return out
}

// Int32s returns the numbers of an integer tensor as int32.
func (x Tensor) Int32s() []int32 {
	wide := x.Float64s()
	out := make([]int32, len(wide))
	for i, v := range wide {
		out[i] = int32(v)
	}
	return out
}

// Uint16s returns the bits of a BF16 tensor.
func (x Tensor) Uint16s() []uint16 {
	out := make([]uint16, len(x.Data)/2)
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(x.Data[2*i:])
	}
	return out
}
