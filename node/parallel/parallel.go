// Package parallel spreads loops over the cores.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Ranges calls f on ranges that cover 0…n, on every core, each of at most grain items unless a single core does it all. It
// returns when all are done.
func Ranges(n, grain int, f func(lo, hi int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+grain-1)/grain)
	if workers <= 1 {
		if n > 0 {
			f(0, n)
		}
		return
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for {
				lo := int(next.Add(int64(grain))) - grain
				if lo >= n {
					return
				}
				f(lo, min(lo+grain, n))
			}
		})
	}
	wait.Wait()
}
