package rosbag1

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/pierrec/lz4/v4"

	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// headerSize is the room that the bag header record takes in bytes, padded so
// that it can be written again at the end.
const headerSize = 4096

// Target is the file that a Writer writes.
type Target interface {
	io.Writer
	io.WriterAt
	io.Closer
}

// Writer writes a .bag file.
type Writer struct {
	out    Target
	opts   record.WriteOptions
	pos    int64 // bytes written
	conns  []*record.Connection
	stored []bool // connections that lie in a chunk already
	chunk  bytes.Buffer
	packed bytes.Buffer
	index  []indexEntry // messages of the open chunk
	infos  []chunkInfo
	record bytes.Buffer
	err    error
	closed bool
}

type indexEntry struct {
	conn   int
	time   int64
	offset uint32
}

type chunkInfo struct {
	pos        int64
	start, end int64
	counts     []connCount
}

type connCount struct{ conn, count int }

// NewWriter starts a bag.
func NewWriter(out Target, opts record.WriteOptions) (*Writer, error) {
	if err := opts.Defaults("lz4", "none"); err != nil {
		return nil, err
	}
	w := &Writer{out: out, opts: opts}
	w.write([]byte(magic))
	w.write(w.bagHeader(0))
	return w, w.err
}

// Add registers a connection.
func (w *Writer) Add(c record.Connection) (*record.Connection, error) {
	if c.Encoding != record.ROS1 {
		return nil, fmt.Errorf("%s: Encoding is %v, a .bag file holds ROS 1 messages", c.Topic, c.Encoding)
	}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	c.ID = len(w.conns)
	w.conns = append(w.conns, &c)
	w.stored = append(w.stored, false)
	return &c, nil
}

// Write appends a message.
func (w *Writer) Write(c *record.Connection, logTime int64, data []byte) error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return errors.New("the bag is closed")
	case c == nil || c.ID >= len(w.conns) || w.conns[c.ID] != c:
		return errors.New("the connection is not one that Add returned")
	case logTime < 0 || logTime/1e9 > math.MaxUint32:
		return fmt.Errorf("%s: log time %d ns does not fit ROS 1, which has 32 bits for seconds", c.Topic, logTime)
	case len(data) > compress.MaxSize/2:
		return fmt.Errorf("%s: message of %d bytes, limit is %d", c.Topic, len(data), compress.MaxSize/2)
	}
	if !w.stored[c.ID] {
		w.stored[c.ID] = true
		w.chunk.Write(w.connection(c))
	}
	w.index = append(w.index, indexEntry{c.ID, logTime, uint32(w.chunk.Len())})
	w.chunk.Write(w.recordOf(data, op(opMessage), u32("conn", uint32(c.ID)), stamp("time", logTime)))
	c.Counted(logTime)
	if w.chunk.Len() >= w.opts.ChunkSize {
		w.flush()
	}
	return w.err
}

// flush writes the open chunk and its index records.
func (w *Writer) flush() {
	if w.chunk.Len() == 0 || w.err != nil {
		return
	}
	data := w.chunk.Bytes()
	if w.opts.Compression == "lz4" {
		w.packed.Reset()
		z := lz4.NewWriter(&w.packed)
		// What roslz4 reads: independent blocks, a checksum of the content only.
		err := z.Apply(lz4.BlockChecksumOption(false), lz4.ChecksumOption(true), lz4.ConcurrencyOption(1),
			lz4.BlockSizeOption(lz4.Block4Mb))
		if err == nil {
			_, err = z.Write(data)
		}
		if err = errors.Join(err, z.Close()); err != nil {
			w.err = fmt.Errorf("packing a chunk: %w", err)
			return
		}
		data = w.packed.Bytes()
	}
	info := chunkInfo{pos: w.pos, start: math.MaxInt64, end: math.MinInt64}
	w.write(w.recordHead(len(data), op(opChunk), field{"compression", []byte(w.opts.Compression)},
		u32("size", uint32(w.chunk.Len()))))
	w.write(data)
	byConn := make([][]indexEntry, len(w.conns))
	for _, e := range w.index {
		byConn[e.conn] = append(byConn[e.conn], e)
		info.start, info.end = min(info.start, e.time), max(info.end, e.time)
	}
	for conn, entries := range byConn {
		if len(entries) == 0 {
			continue
		}
		// roscpp writes the index of a chunk by time, and rosbag's readers count
		// on it.
		slices.SortStableFunc(entries, func(a, b indexEntry) int { return cmp.Compare(a.time, b.time) })
		var body []byte
		for _, e := range entries {
			body = appendStamp(body, e.time)
			body = binary.LittleEndian.AppendUint32(body, e.offset)
		}
		w.write(w.recordOf(body, op(opIndex), u32("ver", 1), u32("conn", uint32(conn)), u32("count", uint32(len(entries)))))
		info.counts = append(info.counts, connCount{conn, len(entries)})
	}
	w.infos = append(w.infos, info)
	w.chunk.Reset()
	w.index = w.index[:0]
}

