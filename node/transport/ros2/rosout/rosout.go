// Package rosout carries the program's log to /rosout, where `ros2 topic echo /rosout` and rqt_console see it.
package rosout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// qos is rcl_qos_profile_rosout_default, but for its lifespan of 10 s, which transports do not have. The depth is what a late
// listener gets.
var qos = transport.QoS{Reliability: transport.Reliable, Durability: transport.TransientLocal, Depth: 100}

const (
	queueLength = 256     // lines that may wait for the wire
	maxLine     = 1 << 14 // bytes of a message; what is longer is cut
)

// Writer is an io.Writer for zerolog, beside the one that people read: lines go to a bounded queue and from there to /rosout.
// Writing never blocks and never fails; lines that find the queue full are counted, and the count is told when there is room
// again.
//
// The transport that publishes must not log through this writer, or each line could make another.
type Writer struct {
	node    transport.Transport
	name    string
	pub     transport.Publisher
	lines   chan *msgs.Log
	done    chan struct{}
	stopped chan struct{}
	once    sync.Once

	dropped atomic.Uint64 // by a full queue, and by a transport that refused them
	told    uint64        // of them, those told; of the sending goroutine
}

// New advertises /rosout.
func New(t transport.Transport) (*Writer, error) {
	if t == nil {
		return nil, errors.New("rosout: the transport is missing")
	}
	pub, err := t.Advertise("/rosout", &msgs.Log{}, qos)
	if err != nil {
		return nil, fmt.Errorf("rosout: %w", err)
	}
	w := &Writer{node: t, name: loggerName(t.Name()), pub: pub, lines: make(chan *msgs.Log, queueLength), done: make(chan struct{}), stopped: make(chan struct{})}
	go w.send()
	return w, nil
}

var _ zerolog.LevelWriter = (*Writer)(nil)

// loggerName is the name that rcl gives a node's logger: "/ns/stllm" is "ns.stllm".
func loggerName(node string) string {
	return strings.ReplaceAll(strings.TrimPrefix(node, "/"), "/", ".")
}

// Dropped counts the lines that did not get onto the wire.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

// Write takes a line whose level is in its JSON.
func (w *Writer) Write(line []byte) (int, error) { return w.WriteLevel(zerolog.NoLevel, line) }

// WriteLevel takes a line of zerolog's JSON.
func (w *Writer) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	select {
	case <-w.done:
		return len(line), nil
	default:
	}
	if len(w.lines) == cap(w.lines) { // not worth reading; another may be faster, so the queue is asked again below
		w.dropped.Add(1)
		return len(line), nil
	}
	m := message(level, line)
	m.Stamp, m.Name = msgs.TimeFromNanos(w.node.Clock().Now()), w.name
	select {
	case w.lines <- m:
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

// send publishes until Close, and then what is left.
func (w *Writer) send() {
	defer close(w.stopped)
	for {
		select {
		case m := <-w.lines:
			w.publish(m)
		case <-w.done:
			for {
				select {
				case m := <-w.lines:
					w.publish(m)
				default:
					return
				}
			}
		}
	}
}

func (w *Writer) publish(m *msgs.Log) {
	if err := w.pub.Publish(m); err != nil {
		w.dropped.Add(1)
		return
	}
	if n := w.dropped.Load(); n > w.told && len(w.lines) == 0 {
		lost := &msgs.Log{Stamp: msgs.TimeFromNanos(w.node.Clock().Now()), Level: msgs.LogWarn, Name: w.name,
			Msg: fmt.Sprintf("%d log messages were not published", n-w.told)}
		if w.pub.Publish(lost) == nil {
			w.told = n
		}
	}
}

// Close publishes what waits and takes the topic away. Lines that are written later are left out.
func (w *Writer) Close() error {
	w.once.Do(func() {
		close(w.done)
		<-w.stopped
		_ = w.pub.Close() // on the way out; nothing can be done about it
	})
	return nil
}

// message reads a line of zerolog's JSON: known fields have their places, the others follow the message as name=value, in
// order of their names.
func message(level zerolog.Level, line []byte) *msgs.Log {
	m := &msgs.Log{}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		m.Level, m.Msg = severity(level), cut(strings.TrimSpace(string(line)))
		return m
	}
	if level == zerolog.NoLevel {
		if l, err := zerolog.ParseLevel(text(fields[zerolog.LevelFieldName])); err == nil {
			level = l
		}
	}
	m.Level, m.Msg = severity(level), text(fields[zerolog.MessageFieldName])
	if file, at, ok := cutLast(text(fields[zerolog.CallerFieldName]), ":"); ok {
		if n, err := strconv.ParseUint(at, 10, 32); err == nil {
			m.File, m.Line = filepath.Base(file), uint32(n)
		}
	}
	var b strings.Builder
	b.WriteString(m.Msg)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch name {
		case zerolog.LevelFieldName, zerolog.MessageFieldName, zerolog.TimestampFieldName, zerolog.CallerFieldName:
			continue
		}
		fmt.Fprintf(&b, " %s=%s", name, text(fields[name]))
		if b.Len() > maxLine {
			break
		}
	}
	m.Msg = cut(strings.TrimSpace(b.String()))
	return m
}

// text is a JSON value as a person would write it.
func text(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// cut bounds a message and takes out what CDR strings cannot hold.
func cut(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "…"
	}
	return s
}

// severity maps zerolog's levels to those of rcl_interfaces/Log.
func severity(l zerolog.Level) uint8 {
	switch l {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return msgs.LogDebug
	case zerolog.WarnLevel:
		return msgs.LogWarn
	case zerolog.ErrorLevel:
		return msgs.LogError
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return msgs.LogFatal
	}
	return msgs.LogInfo
}

// ParseLevel reads what `--log-level` has: a level of ROS 2 ("debug", "INFO", "warn", …), alone or after a logger's name
// ("rcl:=debug"); then own says whether it is meant for this node.
func ParseLevel(arg, node string) (level zerolog.Level, own bool, err error) {
	logger, name, found := strings.Cut(arg, ":=")
	if !found {
		logger, name = "", arg
	}
	switch strings.ToLower(name) {
	case "debug":
		level = zerolog.DebugLevel
	case "info", "unset":
		level = zerolog.InfoLevel
	case "warn":
		level = zerolog.WarnLevel
	case "error":
		level = zerolog.ErrorLevel
	case "fatal":
		level = zerolog.FatalLevel
	default:
		return 0, false, fmt.Errorf("log level is %q, expected debug, info, warn, error or fatal", name)
	}
	return level, logger == "" || logger == loggerName(node), nil
}

// Tee is a logger that writes to a person's writer and to /rosout.
func Tee(log zerolog.Logger, people io.Writer, w *Writer) zerolog.Logger {
	return log.Output(zerolog.MultiLevelWriter(people, w))
}
