package rosbag1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/stllm/stllm/bags/internal/chunks"
	"github.com/stllm/stllm/bags/internal/record"
)

// Reader reads one .bag file.
type Reader struct {
	file     chunks.File
	size     int64
	conns    []*record.Connection
	byNumber map[uint32]*record.Connection // by number in the file
	warnings record.Warnings
	indexed  bool
}

// New reads the description of a bag of the given size in bytes. If r is an
// io.Closer, Close closes it.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	b := &Reader{size: size, byNumber: map[uint32]*record.Connection{}}
	b.file = chunks.File{Name: name, Reader: r, Parse: b.parseChunk, Warnings: &b.warnings}
	header, err := b.readHeader()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	err = b.readIndex(header)
	if errors.Is(err, chunks.ErrRead) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err == nil {
		b.indexed = true
		return b, nil
	}
	b.warnings.Add(record.Warning{File: name, Offset: header.indexPos,
		Lost: "the index; the bag is read through instead", Err: err})
	b.conns, b.file.Chunks = nil, nil
	clear(b.byNumber)
	if err := b.scan(header.next()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// readHeader checks the magic line and reads the bag header record.
func (b *Reader) readHeader() (place, error) {
	w := chunks.NewWindow(b.file.Reader, b.size, 4096)
	start, err := w.At(0, min(b.size, int64(len(magic))))
	if err != nil {
		return place{}, err
	}
	if string(start) != magic {
		line, _, _ := bytes.Cut(start, []byte("\n"))
		switch {
		case bytes.HasPrefix(start, []byte("#ROSBAG V")), bytes.HasPrefix(start, []byte("#ROSRECORD V")):
			return place{}, fmt.Errorf("rosbag version %q, only \"#ROSBAG V2.0\" is supported; convert it with `rosbag fix`", line)
		default:
			return place{}, fmt.Errorf("not a ROS 1 bag: it starts with %q, expected %q", line, magic[:len(magic)-1])
		}
	}
	p, err := recordAt(w, int64(len(magic)))
	if err != nil {
		return p, fmt.Errorf("reading the bag header: %w", err)
	}
	if p.op != opBagHeader {
		return p, fmt.Errorf("first record has op %#02x, expected the bag header (0x03)", p.op)
	}
	if p.encryptor != "" {
		return p, fmt.Errorf("the bag is encrypted with %q, which is not supported; write it anew without encryption", p.encryptor)
	}
	return p, nil
}

// parseChunk lists the messages among a chunk's records.
func (b *Reader) parseChunk(dst []chunks.Entry, data []byte) ([]chunks.Entry, error) {
	var f fields
	rest := data
	unknown := map[uint32]int{}
	for len(rest) > 0 {
		body, next, err := split(rest, &f)
		if err != nil {
			return dst, fmt.Errorf("record at byte %d of the chunk: %w", len(data)-len(rest), err)
		}
		rest = next
		switch f.op {
		case opMessage:
			if err := f.need("message", hasConn|hasTime); err != nil {
				return dst, err
			}
			conn, ok := b.byNumber[f.conn]
			if !ok {
				unknown[f.conn]++
				continue
			}
			end := len(data) - len(rest)
			dst = append(dst, chunks.Entry{Time: f.time, Publish: f.time, Connection: conn,
				Start: uint32(end - len(body)), End: uint32(end)})
		case opConnection:
		default:
			return dst, fmt.Errorf("record at byte %d of the chunk has op %#02x, expected a message or a connection",
				len(data)-len(rest), f.op)
		}
	}
	if len(unknown) > 0 {
		number := slices.Min(slices.Collect(maps.Keys(unknown)))
		return dst, fmt.Errorf("%d messages are of connection %d, which no record describes", unknown[number], number)
	}
	return dst, nil
}

// addConnection adds the connection that a record describes, unless known.
func (b *Reader) addConnection(f *fields, data []byte) error {
	if err := f.need("connection", hasConn|hasTopic); err != nil {
		return err
	}
	if _, ok := b.byNumber[f.conn]; ok {
		return nil
	}
	c := &record.Connection{ID: len(b.conns), Topic: f.topic, Encoding: record.ROS1,
		DefinitionFormat: "ros1msg", Source: b.file.Name}
	err := eachField(data, func(name, v []byte) error {
		switch string(name) {
		case "type":
			c.Type = string(v)
		case "md5sum":
			c.MD5 = string(v)
		case "message_definition":
			c.Definition = string(v)
		case "callerid":
			c.CallerID = string(v)
		case "latching":
			c.Latched = string(v) == "1"
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connection %d (%s): %w", f.conn, f.topic, err)
	}
	if c.Type == "" {
		return fmt.Errorf("connection %d (%s): field \"type\" is missing", f.conn, f.topic)
	}
	b.byNumber[f.conn] = c
	b.conns = append(b.conns, c)
	return nil
}

// Info describes the bag.
func (b *Reader) Info() record.Info {
	info := record.Info{Path: b.file.Name, Format: "rosbag 2.0", Profile: "ros1", Indexed: b.indexed,
		Files:       []record.File{{Path: b.file.Name, Size: b.size}},
		Connections: slices.Clone(b.conns), Compression: map[string]int64{}}
	for i := range b.file.Chunks {
		info.Compression[b.file.Chunks[i].Compression]++
	}
	record.Sum(&info)
	return info
}

// Messages starts reading.
func (b *Reader) Messages(f record.Filter) record.Iterator {
	return chunks.NewIterator(&b.file, b.conns, f)
}

// Warnings lists the damage found so far.
func (b *Reader) Warnings() []record.Warning { return b.warnings.List() }

// Close closes the file.
func (b *Reader) Close() error {
	if c, ok := b.file.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
