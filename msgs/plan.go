package msgs

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/stllm/stllm/msgs/idl"
)

// plan is how a struct goes onto the wire and back: one step a field, compiled once from the definition.
type plan struct {
	name  string
	steps []step
	// least is the smallest number of bytes that the message takes, to check counts before anything is allocated.
	least int
	size  uintptr // of the Go struct
}

type kind int

const (
	kindScalar kind = iota // size bytes
	kindBool
	kindString
	kindMessage
	kindTime // two 4-byte values
)

type step struct {
	field  string
	offset uintptr
	kind   kind
	size   int // wire size and alignment of a scalar
	plan   *plan
	array  idl.ArrayKind
	count  int          // of a fixed array, or the bound
	bound  int          // of a string
	slice  reflect.Type // of the Go slice, for making one
	elem   uintptr      // size of a Go element
}

func compile(t reflect.Type, typ string, e Encoding) (*plan, error) {
	spec, ok := Definitions(e).Spec(Key(typ))
	if !ok {
		return nil, fmt.Errorf("message type %s does not exist in %s", typ, e)
	}
	return compileSpec(t, spec, e)
}

func compileSpec(t reflect.Type, spec *idl.Spec, e Encoding) (*plan, error) {
	p := &plan{name: spec.Key(), size: t.Size()}
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		fields[fold(t.Field(i).Name)] = t.Field(i)
	}
	for _, f := range spec.Fields {
		gf, ok := fields[fold(f.Name)]
		if !ok {
			return nil, fmt.Errorf("%s: Go struct %s has no field for %s", spec.Key(), t, f.Name)
		}
		s := step{field: f.Name, offset: gf.Offset, array: f.Type.Kind, count: f.Type.Size, bound: f.Type.Bound}
		elem := gf.Type
		if s.array != idl.Single {
			elem = gf.Type.Elem()
			s.slice, s.elem = gf.Type, elem.Size()
		}
		least, err := s.settle(elem, f.Type, e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Key(), err)
		}
		switch s.array {
		case idl.Fixed:
			least *= s.count
		case idl.Bounded, idl.Unbounded:
			least = 4
		}
		p.least += least
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// fold makes frame_id and FrameID, D and d the same.
func fold(name string) string {
	out := make([]byte, 0, len(name))
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_':
			continue
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(out)
}

var scalars = map[string]int{
	"byte": 1, "char": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
	"float32": 4, "float64": 8,
}

// settle fills in how one element goes and returns its least size on the wire.
func (s *step) settle(elem reflect.Type, t idl.Type, e Encoding) (least int, err error) {
	switch {
	case t.Name == "bool" && t.Builtin():
		s.kind, s.size = kindBool, 1
		return 1, nil
	case t.Name == "string" && t.Builtin():
		s.kind = kindString
		return 4, nil
	case t.Builtin() && (t.Name == "time" || t.Name == "duration"), t.Key() == "builtin_interfaces/Time", t.Key() == "builtin_interfaces/Duration":
		s.kind = kindTime
		return 8, nil
	case t.Builtin():
		size, ok := scalars[t.Name]
		if !ok {
			return 0, fmt.Errorf("field %s: type %s is not supported", s.field, t.Name)
		}
		s.kind, s.size = kindScalar, size
		return size, nil
	}
	inner, ok := Definitions(e).Spec(t.Key())
	if !ok {
		return 0, fmt.Errorf("field %s: type %s is not known", s.field, t.Key())
	}
	s.kind = kindMessage
	if s.plan, err = compileSpec(elem, inner, e); err != nil {
		return 0, err
	}
	return s.plan.least, nil
}

// emptyStruct is what rosidl sends for a message without fields.
func (p *plan) empty(aligned bool) bool { return aligned && len(p.steps) == 0 }

func (p *plan) encode(w *writer, ptr unsafe.Pointer) {
	if p.empty(w.aligned) {
		w.buf = append(w.buf, 0)
		return
	}
	for i := range p.steps {
		s := &p.steps[i]
		s.encode(w, unsafe.Add(ptr, s.offset))
	}
}

func (s *step) encode(w *writer, ptr unsafe.Pointer) {
	switch s.array {
	case idl.Single:
		s.encodeOne(w, ptr)
		return
	case idl.Fixed:
		s.encodeMany(w, ptr, s.count)
		return
	}
	h := (*sliceHeader)(ptr)
	w.count(s.field, "elements", h.len, 0, s.count)
	s.encodeMany(w, h.data, h.len)
}

// sliceHeader is the layout of every Go slice.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

func (s *step) encodeMany(w *writer, ptr unsafe.Pointer, n int) {
	if n == 0 {
		return
	}
	if s.kind == kindScalar && littleHost {
		w.align(s.size)
		w.buf = append(w.buf, unsafe.Slice((*byte)(ptr), n*s.size)...)
		return
	}
	for i := range n {
		s.encodeOne(w, unsafe.Add(ptr, uintptr(i)*s.elem))
	}
}

