package scene

import (
	"encoding/binary"
	"math"
)

// numberType is the type of one stored number.
type numberType struct {
	size   int
	real   bool // floating point
	signed bool
	big    bool // big-endian
}

// at reads a number from the start of b.
func (n numberType) at(b []byte) float64 {
	var u uint64
	switch {
	case n.size == 1:
		u = uint64(b[0])
	case n.size == 2 && n.big:
		u = uint64(binary.BigEndian.Uint16(b))
	case n.size == 2:
		u = uint64(binary.LittleEndian.Uint16(b))
	case n.size == 4 && n.big:
		u = uint64(binary.BigEndian.Uint32(b))
	case n.size == 4:
		u = uint64(binary.LittleEndian.Uint32(b))
	case n.big:
		u = binary.BigEndian.Uint64(b)
	default:
		u = binary.LittleEndian.Uint64(b)
	}
	switch {
	case n.real && n.size == 4:
		return float64(math.Float32frombits(uint32(u)))
	case n.real:
		return math.Float64frombits(u)
	case n.signed:
		shift := 64 - 8*n.size
		return float64(int64(u<<shift) >> shift)
	}
	return float64(u)
}

var npyTypes = map[string]numberType{
	"f4": {size: 4, real: true}, "f8": {size: 8, real: true},
	"u1": {size: 1}, "u2": {size: 2}, "u4": {size: 4}, "u8": {size: 8},
	"i1": {size: 1, signed: true}, "i2": {size: 2, signed: true}, "i4": {size: 4, signed: true}, "i8": {size: 8, signed: true},
}

var plyTypes = map[string]numberType{
	"char": {size: 1, signed: true}, "int8": {size: 1, signed: true}, "uchar": {size: 1}, "uint8": {size: 1},
	"short": {size: 2, signed: true}, "int16": {size: 2, signed: true}, "ushort": {size: 2}, "uint16": {size: 2},
	"int": {size: 4, signed: true}, "int32": {size: 4, signed: true}, "uint": {size: 4}, "uint32": {size: 4},
	"float": {size: 4, real: true}, "float32": {size: 4, real: true}, "double": {size: 8, real: true}, "float64": {size: 8, real: true},
}

// byteOf clamps a number to 0…255; NaN is 0.
func byteOf(v float64) uint8 {
	if !(v > 0) {
		return 0
	}
	return uint8(min(v, 255))
}
