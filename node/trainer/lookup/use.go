package lookup

import (
	"fmt"
	"math"
)

// eventSharpness is that of the look-up for things in use: a few patches must win over thousands that show nothing of it.
const eventSharpness = 2

// use lets the heads of a layer's cross-attention ask for what was in use: the first brings back where and when it was, the
// last what it was, and those between what is beside a thing now. Behind it the layer's first hidden units tell whether the
// last head found the thing at all.
func (b *starter) use(layer string) {
	p := layer + "crossattention."
	h, e, half := b.c.QFormerConfig.HiddenSize, b.c.PcdFeatureDim, b.s.Half
	heads := b.c.QFormerConfig.NumAttentionHeads
	query, key := b.matrix(p+"attention.query.weight", h, h), b.matrix(p+"attention.key.weight", h, e)
	bias := b.zero(p+"attention.query.bias", h)
	value, out := b.matrix(p+"attention.value.weight", h, e), b.matrix(p+"output.dense.weight", h, h)
	for head := range heads {
		row := func(i int) int { return head*half + i }
		for k := range half {
			for i := range h {
				*query(row(k), i) = b.noise(0.02)
			}
			for i := range e {
				*key(row(k), i) = b.noise(0.02)
			}
		}
		between := head > 0 && head < heads-1
		if between {
			w := b.weight(1.3)
			for k, u := range b.s.Direction {
				b.pair(query, key, row(k), w, u, u)
			}
			b.recent(key, bias, row(len(b.s.Direction)))
		} else {
			w := b.weight(eventSharpness)
			for j, class := range b.s.UsedClass {
				b.pair(query, key, row(j), w, b.s.Direction[class], b.s.Used[j])
			}
		}
		for i := range half {
			switch {
			case head == 0:
				*value(row(i), half+i) = 1
				*out(h-half+i, row(i)) = 0.5
			case between:
				*value(row(i), i) = 1
				*out(i, row(i)) = 0.7
			default:
				*value(row(i), i) = 1
				for j := range half {
					*out(j, row(i)) = 2 * (unit(i, j) - b.s.span(i, j))
				}
			}
		}
	}
	b.found(layer)
}

// weight is what a query and a key are multiplied by each for scores of so many logits.
func (b *starter) weight(sharp float64) float64 {
	return math.Sqrt(sharp * Scale * math.Sqrt(float64(b.s.Half)) / b.length())
}

// pair makes a row of a head's query answer to one direction and its key to another.
func (b *starter) pair(query, key func(i, j int) *float32, row int, w float64, asked, kept []float32) {
	for i := range b.c.QFormerConfig.HiddenSize {
		*query(row, i) = 0
	}
	for i := range b.c.PcdFeatureDim {
		*key(row, i) = 0
	}
	for i := range b.s.Half {
		*query(row, i), *key(row, i) = float32(w)*asked[i], float32(w)*kept[i]
	}
}

// found lets the first hidden units of a layer fire where its look-up found a thing in use, one for each class, and say so
// in one number for all.
func (b *starter) found(layer string) {
	h, hidden, half := b.c.QFormerConfig.HiddenSize, b.c.QFormerConfig.IntermediateSize, b.s.Half
	if hidden < len(b.s.Used) {
		b.fail(fmt.Errorf("qformer intermediate_size %d, expected at least %d", hidden, len(b.s.Used)))
		return
	}
	in, err := b.w.Need(layer+"intermediate_query.dense.weight", hidden, h)
	if err != nil {
		b.fail(err)
		return
	}
	bias, err := b.w.Need(layer+"intermediate_query.dense.bias", hidden)
	if err != nil {
		b.fail(err)
		return
	}
	out, err := b.w.Need(layer+"output_query.dense.weight", h, hidden)
	if err != nil {
		b.fail(err)
		return
	}
	for j, u := range b.s.Used {
		row := in.Data[j*h : (j+1)*h]
		clear(row)
		for i := range half {
			row[i] = 4 * u[i]
		}
		bias.Data[j] = -4
		out.Data[(half+usedDim)*hidden+j] = 1
	}
}