func (s *step) encodeOne(w *writer, ptr unsafe.Pointer) {
	switch s.kind {
	case kindScalar:
		w.align(s.size)
		switch s.size {
		case 1:
			w.buf = append(w.buf, *(*byte)(ptr))
		case 2:
			w.buf = binary.LittleEndian.AppendUint16(w.buf, *(*uint16)(ptr))
		case 4:
			w.buf = binary.LittleEndian.AppendUint32(w.buf, *(*uint32)(ptr))
		case 8:
			w.buf = binary.LittleEndian.AppendUint64(w.buf, *(*uint64)(ptr))
		}
	case kindBool:
		b := byte(0)
		if *(*bool)(ptr) {
			b = 1
		}
		w.buf = append(w.buf, b)
	case kindString:
		str := *(*string)(ptr)
		if w.aligned {
			w.count(s.field, "bytes of text", len(str), 1, s.bound)
			w.buf = append(append(w.buf, str...), 0)
			return
		}
		w.count(s.field, "bytes of text", len(str), 0, 0)
		w.buf = append(w.buf, str...)
	case kindTime:
		t := (*Time)(ptr)
		w.u32(uint32(t.Sec))
		w.u32(t.Nanosec)
	case kindMessage:
		s.plan.encode(w, ptr)
	}
}

// littleHost tells whether numbers can be copied as they lie in memory.
var littleHost = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}()

func (p *plan) decode(r *reader, ptr unsafe.Pointer) error {
	if p.empty(r.aligned) {
		if r.take(1) == nil {
			return r.fail(p.name, "the payload ends, an empty structure has 1 byte")
		}
		return nil
	}
	for i := range p.steps {
		s := &p.steps[i]
		if err := s.decode(r, unsafe.Add(ptr, s.offset)); err != nil {
			return err
		}
	}
	return nil
}

func (s *step) decode(r *reader, ptr unsafe.Pointer) error {
	switch s.array {
	case idl.Single:
		return s.decodeOne(r, ptr)
	case idl.Fixed:
		return s.decodeMany(r, ptr, s.count)
	}
	n, err := r.u32(s.field)
	if err != nil {
		return err
	}
	if s.array == idl.Bounded && n > s.count {
		return r.fail(s.field, "%d elements, at most %d are allowed", n, s.count)
	}
	least := s.least()
	if n < 0 || n > r.left()/max(1, least) { // negative: beyond a 32-bit int
		return r.fail(s.field, "%d elements of at least %d bytes, the payload has %d left", n, least, r.left())
	}
	h := (*sliceHeader)(ptr)
	if s.kind == kindScalar && s.size == 1 {
		// Bytes are not copied: images and clouds are made of them.
		*(*[]byte)(ptr) = r.take(n)
		return nil
	}
	made := reflect.MakeSlice(s.slice, n, n)
	reflect.NewAt(s.slice, ptr).Elem().Set(made)
	return s.decodeMany(r, h.data, n)
}

func (s *step) least() int {
	switch s.kind {
	case kindString:
		return 4
	case kindTime:
		return 8
	case kindMessage:
		return s.plan.least
	}
	return s.size
}

func (s *step) decodeMany(r *reader, ptr unsafe.Pointer, n int) error {
	if n == 0 {
		return nil
	}
	if s.kind == kindScalar {
		r.align(s.size)
		b := r.take(n * s.size)
		if b == nil {
			return r.fail(s.field, "the payload ends, %d elements of %d bytes were expected and %d bytes are left", n, s.size, r.left())
		}
		if littleHost != r.swap {
			copy(unsafe.Slice((*byte)(ptr), n*s.size), b)
			return nil
		}
		for i := range n {
			dst := unsafe.Slice((*byte)(unsafe.Add(ptr, i*s.size)), s.size)
			copy(dst, b[i*s.size:])
			slices.Reverse(dst)
		}
		return nil
	}
	for i := range n {
		if err := s.decodeOne(r, unsafe.Add(ptr, uintptr(i)*s.elem)); err != nil {
			return err
		}
	}
	return nil
}

func (s *step) decodeOne(r *reader, ptr unsafe.Pointer) error {
	switch s.kind {
	case kindScalar:
		r.align(s.size)
		b := r.take(s.size)
		if b == nil {
			return r.fail(s.field, "the payload ends, %d bytes were expected", s.size)
		}
		switch s.size {
		case 1:
			*(*byte)(ptr) = b[0]
		case 2:
			*(*uint16)(ptr) = r.order.Uint16(b)
		case 4:
			*(*uint32)(ptr) = r.order.Uint32(b)
		case 8:
			*(*uint64)(ptr) = r.order.Uint64(b)
		}
	case kindBool:
		b := r.take(1)
		if b == nil {
			return r.fail(s.field, "the payload ends, 1 byte was expected")
		}
		*(*bool)(ptr) = b[0] != 0
	case kindString:
		return s.decodeString(r, (*string)(ptr))
	case kindTime:
		sec, err := r.u32(s.field)
		if err != nil {
			return err
		}
		nsec, err := r.u32(s.field)
		if err != nil {
			return err
		}
		*(*Time)(ptr) = Time{int32(uint32(sec)), uint32(nsec)}
	case kindMessage:
		return s.plan.decode(r, ptr)
	}
	return nil
}

func (s *step) decodeString(r *reader, out *string) error {
	n, err := r.u32(s.field)
	if err != nil {
		return err
	}
	b := r.take(n)
	if b == nil {
		return r.fail(s.field, "string of %d bytes, the payload has %d left", n, r.left())
	}
	if r.aligned {
		// The length counts the NUL. Some writers send 0 for an empty string.
		if n > 0 {
			if b[n-1] != 0 {
				return r.fail(s.field, "string of %d bytes does not end in NUL", n)
			}
			b = b[:n-1]
		}
	}
	if s.bound > 0 && len(b) > s.bound {
		return r.fail(s.field, "string of %d bytes, at most %d are allowed", len(b), s.bound)
	}
	*out = string(b)
	return nil
}
