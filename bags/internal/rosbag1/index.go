package rosbag1

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/stllm/stllm/bags/internal/chunks"
	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// readIndex reads the connection and chunk info records at the end of the bag
// and the index records after each chunk. Any contradiction is an error: the
// caller then reads the bag through instead.
func (b *Reader) readIndex(header place) error {
	if err := header.need("bag header", hasIndexPos|hasConnCount|hasChunkCount); err != nil {
		return err
	}
	pos := header.indexPos
	if pos == 0 {
		return errors.New("the bag was not closed: its header has no index position")
	}
	if pos < header.next() || pos > b.size {
		return fmt.Errorf("index position is %d, the file has %d bytes", pos, b.size)
	}
	w := chunks.NewWindow(b.file.Reader, b.size, 64<<10)
	var infos []place
	for pos < b.size {
		p, err := recordAt(w, pos)
		if err != nil {
			return fmt.Errorf("index record at byte %d: %w", pos, err)
		}
		if p.next() > b.size {
			return fmt.Errorf("index record at byte %d: %w", pos, chunks.ErrShort)
		}
		switch p.op {
		case opConnection:
			if err := b.readConnection(w, &p); err != nil {
				return err
			}
		case opChunkInfo:
			if err := p.need("chunk info", hasVersion|hasChunkPos|hasCount); err != nil {
				return err
			}
			if p.version != 1 {
				return fmt.Errorf("chunk info record at byte %d has version %d, expected 1", pos, p.version)
			}
			infos = append(infos, p)
		default:
			return fmt.Errorf("record at byte %d has op %#02x, expected a connection or chunk info", pos, p.op)
		}
		pos = p.next()
	}
	if len(infos) != int(header.chunkCount) || len(b.conns) != int(header.connCount) {
		return fmt.Errorf("index has %d chunks and %d connections, the header says %d and %d",
			len(infos), len(b.conns), header.chunkCount, header.connCount)
	}
	// A bag has many chunks with few index records each: read them with a
	// shorter reach.
	near := chunks.NewWindow(b.file.Reader, header.indexPos, 2048)
	seen := make(map[int64]struct{}, len(infos))
	for i := range infos {
		if _, ok := seen[infos[i].chunkPos]; ok {
			return fmt.Errorf("the index lists the chunk at byte %d twice", infos[i].chunkPos)
		}
		seen[infos[i].chunkPos] = struct{}{}
		if err := b.readChunkIndex(w, near, &infos[i]); err != nil {
			return fmt.Errorf("chunk %d at byte %d: %w", i, infos[i].chunkPos, err)
		}
	}
	return nil
}

func (b *Reader) readConnection(w *chunks.Window, p *place) error {
	if p.size > maxConnection {
		return fmt.Errorf("connection record of %d bytes, limit is %d", p.size, maxConnection)
	}
	data, err := w.At(p.data, p.size)
	if err != nil {
		return fmt.Errorf("connection record at byte %d: %w", p.offset, err)
	}
	return b.addConnection(&p.fields, data)
}

// readChunkIndex reads a chunk's header and the index records behind it, and
// compares their counts with the chunk info record.
func (b *Reader) readChunkIndex(w, near *chunks.Window, info *place) error {
	p, err := recordAt(near, info.chunkPos)
	if err != nil {
		return err
	}
	if p.op != opChunk {
		return fmt.Errorf("record has op %#02x, expected a chunk", p.op)
	}
	c, err := chunkOf(&p)
	if err != nil {
		return err
	}
	counts, err := w.At(info.data, info.size)
	if err != nil {
		return err
	}
	if uint64(len(counts)) != 8*uint64(info.count) {
		return fmt.Errorf("chunk info has %d bytes for %d connections", len(counts), info.count)
	}
	declared := make(map[uint32]uint32, info.count)
	for ; len(counts) > 0; counts = counts[8:] {
		declared[binary.LittleEndian.Uint32(counts)] = binary.LittleEndian.Uint32(counts[4:])
	}
	for pos := p.next(); len(declared) > 0; {
		x, err := recordAt(near, pos)
		if err != nil {
			return fmt.Errorf("index record: %w", err)
		}
		if x.op != opIndex {
			return fmt.Errorf("index records of %d connections are missing", len(declared))
		}
		if err := x.need("index", hasVersion|hasConn|hasCount); err != nil {
			return err
		}
		conn := b.byNumber[x.conn]
		if x.version != 1 || x.size != 12*int64(x.count) || declared[x.conn] != x.count || conn == nil {
			return fmt.Errorf("index record of connection %d: version %d, %d bytes, %d messages; chunk info says %d messages",
				x.conn, x.version, x.size, x.count, declared[x.conn])
		}
		delete(declared, x.conn)
		entries, err := near.At(x.data, x.size)
		if err != nil {
			return fmt.Errorf("index record of connection %d: %w", x.conn, err)
		}
		for ; len(entries) > 0; entries = entries[12:] {
			t := nanos(entries)
			c.Count(conn, t, 1)
			chunks.CountConnection(conn, t, t, 1)
		}
		pos = x.next()
	}
	b.file.Chunks = append(b.file.Chunks, c)
	return nil
}

