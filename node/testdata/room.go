package testdata

import "math/rand/v2"

// Room makes points, x y z each, on the surfaces of a box of 6 × 5 × 3 m and of a table in it: the same ones each time.
func Room(n int) []float64 {
	r := rand.New(rand.NewPCG(7, 0))
	xyz := make([]float64, 0, 3*n)
	for range n {
		p := [3]float64{6 * r.Float64(), 5 * r.Float64(), 3 * r.Float64()}
		switch r.IntN(4) {
		case 0:
			p[0] = 6 * float64(r.IntN(2))
		case 1:
			p[1] = 5 * float64(r.IntN(2))
		case 2:
			p[2] = 3 * float64(r.IntN(2))
		case 3:
			p = [3]float64{2 + 2*r.Float64(), 1 + r.Float64(), 0.8}
		}
		xyz = append(xyz, p[:]...)
	}
	return xyz
}
