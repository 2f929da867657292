package mcap

import (
	"errors"
	"fmt"
	"io"
	"math"

	fox "github.com/foxglove/mcap/go/mcap"

	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// Writer writes an .mcap file with the profile "ros2" or "ros1", which the
// first connection decides.
type Writer struct {
	out      io.WriteCloser
	opts     record.WriteOptions
	w        *fox.Writer
	encoding record.Encoding
	conns    []*record.Connection
	schemas  map[schema]uint16
	sequence []uint32
	closed   bool
}

// NewWriter starts a file.
func NewWriter(out io.WriteCloser, opts record.WriteOptions) (*Writer, error) {
	if err := opts.Defaults("zstd", "lz4", "none"); err != nil {
		return nil, err
	}
	format := fox.CompressionFormat(opts.Compression)
	if opts.Compression == "none" {
		format = fox.CompressionNone
	}
	w, err := fox.NewWriter(out, &fox.WriterOptions{IncludeCRC: true, Chunked: true,
		ChunkSize: int64(opts.ChunkSize), Compression: format, OverrideLibrary: true})
	if err != nil {
		return nil, err
	}
	return &Writer{out: out, opts: opts, w: w, schemas: map[schema]uint16{}}, nil
}

// Connections lists those added.
func (w *Writer) Connections() []*record.Connection { return w.conns }

// Add registers a connection.
func (w *Writer) Add(c record.Connection) (*record.Connection, error) {
	if err := c.Complete(); err != nil {
		return nil, err
	}
	if len(w.conns) >= math.MaxUint16 {
		return nil, fmt.Errorf("%s: MCAP has room for %d connections", c.Topic, math.MaxUint16)
	}
	if err := w.start(&c); err != nil {
		return nil, err
	}
	ch := &fox.Channel{ID: uint16(len(w.conns)), Topic: c.Topic, Metadata: map[string]string{}}
	s := schema{name: c.Type, encoding: c.DefinitionFormat, text: c.Definition}
	if c.Encoding == record.CDR {
		s.name = record.LongType(c.Type)
		if s.encoding == "" {
			s.encoding = "ros2msg"
		}
		if c.QoS == "" {
			c.QoS = record.DefaultQoS(c.Latched)
		}
		ch.MessageEncoding = "cdr"
		ch.Metadata["offered_qos_profiles"] = c.QoS
		if c.Hash != "" {
			ch.Metadata["topic_type_hash"] = c.Hash
		}
	} else {
		if s.encoding == "" {
			s.encoding = "ros1msg"
		}
		ch.MessageEncoding = "ros1"
		ch.Metadata["md5sum"] = c.MD5
		if c.CallerID != "" {
			ch.Metadata["callerid"] = c.CallerID
		}
		if c.Latched {
			ch.Metadata["latching"] = "1"
		}
	}
	id, ok := w.schemas[s]
	if !ok {
		id = uint16(len(w.schemas) + 1)
		w.schemas[s] = id
		if err := w.w.WriteSchema(&fox.Schema{ID: id, Name: s.name, Encoding: s.encoding, Data: []byte(s.text)}); err != nil {
			return nil, fmt.Errorf("writing the schema of %s: %w", c.Topic, err)
		}
	}
	ch.SchemaID = id
	if err := w.w.WriteChannel(ch); err != nil {
		return nil, fmt.Errorf("writing the channel of %s: %w", c.Topic, err)
	}
	c.ID = len(w.conns)
	w.conns = append(w.conns, &c)
	w.sequence = append(w.sequence, 0)
	return &c, nil
}

// start writes the header with the profile of the first connection.
func (w *Writer) start(c *record.Connection) error {
	if w.encoding == c.Encoding {
		return nil
	}
	if w.encoding != 0 {
		return fmt.Errorf("%s: Encoding is %v, the file's first connection is %v", c.Topic, c.Encoding, w.encoding)
	}
	w.encoding = c.Encoding
	return w.header()
}

func (w *Writer) header() error {
	profile := "ros2"
	if w.encoding == record.ROS1 {
		profile = "ros1"
	}
	if err := w.w.WriteHeader(&fox.Header{Profile: profile, Library: "stllm"}); err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	return nil
}

// Write appends a message.
func (w *Writer) Write(c *record.Connection, logTime int64, data []byte) error {
	switch {
	case w.closed:
		return errors.New("the bag is closed")
	case c == nil || c.ID >= len(w.conns) || w.conns[c.ID] != c:
		return errors.New("the connection is not one that Add returned")
	case logTime < 0:
		return fmt.Errorf("%s: log time %d ns is negative", c.Topic, logTime)
	case len(data) > compress.MaxSize/2:
		return fmt.Errorf("%s: message of %d bytes, limit is %d", c.Topic, len(data), compress.MaxSize/2)
	}
	err := w.w.WriteMessage(&fox.Message{ChannelID: uint16(c.ID), Sequence: w.sequence[c.ID],
		LogTime: uint64(logTime), PublishTime: uint64(logTime), Data: data})
	if err != nil {
		return fmt.Errorf("writing a message of %s: %w", c.Topic, err)
	}
	w.sequence[c.ID]++
	c.Counted(logTime)
	return nil
}

// Close completes the file.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	var err error
	if w.encoding == 0 {
		err = w.header()
	}
	if err == nil {
		err = w.w.Close()
	}
	return errors.Join(err, w.out.Close())
}
