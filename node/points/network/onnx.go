package network

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/points"
)

// ONNX is a [graph.Graph] as [Ops]. The encoders run in float32 in every profile: the published code keeps them there.
type ONNX struct {
	Graph *graph.Graph
	Own   bool // sparse convolutions are [graph.Graph.Neighbours]; see ort.Panels
}

// Neighbours implements [Neighbours].
func (o ONNX) Neighbours(x, table, matrices, bias *graph.Value) (*graph.Value, bool) {
	if !o.Own {
		return nil, false
	}
	return o.Graph.Neighbours(x, table, matrices, bias), true
}

// Weight implements [Ops]; the other methods do so, too.
func (o ONNX) Weight(name string, data []float32, shape ...int) *graph.Value {
	return o.Graph.Inline(name, graph.Float32, graph.EncodeFloats(graph.Float32, data), shape...)
}

func (o ONNX) Gather(x, rows *graph.Value) *graph.Value { return o.Graph.Gather(x, rows, 0) }

// Reshape finds the name of the dimension given as −1. Rows times a factor are named "rows*8", so that they are known
// again when the factor is taken out.
func (o ONNX) Reshape(x *graph.Value, shape ...int) *graph.Value {
	if o.Graph.Err() != nil {
		return x
	}
	base, factor := "", int64(1)
	for _, d := range x.Shape {
		name, times := d.Name, d.Size
		if !d.Known() {
			times = 1
			if head, tail, ok := strings.Cut(d.Name, "*"); ok {
				if f, err := strconv.ParseInt(tail, 10, 64); err == nil {
					name, times = head, f
				}
			}
			if base != "" {
				return o.Graph.Failf("reshape of %s: two dimensions are not known", x)
			}
			base = name
		}
		factor *= times
	}
	dims, rest := make([]graph.Dim, len(shape)), int64(1)
	for i, n := range shape {
		dims[i] = graph.D(n)
		if n >= 0 {
			rest *= int64(n)
		}
	}
	if rest == 0 || factor%rest != 0 {
		return o.Graph.Failf("reshape of %s to %v: sizes do not fit", x, shape)
	}
	for i, n := range shape {
		switch times := factor / rest; {
		case n >= 0:
		case base == "":
			dims[i] = graph.D(int(times))
		case times == 1:
			dims[i] = graph.N(base)
		default:
			dims[i] = graph.N(fmt.Sprintf("%s*%d", base, times))
		}
	}
	return o.Graph.Reshape(x, dims...)
}

func (o ONNX) Transpose(x *graph.Value, permutation ...int) *graph.Value {
	return o.Graph.Transpose(x, permutation...)
}
func (o ONNX) Concat(axis int, x ...*graph.Value) *graph.Value { return o.Graph.Concat(axis, x...) }

// Gemm is a product and a sum, which ONNX Runtime fuses and for which there are gradients.
func (o ONNX) Gemm(x, w, bias *graph.Value) *graph.Value {
	return o.Graph.Add(o.Graph.MatMul(x, w), bias)
}
func (o ONNX) MatMul(a, b *graph.Value) *graph.Value { return o.Graph.MatMul(a, b) }
func (o ONNX) Add(a, b *graph.Value) *graph.Value    { return o.Graph.Add(a, b) }
func (o ONNX) Scale(x *graph.Value, by float32) *graph.Value {
	return o.Graph.Scale(x, by)
}
func (o ONNX) Relu(x *graph.Value) *graph.Value { return o.Graph.Relu(x) }
func (o ONNX) ReduceMax(x *graph.Value, axis int) *graph.Value {
	return o.Graph.ReduceMax(x, axis, false)
}
func (o ONNX) LayerNorm(x, weight, bias *graph.Value, epsilon float32) *graph.Value {
	return o.Graph.LayerNorm(x, weight, bias, float64(epsilon))
}
func (o ONNX) Softmax(x *graph.Value) *graph.Value { return o.Graph.Softmax(x) }
func (o ONNX) Hide(x, mask *graph.Value) *graph.Value {
	hidden := o.Graph.Scalar(graph.Float32, float32(math.Inf(-1)))
	return o.Graph.Where(o.Graph.Cast(mask, graph.Bool), hidden, x)
}

