// Package record holds the types that all bag formats share.
package record

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/msgs"
)

// Encoding says how Message.Data is laid out. It is 0 where that is neither of
// the two that ROS uses.
type Encoding = msgs.Encoding

// Message layouts.
const (
	ROS1 = msgs.ROS1
	CDR  = msgs.CDR
)

// Connection describes one stream of messages in a bag: a topic with its type
// as one publisher offered it. A topic may have several connections.
type Connection struct {
	// ID numbers the connection within its Reader, from 0, without gaps.
	ID int
	// Topic is the name as recorded, normally with a leading slash.
	Topic string
	// Type in the short form "sensor_msgs/Image", whatever form the bag uses.
	Type string
	// Encoding of the message data.
	Encoding Encoding
	// Definition is the interface text with the types it uses, separated by
	// lines of "=". Empty where the bag has none and the type is not built in.
	Definition string
	// DefinitionFormat is "ros1msg", "ros2msg" or "ros2idl".
	DefinitionFormat string
	// BuiltIn says that Definition is ours because the bag carries none.
	BuiltIn bool
	// MD5 is the ROS 1 checksum, Hash the ROS 2 type hash (RIHS01_…); each is
	// empty where the bag does not tell.
	MD5, Hash string
	// CallerID is the publishing ROS 1 node, empty otherwise.
	CallerID string
	// Latched says that late subscribers get the last message (ROS 1 latching,
	// ROS 2 durability transient local).
	Latched bool
	// QoS is the offered profile as ROS 2 recorded it (YAML), empty otherwise.
	QoS string
	// Count of messages, and the log time of the first and the last of them in
	// ns; both times are 0 where Count is 0.
	Count       int64
	First, Last int64
	// Source is the path of the bag, as given to Open.
	Source string
}

// Message is one recorded message.
type Message struct {
	Connection *Connection
	// LogTime is when the recorder got the message, ns since the epoch.
	LogTime int64
	// PublishTime is when it was sent; equal to LogTime where not recorded.
	PublishTime int64
	// Data is the message as serialised, with the CDR header for CDR. It is
	// never overwritten by later calls (but see Filter.Reuse), but may be part
	// of a larger chunk: who keeps small messages for long should copy them.
	// Read only.
	Data []byte
}

// Filter selects messages. The zero value selects all.
type Filter struct {
	// Topics wanted; empty means all.
	Topics []string
	// Start and End bound the log time in ns, both inclusive; 0 means open.
	Start, End int64
	// Reuse lets a message and its data be overwritten by the next call of
	// Next: for who is done with each by then. Reading takes less memory and
	// a fraction of the time.
	Reuse bool
}

// Range returns the inclusive bounds with the open ends filled in.
func (f Filter) Range() (start, end int64) {
	start, end = f.Start, f.End
	if start == 0 {
		start = math.MinInt64
	}
	if end == 0 {
		end = math.MaxInt64
	}
	return start, end
}

// Wants tells whether the topic is selected.
func (f Filter) Wants(topic string) bool {
	return len(f.Topics) == 0 || slices.Contains(f.Topics, topic)
}

// Iterator gives messages in order of log time; messages with the same log
// time come in the order of the bag.
type Iterator interface {
	// Next returns the next message, or io.EOF after the last one. Damage in
	// the bag ends or thins the stream and is told by Reader.Warnings; an error
	// other than io.EOF means that the bag could not be read any further (the
	// file is gone, say), and is returned again by later calls.
	Next() (*Message, error)
	// Close frees what the iterator holds. It may be called more than once.
	Close() error
}

// Decode reads the message into a struct of package msgs. The error wraps
// ErrUnknownType where there is none for its type.
func (m *Message) Decode() (msgs.Message, error) {
	c := m.Connection
	out, ok := msgs.New(c.Type)
	if !ok || c.Encoding != ROS1 && c.Encoding != CDR {
		return nil, fmt.Errorf("%s: %w: %s", c.Topic, ErrUnknownType, c.Type)
	}
	if err := c.Encoding.Unmarshal(m.Data, out); err != nil {
		return nil, fmt.Errorf("%s: message logged at %d ns: %w", c.Topic, m.LogTime, err)
	}
	return out, nil
}

// ErrUnknownType says that package msgs has no struct for a message.
var ErrUnknownType = errors.New("message type is not known")

// Reader gives the contents of a bag. Several iterators may be open at a time,
// each used by one goroutine.
type Reader interface {
	// Info describes the bag. The result is the caller's own, its connections
	// are shared with the messages.
	Info() Info
	// Messages starts reading.
	Messages(Filter) Iterator
	// Warnings lists the damage found so far: by Open, and by the iterators.
	Warnings() []Warning
	Close() error
}

// Info describes a bag.
type Info struct {
	// Path as given to Open; of several merged bags, the first.
	Path string
	// Format is "rosbag 2.0", "mcap" or "sqlite3"; several joined by ", ".
	Format string
	// Files that make up the bag.
	Files []File
	// Connections in order of their ID.
	Connections []*Connection
	// Messages in the bag, and the log times in ns of the first and last one.
	Messages    int64
	First, Last int64
	// Chunks in the bag by compression ("none", "lz4", "bz2", "zstd"). For
	// sqlite3, where there are no chunks, messages or files are counted.
	Compression map[string]int64
	// Indexed is false where the index was missing or broken and the bag had
	// to be read through to describe it.
	Indexed bool
	// Distro is the ROS distribution where the bag tells, Profile "ros1" or "ros2".
	Distro, Profile string
}

// File is one file of a bag with its size in bytes.
type File struct {
	Path string
	Size int64
}

// Warning tells of one damaged or unreadable part of a bag.
type Warning struct {
	// File and the byte Offset in it where the trouble starts.
	File   string
	Offset int64
	// Lost says what cannot be read because of it.
	Lost string
	// Err is the cause.
	Err error
}

func (w Warning) String() string {
	return fmt.Sprintf("%s: byte %d: %v; lost: %s", w.File, w.Offset, w.Err, w.Lost)
}

// Writer writes a bag. Messages may be given in any order of time; readers
// sort. A Writer is used by one goroutine. The same calls make the same bytes.
type Writer interface {
	// Add registers a connection. Topic, Type and Encoding are needed;
	// Definition, MD5 and Hash are filled in for built-in types. The result
	// goes into Write.
	Add(Connection) (*Connection, error)
	// Write appends a message that was logged at the given time (ns since the
	// epoch). The data is not kept.
	Write(c *Connection, logTime int64, data []byte) error
	// Close completes the bag; without it the bag has no index.
	Close() error
}

// WriteOptions are how a bag is laid out. The zero value is good.
type WriteOptions struct {
	// Compression of chunks: "none", "lz4", and for .mcap "zstd". Empty means
	// "lz4" for .bag and "zstd" for .mcap.
	Compression string
	// ChunkSize in bytes, uncompressed, at which a chunk is closed; 0 means
	// 768 KiB, as rosbag does.
	ChunkSize int
}
