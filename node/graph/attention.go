package graph

// MostHead is how wide a head of [Graph.Attention] may be.
const MostHead = 128

// Attention is multi-head attention without a mask: q [B,S,D], k and v [B,L,D] of float32 with D = heads·d and d at most MostHead.
// It runs on a CPU that has AVX-512 (ort.Panels), in the graph's arithmetic.
func (g *Graph) Attention(q, k, v *Value, heads int) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{q, k, v}
	for _, x := range in {
		if x.DType != Float32 || len(x.Shape) != 3 || x.Shape[0] != q.Shape[0] || x.Shape[2] != q.Shape[2] {
			return g.failOp("Attention", in, "expected [B,S,D], [B,L,D] and [B,L,D] of float32")
		}
	}
	d := q.Shape[2]
	if k.Shape[1] != v.Shape[1] || heads < 1 || !d.Known() || d.Size%int64(heads) != 0 || d.Size/int64(heads) > MostHead {
		return g.failOp("Attention", in, "%d heads, expected as many values as keys, and heads of up to %d numbers", heads, MostHead)
	}
	return g.one("Attention", Own, in, append(g.arithmetic(), Attr{"heads", int64(heads)}), Float32, q.Shape)
}

// Cache are the keys and values of a language model's layer [1, key heads, room, d] of float32, and where new positions go: Last
// (int32 [1]) is the place of the last of them. Cos and Sin are the tables of the rotary embedding [positions, d/2].
type Cache struct{ Keys, Values, Last, Cos, Sin *Value }

// CachedAttention turns new positions' queries and keys by their places (half-split), puts keys and values into the cache, and
// attends to it: each position to itself and those before. in is [1,S,(heads + 2·key heads)·d], or queries, keys and values apart;
// d is a multiple of 16, at most MostHead. It returns [1,S,heads·d] and the cache with them, which may be the same memory. It runs
// where Attention does.
func (g *Graph) CachedAttention(in []*Value, c Cache, heads int) (y, keys, values *Value) {
	all := append([]*Value{c.Keys, c.Values, c.Last, c.Cos, c.Sin}, in...)
	fail := func(why string, args ...any) (y, keys, values *Value) {
		v := g.bad()
		if g.err == nil {
			v = g.failOp("CachedAttention", all, why, args...)
		}
		return v, v, v
	}
	if g.err != nil {
		return fail("")
	}
	for _, v := range append([]*Value{c.Keys, c.Values, c.Cos, c.Sin}, in...) {
		if v.DType != Float32 {
			return fail("expected float32")
		}
	}
	if len(c.Keys.Shape) != 4 || !c.Values.Shape.Equal(c.Keys.Shape) || !c.Keys.Shape[1].Known() || !c.Keys.Shape[3].Known() || c.Last.DType != Int32 {
		return fail("expected keys and values [1, key heads, room, d], and the last place as int32")
	}
	shared, d := int(c.Keys.Shape[1].Size), int(c.Keys.Shape[3].Size)
	if d < 16 || d%16 != 0 || d > MostHead || heads < 1 || heads%max(shared, 1) != 0 {
		return fail("%d heads of %d over %d of keys, expected a multiple of these and 16 to %d in sixteens", heads, d, shared, MostHead)
	}
	widths := []int{(heads + 2*shared) * d}
	if len(in) == 3 {
		widths = []int{heads * d, shared * d, shared * d}
	}
	if len(in) != len(widths) {
		return fail("%d inputs, expected one or three", len(in))
	}
	for i, x := range in {
		if len(x.Shape) != 3 || x.Shape[0] != D(1) || x.Shape[1] != in[0].Shape[1] || x.Shape[2] != D(widths[i]) {
			return fail("expected [1,S,%d]", widths[i])
		}
	}
	outs := g.Op("CachedAttention", Own, all, append(g.arithmetic(), Attr{"heads", int64(heads)}), Out{DType: Float32, Shape: Shape{D(1), in[0].Shape[1], D(heads * d)}},
		Out{DType: Float32, Shape: c.Keys.Shape}, Out{DType: Float32, Shape: c.Values.Shape})
	return outs[0], outs[1], outs[2]
}
