package record

import "sync"

// maxWarnings bounds the list: a bag damaged in more places than this is
// better described by its first ones.
const maxWarnings = 1000

// Warnings collects warnings. It may be used by several goroutines. The zero
// value is ready.
type Warnings struct {
	mu   sync.Mutex
	list []Warning
	seen map[warningKey]struct{}
}

type warningKey struct {
	file   string
	offset int64
	lost   string
}

// Add appends w unless the same was added before: reading a damaged part again
// tells nothing new.
func (l *Warnings) Add(w Warning) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := warningKey{w.File, w.Offset, w.Lost}
	if _, ok := l.seen[key]; ok || len(l.list) >= maxWarnings {
		return
	}
	if l.seen == nil {
		l.seen = map[warningKey]struct{}{}
	}
	l.seen[key] = struct{}{}
	l.list = append(l.list, w)
}

// List returns a copy of the warnings in the order they were added.
func (l *Warnings) List() []Warning {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Warning(nil), l.list...)
}
