package lookup

import "fmt"

// eventSharpness is that of the look-up for things in use: a few patches must win over thousands that show nothing of it.
const eventSharpness = 2

// besideSharpness is that of the look-up for what is beside a thing.
const besideSharpness = 1.3

// use lets the heads of a layer's cross-attention ask for what was in use: the first brings back where and when it was, the
// last what it was, and those between what is beside a thing now. Behind it the layer's first hidden units tell whether the
// last head found the thing at all.
func (b *starter) use(layer string) {
	a := b.attention(layer + "crossattention.")
	for head := range a.heads {
		between := head > 0 && head < a.heads-1
		if between {
			w := b.weight(besideSharpness)
			for k, u := range b.s.Direction {
				a.pair(a.row(head, k), w, u, u)
			}
			a.recent(a.row(head, len(b.s.Direction)))
		} else {
			w := b.weight(eventSharpness)
			for j, class := range b.s.UsedClass {
				a.pair(a.row(head, j), w, b.s.Direction[class], b.s.Used[j])
			}
		}
		for i := range a.half {
			row := a.row(head, i)
			switch {
			case head == 0:
				*a.value(row, a.half+i) = 1
				*a.out(a.width-a.half+i, row) = 0.5
			case between:
				*a.value(row, i) = 1
				*a.out(i, row) = 0.7
			default:
				*a.value(row, i) = 1
				axis := make([]float32, a.half)
				axis[i] = 1
				for j, v := range b.s.project(axis) { // what the classes do not span comes back
					*a.out(j, row) = 2 * (axis[j] - v)
				}
			}
		}
	}
	b.found(layer)
}

// found lets the first hidden units of a layer fire where its look-up found a thing in use, one for each class, and say so
// in one number for all.
func (b *starter) found(layer string) {
	h, hidden, half := b.c.QFormerConfig.HiddenSize, b.c.QFormerConfig.IntermediateSize, b.s.Half
	if hidden < len(b.s.Used) {
		b.fail(fmt.Errorf("qformer intermediate_size %d, expected at least %d", hidden, len(b.s.Used)))
		return
	}
	in, bias, out := b.need(layer+"intermediate_query.dense.weight", hidden, h), b.need(layer+"intermediate_query.dense.bias", hidden), b.need(layer+"output_query.dense.weight", h, hidden)
	for j, u := range b.s.Used {
		row := in[j*h : (j+1)*h]
		clear(row)
		for i := range half {
			row[i] = 4 * u[i]
		}
		bias[j] = -4
		out[(half+usedDim)*hidden+j] = 1
	}
}
