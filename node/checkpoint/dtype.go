package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is the type of a tensor's elements, with the name safetensors gives it.
type DType string

// The element types that a reader can meet. The GGUF block types (Q8_0, Q4_0, Q4_1) hold 32 elements a block.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U64  DType = "U64"
	U32  DType = "U32"
	U16  DType = "U16"
	U8   DType = "U8"
	Bool DType = "BOOL"
	Q8_0 DType = "Q8_0"
	Q4_0 DType = "Q4_0"
	Q4_1 DType = "Q4_1"
)

// Size returns the bytes of one element, or 0 where the type is unknown or is a block type.
func (d DType) Size() int {
	switch d {
	case F64, I64, U64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case I8, U8, Bool:
		return 1
	}
	return 0
}

// Block returns the elements and the bytes of one block: 1 and Size for plain types, 0 and 0 for an unknown one.
func (d DType) Block() (elements, bytes int) {
	switch d {
	case Q8_0:
		return 32, 2 + 32
	case Q4_0:
		return 32, 2 + 16
	case Q4_1:
		return 32, 4 + 16
	}
	if s := d.Size(); s > 0 {
		return 1, s
	}
	return 0, 0
}

// Bytes returns the number of bytes that a tensor of this type and shape has. Block types run along the last dimension,
// which must be a whole number of blocks. A product that does not fit is an error.
func (d DType) Bytes(shape []int64) (int64, error) {
	per, size := d.Block()
	if per == 0 {
		return 0, fmt.Errorf("dtype %q is not known", string(d))
	}
	n, err := elements(shape)
	if err != nil {
		return 0, err
	}
	if per > 1 {
		if len(shape) == 0 || shape[len(shape)-1]%int64(per) != 0 {
			return 0, fmt.Errorf("shape %v: the last dimension of a %s tensor must be a multiple of %d", shape, d, per)
		}
		n /= int64(per)
	}
	if n > math.MaxInt64/int64(size) {
		return 0, fmt.Errorf("shape %v of %s does not fit into 64 bits", shape, d)
	}
	return n * int64(size), nil
}

// elements multiplies the dimensions. A zero dimension is looked for first, so that [2^62, 2^62, 0] is 0 and not too large.
func elements(shape []int64) (int64, error) {
	zero := false
	for _, s := range shape {
		if s < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		zero = zero || s == 0
	}
	if zero {
		return 0, nil
	}
	n := int64(1)
	for _, s := range shape {
		if n > math.MaxInt64/s {
			return 0, fmt.Errorf("shape %v does not fit into 64 bits", shape)
		}
		n *= s
	}
	return n, nil
}

// HalfToFloat32 widens an IEEE binary16.
func HalfToFloat32(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0:
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// Float32ToHalf rounds to the nearest IEEE binary16, ties to even; NaN stays NaN, and too large values become infinite.
func Float32ToHalf(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u>>16) & 0x8000
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000:
		return sign | 0x7e00
	case u >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case u < 0x38800000: // subnormal in binary16: adding 0.5 lines the bits up and rounds them
		v := math.Float32bits(math.Float32frombits(u) + 0.5)
		return sign | uint16(v-0x3f000000)
	}
	u += 0xfff + u>>13&1
	return sign | uint16((u-0x38000000)>>13)
}

// BFloatToFloat32 widens a bfloat16.
func BFloatToFloat32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// Float32ToBFloat rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func Float32ToBFloat(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// decode writes the elements of data, in their order, to dst as float32. Integers above 2^24 lose digits, as they would in
// torch's .float().
func decode(d DType, data []byte, dst []float32) error {
	le := binary.LittleEndian
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(data[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(data[2*i:])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = HalfToFloat32(le.Uint16(data[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(data[8*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(data[8*i:])))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(data[8*i:]))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(data[4*i:])))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(data[4*i:]))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(data[2*i:])))
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(data[2*i:]))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(data[i]))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(data[i])
		}
	case Bool:
		for i := range dst {
			if data[i] != 0 {
				dst[i] = 1
			} else {
				dst[i] = 0
			}
		}
	case Q8_0, Q4_0, Q4_1:
		decodeBlocks(d, data, dst)
	default:
		return fmt.Errorf("dtype %q is not known", string(d))
	}
	return nil
}

// decodeBlocks widens GGUF blocks of 32 elements: a binary16 scale (and, for Q4_1, minimum), then the codes. In the 4-bit
// types element i is the low nibble of byte i, and element 16+i its high nibble.
func decodeBlocks(d DType, data []byte, dst []float32) {
	le := binary.LittleEndian
	_, size := d.Block()
	for b := 0; b*32 < len(dst); b++ {
		in, out := data[b*size:(b+1)*size], dst[b*32:b*32+32]
		scale := HalfToFloat32(le.Uint16(in))
		switch d {
		case Q8_0:
			for i := range out {
				out[i] = scale * float32(int8(in[2+i]))
			}
		case Q4_0:
			for i, c := range in[2:18] {
				out[i] = scale * float32(int(c&15)-8)
				out[16+i] = scale * float32(int(c>>4)-8)
			}
		case Q4_1:
			low := HalfToFloat32(le.Uint16(in[2:]))
			for i, c := range in[4:20] {
				out[i] = scale*float32(c&15) + low
				out[16+i] = scale*float32(c>>4) + low
			}
		}
	}
}
