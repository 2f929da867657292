package robot

import (
	"sync"
	"time"

	"github.com/stllm/stllm/msgs"
)

// kind is the kind of an input.
type kind int

const (
	kindImage kind = iota // sensor_msgs/Image or CompressedImage
	kindCameraInfo
	kindTF
	kindTFStatic
	kindMap
	kindDepth // sensor_msgs/Image or CompressedImage
	kindQuestion
	kindTick // nothing but the passing of time
	kinds
)

// input is one message on its way to the state goroutine.
type input struct {
	kind     kind
	msg      msgs.Message
	source   int           // of images and depth images: which subscription
	seq      uint64        // of images: counted from 0
	received int64         // ns, the transport's clock
	elapsed  time.Duration // of the clock that waits are measured with
}

// intake is where transports hand over: one queue in order of arrival, with a bound for each kind. A full kind loses its
// oldest message, which is counted; in a lossless intake the transport waits instead.
type intake struct {
	limits   [kinds]int
	lossless bool
	wake     chan struct{} // a token: there is something to read

	mu      sync.Mutex
	room    sync.Cond
	items   []input
	count   [kinds]int
	evicted [kinds]uint64
	images  uint64
	closed  bool
}

func newIntake(limits [kinds]int, lossless bool) *intake {
	q := &intake{limits: limits, lossless: lossless, wake: make(chan struct{}, 1)}
	q.room.L = &q.mu
	return q
}

// push takes an input. It reports false when the intake is closed.
func (q *intake) push(in input) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.lossless && !q.closed && q.count[in.kind] >= q.limits[in.kind] {
		q.room.Wait()
	}
	if q.closed {
		return false
	}
	if in.kind == kindImage {
		in.seq = q.images
		q.images++
	}
	if q.count[in.kind] >= q.limits[in.kind] {
		for i := range q.items {
			if q.items[i].kind == in.kind {
				copy(q.items[i:], q.items[i+1:])
				q.items = q.items[:len(q.items)-1]
				break
			}
		}
		q.count[in.kind]--
		q.evicted[in.kind]++
	}
	q.items = append(q.items, in)
	q.count[in.kind]++
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// skip counts an image that never becomes an input, so that numbers stay those of the images.
func (q *intake) skip() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.images++
	return q.images - 1
}

// pop returns the oldest input. With noImages it leaves the queue alone when an image is next.
func (q *intake) pop(noImages bool) (input, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 || noImages && q.items[0].kind == kindImage {
		return input{}, false
	}
	in := q.items[0]
	q.items[0] = input{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	q.count[in.kind]--
	q.room.Broadcast()
	return in, true
}

// takeEvicted returns how many were lost since the last call.
func (q *intake) takeEvicted() (n [kinds]uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, q.evicted = q.evicted, n
	return n
}

// dropIf removes the inputs that f names and returns them.
func (q *intake) dropIf(f func(input) bool) []input {
	q.mu.Lock()
	defer q.mu.Unlock()
	var gone, left []input
	for _, in := range q.items {
		if f(in) {
			gone = append(gone, in)
			q.count[in.kind]--
		} else {
			left = append(left, in)
		}
	}
	q.items = left
	q.room.Broadcast()
	return gone
}

func (q *intake) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}

// setLimit changes the bound of a kind.
func (q *intake) setLimit(k kind, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits[k] = n
	q.room.Broadcast()
}

// close refuses what comes from now on, and returns what was left.
func (q *intake) close() []input {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	left := q.items
	q.items = nil
	q.room.Broadcast()
	return left
}
