package ros2

import (
	"sync"
	"time"

	"github.com/stllm/stllm/node/transport"
)

// eventInterval is the least time between two reports of the same trouble on the same topic.
const eventInterval = time.Second

// events is a bounded list of what went wrong. The same trouble on the same topic goes out at most once a second, with its
// last message and how often it came since.
type events struct {
	ch   chan transport.Event
	mu   sync.Mutex
	seen map[[2]string]*repeated
	over bool // the node is closed
}

type repeated struct {
	count   uint64 // not reported yet
	message string
	waiting bool // a report is due when the interval is over
}

func newEvents() *events {
	return &events{ch: make(chan transport.Event, 256), seen: map[[2]string]*repeated{}}
}

func (e *events) add(kind transport.EventKind, topic, message string, count uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := [2]string{string(kind), topic}
	r := e.seen[key]
	if r == nil {
		r = &repeated{}
		e.seen[key] = r
	}
	r.count += count
	r.message = message
	if !r.waiting {
		e.report(key, r)
	}
}

// report sends what has gathered, and looks again after the interval. The lock is held.
func (e *events) report(key [2]string, r *repeated) {
	select {
	case e.ch <- transport.Event{Kind: transport.EventKind(key[0]), Topic: key[1], Message: r.message, Count: r.count}:
		r.count = 0
	default: // the count goes on, so the next report tells of these, too
	}
	r.waiting = true
	time.AfterFunc(eventInterval, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.over {
			return
		}
		if r.count > 0 {
			e.report(key, r)
			return
		}
		delete(e.seen, key) // nothing for a second: the next one is told at once
	})
}

// end stops the repetition of reports that nobody takes.
func (e *events) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}
