package checkpoint

import (
	"math/rand/v2"
	"testing"
)

// BenchmarkQuantise is one core's work for a matrix as published: bfloat16 to 4-bit codes.
func BenchmarkQuantise(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, k = 512, 3584
	values := make([]float32, n*k)
	for i := range values {
		values[i] = float32(r.NormFloat64() * 0.02)
	}
	data, err := EncodeFloat32(BF16, values)
	if err != nil {
		b.Fatal(err)
	}
	t := &Tensor{Name: "w", DType: BF16, Shape: []int64{n, k}, Offset: -1, Length: int64(len(data)), Data: data}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := QuantiseRows(t, 32, func(int, []byte, []float32) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
