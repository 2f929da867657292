package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
)

// Int4 is a matrix [N, K] in the layout of com.microsoft.MatMulNBits with 4 bits. Element (n, k) is
// (code − zero)·scale of block k / Block of row n.
type Int4 struct {
	N, K, Block int
	Packed      []byte    // [N][K/Block][Block/2], even k in the low nibble
	Scales      []float32 // [N][K/Block]
	// ZeroPoints is nil where every zero point is 8 (symmetric). Otherwise [N][ceil(K/Block/2)], packed like the codes.
	ZeroPoints []byte
	// Zeros is used instead of ZeroPoints where zero points are no whole numbers (Q4_1): [N][K/Block], in units of codes.
	// MatMulNBits takes them as zero_points of the type of the scales.
	Zeros []float32
}

// QuantiseError says how far a quantised matrix is from its original.
type QuantiseError struct {
	MaxAbs   float64 // largest difference
	RMS      float64 // root of the mean square of the differences
	Relative float64 // RMS of the differences over RMS of the original; 0 for a matrix of zeros
}

// QuantiseInt4 quantises a matrix [n, k] symmetrically to 4 bits in blocks of 32, 64 or 128 along k, as GGUF's Q4_0 does: the
// element of the largest magnitude becomes exactly −8 times the scale. Values that are not finite are an error.
func QuantiseInt4(weights []float32, n, k, block int) (*Int4, QuantiseError, error) {
	if block != 32 && block != 64 && block != 128 {
		return nil, QuantiseError{}, fmt.Errorf("quantise: block size %d, expected 32, 64 or 128", block)
	}
	if n < 1 || k < 1 || k%block != 0 || len(weights)/k != n || len(weights)%k != 0 {
		return nil, QuantiseError{}, fmt.Errorf("quantise: %d weights as %d × %d: the row length must be a multiple of %d", len(weights), n, k, block)
	}
	blocks := k / block
	q := &Int4{N: n, K: k, Block: block, Packed: make([]byte, n*k/2), Scales: make([]float32, n*blocks)}
	sums := make([]squares, n)
	rows(n, func(row int) {
		for b := range blocks {
			at := row*blocks + b
			in, out := weights[at*block:(at+1)*block], q.Packed[at*block/2:(at+1)*block/2]
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
func (q *Int4) Dequantise() []float32 {
	out := make([]float32, q.N*q.K)
	blocks := q.K / q.Block
	for n := range q.N {
		for k := range q.K {
			at := n*q.K + k
			c := float32(q.Packed[at/2] >> (4 * (at & 1)) & 15)
			b := n*blocks + k/q.Block
			zero := float32(8)
			switch {
			case q.Zeros != nil:
				zero = q.Zeros[b]
			case q.ZeroPoints != nil:
				j := k / q.Block
				zero = float32(q.ZeroPoints[n*((blocks+1)/2)+j/2] >> (4 * (j & 1)) & 15)
			}
			out[at] = (c - zero) * q.Scales[b]
		}
	}
	return out
}

// RepackInt4 turns a GGUF matrix of Q4_0 or Q4_1 blocks into MatMulNBits' layout without another rounding of the codes. Q4_1's
// minimum becomes the zero point −min/scale (see Int4.Zeros).
func RepackInt4(t *Tensor) (*Int4, error) {
	if t.DType != Q4_0 && t.DType != Q4_1 || len(t.Shape) != 2 {
		return nil, fmt.Errorf("repack %s (%s %v): %w", t.Name, t.DType, t.Shape, errNotBlocks)
	}
	n, k := int(t.Shape[0]), int(t.Shape[1])
	_, size := t.DType.Block()
	blocks := k / 32
	q := &Int4{N: n, K: k, Block: 32, Packed: make([]byte, n*k/2), Scales: make([]float32, n*blocks)}
	if t.DType == Q4_1 {
		q.Zeros = make([]float32, n*blocks)
	}
	le := binary.LittleEndian
	var mu sync.Mutex
	var bad error
	rows(n, func(row int) {
		for b := row * blocks; b < (row+1)*blocks; b++ {
			in := t.Data[b*size : (b+1)*size]
			scale := HalfToFloat32(le.Uint16(in))
			q.Scales[b] = scale
			codes := in[2:]
			if t.DType == Q4_1 {
				low := HalfToFloat32(le.Uint16(in[2:]))
				codes = in[4:]
				if scale == 0 && low != 0 {
					// Every element is the minimum. A scale of that and codes of 1 above a zero point of 0 say the same.
					q.Scales[b] = low
					for i := range 16 {
						q.Packed[b*16+i] = 0x11
					}
					continue
				}
				if scale != 0 {
					q.Zeros[b] = -low / scale
				}
			}
			if s := q.Scales[b]; s-s != 0 {
				mu.Lock()
				bad = fmt.Errorf("repack %s: the scale of a block is not finite", t.Name)
				mu.Unlock()
			}
			for i := range 8 {
				// GGUF: byte j has elements j and 16+j. Here: byte i has elements 2i and 2i+1.
				q.Packed[b*16+i] = codes[2*i]&15 | codes[2*i+1]<<4
				q.Packed[b*16+8+i] = codes[2*i]>>4 | codes[2*i+1]&0xf0
			}
		}
	})
	if bad != nil {
		return nil, bad
	}
	return q, nil
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
