package ros1

import (
	"context"
	"sync/atomic"
)

// queue is a bounded queue that drops its oldest entry when full, as roscpp does.
type queue[T any] struct {
	ch      chan T
	dropped atomic.Uint64
}

func newQueue[T any](depth int) *queue[T] { return &queue[T]{ch: make(chan T, max(depth, 1))} }

// push never blocks.
func (q *queue[T]) push(v T) {
	for {
		select {
		case q.ch <- v:
			return
		default:
		}
		select {
		case <-q.ch:
			q.dropped.Add(1)
		default:
		}
	}
}

func (q *queue[T]) pop(ctx context.Context) (T, bool) {
	select {
	case v := <-q.ch:
		return v, true
	case <-ctx.Done():
		var zero T
		return zero, false
	}
}
