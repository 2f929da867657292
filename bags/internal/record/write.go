package record

import (
	"errors"
	"fmt"

	"github.com/stllm/stllm/msgs"
)

// DefaultChunkSize is the unpacked size in bytes at which rosbag closes chunks.
const DefaultChunkSize = 768 << 10

// Defaults fills in options and checks them against the known compressions, the
// first of which is the default.
func (o *WriteOptions) Defaults(compressions ...string) error {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.ChunkSize < 0 || o.ChunkSize > 1<<30 {
		return fmt.Errorf("ChunkSize is %d, expected 1 to 1 GiB", o.ChunkSize)
	}
	if o.Compression == "" {
		o.Compression = compressions[0]
	}
	for _, c := range compressions {
		if o.Compression == c {
			return nil
		}
	}
	return fmt.Errorf("Compression is %q, expected one of %q", o.Compression, compressions)
}

// Complete checks a connection that is to be written and fills in what can be
// told from its type.
func (c *Connection) Complete() error {
	switch {
	case c.Topic == "":
		return errors.New("Topic is empty")
	case c.Type == "":
		return fmt.Errorf("%s: Type is empty", c.Topic)
	case c.Encoding != ROS1 && c.Encoding != CDR:
		return fmt.Errorf("%s: Encoding is %d, expected ROS1 or CDR", c.Topic, c.Encoding)
	}
	c.Type = ShortType(c.Type)
	c.Count, c.First, c.Last = 0, 0, 0
	FillDefinition(c)
	if c.Definition == "" {
		return fmt.Errorf("%s: Definition is empty and the type %s is not built in", c.Topic, c.Type)
	}
	var err error
	switch {
	case c.Encoding == ROS1 && c.MD5 == "":
		c.MD5, err = msgs.MD5(c.Type)
	case c.Encoding == CDR && c.Hash == "":
		if hash, known := msgs.TypeHash(c.Type); known == nil {
			c.Hash = hash // bags before Iron have none: do without where unknown
		}
	}
	if err != nil {
		return fmt.Errorf("%s: MD5 is empty and cannot be made: %w", c.Topic, err)
	}
	return nil
}

// Counted notes a message written at the given log time.
func (c *Connection) Counted(logTime int64) {
	if c.Count == 0 {
		c.First, c.Last = logTime, logTime
	}
	c.First, c.Last = min(c.First, logTime), max(c.Last, logTime)
	c.Count++
}
