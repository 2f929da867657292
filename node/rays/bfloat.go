package rays

import "math"

// round rounds to the nearest bfloat16, ties to even, and keeps the result in a float32, where it is exact. NaN stays NaN.
func round(v float32) float32 {
	b := math.Float32bits(v)
	if b&0x7FFFFFFF > 0x7F800000 {
		return v
	}
	return math.Float32frombits((b + 0x7FFF + b>>16&1) &^ 0xFFFF)
}

// roundFinite is [round] for numbers that are not NaN, without looking.
func roundFinite(v float32) float32 {
	b := math.Float32bits(v)
	return math.Float32frombits((b + 0x7FFF + b>>16&1) &^ 0xFFFF)
}

// Bits returns the bfloat16 bit patterns of numbers that were rounded to bfloat16.
func Bits(values []float32) []uint16 {
	out := make([]uint16, len(values))
	for i, v := range values {
		out[i] = uint16(math.Float32bits(v) >> 16)
	}
	return out
}

// dot is a sum of products in float32, in order, as the reference accumulates. The conversions forbid fused multiply-add.
func dot(a0, b0, a1, b1, a2, b2 float32) float32 {
	return float32(float32(a0*b0)+float32(a1*b1)) + float32(a2*b2)
}
