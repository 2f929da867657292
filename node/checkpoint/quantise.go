package checkpoint

import (
	"encoding/binary"
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

// QuantiseError says how far a quantised matrix is from its original.
type QuantiseError struct {
	MaxAbs   float64 // largest difference
	RMS      float64 // root of the mean square of the differences
	Relative float64 // RMS of the differences over RMS of the original; 0 for a matrix of zeros
}

// QuantiseInt4 quantises a matrix [n, k] symmetrically to 4 bits in blocks of 32, 64 or 128 along k, as GGUF's Q4_0 does: the
// element of the largest magnitude becomes exactly −8 times the scale. Values that are not finite are an error.
func QuantiseInt4(weights []float32, n, k, block int) (*Packed, QuantiseError, error) {
	if block != 32 && block != 64 && block != 128 {
		return nil, QuantiseError{}, fmt.Errorf("quantise: block size %d, expected 32, 64 or 128", block)
	}
	if n < 1 || k < 1 || k%block != 0 || len(weights)/k != n || len(weights)%k != 0 {
		return nil, QuantiseError{}, fmt.Errorf("quantise: %d weights as %d × %d: the row length must be a multiple of %d", len(weights), n, k, block)
	}
	blocks := k / block
	q := &Packed{N: n, K: k, Block: block, Bits: 4, Codes: make([]byte, n*k/2), Scales: make([]float32, n*blocks)}
	sums := make([]squares, n)
	rows(n, func(row int) {
		for b := range blocks {
			at := row*blocks + b
			in, out := weights[at*block:(at+1)*block], q.Codes[at*block/2:(at+1)*block/2]
			q.Scales[at] = quantiseBlock(in, out, &sums[row])
		}
	})
	var total squares
	for _, s := range sums { // in order: the report does not depend on the processors
		total.difference += s.difference
		total.original += s.original
		total.largest = max(total.largest, s.largest)
		total.broken = total.broken || s.broken
	}
	if total.broken {
		return nil, QuantiseError{}, fmt.Errorf("quantise: a weight is not finite")
	}
	e := QuantiseError{MaxAbs: total.largest, RMS: math.Sqrt(total.difference / float64(len(weights)))}
	if total.original > 0 {
		e.Relative = math.Sqrt(total.difference / total.original)
	}
	return q, e, nil
}

type squares struct {
	difference, original, largest float64
	broken                        bool
}

func quantiseBlock(in []float32, out []byte, sum *squares) float32 {
	var peak float32 // the element of the largest magnitude, with its sign
	for _, v := range in {
		if v-v != 0 {
			sum.broken = true
		}
		if abs(v) > abs(peak) {
			peak = v
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
	for i := range out {
		low, high := code(in[2*i], inverse), code(in[2*i+1], inverse)
		out[i] = low | high<<4
		sum.add(in[2*i], scale*float32(int(low)-8))
		sum.add(in[2*i+1], scale*float32(int(high)-8))
	}
	return scale
}

func code(v, inverse float32) byte {
	return byte(min(max(int(v*inverse+8.5), 0), 15)) // v·inverse + 8 is never below 0 by more than rounding
}

func (s *squares) add(original, got float32) {
	d := math.Abs(float64(original) - float64(got))
	s.difference += d * d
	s.original += float64(original) * float64(original)
	s.largest = max(s.largest, d)
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
