package imaging

import (
	"encoding/binary"
	"math"
)

func depthAt(b []byte, size int, order binary.ByteOrder) float32 {
	if size == 2 {
		return float32(order.Uint16(b)) / 1000
	}
	v := math.Float32frombits(order.Uint32(b))
	if v != v || math.IsInf(float64(v), 0) || v < 0 {
		return 0
	}
	return v
}
