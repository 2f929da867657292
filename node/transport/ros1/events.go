package ros1

import (
	"sync"

	"github.com/stllm/stllm/node/transport"
)

// events is a bounded list of what went wrong. The same trouble on the same topic is counted, not repeated: it goes out once
// and again when its count has doubled.
type events struct {
	ch   chan transport.Event
	mu   sync.Mutex
	seen map[[2]string]uint64
}

func newEvents(backlog int) *events {
	return &events{ch: make(chan transport.Event, backlog), seen: map[[2]string]uint64{}}
}

func (e *events) add(kind transport.EventKind, topic, message string) {
	e.mu.Lock()
	key := [2]string{string(kind), topic}
	e.seen[key]++
	count := e.seen[key]
	e.mu.Unlock()
	if count&(count-1) != 0 {
		return
	}
	select {
	case e.ch <- transport.Event{Kind: kind, Topic: topic, Message: message, Count: count}:
	default: // the count goes on, so the next report tells of this one, too
	}
}
