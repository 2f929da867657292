package ort

import (
	"errors"
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/stllm/stllm/node/graph"
)

// Tensor is an ONNX Runtime value, in the processor's memory or in a device's. Close frees it; views of its data end then.
type Tensor struct {
	value ort.Value
	dtype graph.DType
	shape []int
	data  unsafe.Pointer // nil: in a device's memory
}

// OnDevice tells whether the data is in a device's memory, where only runs can reach it.
func (t *Tensor) OnDevice() bool { return t.data == nil }

// DType and Shape describe the tensor.
func (t *Tensor) DType() graph.DType { return t.dtype }
func (t *Tensor) Shape() []int       { return t.shape }

// Len is the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// Close frees the value.
func (t *Tensor) Close() {
	if t != nil && t.value != nil {
		_ = t.value.Destroy() // releasing a value cannot fail in a way that a caller could mend
		t.value = nil
	}
}

type element interface {
	float32 | int64 | int32 | uint8 | bool
}

func dtypeOf[T element]() graph.DType {
	var z T
	switch any(z).(type) {
	case float32:
		return graph.Float32
	case int64:
		return graph.Int64
	case int32:
		return graph.Int32
	case uint8:
		return graph.Uint8
	}
	return graph.Bool
}

// New makes a tensor over data, which is used and not copied: it must not change while a run uses it.
func New[T element](data []T, shape ...int) (*Tensor, error) {
	s, n := shapeOf(shape)
	if n != len(data) {
		return nil, fmt.Errorf("tensor of shape %v has %d elements, %d were given", shape, n, len(data))
	}
	v, err := ort.NewTensor(s, data)
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v: %w", shape, err)
	}
	return &Tensor{value: v, dtype: dtypeOf[T](), shape: append([]int(nil), shape...), data: unsafe.Pointer(unsafe.SliceData(data))}, nil
}

// Zeros makes a tensor of zeros.
func Zeros[T element](shape ...int) (*Tensor, error) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return New(make([]T, n), shape...)
}

// customTypes numbers the element types that have no Go type as ONNX Runtime does.
var customTypes = map[graph.DType]ort.TensorElementDataType{
	graph.Float32: ort.TensorElementDataTypeFloat, graph.Float16: ort.TensorElementDataTypeFloat16, graph.BFloat16: ort.TensorElementDataTypeBFloat16,
}

// Blank makes a tensor of zeros of a float type that is chosen at run time.
func Blank(t graph.DType, shape ...int) (*Tensor, error) {
	if t == graph.Float32 {
		return Zeros[float32](shape...)
	}
	kind, ok := customTypes[t]
	if !ok {
		return nil, fmt.Errorf("tensor of %s: expected float32, float16 or bfloat16", t)
	}
	s, n := shapeOf(shape)
	data := make([]byte, n*t.Size())
	v, err := ort.NewCustomDataTensor(s, data, kind)
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v: %w", shape, err)
	}
	return &Tensor{value: v, dtype: t, shape: append([]int(nil), shape...), data: unsafe.Pointer(unsafe.SliceData(data))}, nil
}

func shapeOf(shape []int) (s ort.Shape, elements int) {
	s, elements = make(ort.Shape, len(shape)), 1
	for i, d := range shape {
		s[i] = int64(d)
		elements *= d
	}
	return s, elements
}

// Bytes views the data of any tensor that is in the processor's memory.
func (t *Tensor) Bytes() ([]byte, error) {
	switch {
	case t.value == nil:
		return nil, errClosed
	case t.data == nil:
		return nil, errOnDevice
	}
	return unsafe.Slice((*byte)(t.data), t.Len()*t.dtype.Size()), nil
}

var (
	errClosed   = errors.New("tensor is closed")
	errOnDevice = errors.New("tensor is in a device's memory")
)

// Floats views the data of a float32 tensor.
func (t *Tensor) Floats() ([]float32, error) { return view[float32](t) }

// Ints views the data of an int64 tensor.
func (t *Tensor) Ints() ([]int64, error) { return view[int64](t) }

func view[T element](t *Tensor) ([]T, error) {
	if want := dtypeOf[T](); t.dtype != want {
		return nil, fmt.Errorf("tensor holds %s, not %s", t.dtype, want)
	}
	switch {
	case t.value == nil:
		return nil, errClosed
	case t.data == nil:
		return nil, errOnDevice
	}
	return unsafe.Slice((*T)(t.data), t.Len()), nil
}

// wrap takes over a value that ONNX Runtime allocated.
func wrap(v ort.Value) (*Tensor, error) {
	t := &Tensor{value: v}
	for _, d := range v.GetShape() {
		t.shape = append(t.shape, int(d))
	}
	switch x := v.(type) {
	case *ort.Tensor[float32]:
		t.dtype, t.data = graph.Float32, unsafe.Pointer(unsafe.SliceData(x.GetData()))
	case *ort.Tensor[int64]:
		t.dtype, t.data = graph.Int64, unsafe.Pointer(unsafe.SliceData(x.GetData()))
	case *ort.Tensor[int32]:
		t.dtype, t.data = graph.Int32, unsafe.Pointer(unsafe.SliceData(x.GetData()))
	case *ort.Tensor[uint8]:
		t.dtype, t.data = graph.Uint8, unsafe.Pointer(unsafe.SliceData(x.GetData()))
	case *ort.Tensor[bool]:
		t.dtype, t.data = graph.Bool, unsafe.Pointer(unsafe.SliceData(x.GetData()))
	default:
		_ = v.Destroy()
		return nil, fmt.Errorf("output is a %T, which is not read here", v)
	}
	return t, nil
}

// View makes a tensor over bytes of a float type, little endian, such as a stretch of a mapped file: they are used and not
// copied, and must stay until the tensor is closed. Nothing writes to them as long as the tensor is only an input.
func View(t graph.DType, data []byte, shape ...int) (*Tensor, error) {
	kind, ok := customTypes[t]
	if !ok {
		return nil, fmt.Errorf("tensor of %s: expected float32, float16 or bfloat16", t)
	}
	s, n := shapeOf(shape)
	if n*t.Size() != len(data) {
		return nil, fmt.Errorf("tensor of %s %v has %d bytes, %d were given", t, shape, n*t.Size(), len(data))
	}
	v, err := ort.NewCustomDataTensor(s, data, kind)
	if err != nil {
		return nil, fmt.Errorf("tensor of shape %v: %w", shape, err)
	}
	return &Tensor{value: v, dtype: t, shape: append([]int(nil), shape...), data: unsafe.Pointer(unsafe.SliceData(data))}, nil
}
