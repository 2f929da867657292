package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// Packed is a matrix [N, K] of 4- or 8-bit codes in the layout of com.microsoft.MatMulNBits. Element (n, k) is
// (code − zero)·scale + offset of block k / Block of row n, where zero is 8 of 4 bits and 128 of 8.
type Packed struct {
	N, K, Block, Bits int
	Codes             []byte    // [N][K/Block][Block·Bits/8]; of 4 bits, even k in the low nibble
	Scales            []float32 // [N][K/Block]
	// Offsets are nil, or [N][K/Block]: blocks that are not symmetric (Q4_1). MatMulNBits knows zero points instead, which
	// are whole numbers where it is fast; a product with offsets is its result plus the sums of x by block times these.
	Offsets []float32
}

// Suffixes of the tensors that stand for a quantised matrix in a model folder: codes uint8 [N, K/block, block·bits/8] and
// scales [N, K/block].
const (
	CodesSuffix  = ".codes"
	ScalesSuffix = ".scales"
)

// QuantiseError says how far a quantised matrix is from its original.
type QuantiseError struct {
	MaxAbs   float64 // largest difference
	RMS      float64 // root of the mean square of the differences
	Relative float64 // RMS of the differences over RMS of the original; 0 for a matrix of zeros
}

// QuantisedMatrix names a quantised matrix and how far it is from the original.
type QuantisedMatrix struct {
	Name  string
	Error QuantiseError
}

// QuantiseInt4 quantises a matrix [n, k] symmetrically to 4 bits in blocks of 32, 64 or 128 along k, as GGUF's Q4_0 does: the
// element of the largest magnitude becomes exactly −8 times the scale. Values that are not finite are an error.
func QuantiseInt4(weights []float32, n, k, block int) (*Packed, QuantiseError, error) {
	if n < 1 || k < 1 || len(weights)/k != n || len(weights)%k != 0 {
		return nil, QuantiseError{}, fmt.Errorf("quantise: %d weights as %d × %d", len(weights), n, k)
	}
	if err := blocksFit(n, k, block); err != nil {
		return nil, QuantiseError{}, err
	}
	q := &Packed{N: n, K: k, Block: block, Bits: 4, Codes: make([]byte, n*k/2), Scales: make([]float32, n*(k/block))}
	e, err := quantise(n, k, block, func(first, rows int, _ []float32) ([]float32, error) {
		return weights[first*k : (first+rows)*k], nil
	}, func(first int, codes []byte, scales []float32) error {
		copy(q.Codes[first*k/2:], codes)
		copy(q.Scales[first*(k/block):], scales)
		return nil
	})
	if err != nil {
		return nil, QuantiseError{}, fmt.Errorf("quantise: %w", err)
	}
	return q, e, nil
}

// QuantiseRows is [QuantiseInt4] of a stored matrix [N, K] whose result is never in memory as a whole: put is given the codes
// [rows, K/2] and scales [rows, K/block] of some rows from first on, from several goroutines, and must not keep them. The
// matrix's pages are given back as it goes.
func QuantiseRows(t *Tensor, block int, put func(first int, codes []byte, scales []float32) error) (QuantiseError, error) {
	if len(t.Shape) != 2 {
		return QuantiseError{}, fmt.Errorf("quantise %s: shape %v, expected a matrix", t.Name, t.Shape)
	}
	n, k := int(t.Shape[0]), int(t.Shape[1])
	if err := blocksFit(n, k, block); err != nil {
		return QuantiseError{}, fmt.Errorf("%s: %w", t.Name, err)
	}
	e, err := quantise(n, k, block, func(first, rows int, room []float32) ([]float32, error) {
		room = room[:rows*k]
		defer t.release(int64(first), int64(rows))
		return room, t.Float32Rows(int64(first), int64(rows), room)
	}, put)
	if err != nil {
		return e, fmt.Errorf("quantise %s: %w", t.Name, err)
	}
	return e, nil
}

func blocksFit(n, k, block int) error {
	if block != 32 && block != 64 && block != 128 {
		return fmt.Errorf("quantise: block size %d, expected 32, 64 or 128", block)
	}
	if n < 1 || k < 1 || k%block != 0 {
		return fmt.Errorf("quantise: a matrix of %d × %d: the row length must be a multiple of %d", n, k, block)
	}
	return nil
}

// groupSize is how many elements are converted at a time: they stay in a core's cache.
const groupSize = 1 << 16

// quantise runs over groups of rows in order on all processors. read gives rows from first on, for which room has places.
func quantise(n, k, block int, read func(first, rows int, room []float32) ([]float32, error), put func(first int, codes []byte, scales []float32) error) (QuantiseError, error) {
	sums := make([]squares, n)
	rows := max(1, groupSize/k)
	err := inOrder((n+rows-1)/rows, func() func(int) error {
		room := make([]float32, rows*k)
		codes, scales := make([]byte, rows*k/2), make([]float32, rows*(k/block))
		return func(group int) error {
			first := group * rows
			count := min(rows, n-first)
			in, err := read(first, count, room)
			if err != nil {
				return err
			}
			for b := range count * k / block {
				scales[b] = quantiseBlock(in[b*block:(b+1)*block], codes[b*block/2:(b+1)*block/2], &sums[first+b*block/k])
			}
			return put(first, codes[:count*k/2], scales[:count*k/block])
		}
	})
	if err != nil {
		return QuantiseError{}, err
	}
	var total squares
	for _, s := range sums { // in order: the report does not depend on the processors
		total.difference += s.difference
		total.original += s.original
		total.largest = max(total.largest, s.largest)
	}
	if total.original-total.original != 0 {
		return QuantiseError{}, errors.New("a weight is not finite")
	}
	e := QuantiseError{MaxAbs: total.largest, RMS: math.Sqrt(total.difference / (float64(n) * float64(k)))}
	if total.original > 0 {
		e.Relative = math.Sqrt(total.difference / total.original)
	}
	return e, nil
}

