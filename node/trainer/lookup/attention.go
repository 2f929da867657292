package lookup

import "math"

// attention is a cross-attention that is being set: every head has half of the features' width.
type attention struct {
	query, key, value, out func(i, j int) *float32
	bias                   []float32 // of the queries
	width, memory          int       // of the sequence and of what it looks at
	half, heads            int
}

// attention begins one with queries and keys that are next to nothing; it brings nothing back.
func (b *starter) attention(p string) *attention {
	h, e := b.c.QFormerConfig.HiddenSize, b.c.PcdFeatureDim
	a := &attention{
		query: b.matrix(p+"attention.query.weight", h, h), key: b.matrix(p+"attention.key.weight", h, e), bias: b.zero(p+"attention.query.bias", h),
		value: b.matrix(p+"attention.value.weight", h, e), out: b.matrix(p+"output.dense.weight", h, h),
		width: h, memory: e, half: b.s.Half, heads: b.c.QFormerConfig.NumAttentionHeads,
	}
	for row := range h {
		for i := range h {
			*a.query(row, i) = b.noise(0.02)
		}
		for i := range e {
			*a.key(row, i) = b.noise(0.02)
		}
	}
	return a
}

// row is that of number i of a head.
func (a *attention) row(head, i int) int { return head*a.half + i }

// clear lets a row ask for nothing and keep nothing.
func (a *attention) clear(row int) {
	for i := range a.width {
		*a.query(row, i) = 0
	}
	for i := range a.memory {
		*a.key(row, i) = 0
	}
}

// pair makes a row's query answer to one direction and its key to another, both times w.
func (a *attention) pair(row int, w float64, asked, kept []float32) {
	a.clear(row)
	for i := range a.half {
		*a.query(row, i), *a.key(row, i) = float32(w)*asked[i], float32(w)*kept[i]
	}
}

// recent makes a row prefer what was seen late.
func (a *attention) recent(row int) {
	w := float32(math.Sqrt(recency * math.Sqrt(float64(a.half))))
	a.clear(row)
	a.bias[row] = w
	*a.key(row, a.half) = -w // the code's first number is the age
}

// weight is what a query and a key are multiplied by each for scores of so many logits.
func (b *starter) weight(sharp float64) float64 {
	return math.Sqrt(sharp * Scale * math.Sqrt(float64(b.s.Half)) / b.length())
}
