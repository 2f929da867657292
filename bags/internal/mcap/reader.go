package mcap

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/stllm/stllm/bags/internal/chunks"
	"github.com/stllm/stllm/bags/internal/record"
)

// Reader reads one .mcap file.
type Reader struct {
	file      chunks.File
	size      int64
	profile   string
	schemas   map[uint16]schema
	conns     []*record.Connection
	byChannel map[uint16]*record.Connection
	warnings  record.Warnings
	indexed   bool
}

type schema struct{ name, encoding, text string }

// New reads the description of an MCAP file of the given size in bytes. If r is
// an io.Closer, Close closes it.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	m := &Reader{size: size}
	m.file = chunks.File{Name: name, Reader: r, Parse: m.parseChunk, Warnings: &m.warnings}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

func (m *Reader) open() error {
	w := chunks.NewWindow(m.file.Reader, m.size, 64<<10)
	start, err := w.At(0, min(m.size, int64(len(magic))))
	if err != nil {
		return err
	}
	if string(start) != magic {
		if len(start) == len(magic) && strings.HasPrefix(string(start), magic[:5]) {
			return fmt.Errorf("MCAP version %q, only \"0\" is supported", start[5])
		}
		return fmt.Errorf("not an MCAP file: it starts with %q, expected %q", start, magic)
	}
	p, err := recordAt(w, int64(len(magic)))
	if err != nil {
		return fmt.Errorf("reading the header record: %w", err)
	}
	if p.op != opHeader || p.size > maxText {
		return fmt.Errorf("first record has opcode %#02x and %d bytes, expected a header (0x01)", p.op, p.size)
	}
	b, err := w.At(p.content(), p.size)
	if err != nil {
		return fmt.Errorf("reading the header record: %w", err)
	}
	c := cursor{b: b}
	m.profile = c.text("profile")
	if c.err != nil {
		return fmt.Errorf("header record: %w", c.err)
	}
	m.reset()
	where, err := m.readSummary(w)
	if err == nil {
		m.indexed = true
		return nil
	}
	if isRead(err) {
		return err
	}
	m.warnings.Add(record.Warning{File: m.file.Name, Offset: where,
		Lost: "the index; the file is read through instead", Err: err})
	m.reset()
	return m.scan(p.next())
}

// reset forgets what was learnt about connections and chunks.
func (m *Reader) reset() {
	m.conns, m.file.Chunks = nil, nil
	m.schemas, m.byChannel = map[uint16]schema{}, map[uint16]*record.Connection{}
}

// addSchema takes a schema record.
func (m *Reader) addSchema(content []byte) error {
	c := cursor{b: content}
	id := c.u16("id")
	s := schema{name: c.text("name"), encoding: c.text("encoding"), text: c.text("data")}
	if c.err != nil {
		return fmt.Errorf("schema record: %w", c.err)
	}
	if id == 0 {
		return fmt.Errorf("schema record %q has id 0", s.name)
	}
	if _, ok := m.schemas[id]; !ok {
		m.schemas[id] = s
	}
	return nil
}

// addChannel takes a channel record.
func (m *Reader) addChannel(content []byte) error {
	c := cursor{b: content}
	id, schemaID := c.u16("id"), c.u16("schema_id")
	topic, encoding := c.text("topic"), c.text("message_encoding")
	meta := c.texts("metadata")
	if c.err != nil {
		return fmt.Errorf("channel record: %w", c.err)
	}
	if _, ok := m.byChannel[id]; ok {
		return nil
	}
	s, ok := m.schemas[schemaID]
	if schemaID != 0 && !ok {
		return fmt.Errorf("channel %d (%s) is of schema %d, which no record describes", id, topic, schemaID)
	}
	conn := &record.Connection{ID: len(m.conns), Topic: topic, Type: record.ShortType(s.name),
		Definition: s.text, DefinitionFormat: s.encoding, Source: m.file.Name,
		Hash: meta["topic_type_hash"], MD5: meta["md5sum"], CallerID: meta["callerid"], QoS: meta["offered_qos_profiles"]}
	switch encoding {
	case "cdr":
		conn.Encoding = record.CDR
	case "ros1":
		conn.Encoding = record.ROS1
	}
	conn.Latched = record.TransientLocal(conn.QoS) || meta["latching"] == "1"
	m.byChannel[id] = conn
	m.conns = append(m.conns, conn)
	return nil
}

// parseChunk lists the messages among a chunk's records.
func (m *Reader) parseChunk(dst []chunks.Entry, data []byte) ([]chunks.Entry, error) {
	rest := data
	unknown := map[uint16]int{}
	for len(rest) > 0 {
		at := len(data) - len(rest)
		op, content, next, err := split(rest)
		if err != nil {
			return dst, fmt.Errorf("record at byte %d of the chunk: %w", at, err)
		}
		rest = next
		if op != opMessage {
			continue
		}
		c := cursor{b: content}
		channel := c.u16("channel_id")
		c.u32("sequence")
		logged, published := c.i64("log_time"), c.i64("publish_time")
		if c.err != nil {
			return dst, fmt.Errorf("message at byte %d of the chunk: %w", at, c.err)
		}
		conn, ok := m.byChannel[channel]
		if !ok {
			unknown[channel]++
			continue
		}
		end := len(data) - len(rest)
		dst = append(dst, chunks.Entry{Time: logged, Publish: published, Connection: conn,
			Start: uint32(end - len(c.b)), End: uint32(end)})
	}
	if len(unknown) > 0 {
		channel := slices.Min(slices.Collect(maps.Keys(unknown)))
		return dst, fmt.Errorf("%d messages are of channel %d, which no record describes", unknown[channel], channel)
	}
	return dst, nil
}

// Info describes the file.
func (m *Reader) Info() record.Info {
	info := record.Info{Path: m.file.Name, Format: "mcap", Profile: m.profile, Indexed: m.indexed,
		Files:       []record.File{{Path: m.file.Name, Size: m.size}},
		Connections: slices.Clone(m.conns), Compression: map[string]int64{}}
	for i := range m.file.Chunks {
		info.Compression[m.file.Chunks[i].Compression]++
	}
	record.Sum(&info)
	return info
}

// Messages starts reading.
func (m *Reader) Messages(f record.Filter) record.Iterator {
	return chunks.NewIterator(&m.file, m.conns, f)
}

// Warnings lists the damage found so far.
func (m *Reader) Warnings() []record.Warning { return m.warnings.List() }

// Close closes the file.
func (m *Reader) Close() error {
	if c, ok := m.file.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
