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
		"short weight": {func(g *Graph) *Value { return g.External("w", Float32, "file", 0, 12, 2, 2) }, "expected 16"},
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
