package testdata

import (
	"math"
	"testing"
)

// Near compares every number. A golden without any is an error: it would agree with everything.
func Near(t testing.TB, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d numbers, expected %d", what, len(got), len(want))
		return
	}
	worst := 0.0
	for i := range got {
		if d := math.Abs(float64(got[i]) - want[i]); d > worst || math.IsNaN(d) {
			worst = d // once NaN, always NaN
		}
	}
	if !(worst <= tolerance) {
		t.Errorf("%s: largest difference %.3g, expected at most %.3g (values to %.3g)", what, worst, tolerance, Largest(want))
	}
	t.Logf("%s: %.2g of %.3g", what, worst, Largest(want))
}

// Largest is the largest absolute value.
func Largest(x []float64) (top float64) {
	for _, v := range x {
		top = max(top, math.Abs(v))
	}
	return top
}
