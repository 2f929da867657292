// Package merge reads several bags, or the files of a split one, as one.
package merge

import (
	"cmp"
	"container/heap"
	"errors"
	"io"
	"slices"

	"github.com/stllm/stllm/bags/internal/record"
)

// Reader merges others by log time. Of messages with the same log time those of
// the earlier reader come first. A reader is opened for iterating only when
// its first message is due, so memory is that of those that overlap.
type Reader struct {
	readers []record.Reader
	infos   []record.Info
	conns   []*record.Connection
	// renamed has this reader's connection for each of the others'.
	renamed  map[*record.Connection]*record.Connection
	warnings record.Warnings
}

// New merges the readers, and owns them. With join, connections that agree in
// all but place become one, as those of the files of a split bag are.
func New(readers []record.Reader, join bool) *Reader {
	m := &Reader{readers: readers, renamed: map[*record.Connection]*record.Connection{}}
	for _, r := range readers {
		info := r.Info()
		m.infos = append(m.infos, info)
		for _, c := range info.Connections {
			m.add(c, join)
		}
	}
	return m
}

func (m *Reader) add(c *record.Connection, join bool) {
	if join {
		for _, known := range m.conns {
			if alike(known, c) {
				m.renamed[c] = known
				count(known, c)
				return
			}
		}
	}
	mine := *c
	mine.ID = len(m.conns)
	m.conns = append(m.conns, &mine)
	m.renamed[c] = &mine
}

func alike(a, b *record.Connection) bool {
	return a.Topic == b.Topic && a.Type == b.Type && a.Encoding == b.Encoding && a.Definition == b.Definition &&
		a.MD5 == b.MD5 && a.Hash == b.Hash && a.CallerID == b.CallerID && a.Latched == b.Latched && a.QoS == b.QoS
}

func count(into, c *record.Connection) {
	switch {
	case c.Count == 0:
	case into.Count == 0:
		into.Count, into.First, into.Last = c.Count, c.First, c.Last
	default:
		into.Count += c.Count
		into.First, into.Last = min(into.First, c.First), max(into.Last, c.Last)
	}
}

// Warn adds a warning to those of the readers.
func (m *Reader) Warn(w record.Warning) { m.warnings.Add(w) }

// Each calls f for every connection, to complete its description.
func (m *Reader) Each(f func(*record.Connection)) {
	for _, c := range m.conns {
		f(c)
	}
}

// Info describes the whole.
func (m *Reader) Info() record.Info {
	out := record.Info{Connections: slices.Clone(m.conns), Compression: map[string]int64{}, Indexed: true}
	var formats, profiles []string
	for _, info := range m.infos {
		if !slices.Contains(formats, info.Format) {
			formats = append(formats, info.Format)
		}
		if info.Profile != "" && !slices.Contains(profiles, info.Profile) {
			profiles = append(profiles, info.Profile)
		}
		out.Path = cmp.Or(out.Path, info.Path)
		out.Distro = cmp.Or(out.Distro, info.Distro)
		out.Files = append(out.Files, info.Files...)
		out.Indexed = out.Indexed && info.Indexed
		for name, n := range info.Compression {
			out.Compression[name] += n
		}
	}
	out.Format, out.Profile = joined(formats), joined(profiles)
	record.Sum(&out)
	return out
}

func joined(names []string) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// Messages starts reading.
func (m *Reader) Messages(f record.Filter) record.Iterator {
	it := &iterator{reader: m, filter: f}
	start, end := f.Range()
	for i, info := range m.infos {
		if info.Messages > 0 && info.First <= end && info.Last >= start {
			it.todo = append(it.todo, i)
		}
	}
	slices.SortStableFunc(it.todo, func(a, b int) int { return cmp.Compare(m.infos[a].First, m.infos[b].First) })
	return it
}

// Warnings lists the damage found so far.
func (m *Reader) Warnings() []record.Warning {
	out := m.warnings.List()
	for _, r := range m.readers {
		out = append(out, r.Warnings()...)
	}
	return out
}

// Close closes the readers.
func (m *Reader) Close() error {
	var errs []error
	for _, r := range m.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

type iterator struct {
	reader *Reader
	filter record.Filter
	todo   []int // readers not opened yet, by their first message's time
	open   sources
	given  bool // the next message of open[0] has been given out
	err    error
}

// source is a reader being read: its next message.
type source struct {
	index int
	it    record.Iterator
	next  *record.Message
}

// Next returns the next message or io.EOF.
func (it *iterator) Next() (*record.Message, error) {
	if it.err != nil {
		return nil, it.err
	}
	m, err := it.advance()
	if err != nil {
		it.err = err
		it.release()
		return nil, err
	}
	return m, nil
}

func (it *iterator) advance() (*record.Message, error) {
	// A source is asked for its next message only now: with Filter.Reuse that
	// overwrites the one before.
	if it.given {
		it.given = false
		ok, err := it.open[0].step()
		switch {
		case err != nil:
			return nil, err
		case ok:
			heap.Fix(&it.open, 0)
		default:
			heap.Pop(&it.open)
		}
	}
	for len(it.todo) > 0 && (len(it.open) == 0 || it.reader.infos[it.todo[0]].First <= it.open[0].next.LogTime) {
		i := it.todo[0]
		it.todo = it.todo[1:]
		s := &source{index: i, it: it.reader.readers[i].Messages(it.filter)}
		if ok, err := s.step(); err != nil {
			return nil, errors.Join(err, s.it.Close())
		} else if ok {
			heap.Push(&it.open, s)
		}
	}
	if len(it.open) == 0 {
		return nil, io.EOF
	}
	it.given = true
	m := it.open[0].next
	m.Connection = it.reader.renamed[m.Connection]
	return m, nil
}

// step fetches the source's next message; false means it has no more.
func (s *source) step() (bool, error) {
	m, err := s.it.Next()
	if err == io.EOF {
		return false, s.it.Close()
	}
	s.next = m
	return err == nil, err
}

func (it *iterator) release() {
	for _, s := range it.open {
		_ = s.it.Close()
	}
	it.open, it.todo = nil, nil
}

// Close ends the iteration.
func (it *iterator) Close() error {
	if it.err == nil {
		it.err = io.EOF
	}
	it.release()
	return nil
}

// sources is a heap by time, then by the readers' order.
type sources []*source

func (h sources) Len() int { return len(h) }
func (h sources) Less(i, j int) bool {
	if a, b := h[i].next.LogTime, h[j].next.LogTime; a != b {
		return a < b
	}
	return h[i].index < h[j].index
}
func (h sources) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *sources) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
