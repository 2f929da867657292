package imaging

/*
#cgo CFLAGS: -O3
#include "resize.h"
*/
import "C"

import (
	"fmt"
	"math"
	"sync"
)

// Resize scales a picture with Pillow's BICUBIC: antialiased, 22-bit fixed point, horizontally first, without keeping the
// aspect. The result is equal to Pillow 12's byte for byte (Pillow 13 goes vertically first for some portrait pictures, which
// no published checkpoint was trained with).
func (p *RGB) Resize(width, height int) (*RGB, error) {
	out, err := NewRGB(width, height)
	if err != nil {
		return nil, fmt.Errorf("resize: %w", err)
	}
	if p.Width < 1 || p.Height < 1 || len(p.Pix) != 3*p.Width*p.Height {
		return nil, fmt.Errorf("resize: picture of %d×%d with %d bytes", p.Width, p.Height, len(p.Pix))
	}
	across, down := weights(p.Width, width), weights(p.Height, height)
	mid := make([]uint8, 3*width*p.Height)
	horizontal := across.horizontal
	if w, ok := across.wide(); ok {
		horizontal = w.horizontal
	}
	rows(p.Height, func(from, to int) { horizontal(mid, p.Pix, p.Width, width, from, to) })
	rows(height, func(from, to int) { down.vertical(out.Pix, mid, width, from, to) })
	return out, nil
}

// rows splits work over two goroutines when there is enough of it.
func rows(n int, f func(from, to int)) {
	if n < 64 {
		f(0, n)
		return
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		f(0, n/2)
	}()
	f(n/2, n)
	wg.Wait()
}

// precision is the number of fraction bits of a weight.
const precision = 22

// filter is one pass: for each output position where its window starts, and its weights.
type filter struct {
	start, count []int
	weight       [][]int32
}

// bicubic is Pillow's kernel, a = −0.5.
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

func weights(in, out int) filter {
	scale := float64(in) / float64(out)
	wide := math.Max(scale, 1)
	support := 2 * wide
	f := filter{make([]int, out), make([]int, out), make([][]int32, out)}
	for i := range out {
		center := (float64(i) + 0.5) * scale
		lo := max(int(center-support+0.5), 0)
		hi := min(int(center+support+0.5), in)
		w := make([]float64, hi-lo)
		sum := 0.0
		for x := range w {
			w[x] = bicubic((float64(x+lo) - center + 0.5) * (1 / wide))
			sum += w[x]
		}
		fixed := make([]int32, len(w))
		for x, v := range w {
			v /= sum
			if v < 0 {
				fixed[x] = int32(-0.5 + v*(1<<precision))
			} else {
				fixed[x] = int32(0.5 + v*(1<<precision))
			}
		}
		f.start[i], f.count[i], f.weight[i] = lo, len(w), fixed
	}
	return f
}

func clamp(v int32) uint8 {
	v >>= precision
	if v < 0 {
		return 0
	}
	if v > 255 {
		return 255
	}
	return uint8(v)
}

func (f filter) horizontal(dst, src []uint8, in, out, from, to int) {
	for y := from; y < to; y++ {
		row, line := src[3*y*in:3*(y+1)*in], dst[3*y*out:3*(y+1)*out]
		for x := range out {
			r, g, b := int32(1)<<(precision-1), int32(1)<<(precision-1), int32(1)<<(precision-1)
			p := row[3*f.start[x]:]
			for i, w := range f.weight[x] {
				q := p[3*i : 3*i+3 : 3*i+3]
				r += int32(q[0]) * w
				g += int32(q[1]) * w
				b += int32(q[2]) * w
			}
			line[3*x], line[3*x+1], line[3*x+2] = clamp(r), clamp(g), clamp(b)
		}
	}
}

// wide is a filter with a weight for each byte rather than for each pixel, as resize.c takes it.
type wide struct {
	start, count, weight []C.int32_t
	stride               int // from the weights of a pixel to the next's
}

// mostTaps is how many pixels one may be made of for that: pictures that are 10,000 times as wide as what is made of them would need
// gigabytes of weights.
const mostTaps = 1024

func (f filter) wide() (wide, bool) {
	taps := 0
	for _, n := range f.count {
		taps = max(taps, n)
	}
	if taps == 0 || taps > mostTaps {
		return wide{}, false
	}
	w := wide{stride: (taps + 4) / 5 * 16}
	w.weight = make([]C.int32_t, w.stride*len(f.count))
	for i := range f.count {
		w.start, w.count = append(w.start, C.int32_t(f.start[i])), append(w.count, C.int32_t(f.count[i]))
		for k, v := range f.weight[i] {
			for c := range 3 {
				w.weight[i*w.stride+k/5*16+k%5*3+c] = C.int32_t(v)
			}
		}
	}
	return w, true
}

func (w wide) horizontal(dst, src []uint8, in, out, from, to int) {
	C.resize_across((*C.uint8_t)(&dst[3*from*out]), (*C.uint8_t)(&src[3*from*in]), C.size_t(in), C.size_t(out), C.size_t(to-from),
		&w.start[0], &w.count[0], &w.weight[0], C.size_t(w.stride))
}

func (f filter) vertical(dst, src []uint8, width, from, to int) {
	stride := 3 * width
	for y := from; y < to; y++ {
		w := f.weight[y]
		C.resize_down((*C.uint8_t)(&dst[y*stride]), (*C.uint8_t)(&src[f.start[y]*stride]), C.size_t(stride), C.size_t(len(w)), (*C.int32_t)(&w[0]))
	}
}
