package parallel

import (
	"sync/atomic"
	"testing"
)

// Every item is visited once, in ranges that are not too long.
func TestRanges(t *testing.T) {
	for _, c := range [][2]int{{0, 1}, {1, 1}, {7, 1}, {7, 3}, {6, 3}, {5, 100}, {1000, 7}} {
		n, grain := c[0], c[1]
		seen := make([]atomic.Int32, n)
		Ranges(n, grain, func(lo, hi int) {
			if lo < 0 || hi > n || lo >= hi {
				t.Errorf("%v: range %d to %d", c, lo, hi)
				return
			}
			for i := lo; i < hi; i++ {
				seen[i].Add(1)
			}
		})
		for i := range seen {
			if got := seen[i].Load(); got != 1 {
				t.Errorf("%v: item %d was visited %d times", c, i, got)
			}
		}
	}
}
