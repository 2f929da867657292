package rays

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/stllm/stllm/node/parallel"
)

// PublishedFrequencies returns the 127 frequencies of the published encoding: 2^0 … 2^62, then −2^63, then 63 zeros,
// because the reference computes powers of two in int64.
func PublishedFrequencies() []float64 {
	f := make([]float64, 127)
	for k := range 63 {
		f[k] = math.Ldexp(1, k)
	}
	f[63] = -math.Ldexp(1, 63)
	return f
}

// Octaves returns count frequencies 2^first, 2^(first+1), ….
func Octaves(first, count int) []float64 {
	f := make([]float64, count)
	for k := range f {
		f[k] = math.Ldexp(1, first+k)
	}
	return f
}

// Fourier encodes vectors v of some width w as [v, sin(f·v), cos(f·v)], coordinate by coordinate within sin and within cos:
// w·(1+2F) columns. Products are exact for powers of two, and sines are of the exact product however large.
// A Fourier may be used by several goroutines.
type Fourier struct {
	frequencies []float64
	rounded     bool
	// rows caches, for the rounded form, the sines and cosines of each bfloat16 number seen: directions take few values.
	rows []atomic.Pointer[[]float32]
}

// NewFourier returns the encoding in float32.
func NewFourier(frequencies []float64) *Fourier { return &Fourier{frequencies: frequencies} }

// NewPublishedFourier returns the published encoding of bfloat16 directions: sines and cosines are rounded to float32, then
// to bfloat16.
func NewPublishedFourier() *Fourier {
	return &Fourier{frequencies: PublishedFrequencies(), rounded: true, rows: make([]atomic.Pointer[[]float32], 1<<16)}
}

// Width is the number of columns for vectors of w numbers.
func (f *Fourier) Width(w int) int { return w * (1 + 2*len(f.frequencies)) }

// Encode encodes vectors of w numbers each. The published encoding needs numbers that bfloat16 holds.
func (f *Fourier) Encode(vectors []float32, w int) ([]float32, error) {
	return f.fresh(vectors, w, f.EncodeInto)
}

// EncodeInto is [Fourier.Encode] into out, of [Fourier.Width] of w numbers for each vector.
func (f *Fourier) EncodeInto(out, vectors []float32, w int) error {
	return f.all(out, vectors, w, false)
}

// EncodePoints is [Fourier.Encode] for directions of points, [N][3], in the published profile: the reference averages their
// embeddings over windows of one, which turns −0 into +0 and changes nothing else.
func (f *Fourier) EncodePoints(directions []float32) ([]float32, error) {
	return f.fresh(directions, 3, func(out, vectors []float32, _ int) error { return f.EncodePointsInto(out, vectors) })
}

// EncodePointsInto is [Fourier.EncodePoints] into out, of [Fourier.Width] of 3 numbers for each direction.
func (f *Fourier) EncodePointsInto(out, directions []float32) error {
	return f.all(out, directions, 3, true)
}

func (f *Fourier) fresh(vectors []float32, w int, encode func(out, vectors []float32, w int) error) ([]float32, error) {
	out := make([]float32, len(vectors)/max(1, w)*f.Width(max(0, w)))
	if err := encode(out, vectors, w); err != nil {
		return nil, err
	}
	return out, nil
}

func (f *Fourier) all(out, vectors []float32, w int, plusZero bool) error {
	if w < 1 || len(vectors)%w != 0 {
		return fmt.Errorf("encode: %d numbers, expected %d per vector", len(vectors), w)
	}
	n, width := len(vectors)/w, f.Width(w)
	if len(out) != n*width {
		return fmt.Errorf("encode: room for %d numbers, expected %d for each of %d vectors", len(out), width, n)
	}
	if f.rounded {
		for i, v := range vectors {
			if math.Float32bits(v)&0xFFFF != 0 {
				return fmt.Errorf("encode: number %d is %v, which is not a bfloat16 number", i, v)
			}
		}
	}
	parallel.Ranges(n, 128, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := out[i*width : (i+1)*width]
			f.encode(row, vectors[i*w:(i+1)*w])
			if plusZero {
				for c := range row {
					row[c] += 0
				}
			}
		}
	})
	return nil
}

// encode writes one row.
func (f *Fourier) encode(out, v []float32) {
	w, n := len(v), len(f.frequencies)
	copy(out, v)
	for c, x := range v {
		sin, cos := out[w+c*n:w+(c+1)*n], out[w+(w+c)*n:w+(w+c+1)*n]
		if !f.rounded {
			f.sincos(x, sin, cos)
			continue
		}
		p := &f.rows[math.Float32bits(x)>>16]
		row := p.Load()
		if row == nil {
			fresh := make([]float32, 2*n)
			f.sincos(x, fresh[:n], fresh[n:])
			for i, s := range fresh {
				fresh[i] = round(s)
			}
			row = &fresh
			p.Store(row) // another goroutine stores the same numbers
		}
		copy(sin, (*row)[:n])
		copy(cos, (*row)[n:])
	}
}

func (f *Fourier) sincos(x float32, sin, cos []float32) {
	for k, freq := range f.frequencies {
		if freq == 0 {
			sin[k], cos[k] = 0*x, 1 // keeps the sign of zero, as the reference does
			continue
		}
		s, c := math.Sincos(float64(x) * freq)
		sin[k], cos[k] = float32(s), float32(c)
	}
}
