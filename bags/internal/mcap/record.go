// Package mcap reads and writes MCAP files (mcap.dev/spec) with ROS messages.
package mcap

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/stllm/stllm/bags/internal/chunks"
)

const magic = "\x89MCAP0\r\n"

// Record kinds.
const (
	opHeader       = 0x01
	opFooter       = 0x02
	opSchema       = 0x03
	opChannel      = 0x04
	opMessage      = 0x05
	opChunk        = 0x06
	opMessageIndex = 0x07
	opChunkIndex   = 0x08
	opStatistics   = 0x0B
	opDataEnd      = 0x0F
	firstReserved  = 0x10 // up to 0x7F; from 0x80 on they are private
	firstPrivate   = 0x80
)

// recordHead is the length of opcode and content length.
const recordHead = 9

// maxText bounds schema and channel records in bytes.
const maxText = 16 << 20

// cursor takes fields off a record's content. After a failure everything else
// yields zeros and err tells which field was cut off.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n uint64, field string) []byte {
	if c.err != nil {
		return nil
	}
	if n > uint64(len(c.b)) {
		c.err = fmt.Errorf("field %q takes %d bytes, %d are left: %w", field, n, len(c.b), chunks.ErrShort)
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u16(field string) uint16 {
	if b := c.take(2, field); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32(field string) uint32 {
	if b := c.take(4, field); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// i64 reads an unsigned 64-bit number, which must fit a signed one.
func (c *cursor) i64(field string) int64 {
	b := c.take(8, field)
	if b == nil {
		return 0
	}
	v := binary.LittleEndian.Uint64(b)
	if v > math.MaxInt64 {
		c.err = fmt.Errorf("field %q = %d is out of range", field, v)
		return 0
	}
	return int64(v)
}

func (c *cursor) text(field string) string { return string(c.take(uint64(c.u32(field)), field)) }

// texts reads a map of strings.
func (c *cursor) texts(field string) map[string]string {
	in := cursor{b: c.take(uint64(c.u32(field)), field), err: c.err}
	m := map[string]string{}
	for len(in.b) > 0 && in.err == nil {
		key := in.text(field)
		m[key] = in.text(field)
	}
	c.err = in.err
	return m
}

// channelValues reads a map from channel numbers to 64-bit numbers.
func (c *cursor) channelValues(field string) map[uint16]int64 {
	in := cursor{b: c.take(uint64(c.u32(field)), field), err: c.err}
	m := map[uint16]int64{}
	for len(in.b) > 0 && in.err == nil {
		key := in.u16(field)
		m[key] = in.i64(field)
	}
	c.err = in.err
	return m
}

// split cuts the first record off b.
func split(b []byte) (op byte, content, rest []byte, err error) {
	if len(b) < recordHead {
		return 0, nil, nil, chunks.ErrShort
	}
	n := binary.LittleEndian.Uint64(b[1:])
	if n > uint64(len(b)-recordHead) {
		return 0, nil, nil, chunks.ErrShort
	}
	return b[0], b[recordHead : recordHead+n], b[recordHead+n:], nil
}

// place is a record in the file.
type place struct {
	op     byte
	offset int64 // of the record
	size   int64 // of the content; the file may end before
}

func (p *place) content() int64 { return p.offset + recordHead }
func (p *place) next() int64    { return p.content() + p.size }

// recordAt finds the record at offset. At the end of the file the error is
// io.EOF, within a record's head chunks.ErrShort.
func recordAt(w *chunks.Window, offset int64) (place, error) {
	p := place{offset: offset}
	if offset >= w.Size {
		return p, io.EOF
	}
	b, err := w.At(offset, recordHead)
	if err != nil {
		return p, err
	}
	p.op = b[0]
	n := binary.LittleEndian.Uint64(b[1:])
	if n > math.MaxInt64/2 {
		return p, fmt.Errorf("record of %d bytes", n)
	}
	p.size = int64(n)
	return p, nil
}

// chunkHead is what lies before a chunk's packed bytes.
type chunkHead struct {
	chunk       chunks.Chunk
	first, last int64
}

// chunkHeadMax bounds the fixed fields of a chunk record and the name of its
// compression, in bytes.
const chunkHeadMax = 8 + 8 + 8 + 4 + 4 + 64 + 8

// readChunkHead reads the head of the chunk record at p.
func readChunkHead(w *chunks.Window, p *place) (chunkHead, error) {
	var h chunkHead
	b, err := w.At(p.content(), min(p.size, chunkHeadMax, w.Size-p.content()))
	if err != nil {
		return h, err
	}
	c := cursor{b: b}
	h.first, h.last = c.i64("message_start_time"), c.i64("message_end_time")
	h.chunk.Size = c.i64("uncompressed_size")
	h.chunk.CRC = c.u32("uncompressed_crc")
	h.chunk.Compression = compression(c.text("compression"))
	h.chunk.Stored = c.i64("records")
	if c.err != nil {
		return h, c.err
	}
	head := int64(len(b) - len(c.b))
	h.chunk.Offset = p.content() + head
	if h.chunk.Stored > p.size-head {
		return h, fmt.Errorf("chunk with %d bytes of records in a record of %d bytes", h.chunk.Stored, p.size)
	}
	return h, nil
}

// compression gives the empty name, which MCAP uses for none, a name.
func compression(name string) string {
	if name == "" {
		return "none"
	}
	return name
}
