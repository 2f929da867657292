package chunks

import (
	"cmp"
	"container/heap"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/stllm/stllm/bags/internal/record"
)

// Budget is how many unpacked bytes an iterator keeps of chunks whose times
// overlap. Beyond it chunks are dropped and unpacked again when their next
// message is due, so memory is bounded by Budget + one chunk + 40 bytes for
// each message of the overlapping chunks.
const Budget = 256 << 20

// Iterator merges the chunks of a file by log time.
type Iterator struct {
	file       *File
	wanted     []bool // by connection ID; nil wants all
	start, end int64
	budget     int64
	todo       []*Chunk // not opened yet, by first time
	open       cursors
	held       int64 // room of the unpacked bytes in open
	loader     Loader
	last       int64 // log time of the message given last
	reuse      bool
	done       []byte         // with reuse: bytes of the message given last, whose chunk has no more
	message    record.Message // with reuse: the one given last
	err        error
}

// cursor is a chunk being read.
type cursor struct {
	chunk   *Chunk
	entries []Entry // those left, by time
	data    []byte  // nil where dropped
}

// NewIterator starts reading the messages of f, whose connections are conns,
// that the filter selects.
func NewIterator(f *File, conns []*record.Connection, filter record.Filter) *Iterator {
	start, end := filter.Range()
	it := &Iterator{file: f, wanted: record.Wanted(conns, filter), start: start, end: end, reuse: filter.Reuse,
		budget: Budget, last: math.MinInt64}
	for i := range f.Chunks {
		c := &f.Chunks[i]
		if c.Messages == 0 || c.Last < start || c.First > end || !it.wants(c) {
			continue
		}
		it.todo = append(it.todo, c)
	}
	slices.SortFunc(it.todo, func(a, b *Chunk) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Offset, b.Offset))
	})
	return it
}

func (it *Iterator) wants(c *Chunk) bool {
	return it.wanted == nil || slices.ContainsFunc(c.Connections, func(id int32) bool { return it.wanted[id] })
}

// Next returns the next message or io.EOF.
func (it *Iterator) Next() (*record.Message, error) {
	if it.err != nil {
		return nil, it.err
	}
	m, err := it.next()
	if err != nil {
		it.err = err
		it.release()
	}
	return m, err
}

func (it *Iterator) next() (*record.Message, error) {
	it.loader.giveBack(it.done)
	it.done = nil
	for len(it.todo) > 0 && (len(it.open) == 0 || it.todo[0].First <= it.open[0].entries[0].Time) {
		if err := it.openChunk(it.todo[0]); err != nil {
			return nil, err
		}
		it.todo = it.todo[1:]
	}
	if len(it.open) == 0 {
		return nil, io.EOF
	}
	top := it.open[0]
	if top.data == nil {
		data, err := it.file.Load(top.chunk, &it.loader)
		if err != nil {
			return nil, err
		}
		top.data = data
		it.hold(top)
	}
	e := top.entries[0]
	if int(e.End) > len(top.data) {
		return nil, fmt.Errorf("%s: %w: chunk at byte %d has changed since it was opened", it.file.Name, ErrRead, top.chunk.Offset)
	}
	if e.Time < it.last {
		it.file.warn(top.chunk, "nothing, but messages come out of order",
			fmt.Errorf("message logged at %d ns, the index says that the chunk starts at %d ns", e.Time, top.chunk.First))
	}
	it.last = max(it.last, e.Time)
	m := &it.message
	if !it.reuse {
		m = new(record.Message)
	}
	*m = record.Message{Connection: e.Connection, LogTime: e.Time, PublishTime: e.Publish, Data: top.data[e.Start:e.End:e.End]}
	top.entries = top.entries[1:]
	if len(top.entries) == 0 {
		heap.Pop(&it.open)
		it.held -= int64(cap(top.data))
		if it.reuse {
			it.done = top.data
		}
	} else {
		heap.Fix(&it.open, 0)
	}
	return m, nil
}

func (it *Iterator) openChunk(c *Chunk) error {
	data, err := it.file.Load(c, &it.loader)
	if err != nil {
		return err
	}
	entries := slices.DeleteFunc(it.file.Entries(c, data), func(e Entry) bool {
		return e.Time < it.start || e.Time > it.end || it.wanted != nil && !it.wanted[e.Connection.ID]
	})
	if len(entries) == 0 {
		return nil
	}
	cur := &cursor{chunk: c, entries: entries, data: data}
	heap.Push(&it.open, cur)
	it.hold(cur)
	return nil
}

// hold accounts for the data of cur, and drops that of the chunks that are due
// last until the budget is kept or only cur has any.
func (it *Iterator) hold(cur *cursor) {
	it.held += int64(cap(cur.data))
	for it.held > it.budget {
		var last *cursor
		for _, c := range it.open {
			if c != cur && c.data != nil && (last == nil || last.before(c)) {
				last = c
			}
		}
		if last == nil {
			return
		}
		it.held -= int64(cap(last.data))
		last.data = nil
	}
}

func (it *Iterator) release() {
	it.open, it.todo, it.held, it.done = nil, nil, 0, nil
	it.loader = Loader{}
}

// Close ends the iteration.
func (it *Iterator) Close() error {
	if it.err == nil {
		it.err = io.EOF
	}
	it.release()
	return nil
}

// before orders cursors by the time of their next message, then by its place
// in the file.
func (c *cursor) before(d *cursor) bool {
	if a, b := c.entries[0].Time, d.entries[0].Time; a != b {
		return a < b
	}
	return c.chunk.Offset < d.chunk.Offset
}

// cursors is a heap.
type cursors []*cursor

func (h cursors) Len() int           { return len(h) }
func (h cursors) Less(i, j int) bool { return h[i].before(h[j]) }
func (h cursors) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *cursors) Push(x any)        { *h = append(*h, x.(*cursor)) }
func (h *cursors) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return c
}