// Close writes the last chunk, the index and the final header.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.flush()
	indexPos := w.pos
	for _, c := range w.conns {
		w.write(w.connection(c))
	}
	for _, info := range w.infos {
		var body []byte
		for _, n := range info.counts {
			body = binary.LittleEndian.AppendUint32(body, uint32(n.conn))
			body = binary.LittleEndian.AppendUint32(body, uint32(n.count))
		}
		w.write(w.recordOf(body, op(opChunkInfo), u32("ver", 1), u64("chunk_pos", uint64(info.pos)),
			stamp("start_time", info.start), stamp("end_time", info.end), u32("count", uint32(len(info.counts)))))
	}
	if w.err == nil {
		if _, err := w.out.WriteAt(w.bagHeader(indexPos), int64(len(magic))); err != nil {
			w.err = fmt.Errorf("writing the bag header: %w", err)
		}
	}
	return errors.Join(w.err, w.out.Close())
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.out.Write(b)
	w.pos += int64(n)
	if err != nil {
		w.err = fmt.Errorf("writing the bag at byte %d: %w", w.pos, err)
	}
}

// bagHeader is the first record, padded to its fixed size.
func (w *Writer) bagHeader(indexPos int64) []byte {
	fields := []field{op(opBagHeader), u64("index_pos", uint64(indexPos)),
		u32("conn_count", uint32(len(w.conns))), u32("chunk_count", uint32(len(w.infos)))}
	head := 4
	for _, f := range fields {
		head += 4 + len(f.name) + 1 + len(f.value)
	}
	return w.recordOf(bytes.Repeat([]byte{' '}, headerSize-head-4), fields...)
}

// connection is the record that describes one.
func (w *Writer) connection(c *record.Connection) []byte {
	fields := []field{{"topic", []byte(c.Topic)}, {"type", []byte(c.Type)}, {"md5sum", []byte(c.MD5)},
		{"message_definition", []byte(c.Definition)}}
	if c.CallerID != "" {
		fields = append(fields, field{"callerid", []byte(c.CallerID)})
	}
	if c.Latched {
		fields = append(fields, field{"latching", []byte("1")})
	}
	var body []byte
	for _, f := range fields {
		body = f.append(body)
	}
	return w.recordOf(body, op(opConnection), u32("conn", uint32(c.ID)), field{"topic", []byte(c.Topic)})
}

// recordHead is a record without its data, valid until the next call.
func (w *Writer) recordHead(dataLen int, fields ...field) []byte {
	w.record.Reset()
	b := append(w.record.AvailableBuffer(), 0, 0, 0, 0)
	for _, f := range fields {
		b = f.append(b)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	w.record.Write(binary.LittleEndian.AppendUint32(b, uint32(dataLen)))
	return w.record.Bytes()
}

// recordOf is a whole record, valid until the next call.
func (w *Writer) recordOf(data []byte, fields ...field) []byte {
	w.recordHead(len(data), fields...)
	w.record.Write(data)
	return w.record.Bytes()
}

// field is a name=value of a record header.
type field struct {
	name  string
	value []byte
}

func (f field) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.name)+1+len(f.value)))
	dst = append(dst, f.name...)
	dst = append(dst, '=')
	return append(dst, f.value...)
}

func op(kind byte) field { return field{"op", []byte{kind}} }
func u32(name string, v uint32) field {
	return field{name, binary.LittleEndian.AppendUint32(nil, v)}
}
func u64(name string, v uint64) field {
	return field{name, binary.LittleEndian.AppendUint64(nil, v)}
}
func stamp(name string, ns int64) field { return field{name, appendStamp(nil, ns)} }

func appendStamp(dst []byte, ns int64) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(ns/1e9))
	return binary.LittleEndian.AppendUint32(dst, uint32(ns%1e9))
}