type squares struct {
	difference, original, largest float64
}

func quantiseBlock(in []float32, out []byte, sum *squares) float32 {
	var peak float32 // the element of the largest magnitude, with its sign
	top := float32(0)
	for _, v := range in {
		if m := abs(v); m > top {
			top, peak = m, v
		}
	}
	scale := peak / -8
	inverse := float32(0)
	if scale != 0 {
		inverse = 1 / scale
	}
	if inverse-inverse != 0 { // a scale so small that it has no reciprocal: the block is zero
		scale, inverse = 0, 0
	}
	// Two sums each, of even and odd elements, keep additions from waiting for one another.
	var d0, d1, o0, o1, most float64
	for i := range out {
		a, b := in[2*i], in[2*i+1]
		low, high := code(a, inverse), code(b, inverse)
		out[i] = low | high<<4
		x, y := float64(a), float64(b)
		dx, dy := x-float64(scale*float32(int(low)-8)), y-float64(scale*float32(int(high)-8))
		dx, dy = dx*dx, dy*dy
		d0, d1, o0, o1 = d0+dx, d1+dy, o0+x*x, o1+y*y
		if dx > most {
			most = dx
		}
		if dy > most {
			most = dy
		}
	}
	sum.difference += d0 + d1
	sum.original += o0 + o1 // of float32 numbers: finite where they are
	sum.largest = max(sum.largest, math.Sqrt(most))
	return scale
}

func code(v, inverse float32) byte {
	return byte(min(max(int32(v*inverse+8.5), 0), 15)) // v·inverse + 8 is never below 0 by more than rounding
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// Dequantise returns the matrix [N, K].
func (q *Packed) Dequantise() []float32 {
	out := make([]float32, q.N*q.K)
	blocks := q.K / q.Block
	rows(q.N, func(n int) {
		for k := range q.K {
			at, b := n*q.K+k, n*blocks+k/q.Block
			v := float32(int(q.Codes[at*q.Bits/8])-128) * q.Scales[b]
			if q.Bits == 4 {
				v = float32(int(q.Codes[at/2]>>(4*(at&1))&15)-8) * q.Scales[b]
			}
			if q.Offsets != nil {
				v += q.Offsets[b]
			}
			out[at] = v
		}
	})
	return out
}

// Repack turns a GGUF matrix of Q4_0, Q4_1 or Q8_0 blocks into MatMulNBits' layout without another rounding of its codes.
// Q4_1's elements are scale·code + minimum: with 8 taken off the code, the offset is the minimum plus 8 scales.
func Repack(t *Tensor) (*Packed, error) {
	bits := map[DType]int{Q4_0: 4, Q4_1: 4, Q8_0: 8}[t.DType]
	if bits == 0 || len(t.Shape) != 2 {
		return nil, fmt.Errorf("repack %s (%s %v): %w", t.Name, t.DType, t.Shape, errNotBlocks)
	}
	n, k := int(t.Shape[0]), int(t.Shape[1])
	_, size := t.DType.Block()
	blocks := k / 32
	q := &Packed{N: n, K: k, Block: 32, Bits: bits, Codes: make([]byte, n*k*bits/8), Scales: make([]float32, n*blocks)}
	if t.DType == Q4_1 {
		q.Offsets = make([]float32, n*blocks)
	}
	le := binary.LittleEndian
	var broken atomic.Bool
	rows(n, func(row int) {
		for b := row * blocks; b < (row+1)*blocks; b++ {
			in, out := t.Data[b*size:(b+1)*size], q.Codes[b*4*bits:(b+1)*4*bits]
			scale := HalfToFloat32(le.Uint16(in))
			q.Scales[b] = scale
			sum := scale
			switch t.DType {
			case Q8_0:
				for i, c := range in[2:] {
					out[i] = c ^ 0x80 // from −128…127 to 0…255
				}
			case Q4_0:
				splitNibbles(in[2:], out)
			case Q4_1:
				low := HalfToFloat32(le.Uint16(in[2:]))
				q.Offsets[b] = low + 8*scale
				sum += low
				splitNibbles(in[4:], out)
			}
			if sum-sum != 0 {
				broken.Store(true)
			}
		}
	})
	if broken.Load() {
		return nil, fmt.Errorf("repack %s: the scale of a block is not finite", t.Name)
	}
	return q, nil
}

// splitNibbles goes from GGUF's order, where byte j has the elements j and 16+j, to the elements 2i and 2i+1 in byte i.
func splitNibbles(in, out []byte) {
	for i := range 8 {
		out[i] = in[2*i]&15 | in[2*i+1]<<4
		out[8+i] = in[2*i]>>4 | in[2*i+1]&0xf0
	}
}

// rows runs f for every row on all processors.
func rows(n int, f func(row int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for row := n * w / workers; row < n*(w+1)/workers; row++ {
				f(row)
			}
		})
	}
	wg.Wait()
}
