package graph

import (
	"strings"
	"testing"
)

// The first mistake stays the graph's error, names the operator and what was found, and nothing after it panics.
func TestMistakesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		build func(g *Graph) *Value
		want  string
	}{
		"inner sizes": {func(g *Graph) *Value {
			return g.MatMul(g.Input("a", Float32, D(2), D(3)), g.Input("b", Float32, D(4), D(5)))
		}, "MatMul"},
		"types":    {func(g *Graph) *Value { return g.Add(g.Input("a", Float32, D(2)), g.Input("b", Int64, D(2))) }, "Add"},
		"elements": {func(g *Graph) *Value { return g.Reshape(g.Input("a", Float32, D(2), D(3)), D(7)) }, "6 elements"},
		"another graph": {func(g *Graph) *Value {
			return g.Add(New("other").Input("a", Float32, D(2)), g.Input("b", Float32, D(2)))
		}, "another graph"},
		"norm of a number": {func(g *Graph) *Value {
			one := g.Input("one", Float32, D(1))
			return g.LayerNorm(g.Input("a", Float32), one, one, 1e-5)
		}, "LayerNormalization"},
		"RMS norm of a number": {func(g *Graph) *Value { return g.RMSNorm(g.Input("a", Float32), g.Input("w", Float32, D(1)), 1e-5) }, "RMSNorm"},
		"4 bits of a number": {func(g *Graph) *Value {
			w := NBits{K: 32, N: 1, Bits: 4, Block: 32, Codes: g.Inline("c", Uint8, make([]byte, 16), 1, 1, 16), Scales: g.Inline("s", Float32, make([]byte, 4), 1)}
			return g.MatMulNBits(g.Input("a", Float32), w, nil)
		}, "MatMulNBits"},
		"product of other sizes": {func(g *Graph) *Value {
			return g.Product(g.Input("a", Float32, N("s"), D(3)), []*Value{g.Input("w", Float32, D(2), D(4))}, nil)[0]
		}, "Product"},
		"codes of another size": {func(g *Graph) *Value {
			w := NBits{K: 32, N: 2, Bits: 4, Block: 32, Codes: g.Inline("c", Uint8, make([]byte, 16), 1, 1, 16), Scales: g.Inline("s", Float32, make([]byte, 8), 2)}
			return g.CodeProduct(g.Input("a", Float32, D(32)), w, nil)
		}, "CodeProduct"},
		"codes in blocks of 48": {func(g *Graph) *Value {
			w := NBits{K: 48, N: 1, Bits: 4, Block: 48, Codes: g.Inline("c", Uint8, make([]byte, 24), 1, 1, 24), Scales: g.Inline("s", Float32, make([]byte, 4), 1)}
			return g.CodeProduct(g.Input("a", Float32, D(48)), w, nil)
		}, "blocks of 48"},
		"product of codes": {func(g *Graph) *Value {
			return g.Product(g.Input("a", Float32, N("s"), D(3)), []*Value{g.Input("w", Uint8, D(2), D(3))}, nil)[0]
		}, "Product"},
		"product of nothing": {func(g *Graph) *Value { return g.Concat(0, g.Product(g.Input("a", Float32, D(3)), nil, nil)...) }, "Product"},
		"empty slice":        {func(g *Graph) *Value { return g.Slice(g.Input("a", Float32, N("s")), 0, -1, -3) }, "nothing lies"},
		"slice to the start": {func(g *Graph) *Value { return g.Slice(g.Input("a", Float32, N("s")), 0, -3, 0) }, "nothing lies"},
		"short weight":       {func(g *Graph) *Value { return g.External("w", Float32, "file", 0, 12, 2, 2) }, "expected 16"},
		"name used once": {func(g *Graph) *Value {
			g.External("w", Float32, "file", 0, 16, 4)
			return g.External("w", Float32, "file", 0, 8, 2)
		}, "was made as"},
	} {
		t.Run(name, func(t *testing.T) {
			g := New("wrong")
			g.Output("y", g.Relu(c.build(g)))
			if _, err := g.Model(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, expected one with %q", err, c.want)
			}
		})
	}
}

func TestWeightUsedTwice(t *testing.T) {
	g := New("tied")
	first := g.External("w", Float32, "file", 0, 16, 4)
	if again := g.External("w", Float32, "file", 0, 16, 4); again != first || g.Err() != nil {
		t.Errorf("the same weight became two: %v", g.Err())
	}
}

// What is declared of a slice of a dimension that is known only when the model runs.
func TestSliceOfNamed(t *testing.T) {
	for _, c := range []struct {
		from, to int64
		want     Dim
	}{
		{0, 3, D(3)}, {2, 3, D(1)}, {0, End, N("s")}, {-1, End, D(1)}, {2, End, N("s[2:]")},
		{-3, End, N("s[-3:]")}, {-3, -1, N("s[-3:-1]")}, {-3, -2, N("s[-3:-2]")}, {0, -1, N("s[0:-1]")}, {-3, 2, N("s[-3:2]")},
	} {
		g := New("slice")
		y := g.Slice(g.Input("x", Float32, N("s"), D(4)), 0, c.from, c.to)
		if g.Err() != nil || !y.Shape.Equal(Shape{c.want, D(4)}) {
			t.Errorf("[%d:%d) of s is %s, expected %s (%v)", c.from, c.to, y.Shape, c.want, g.Err())
		}
	}
}
