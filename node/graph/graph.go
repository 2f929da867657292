package graph

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Microsoft is the domain of ONNX Runtime's own operators.
const Microsoft = "com.microsoft"

// Own is the domain of the operators that package ort adds.
const Own = "stllm"

// Graph is a model under construction. Its methods add nodes; the first mistake is kept and returned by Err and Model, and
// everything after it does nothing, so that building reads like the mathematics.
type Graph struct {
	// Rounded lets operators of our own round numbers to bfloat16 where they multiply many rows; sums stay float32. The
	// processor must have products of them (ort.RoundedProducts).
	Rounded bool

	name    string
	nodes   []*Node
	inputs  []*Value
	outputs []*Value
	inits   []*Value
	names   map[string]int
	values  map[string]*Value
	scope   []string
	consts  map[string]*Value
	err     error
}

// New starts an empty graph.
func New(name string) *Graph {
	return &Graph{name: name, names: map[string]int{}, values: map[string]*Value{}, consts: map[string]*Value{}}
}

// Err is the first mistake, or nil.
func (g *Graph) Err() error { return g.err }

// Nodes lists the nodes in order; Inputs, Outputs and Initializers the values.
func (g *Graph) Nodes() []*Node         { return g.nodes }
func (g *Graph) Inputs() []*Value       { return g.inputs }
func (g *Graph) Outputs() []*Value      { return g.outputs }
func (g *Graph) Initializers() []*Value { return g.inits }

// Value finds a value by name.
func (g *Graph) Value(name string) (*Value, bool) {
	v, ok := g.values[name]
	return v, ok
}

// Failf records a mistake of a module that builds on the graph.
func (g *Graph) Failf(format string, args ...any) *Value {
	if g.err == nil {
		where := strings.Join(g.scope, "/")
		if where != "" {
			where += ": "
		}
		g.err = fmt.Errorf("graph %s: %s%w", g.name, where, fmt.Errorf(format, args...))
	}
	return g.bad()
}

func (g *Graph) bad() *Value { return &Value{Name: "invalid", g: g} }

// Scope puts a name before those of the nodes that f adds, and into its error messages.
func (g *Graph) Scope(name string, f func()) {
	g.scope = append(g.scope, name)
	f()
	g.scope = g.scope[:len(g.scope)-1]
}

func (g *Graph) unique(base string) string {
	if len(g.scope) > 0 {
		base = strings.Join(g.scope, "/") + "/" + base
	}
	n := g.names[base]
	g.names[base] = n + 1
	if n == 0 {
		return base
	}
	return fmt.Sprintf("%s_%d", base, n)
}

func (g *Graph) add(v *Value) *Value {
	if _, dup := g.values[v.Name]; dup {
		return g.Failf("two values are named %q", v.Name)
	}
	v.g = g
	g.values[v.Name] = v
	return v
}

// Input declares a model input.
func (g *Graph) Input(name string, t DType, shape ...Dim) *Value {
	v := g.add(&Value{Name: name, DType: t, Shape: shape})
	g.inputs = append(g.inputs, v)
	return v
}

// Output names a value as a model output.
func (g *Graph) Output(name string, v *Value) {
	if g.err != nil {
		return
	}
	out := g.one("Identity", "", []*Value{v}, nil, v.DType, v.Shape)
	delete(g.values, out.Name)
	out.Name = name
	g.outputs = append(g.outputs, g.add(out))
}

// Inline makes an initializer from bytes.
func (g *Graph) Inline(name string, t DType, data []byte, sizes ...int) *Value {
	s := S(sizes...)
	if want := s.Elements() * int64(t.Size()); int64(len(data)) != want {
		return g.Failf("initializer %s %s%s has %d bytes, expected %d", name, t, s, len(data), want)
	}
	return g.initializer(&Value{Name: name, DType: t, Shape: s, Init: &Initializer{Data: data}})
}

// External makes an initializer from a stretch of a file (a tensor of a .safetensors): it is mapped, not copied.
func (g *Graph) External(name string, t DType, file string, offset, length int64, sizes ...int) *Value {
	s := S(sizes...)
	if want := s.Elements() * int64(t.Size()); length != want {
		return g.Failf("initializer %s %s%s has %d bytes in %s, expected %d", name, t, s, length, file, want)
	}
	return g.initializer(&Value{Name: name, DType: t, Shape: s, Init: &Initializer{File: file, Offset: offset, Length: length}})
}

// arithmetic is the attribute of an operator of our own that says in which type many rows are multiplied.
func (g *Graph) arithmetic() []Attr {
	t := Float32
	if g.Rounded {
		t = BFloat16
	}
	return []Attr{{"arithmetic", int64(t)}}
}

func (g *Graph) initializer(v *Value) *Value {
	if old, ok := g.values[v.Name]; ok && old.Init != nil {
		// A weight may be used twice (tied embeddings), but a name stands for one weight.
		if old.DType != v.DType || old.Shape.String() != v.Shape.String() {
			return g.Failf("initializer %s is asked for as %s%s and was made as %s%s", v.Name, v.DType, v.Shape, old.DType, old.Shape)
		}
		return old
	}
	g.inits = append(g.inits, v)
	return g.add(v)
}

// Floats makes a float constant of the given element type.
func (g *Graph) Floats(t DType, values []float32, sizes ...int) *Value {
	data := EncodeFloats(t, values)
	if data == nil {
		return g.Failf("floats cannot be %s", t)
	}
	return g.constant(t, data, sizes)
}

