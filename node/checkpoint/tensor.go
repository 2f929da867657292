// Package checkpoint reads and writes model weights: safetensors files, Hugging Face folders, torch's .pth and GGUF.
//
// Files are mapped, not read: a Tensor's Data is a view of the file, valid until the file's Close. Every reader treats its
// input as hostile: lengths, counts, offsets and shapes are checked against the real size of the file before anything is
// allocated or looked at, and an error names the file, the tensor and what was expected.
package checkpoint

import (
	"fmt"
	"slices"
	"strings"
)

// Tensor is one stored tensor, row-major and little-endian.
type Tensor struct {
	Name   string
	DType  DType
	Shape  []int64
	File   string // path of the file that holds it, symbolic links resolved
	Offset int64  // first byte in File; for a .pth tensor that had to be gathered (strides, zip), -1
	Length int64  // bytes
	Data   []byte // view of the mapped file (or own memory where Offset is -1); read only, writing to it faults

	mapped bool // Data is a view of a mapped file, whose pages can be given back and read again
}

// Elements returns the number of elements.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, s := range t.Shape {
		n *= s
	}
	return n
}

// Float32 returns all elements as float32, dequantised where the type is a block type.
func (t *Tensor) Float32() ([]float32, error) {
	dst := make([]float32, t.Elements())
	return dst, t.Float32Into(dst)
}

// Float32Into is Float32 into dst, which must have Elements() places.
func (t *Tensor) Float32Into(dst []float32) error {
	if int64(len(dst)) != t.Elements() {
		return fmt.Errorf("%s: %d places for the %d elements of shape %v", t.Name, len(dst), t.Elements(), t.Shape)
	}
	if err := decode(t.DType, t.Data, dst); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return nil
}

// Float32Rows decodes n rows from row first on (a row is one step of the first dimension) into dst, which must have
// n times the row's elements. It is how the embedding table is read: a row at a time from the mapped file.
func (t *Tensor) Float32Rows(first, n int64, dst []float32) error {
	if len(t.Shape) == 0 || first < 0 || n < 0 || first > t.Shape[0]-n {
		return fmt.Errorf("%s: rows %d to %d of shape %v", t.Name, first, first+n, t.Shape)
	}
	row := int64(1)
	for _, s := range t.Shape[1:] {
		row *= s
	}
	if int64(len(dst)) != n*row {
		return fmt.Errorf("%s: %d places for %d rows of %d elements", t.Name, len(dst), n, row)
	}
	if t.Shape[0] == 0 {
		return nil
	}
	size := t.Length / t.Shape[0]
	if err := decode(t.DType, t.Data[first*size:(first+n)*size], dst); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return nil
}

// Expect returns an error that says what was found where the tensor has not this shape.
func (t *Tensor) Expect(shape ...int64) error {
	if slices.Equal(t.Shape, shape) {
		return nil
	}
	return fmt.Errorf("%s: tensor %s has shape %v, expected %v", t.File, t.Name, t.Shape, shape)
}

// ListNames joins at most ten names and says how many more there are.
func ListNames(names []string) string {
	if len(names) <= 10 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:10], ", "), len(names)-10)
}
