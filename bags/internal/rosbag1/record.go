// Package rosbag1 reads and writes ROS 1 bags, version 2.0 of the format
// (wiki.ros.org/Bags/Format/2.0).
package rosbag1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/stllm/stllm/bags/internal/chunks"
)

const magic = "#ROSBAG V2.0\n"

// Record kinds.
const (
	opMessage    = 0x02
	opBagHeader  = 0x03
	opIndex      = 0x04
	opChunk      = 0x05
	opChunkInfo  = 0x06
	opConnection = 0x07
)

// maxHeader bounds a record's header in bytes; real ones are below 10 kB.
const maxHeader = 1 << 20

// maxConnection bounds a connection record's data (type and definition text).
const maxConnection = 16 << 20

// fields are the values of a record's header that this package uses. Which of
// them were there is told by has.
type fields struct {
	has         fieldSet
	op          byte
	conn        uint32
	time        int64 // ns
	start, end  int64 // ns
	indexPos    int64
	chunkPos    int64
	size        uint32
	count       uint32
	connCount   uint32
	chunkCount  uint32
	version     uint32
	compression string
	topic       string
	encryptor   string
}

type fieldSet uint32

const (
	hasOp fieldSet = 1 << iota
	hasConn
	hasTime
	hasStart
	hasEnd
	hasIndexPos
	hasChunkPos
	hasSize
	hasCount
	hasConnCount
	hasChunkCount
	hasVersion
	hasCompression
	hasTopic
)

// fieldNames is for errors, in the order of the bits.
var fieldNames = [...]string{"op", "conn", "time", "start_time", "end_time", "index_pos", "chunk_pos", "size",
	"count", "conn_count", "chunk_count", "ver", "compression", "topic"}

// need returns an error naming the first field of want that is missing.
func (f *fields) need(what string, want fieldSet) error {
	for i, name := range fieldNames {
		if bit := fieldSet(1) << i; want&bit != 0 && f.has&bit == 0 {
			return fmt.Errorf("%s record: field %q is missing", what, name)
		}
	}
	return nil
}

// eachField calls use for each name=value of a header.
func eachField(header []byte, use func(name, value []byte) error) error {
	for len(header) > 0 {
		if len(header) < 4 {
			return fmt.Errorf("record header: %d bytes left where a field length is expected", len(header))
		}
		n := binary.LittleEndian.Uint32(header)
		header = header[4:]
		if uint64(n) > uint64(len(header)) {
			return fmt.Errorf("record header: field of %d bytes, %d bytes are left", n, len(header))
		}
		eq := bytes.IndexByte(header[:n], '=')
		if eq < 0 {
			return fmt.Errorf("record header: field %.20q has no \"=\"", header[:n])
		}
		if err := use(header[:eq], header[eq+1:n]); err != nil {
			return err
		}
		header = header[n:]
	}
	return nil
}

// parse reads a record header.
func (f *fields) parse(header []byte) error {
	*f = fields{}
	err := eachField(header, f.set)
	if err == nil && f.has&hasOp == 0 {
		err = errors.New("record header: field \"op\" is missing")
	}
	return err
}

func (f *fields) set(name, v []byte) error {
	var err error
	u32 := func(dst *uint32, bit fieldSet) {
		if len(v) != 4 {
			err = fmt.Errorf("record header: field %q has %d bytes, expected 4", name, len(v))
			return
		}
		*dst = binary.LittleEndian.Uint32(v)
		f.has |= bit
	}
	i64 := func(dst *int64, bit fieldSet) {
		if len(v) != 8 {
			err = fmt.Errorf("record header: field %q has %d bytes, expected 8", name, len(v))
			return
		}
		u := binary.LittleEndian.Uint64(v)
		if u > math.MaxInt64 {
			err = fmt.Errorf("record header: field %q = %d is out of range", name, u)
			return
		}
		*dst = int64(u)
		f.has |= bit
	}
	stamp := func(dst *int64, bit fieldSet) {
		if len(v) != 8 {
			err = fmt.Errorf("record header: field %q has %d bytes, expected 8", name, len(v))
			return
		}
		*dst = nanos(v)
		f.has |= bit
	}
	switch string(name) {
	case "op":
		if len(v) != 1 {
			return fmt.Errorf("record header: field \"op\" has %d bytes, expected 1", len(v))
		}
		f.op = v[0]
		f.has |= hasOp
	case "conn":
		u32(&f.conn, hasConn)
	case "time":
		stamp(&f.time, hasTime)
	case "start_time":
		stamp(&f.start, hasStart)
	case "end_time":
		stamp(&f.end, hasEnd)
	case "index_pos":
		i64(&f.indexPos, hasIndexPos)
	case "chunk_pos":
		i64(&f.chunkPos, hasChunkPos)
	case "size":
		u32(&f.size, hasSize)
	case "count":
		u32(&f.count, hasCount)
	case "conn_count":
		u32(&f.connCount, hasConnCount)
	case "chunk_count":
		u32(&f.chunkCount, hasChunkCount)
	case "ver":
		u32(&f.version, hasVersion)
	case "compression":
		f.compression = string(v)
		f.has |= hasCompression
	case "topic":
		f.topic = string(v)
		f.has |= hasTopic
	case "encryptor":
		f.encryptor = string(v)
	}
	return err
}

// nanos reads a time: seconds and nanoseconds, each uint32.
func nanos(b []byte) int64 {
	return int64(binary.LittleEndian.Uint32(b))*1e9 + int64(binary.LittleEndian.Uint32(b[4:]))
}

// split cuts the first record off b and parses its header.
func split(b []byte, f *fields) (data, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, chunks.ErrShort
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if n > maxHeader {
		return nil, nil, fmt.Errorf("record header of %d bytes, limit is %d", n, maxHeader)
	}
	if uint64(len(b)) < 4+n+4 {
		return nil, nil, chunks.ErrShort
	}
	if err := f.parse(b[4 : 4+n]); err != nil {
		return nil, nil, err
	}
	b = b[4+n:]
	n = uint64(binary.LittleEndian.Uint32(b))
	if n > uint64(len(b)-4) {
		return nil, nil, chunks.ErrShort
	}
	return b[4 : 4+n], b[4+n:], nil
}

// place is a record in the file: its header's fields and where its data lie.
type place struct {
	fields
	offset int64 // of the record
	data   int64 // offset of the data
	size   int64 // of the data as declared; the file may end before
}

func (p *place) next() int64 { return p.data + p.size }

// recordAt parses the header of the record at offset. At the end of the file
// the error is io.EOF, within a record chunks.ErrShort.
func recordAt(w *chunks.Window, offset int64) (place, error) {
	p := place{offset: offset}
	if offset >= w.Size {
		return p, io.EOF
	}
	b, err := w.At(offset, 4)
	if err != nil {
		return p, err
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > maxHeader {
		return p, fmt.Errorf("record header of %d bytes, limit is %d", n, maxHeader)
	}
	b, err = w.At(offset+4, n+4)
	if err != nil {
		return p, err
	}
	if err := p.parse(b[:n]); err != nil {
		return p, err
	}
	p.size = int64(binary.LittleEndian.Uint32(b[n:]))
	p.data = offset + 4 + n + 4
	return p, nil
}