// Inputs declares the inputs of the U-Net in a graph: features, stem, k3.0, k3.1, …, down.0, …, up.0, …; rows of level l
// are the dimension "voxels<l>". Tables are int32.
func (m Mink) Inputs(g *graph.Graph) MinkInputs[*graph.Value] {
	rows := func(l int) graph.Dim { return graph.N(fmt.Sprintf("voxels%d", l)) }
	in := MinkInputs[*graph.Value]{
		Features: g.Input("features", graph.Float32, rows(0), graph.D(m.In)),
		Stem:     g.Input("stem", graph.Int32, rows(0), graph.D(m.Kernel*m.Kernel*m.Kernel)),
	}
	for l := range len(m.Encoder) + 1 {
		in.K3 = append(in.K3, g.Input(fmt.Sprintf("k3.%d", l), graph.Int32, rows(l), graph.D(27)))
	}
	for l := range m.Encoder {
		in.Down = append(in.Down, g.Input(fmt.Sprintf("down.%d", l), graph.Int32, rows(l+1), graph.D(8)))
		in.Up = append(in.Up, g.Input(fmt.Sprintf("up.%d", l), graph.Int32, rows(l)))
	}
	return in
}

// Inputs declares the inputs of the masked transformer in a graph: groups, balls (int32), local, mask.0, … (bytes). The
// numbers of tokens are the dimensions "tokens" and "kept".
func (t Transformer) Inputs(g *graph.Graph) TransformerInputs[*graph.Value] {
	tokens, kept := graph.N("tokens"), graph.N("kept")
	in := TransformerInputs[*graph.Value]{
		Groups: g.Input("groups", graph.Float32, tokens, graph.D(t.Samples), graph.D(3+t.Features)),
		Balls:  g.Input("balls", graph.Int32, kept, graph.D(t.Samples2)),
		Local:  g.Input("local", graph.Float32, kept, graph.D(t.Samples2), graph.D(3)),
	}
	for i := range t.Layers {
		n := kept
		if i == 0 {
			n = tokens
		}
		in.Masks = append(in.Masks, g.Input(fmt.Sprintf("mask.%d", i), graph.Uint8, n, n))
	}
	return in
}

// Feed is one input's data: exactly one of the slices is set.
type Feed struct {
	Name     string
	Shape    []int64
	Float32s []float32
	Int32s   []int32
	Uint8s   []uint8
}

// Feeds are the inputs for one map, in the order of [Mink.Inputs]. features are those of the rows of level 0.
func (m Mink) Feeds(t *points.Tables, features []float32) ([]Feed, error) {
	if t.Levels != m.Levels() {
		return nil, fmt.Errorf("sparse U-Net: tables are for %+v, expected %+v", t.Levels, m.Levels())
	}
	if len(features) != t.Rows(0)*m.In {
		return nil, fmt.Errorf("sparse U-Net: %d features, expected %d (%d for each of %d voxels)", len(features), t.Rows(0)*m.In, m.In, t.Rows(0))
	}
	rows := func(l int) int64 { return int64(t.Rows(l)) }
	feeds := []Feed{
		{Name: "features", Shape: []int64{rows(0), int64(m.In)}, Float32s: features},
		{Name: "stem", Shape: []int64{rows(0), int64(m.Kernel * m.Kernel * m.Kernel)}, Int32s: t.Stem},
	}
	for l := range t.K3 {
		feeds = append(feeds, Feed{Name: fmt.Sprintf("k3.%d", l), Shape: []int64{rows(l), 27}, Int32s: t.K3[l]})
	}
	for l := range t.Up {
		feeds = append(feeds, Feed{Name: fmt.Sprintf("down.%d", l), Shape: []int64{rows(l + 1), 8}, Int32s: t.Down[l]},
			Feed{Name: fmt.Sprintf("up.%d", l), Shape: []int64{rows(l)}, Int32s: t.Up[l]})
	}
	return feeds, nil
}

// Feeds are the inputs for one map, in the order of [Transformer.Inputs].
func (t Transformer) Feeds(s *points.Sets) ([]Feed, error) {
	c := s.Config
	if c.Samples != t.Samples || c.Samples2 != t.Samples2 || s.Channels != 3+t.Features || len(s.Masks) != t.Layers {
		return nil, fmt.Errorf("masked transformer: sets have %d and %d samples, %d channels, %d masks, expected %d and %d, %d, %d",
			c.Samples, c.Samples2, s.Channels, len(s.Masks), t.Samples, t.Samples2, 3+t.Features, t.Layers)
	}
	tokens, kept := int64(c.Tokens), int64(c.Kept)
	feeds := []Feed{
		{Name: "groups", Shape: []int64{tokens, int64(c.Samples), int64(s.Channels)}, Float32s: s.Groups},
		{Name: "balls", Shape: []int64{kept, int64(c.Samples2)}, Int32s: s.Balls},
		{Name: "local", Shape: []int64{kept, int64(c.Samples2), 3}, Float32s: s.Local},
	}
	for i, m := range s.Masks {
		n := kept
		if i == 0 {
			n = tokens
		}
		feeds = append(feeds, Feed{Name: fmt.Sprintf("mask.%d", i), Shape: []int64{n, n}, Uint8s: m})
	}
	return feeds, nil
}