// EncodeFloats gives the bytes of values in an element type (nearest even); nil where the type holds no fractions.
func EncodeFloats(t DType, values []float32) []byte {
	data := make([]byte, 0, len(values)*t.Size())
	for _, v := range values {
		switch t {
		case Float32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		case Float16:
			data = binary.LittleEndian.AppendUint16(data, HalfBits(v))
		case BFloat16:
			data = binary.LittleEndian.AppendUint16(data, BFloatBits(v))
		case Float64:
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(float64(v)))
		default:
			return nil
		}
	}
	return data
}

// Ints makes an int64 constant; without sizes it is a vector.
func (g *Graph) Ints(values []int64, sizes ...int) *Value {
	if sizes == nil {
		sizes = []int{len(values)}
	}
	data := make([]byte, 0, 8*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	return g.constant(Int64, data, sizes)
}

// constant shares equal small constants, so that a thousand nodes do not bring a thousand copies of "axis 1".
func (g *Graph) constant(t DType, data []byte, sizes []int) *Value {
	key := ""
	if len(data) <= 64 {
		key = fmt.Sprintf("%d %v %x", t, sizes, data)
		if v, ok := g.consts[key]; ok {
			return v
		}
	}
	v := g.Inline(fmt.Sprintf("const_%d", len(g.inits)), t, data, sizes...)
	if key != "" && g.err == nil {
		g.consts[key] = v
	}
	return v
}

// Scalar is a float constant without dimensions.
func (g *Graph) Scalar(t DType, v float32) *Value { return g.Floats(t, []float32{v}) }

// Op adds a node of any operator; the caller says what comes out. Typed methods check more and are to be preferred.
func (g *Graph) Op(op, domain string, inputs []*Value, attrs []Attr, outs ...Out) []*Value {
	if g.err != nil {
		return slices.Repeat([]*Value{g.bad()}, len(outs))
	}
	n := &Node{Op: op, Domain: domain, Name: g.unique(op), Inputs: inputs, Attrs: attrs}
	for _, in := range inputs {
		if in != nil && in.g != g {
			g.Failf("%s: input %s belongs to another graph", op, in)
			return slices.Repeat([]*Value{g.bad()}, len(outs))
		}
	}
	for i, o := range outs {
		if o.Skip {
			n.Outputs = append(n.Outputs, nil)
			continue
		}
		name := n.Name
		if i > 0 {
			name = fmt.Sprintf("%s:%d", n.Name, i)
		}
		n.Outputs = append(n.Outputs, g.add(&Value{Name: name, DType: o.DType, Shape: o.Shape, Producer: n}))
	}
	g.nodes = append(g.nodes, n)
	return n.Outputs
}

// Also asks for a further output of a node that is there already, such as the mean that a LayerNormalization has found.
func (g *Graph) Also(n *Node, index int, out Out) *Value {
	if g.err != nil {
		return g.bad()
	}
	for len(n.Outputs) <= index {
		n.Outputs = append(n.Outputs, nil)
	}
	if n.Outputs[index] == nil {
		n.Outputs[index] = g.add(&Value{Name: fmt.Sprintf("%s:%d", n.Name, index), DType: out.DType, Shape: out.Shape, Producer: n})
	}
	return n.Outputs[index]
}

// Out describes one output of Op.
type Out struct {
	DType DType
	Shape Shape
	Skip  bool // the output exists, nobody wants it
}

func (g *Graph) one(op, domain string, inputs []*Value, attrs []Attr, t DType, s Shape) *Value {
	return g.Op(op, domain, inputs, attrs, Out{DType: t, Shape: s})[0]
}

// failOp records a mistake with the operator's name and what it was given.
func (g *Graph) failOp(op string, inputs []*Value, why string, args ...any) *Value {
	var list []string
	for _, v := range inputs {
		if v == nil {
			list = append(list, "-")
			continue
		}
		list = append(list, v.String())
	}
	return g.Failf("%s(%s): %s", op, strings.Join(list, ", "), fmt.Sprintf(why, args...))
}

// BFloatBits rounds to bfloat16, nearest even.
func BFloatBits(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7FFF + b>>16&1) >> 16)
}

// HalfBits rounds to IEEE half precision, nearest even.
func HalfBits(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xFF) - 127
	mant := b & 0x7FFFFF
	switch {
	case exp == 128: // infinity, NaN
		if mant != 0 {
			return sign | 0x7E00
		}
		return sign | 0x7C00
	case exp > 15:
		return sign | 0x7C00
	case exp < -25:
		return sign
	}
	shift := 13
	if exp < -14 {
		mant |= 0x800000
		shift += -14 - exp
		exp = -15
	}
	half := uint32(exp+15)<<10 + mant>>shift
	rest, mid := mant&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > mid || rest == mid && half&1 == 1 {
		half++ // a carry runs into the exponent, as it should
	}
	return sign | uint16(half)
}

// OutputAs makes the output of a node a model output of another name without a node in between, so that ONNX Runtime can
// write it in place.
func (g *Graph) OutputAs(name string, v *Value) {
	if g.err != nil {
		return
	}
	if v.Producer == nil {
		g.Failf("%s is no node's output", v)
		return
	}
	if _, dup := g.values[name]; dup {
		g.Failf("two values are named %q", name)
		return
	}
	delete(g.values, v.Name)
	v.Name = name
	g.values[name] = v
	g.outputs = append(g.outputs, v)
}
