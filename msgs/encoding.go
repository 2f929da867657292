package msgs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"unsafe"
)

// Encoding is a wire format.
type Encoding int

// The wire formats.
const (
	ROS1 Encoding = 1 // ROS 1 serialisation: little endian, packed
	CDR  Encoding = 2 // ROS 2: XCDR1 with its encapsulation header, either endianness
)

func (e Encoding) String() string {
	switch e {
	case ROS1:
		return "ros1"
	case CDR:
		return "cdr"
	}
	return fmt.Sprintf("encoding %d", int(e))
}

// cdrHeader announces little-endian plain CDR.
var cdrHeader = [4]byte{0, 1, 0, 0}

// DecodeError says what was being read when the bytes did not fit.
type DecodeError struct {
	Type, Field string
	Offset      int // in the payload
	Why         string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s: field %s at byte %d: %s", e.Type, e.Field, e.Offset, e.Why)
}

// plans holds compiled plans; they depend on nothing but the key.
var plans sync.Map // planKey → *plan

type planKey struct {
	t reflect.Type
	e Encoding
}

func planFor(m Message, e Encoding) (*plan, unsafe.Pointer, error) {
	v := reflect.ValueOf(m)
	if m == nil || v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, nil, errors.New("message is nil")
	}
	t := v.Type().Elem()
	if p, ok := plans.Load(planKey{t, e}); ok {
		return p.(*plan), v.UnsafePointer(), nil
	}
	if e != ROS1 && e != CDR {
		return nil, nil, fmt.Errorf("unknown encoding %d", int(e))
	}
	p, err := compile(t, m.ROSType(), e)
	if err != nil {
		return nil, nil, err
	}
	plans.Store(planKey{t, e}, p)
	return p, v.UnsafePointer(), nil
}

// Marshal encodes a message; CDR with its header.
func (e Encoding) Marshal(m Message) ([]byte, error) { return e.AppendMarshal(nil, m) }

// AppendMarshal appends the encoded message to dst.
func (e Encoding) AppendMarshal(dst []byte, m Message) ([]byte, error) {
	p, ptr, err := planFor(m, e)
	if err != nil {
		return dst, fmt.Errorf("encode: %w", err)
	}
	w := writer{buf: dst, aligned: e == CDR}
	if e == CDR {
		w.buf = append(w.buf, cdrHeader[:]...)
	}
	w.start = len(w.buf)
	p.encode(&w, ptr)
	if w.err != nil {
		return dst, fmt.Errorf("encode %s: %w", p.name, w.err)
	}
	if e == CDR {
		w.align(4) // payloads end on 4 bytes
	}
	return w.buf, nil
}

// Unmarshal decodes into a message, which is emptied before: fields that the encoding does not have (Header.Seq in CDR) are
// zero afterwards. Byte arrays and nothing else keep pointing into data. Bytes after the message are ignored in CDR (padding)
// and refused in ROS 1. After an error the message holds what came before it.
func (e Encoding) Unmarshal(data []byte, m Message) error {
	p, ptr, err := planFor(m, e)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	r := reader{data: data, order: binary.LittleEndian, aligned: e == CDR, typ: p.name}
	if e == CDR {
		if err := r.header(); err != nil {
			return err
		}
	}
	reflect.ValueOf(m).Elem().SetZero()
	if err := p.decode(&r, ptr); err != nil {
		return err
	}
	if e == ROS1 && r.at != len(r.data) {
		return &DecodeError{p.name, "(end)", r.at, fmt.Sprintf("%d bytes are left over", len(r.data)-r.at)}
	}
	return nil
}

// header reads the encapsulation header and refuses what is not plain CDR, by name.
func (r *reader) header() error {
	if len(r.data) < 4 {
		return &DecodeError{r.typ, "(header)", 0, fmt.Sprintf("%d bytes, the CDR header has 4", len(r.data))}
	}
	switch id := binary.BigEndian.Uint16(r.data); id {
	case 0x0001:
	case 0x0000:
		r.order, r.swap = binary.BigEndian, true
	default:
		names := map[uint16]string{2: "PL_CDR_BE", 3: "PL_CDR_LE", 6: "CDR2_BE (XCDR2)", 7: "CDR2_LE (XCDR2)", 8: "D_CDR2_BE", 9: "D_CDR2_LE", 10: "PL_CDR2_BE", 11: "PL_CDR2_LE"}
		name, known := names[id]
		if !known {
			name = "unknown"
		}
		return &DecodeError{r.typ, "(header)", 0, fmt.Sprintf("encapsulation 0x%04x (%s), expected plain CDR (0x0000 or 0x0001)", id, name)}
	}
	r.data = r.data[4:]
	return nil
}

// writer appends with alignment counted from start.
type writer struct {
	buf     []byte
	start   int
	aligned bool
	err     error // the first one; what follows it is not worth reading
}

func (w *writer) fail(field, format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("field %s: %s", field, fmt.Sprintf(format, args...))
	}
}

// count writes a length and what is added to it, after checking it; limit 0 is that of the wire alone.
func (w *writer) count(field, what string, n, add, limit int) {
	most := uint64(math.MaxUint32) - uint64(add)
	if limit > 0 {
		most = uint64(limit)
	}
	if uint64(n) > most {
		w.fail(field, "%d %s, at most %d are allowed", n, what, most)
	}
	w.u32(uint32(n + add))
}

func (w *writer) align(n int) {
	if w.aligned {
		for (len(w.buf)-w.start)%n != 0 {
			w.buf = append(w.buf, 0)
		}
	}
}

func (w *writer) u32(v uint32) {
	w.align(4)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, v)
}

// reader walks over a payload; the CDR header is cut off already, so alignment counts from 0.
type reader struct {
	data    []byte
	at      int
	order   binary.ByteOrder
	swap    bool // big endian
	aligned bool
	typ     string
}

func (r *reader) fail(field, format string, args ...any) error {
	return &DecodeError{r.typ, field, r.at, fmt.Sprintf(format, args...)}
}

func (r *reader) align(n int) {
	if r.aligned {
		r.at = (r.at + n - 1) &^ (n - 1)
	}
}

// take returns n bytes, or nil when they are not there.
func (r *reader) take(n int) []byte {
	if n < 0 || r.at > len(r.data) || n > len(r.data)-r.at {
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) left() int { return max(0, len(r.data)-r.at) }

func (r *reader) u32(field string) (int, error) {
	r.align(4)
	b := r.take(4)
	if b == nil {
		return 0, r.fail(field, "the payload ends, 4 bytes were expected")
	}
	return int(r.order.Uint32(b)), nil
}
