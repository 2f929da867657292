package mcap

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/stllm/stllm/bags/internal/chunks"
	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

func isRead(err error) bool { return errors.Is(err, chunks.ErrRead) }

// footerSize is the length of the footer record and the closing magic.
const footerSize = recordHead + 8 + 8 + 4 + len(magic)

// chunkIndex is what the summary says of a chunk.
type chunkIndex struct {
	first, last int64
	start       int64            // of the chunk record
	indexes     map[uint16]int64 // offsets of message indexes by channel
	indexLength int64
}

// readSummary reads the summary section and the message indexes. Any
// contradiction is an error, with the place where it is: the caller then reads
// the file through instead.
func (m *Reader) readSummary(w *chunks.Window) (int64, error) {
	at := m.size - int64(footerSize)
	b, err := w.At(max(at, 0), int64(footerSize))
	if err != nil {
		return 0, fmt.Errorf("reading the footer: %w", err)
	}
	if string(b[footerSize-len(magic):]) != magic || b[0] != opFooter {
		return at, errors.New("the file was not closed: it does not end with a footer")
	}
	c := cursor{b: b[recordHead:]}
	start, _ := c.i64("summary_start"), c.i64("summary_offset_start")
	sum := c.u32("summary_crc")
	if c.err != nil {
		return at, fmt.Errorf("footer: %w", c.err)
	}
	if start == 0 {
		return at, errors.New("the file has no summary")
	}
	if start > at {
		return at, fmt.Errorf("summary starts at byte %d, after the footer", start)
	}
	// The summary is read whole; it is a part of the file, small in any but
	// hostile ones.
	summary := make([]byte, at-start+int64(recordHead)+16)
	if n, err := m.file.Reader.ReadAt(summary, start); n < len(summary) {
		return start, fmt.Errorf("%w: %d bytes at %d: %w", chunks.ErrRead, len(summary), start, err)
	}
	if got := crc32.ChecksumIEEE(summary); sum != 0 && got != sum {
		return start, fmt.Errorf("summary's checksum is %08x, %08x is declared", got, sum)
	}
	var indexes []chunkIndex
	counts, err := m.parseSummary(summary[:at-start], &indexes)
	if err != nil {
		return start, err
	}
	near := chunks.NewWindow(m.file.Reader, start, 2048)
	seen := make(map[int64]struct{}, len(indexes))
	for i := range indexes {
		x := &indexes[i]
		if _, ok := seen[x.start]; ok {
			return start, fmt.Errorf("the index lists the chunk at byte %d twice", x.start)
		}
		seen[x.start] = struct{}{}
		if err := m.readChunkIndex(near, x); err != nil {
			return x.start, fmt.Errorf("chunk %d at byte %d: %w", i, x.start, err)
		}
	}
	for id, want := range counts {
		conn, ok := m.byChannel[id]
		if want > 0 && !ok || ok && conn.Count != want {
			return start, fmt.Errorf("statistics count %d messages of channel %d, the message indexes differ", want, id)
		}
	}
	return 0, nil
}

// parseSummary takes the records of the summary section, and returns the
// messages by channel that its statistics declare.
func (m *Reader) parseSummary(summary []byte, indexes *[]chunkIndex) (map[uint16]int64, error) {
	var counts map[uint16]int64
	total, known := int64(0), false
	for len(summary) > 0 {
		op, content, rest, err := split(summary)
		if err != nil {
			return nil, fmt.Errorf("summary: %w", err)
		}
		summary = rest
		c := cursor{b: content}
		switch op {
		case opSchema:
			c.err = m.addSchema(content)
		case opChannel:
			c.err = m.addChannel(content)
		case opChunkIndex:
			x := chunkIndex{first: c.i64("message_start_time"), last: c.i64("message_end_time"), start: c.i64("chunk_start_offset")}
			c.i64("chunk_length")
			x.indexes = c.channelValues("message_index_offsets")
			x.indexLength = c.i64("message_index_length")
			*indexes = append(*indexes, x)
		case opStatistics:
			total, known = c.i64("message_count"), true
			c.take(2+4+4+4+4+8+8, "statistics")
			counts = c.channelValues("channel_message_counts")
		}
		if c.err != nil {
			return nil, fmt.Errorf("summary: record %#02x: %w", op, c.err)
		}
	}
	if len(*indexes) == 0 && (!known || total > 0) {
		return nil, errors.New("the summary lists no chunks")
	}
	return counts, nil
}

