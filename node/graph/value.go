// Package graph builds ONNX models in memory: a small typed builder that checks shapes and element types when a node is added,
// keeps an intermediate form that other passes can walk (a gradient pass does), and writes ModelProto bytes itself.
package graph

import (
	"fmt"
	"strings"
)

// DType is an element type, numbered as in ONNX's TensorProto.
type DType int

// The element types in use.
const (
	Float32  DType = 1
	Uint8    DType = 2
	Int8     DType = 3
	Int32    DType = 6
	Int64    DType = 7
	Bool     DType = 9
	Float16  DType = 10
	Float64  DType = 11
	BFloat16 DType = 16
)

var dtypes = map[DType]struct {
	name string
	size int
}{
	Float32: {"float32", 4}, Uint8: {"uint8", 1}, Int8: {"int8", 1}, Int32: {"int32", 4}, Int64: {"int64", 8}, Bool: {"bool", 1},
	Float16: {"float16", 2}, Float64: {"float64", 8}, BFloat16: {"bfloat16", 2},
}

func (t DType) String() string {
	if d, ok := dtypes[t]; ok {
		return d.name
	}
	return fmt.Sprintf("dtype %d", int(t))
}

// Size is the number of bytes of one element.
func (t DType) Size() int { return dtypes[t].size }

// Float tells whether the type holds fractions.
func (t DType) Float() bool { return t == Float32 || t == Float16 || t == Float64 || t == BFloat16 }

// Dim is one dimension: a size, or a name for a size that is known when the model runs.
type Dim struct {
	Size int64
	Name string
}

// D is a known dimension, N a named one.
func D(size int) Dim    { return Dim{Size: int64(size)} }
func N(name string) Dim { return Dim{Name: name} }

// Known tells whether the size is known.
func (d Dim) Known() bool { return d.Name == "" }

func (d Dim) String() string {
	if d.Known() {
		return fmt.Sprint(d.Size)
	}
	return d.Name
}

// Shape is a list of dimensions.
type Shape []Dim

// S is a shape of known sizes.
func S(sizes ...int) Shape {
	s := make(Shape, len(sizes))
	for i, n := range sizes {
		s[i] = D(n)
	}
	return s
}

func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// Elements is the number of elements, or −1 when a dimension is not known.
func (s Shape) Elements() int64 {
	n := int64(1)
	for _, d := range s {
		if !d.Known() {
			return -1
		}
		n *= d.Size
	}
	return n
}

// Equal compares dimension by dimension; named ones by name.
func (s Shape) Equal(t Shape) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range s {
		if s[i] != t[i] {
			return false
		}
	}
	return true
}

// Value is a tensor in the graph: an input, an initializer or the output of a node.
type Value struct {
	Name     string
	DType    DType
	Shape    Shape
	Producer *Node // nil for inputs and initializers
	Init     *Initializer
	g        *Graph
}

func (v *Value) String() string { return fmt.Sprintf("%s %s%s", v.Name, v.DType, v.Shape) }

// Initializer is constant data: inline, or a stretch of a file that is mapped and not copied.
type Initializer struct {
	Data   []byte // inline, little endian; nil when external
	File   string // absolute path
	Offset int64
	Length int64
}

// Node is one operation.
type Node struct {
	Op, Domain string
	Name       string
	Inputs     []*Value // nil: an optional input that is left out
	Outputs    []*Value // nil: an output that nobody wants
	Attrs      []Attr
}

// Attr is an attribute of a node: an int64, float32, string, []int64 or []float32.
type Attr struct {
	Name  string
	Value any
}

// Attr finds an attribute.
func (n *Node) Attr(name string) (any, bool) {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a.Value, true
		}
	}
	return nil, false
}
