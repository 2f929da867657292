// Package chunks reads messages in order of time from files whose messages lie
// in compressed chunks, as those of rosbag and MCAP do.
package chunks

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/stllm/stllm/bags/internal/compress"
	"github.com/stllm/stllm/bags/internal/record"
)

// Chunk is a stretch of a file that holds messages.
type Chunk struct {
	// Offset and Stored are the place and length of the packed bytes.
	Offset, Stored int64
	// Size is the unpacked length, -1 where the file does not tell.
	Size int64
	// Compression is "none" or the name of a format.
	Compression string
	// CRC32 of the unpacked bytes; 0 means not given.
	CRC uint32
	// First and Last bound the log times of the messages, in ns.
	First, Last int64
	// Messages counts them, and Connections has the IDs they belong to, sorted.
	Messages    int64
	Connections []int32
	// Cut says that the file ends within the chunk.
	Cut bool
}

// Entry is a message within the unpacked bytes of a chunk.
type Entry struct {
	Time, Publish int64
	Connection    *record.Connection
	// Start and End bound the serialised message.
	Start, End uint32
}

// File is a file with chunks.
type File struct {
	Name   string
	Reader io.ReaderAt
	Chunks []Chunk
	// Parse appends the messages in a chunk's bytes to dst, in the order they
	// lie there. On an error it returns those before the damage.
	Parse    func(dst []Entry, data []byte) ([]Entry, error)
	Warnings *record.Warnings
}

// minRecord is the least length of a message record in bytes, over all formats.
const minRecord = 24

// ErrRead marks an error of the file system, as opposed to a damaged bag.
var ErrRead = errors.New("reading failed")

// Loader has what loading chunks needs again and again. It is not safe for
// concurrent use. The zero value is ready.
type Loader struct {
	dec    compress.Decoder
	packed []byte
	spare  []byte // of a chunk that is done with, for the next one
}

// room returns bytes for a chunk as stored. Those of a chunk that is not
// compressed are given out with the messages.
func (l *Loader) room(c *Chunk) []byte {
	if c.Compression == "none" || c.Compression == "" {
		return sized(l.takeSpare(), c.Stored)
	}
	l.packed = sized(l.packed, c.Stored)
	return l.packed
}

// sized returns n bytes: those of b where it has the room.
func sized(b []byte, n int64) []byte { return compress.Room(b, n)[:n] }

func (l *Loader) takeSpare() []byte {
	b := l.spare
	l.spare = nil
	return b
}

// giveBack lets the bytes of a chunk that nobody reads any more be used again.
func (l *Loader) giveBack(data []byte) {
	if cap(data) > cap(l.spare) {
		l.spare = data
	}
}

// Load reads and unpacks a chunk. What is damaged is told to Warnings, and what
// could be read before the damage is returned.
func (f *File) Load(c *Chunk, l *Loader) ([]byte, error) {
	packed := l.room(c)
	n, err := f.Reader.ReadAt(packed, c.Offset)
	if n < len(packed) && err != io.EOF {
		return nil, fmt.Errorf("%s: %w at byte %d: %w", f.Name, ErrRead, c.Offset, err)
	}
	cut := c.Cut || n < len(packed)
	data, err := l.dec.Decode(l.takeSpare(), c.Compression, packed[:n], c.Size)
	switch {
	case err != nil:
		f.warn(c, fmt.Sprintf("the chunk's contents after unpacked byte %d", len(data)), err)
	case cut:
		f.warn(c, "what would have followed", fmt.Errorf("the file ends within this chunk, %d bytes after its start", n))
	case c.CRC != 0:
		if sum := crc32.ChecksumIEEE(data); sum != c.CRC {
			f.warn(c, "nothing left out, but messages of this chunk may be wrong",
				fmt.Errorf("chunk's checksum is %08x, %08x is declared", sum, c.CRC))
		}
	}
	return data, nil
}

// Entries lists the messages in a chunk's bytes, in order of time.
func (f *File) Entries(c *Chunk, data []byte) []Entry {
	// No record takes less than minRecord bytes, whatever an index promises.
	room := min(c.Messages, int64(len(data)/minRecord))
	entries, err := f.Parse(make([]Entry, 0, room), data)
	if err != nil && !c.Cut {
		lost := "the rest of the chunk"
		if c.Messages > int64(len(entries)) {
			lost = fmt.Sprintf("%d of the chunk's %d messages", c.Messages-int64(len(entries)), c.Messages)
		}
		f.warn(c, lost, err)
	}
	if !slices.IsSortedFunc(entries, byTime) {
		slices.SortStableFunc(entries, byTime)
	}
	return entries
}

// Survey lists the messages in a chunk's bytes to fill in the description of
// the chunk and the counts and times of the connections.
func (f *File) Survey(c *Chunk, data []byte) {
	c.Messages = 0 // not known yet, so that Entries does not compare with it
	for _, e := range f.Entries(c, data) {
		c.Count(e.Connection, e.Time, 1)
		CountConnection(e.Connection, e.Time, e.Time, 1)
	}
}

// Count adds n messages of a connection at the given time to the chunk's
// description.
func (c *Chunk) Count(conn *record.Connection, time int64, n int64) {
	if n == 0 {
		return
	}
	if c.Messages == 0 {
		c.First, c.Last = time, time
	}
	c.First, c.Last = min(c.First, time), max(c.Last, time)
	c.Messages += n
	if i, ok := slices.BinarySearch(c.Connections, int32(conn.ID)); !ok {
		c.Connections = slices.Insert(c.Connections, i, int32(conn.ID))
	}
}

// CountConnection adds n messages between first and last to a connection.
func CountConnection(conn *record.Connection, first, last, n int64) {
	if n == 0 {
		return
	}
	if conn.Count == 0 {
		conn.First, conn.Last = first, last
	}
	conn.First, conn.Last = min(conn.First, first), max(conn.Last, last)
	conn.Count += n
}

func (f *File) warn(c *Chunk, lost string, err error) {
	f.Warnings.Add(record.Warning{File: f.Name, Offset: c.Offset, Lost: lost, Err: err})
}

func byTime(a, b Entry) int {
	switch {
	case a.Time < b.Time:
		return -1
	case a.Time > b.Time:
		return 1
	}
	return 0
}