// readChunkIndex reads a chunk's head and the message indexes behind it.
func (m *Reader) readChunkIndex(w *chunks.Window, x *chunkIndex) error {
	p, err := recordAt(w, x.start)
	if err != nil {
		return err
	}
	if p.op != opChunk {
		return fmt.Errorf("record has opcode %#02x, expected a chunk", p.op)
	}
	h, err := readChunkHead(w, &p)
	if err != nil {
		return err
	}
	if p.next() > w.Size {
		return fmt.Errorf("chunk of %d bytes: %w", p.size, chunks.ErrShort)
	}
	if !compress.Known(h.chunk.Compression) || h.chunk.Compression == "bz2" {
		return fmt.Errorf("unknown compression %q (MCAP has none, lz4, zstd)", h.chunk.Compression)
	}
	if len(x.indexes) == 0 && h.chunk.Size > 0 {
		return errors.New("it has no message index")
	}
	end := p.next() + x.indexLength
	for pos := p.next(); pos < end; {
		r, err := recordAt(w, pos)
		if err != nil {
			return fmt.Errorf("message index: %w", err)
		}
		if r.op != opMessageIndex {
			return fmt.Errorf("record at byte %d has opcode %#02x, expected a message index", pos, r.op)
		}
		b, err := w.At(r.content(), r.size)
		if err != nil {
			return fmt.Errorf("message index: %w", err)
		}
		c := cursor{b: b}
		channel := c.u16("channel_id")
		c = cursor{b: c.take(uint64(c.u32("records")), "records"), err: c.err}
		conn, ok := m.byChannel[channel]
		if !ok && len(c.b) > 0 {
			return fmt.Errorf("message index of channel %d, which the summary does not describe", channel)
		}
		for len(c.b) > 0 && c.err == nil {
			t := c.i64("log_time")
			c.i64("offset")
			if c.err == nil {
				h.chunk.Count(conn, t, 1)
				chunks.CountConnection(conn, t, t, 1)
			}
		}
		if c.err != nil {
			return fmt.Errorf("message index of channel %d: %w", channel, c.err)
		}
		pos = r.next()
	}
	if h.chunk.Messages > 0 && (h.chunk.First != x.first || h.chunk.Last != x.last) {
		return fmt.Errorf("chunk index says messages are from %d to %d ns, the message index %d to %d ns",
			x.first, x.last, h.chunk.First, h.chunk.Last)
	}
	m.file.Chunks = append(m.file.Chunks, h.chunk)
	return nil
}

// looseSpan is how many bytes of messages outside chunks are taken as one.
const looseSpan = 4 << 20

// scan reads the data section through from pos.
func (m *Reader) scan(pos int64) error {
	w := chunks.NewWindow(m.file.Reader, m.size, 4096)
	var loader chunks.Loader
	for {
		p, err := recordAt(w, pos)
		if err == io.EOF {
			return nil
		}
		if isRead(err) {
			return err
		}
		if err == nil && (p.op == 0 || p.op >= firstReserved && p.op < firstPrivate) {
			err = fmt.Errorf("record with unknown opcode %#02x", p.op)
		}
		if err != nil {
			m.warn(pos, fmt.Sprintf("what is in the last %d bytes", m.size-pos), err)
			return nil
		}
		switch p.op {
		case opDataEnd, opFooter:
			return nil
		case opChunk:
			if err := m.scanChunk(w, &p, &loader); err != nil {
				return err
			}
		case opSchema, opChannel, opMessage:
			next, err := m.scanLoose(w, pos, &loader)
			if err != nil {
				return err
			}
			pos = next
			continue
		}
		if p.next() > m.size && p.op != opChunk {
			m.warn(pos, fmt.Sprintf("what is in the last %d bytes", m.size-pos), chunks.ErrShort)
			return nil
		}
		pos = p.next()
	}
}

// scanChunk surveys the chunk record at p.
func (m *Reader) scanChunk(w *chunks.Window, p *place, loader *chunks.Loader) error {
	h, err := readChunkHead(w, p)
	if isRead(err) {
		return err
	}
	if err == nil && (!compress.Known(h.chunk.Compression) || h.chunk.Compression == "bz2") {
		err = fmt.Errorf("unknown compression %q (MCAP has none, lz4, zstd)", h.chunk.Compression)
	}
	if err != nil {
		m.warn(p.offset, "the chunk's messages", err)
		return nil
	}
	if c := &h.chunk; c.Stored > m.size-c.Offset {
		c.Stored, c.Cut = m.size-c.Offset, true
		if c.Compression == "none" {
			c.Size = c.Stored
		}
	}
	return m.survey(&h.chunk, loader)
}

// scanLoose takes schemas, channels and messages that lie outside chunks as one
// chunk, and returns where they end or looseSpan is reached.
func (m *Reader) scanLoose(w *chunks.Window, start int64, loader *chunks.Loader) (int64, error) {
	pos, cut := start, false
	for pos-start < looseSpan {
		p, err := recordAt(w, pos)
		if isRead(err) {
			return 0, err
		}
		if err == io.EOF || err == nil && p.op != opSchema && p.op != opChannel && p.op != opMessage {
			break
		}
		if err != nil || p.next() > m.size {
			pos, cut = m.size, true
			break
		}
		pos = p.next()
	}
	c := chunks.Chunk{Offset: start, Stored: pos - start, Size: pos - start, Compression: "none", Cut: cut}
	return pos, m.survey(&c, loader)
}

// survey reads a chunk's schemas, channels and messages and keeps it if it has
// messages.
func (m *Reader) survey(c *chunks.Chunk, loader *chunks.Loader) error {
	data, err := m.file.Load(c, loader)
	if err != nil {
		return err
	}
	// Damage ends this loop silently: listing the messages meets it again.
	for rest := data; len(rest) > 0; {
		op, content, next, err := split(rest)
		if err != nil {
			break
		}
		rest = next
		switch {
		case len(content) > maxText && op != opMessage:
			err = fmt.Errorf("record %#02x of %d bytes, limit is %d", op, len(content), maxText)
		case op == opSchema:
			err = m.addSchema(content)
		case op == opChannel:
			err = m.addChannel(content)
		}
		if err != nil {
			m.warn(c.Offset, "the messages of a channel", err)
		}
	}
	m.file.Survey(c, data)
	if c.Messages > 0 {
		m.file.Chunks = append(m.file.Chunks, *c)
	}
	return nil
}

func (m *Reader) warn(offset int64, lost string, err error) {
	m.warnings.Add(record.Warning{File: m.file.Name, Offset: offset, Lost: lost, Err: err})
}