// chunkOf describes the chunk of a chunk record.
func chunkOf(p *place) (chunks.Chunk, error) {
	c := chunks.Chunk{Offset: p.data, Stored: p.size, Size: int64(p.fields.size), Compression: p.compression}
	if err := p.need("chunk", hasCompression|hasSize); err != nil {
		return c, err
	}
	if !compress.Known(c.Compression) || c.Compression == "zstd" {
		return c, fmt.Errorf("unknown compression %q (rosbag has none, bz2, lz4)", c.Compression)
	}
	return c, nil
}

// scan finds chunks and connections by reading the whole bag from pos, for bags
// without an index. It stops where records make no sense any more.
func (b *Reader) scan(pos int64) error {
	w := chunks.NewWindow(b.file.Reader, b.size, 4096)
	var loader chunks.Loader
	for {
		p, err := recordAt(w, pos)
		if err == io.EOF {
			return nil
		}
		if err == nil && !known(p.op) {
			err = fmt.Errorf("record with unknown op %#02x", p.op)
		}
		if errors.Is(err, chunks.ErrRead) {
			return err
		}
		if err != nil {
			b.warnings.Add(record.Warning{File: b.file.Name, Offset: pos,
				Lost: fmt.Sprintf("what is in the last %d bytes", b.size-pos), Err: err})
			return nil
		}
		switch p.op {
		case opChunk:
			c, err := chunkOf(&p)
			if err != nil {
				b.warnings.Add(record.Warning{File: b.file.Name, Offset: pos, Lost: "the chunk's messages", Err: err})
				break
			}
			if open := p.size == 0 && c.Size == 0 && p.data < b.size; open && !b.startsRecord(w, p.data) {
				// A recorder fills the sizes in when it closes the chunk: this one
				// was being written, and its packed bytes go on to the end.
				c.Stored, c.Size, c.Cut = b.size-p.data, -1, true
				return b.survey(&c, &loader)
			}
			if c.Stored > b.size-c.Offset {
				c.Stored, c.Cut = b.size-c.Offset, true
				if c.Compression == "none" || c.Compression == "" {
					c.Size = c.Stored
				}
			}
			if err := b.survey(&c, &loader); err != nil {
				return err
			}
		case opMessage, opConnection:
			// An open chunk without compression: its records follow in the file.
			next, err := b.scanOpen(w, pos, &loader)
			if err != nil {
				return err
			}
			pos = next
			continue
		}
		pos = p.next()
	}
}

// openSpan is how much of an open chunk is taken as one, in bytes.
const openSpan = 4 << 20

// scanOpen takes messages and connections that lie in the file itself as a
// chunk, and returns where they end or openSpan is reached.
func (b *Reader) scanOpen(w *chunks.Window, start int64, loader *chunks.Loader) (int64, error) {
	pos := start
	cut := false
	for pos-start < openSpan {
		p, err := recordAt(w, pos)
		if err == io.EOF || err == nil && p.op != opMessage && p.op != opConnection {
			break
		}
		if err != nil || p.next() > b.size {
			pos, cut = b.size, true
			break
		}
		pos = p.next()
	}
	c := chunks.Chunk{Offset: start, Stored: pos - start, Size: pos - start, Compression: "none", Cut: cut}
	return pos, b.survey(&c, loader)
}

// survey reads a chunk's connections and messages and keeps it if it has any.
func (b *Reader) survey(c *chunks.Chunk, loader *chunks.Loader) error {
	data, err := b.file.Load(c, loader)
	if err != nil {
		return err
	}
	if err := b.collectConnections(data); err != nil {
		b.warnings.Add(record.Warning{File: b.file.Name, Offset: c.Offset, Lost: "the connection's messages", Err: err})
	}
	b.file.Survey(c, data)
	if c.Messages > 0 {
		b.file.Chunks = append(b.file.Chunks, *c)
	}
	return nil
}

// collectConnections adds the connections described in a chunk. Damage ends it
// silently: listing the chunk's messages meets it again and tells.
func (b *Reader) collectConnections(data []byte) error {
	var f fields
	var bad error
	for len(data) > 0 {
		body, rest, err := split(data, &f)
		if err != nil {
			break
		}
		if f.op == opConnection {
			if err := b.addConnection(&f, body); err != nil && bad == nil {
				bad = err
			}
		}
		data = rest
	}
	return bad
}

// startsRecord tells whether a message or connection record starts at pos.
func (b *Reader) startsRecord(w *chunks.Window, pos int64) bool {
	p, err := recordAt(w, pos)
	return err == nil && known(p.op)
}

func known(op byte) bool { return op >= opMessage && op <= opConnection }
