package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/mapped"
)

// maxDims is the number of dimensions that a GGUF tensor may have.
const maxDims = 4

// ggufTypes are the tensor types that are read, by number.
var ggufTypes = map[uint32]DType{0: F32, 1: F16, 2: Q4_0, 3: Q4_1, 8: Q8_0, 24: I8, 25: I16, 26: I32, 27: I64, 28: F64, 30: BF16}

// GGUF is an open, mapped GGUF file (version 2 or 3, little-endian).
type GGUF struct {
	Path    string // symbolic links resolved
	Version uint32
	// Metadata holds uint8 to float64, bool and string values as Go has them, and arrays as slices of those.
	Metadata map[string]any
	// Tensors have their dimensions in row-major order, the reverse of the file's: a matrix is [out, in] as in safetensors.
	Tensors []*Tensor

	byName  map[string]*Tensor
	mapping *mapped.File
}

// OpenGGUF maps a file and checks its whole header.
func OpenGGUF(path string) (*GGUF, error) {
	m, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open gguf: %w", err)
	}
	g, err := ParseGGUF(m.Data)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g.Path, g.mapping = m.Path, m
	for _, t := range g.Tensors {
		t.File, t.mapped = m.Path, t.Offset >= 0
	}
	return g, nil
}

// ParseGGUF reads a file that is in memory; the tensors are views of data. Counts and lengths are held against the bytes that
// are left before anything is allocated for them.
func ParseGGUF(data []byte) (*GGUF, error) {
	r := &ggufReader{data: data}
	g := &GGUF{Metadata: map[string]any{}, byName: map[string]*Tensor{}}
	magic := r.take(4)
	g.Version = r.u32()
	tensors, pairs := r.u64(), r.u64()
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("gguf: %w", r.err)
	case string(magic) != "GGUF":
		return nil, fmt.Errorf("gguf: begins with %q, expected \"GGUF\"", magic)
	case g.Version != 2 && g.Version != 3:
		return nil, fmt.Errorf("gguf: version %d (%#08x), expected 2 or 3, little-endian", g.Version, g.Version)
	case pairs > r.left()/13: // a name length, a type and a byte
		return nil, fmt.Errorf("gguf: %d metadata entries in %d bytes", pairs, r.left())
	case tensors > r.left()/24: // a name length, dimensions, a type, an offset
		return nil, fmt.Errorf("gguf: %d tensors in %d bytes", tensors, r.left())
	}
	for range pairs {
		key := r.text()
		if _, twice := g.Metadata[key]; twice && r.err == nil {
			return nil, fmt.Errorf("gguf: metadata %q appears twice", key)
		}
		value := r.value(r.u32())
		if r.err != nil {
			return nil, fmt.Errorf("gguf: metadata %q: %w", key, r.err)
		}
		g.Metadata[key] = value
	}
	for range tensors {
		t, err := r.tensor()
		if err != nil {
			return nil, err
		}
		if g.byName[t.Name] != nil {
			return nil, fmt.Errorf("gguf: tensor %q appears twice", t.Name)
		}
		g.byName[t.Name] = t
		g.Tensors = append(g.Tensors, t)
	}
	return g, g.place(data, r.at)
}

// place turns the tensors' offsets into views and refuses those that leave the file or overlap.
func (g *GGUF) place(data []byte, end int) error {
	align := uint64(32)
	if v, ok := g.Metadata["general.alignment"]; ok {
		a, ok := v.(uint32)
		if !ok || a < 8 || a > 1<<20 || a%8 != 0 {
			return fmt.Errorf("gguf: general.alignment is %v, expected a multiple of 8", v)
		}
		align = uint64(a)
	}
	base := int64((uint64(end) + align - 1) / align * align)
	if len(g.Tensors) > 0 && base > int64(len(data)) {
		return fmt.Errorf("gguf: the file ends at byte %d, before its data at %d (truncated?)", len(data), base)
	}
	for _, t := range g.Tensors {
		room := int64(len(data)) - base
		if t.Offset < 0 || uint64(t.Offset)%align != 0 || t.Offset > room || t.Length > room-t.Offset {
			return fmt.Errorf("gguf: tensor %s: %d bytes at %d of the data, but the file has %d (aligned to %d)", t.Name, t.Length, t.Offset, room, align)
		}
		t.Offset += base
		t.Data = data[t.Offset : t.Offset+t.Length : t.Offset+t.Length]
	}
	sorted := slices.Clone(g.Tensors)
	slices.SortStableFunc(sorted, func(a, b *Tensor) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.Offset+a.Length > b.Offset && b.Length > 0 {
			return fmt.Errorf("gguf: tensors %s and %s overlap", a.Name, b.Name)
		}
	}
	return nil
}

// Tensor returns a tensor by name.
func (g *GGUF) Tensor(name string) (*Tensor, bool) {
	t, ok := g.byName[name]
	return t, ok
}

// Int returns a whole number of the metadata, of any width.
func (g *GGUF) Int(key string) (int64, bool) {
	switch v := g.Metadata[key].(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case int64:
		return v, true
	}
	return 0, false
}

// Float returns a floating-point number of the metadata.
func (g *GGUF) Float(key string) (float64, bool) {
	switch v := g.Metadata[key].(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// Text returns a string of the metadata.
func (g *GGUF) Text(key string) (string, bool) {
	s, ok := g.Metadata[key].(string)
	return s, ok
}

// Strings returns an array of strings of the metadata.
func (g *GGUF) Strings(key string) ([]string, bool) {
	s, ok := g.Metadata[key].([]string)
	return s, ok
}

// Close unmaps the file; the views become invalid.
func (g *GGUF) Close() error { return g.mapping.Close() }

// ggufReader keeps its first error; after it, every read gives zero.
type ggufReader struct {
	data []byte
	at   int
	err  error
}

func (r *ggufReader) left() uint64 { return uint64(len(r.data) - r.at) }

func (r *ggufReader) take(n uint64) []byte {
	if r.err == nil && n > r.left() {
		r.err = fmt.Errorf("needs %d bytes at byte %d, but %d are left (truncated?)", n, r.at, r.left())
	}
	if r.err != nil {
		return nil
	}
	b := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// number reads up to 8 little-endian bytes.
func (r *ggufReader) number(size uint64) uint64 {
	var b [8]byte
	copy(b[:], r.take(size))
	return binary.LittleEndian.Uint64(b[:])
}

func (r *ggufReader) u32() uint32  { return uint32(r.number(4)) }
func (r *ggufReader) u64() uint64  { return r.number(8) }
func (r *ggufReader) text() string { return string(r.take(r.u64())) }

func (r *ggufReader) value(kind uint32) any {
	switch kind {
	case 8:
		return r.text()
	case 9:
		return r.array()
	}
	if scalarSize(kind) == 0 {
		r.fail(fmt.Errorf("value type %d is not known", kind))
		return nil
	}
	return scalar(kind, r.number(scalarSize(kind)))
}

func (r *ggufReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func scalarSize(kind uint32) uint64 {
	switch kind {
	case 0, 1, 7:
		return 1
	case 2, 3:
		return 2
	case 4, 5, 6:
		return 4
	case 10, 11, 12:
		return 8
	}
	return 0
}

func scalar(kind uint32, n uint64) any {
	switch kind {
	case 0:
		return uint8(n)
	case 1:
		return int8(n)
	case 2:
		return uint16(n)
	case 3:
		return int16(n)
	case 4:
		return uint32(n)
	case 5:
		return int32(n)
	case 6:
		return math.Float32frombits(uint32(n))
	case 7:
		return n != 0
	case 10:
		return n
	case 11:
		return int64(n)
	}
	return math.Float64frombits(n)
}

// array reads an array of scalars or strings. Arrays of arrays are not used by any known model and refused.
func (r *ggufReader) array() any {
	kind, n := r.u32(), r.u64()
	size := scalarSize(kind)
	if kind == 8 {
		size = 8 // at least its length
	}
	switch {
	case r.err != nil:
		return nil
	case size == 0:
		r.fail(fmt.Errorf("an array of type %d is not supported", kind))
		return nil
	case n > r.left()/size:
		r.fail(fmt.Errorf("an array of %d elements in %d bytes", n, r.left()))
		return nil
	}
	switch kind {
	case 0:
		return slices.Clone(r.take(n))
	case 1:
		return fill[int8](r, kind, n)
	case 2:
		return fill[uint16](r, kind, n)
	case 3:
		return fill[int16](r, kind, n)
	case 4:
		return fill[uint32](r, kind, n)
	case 5:
		return fill[int32](r, kind, n)
	case 6:
		return fill[float32](r, kind, n)
	case 7:
		return fill[bool](r, kind, n)
	case 10:
		return fill[uint64](r, kind, n)
	case 11:
		return fill[int64](r, kind, n)
	case 12:
		return fill[float64](r, kind, n)
	}
	// A Go string header is twice the least size of a stored one: grow as they come.
	var out []string
	for i := uint64(0); i < n && r.err == nil; i++ {
		out = append(out, r.text())
	}
	return out
}

func fill[T any](r *ggufReader, kind uint32, n uint64) []T {
	out := make([]T, n)
	size := scalarSize(kind)
	for i := range out {
		out[i] = scalar(kind, r.number(size)).(T)
	}
	return out
}

func (r *ggufReader) tensor() (*Tensor, error) {
	t := &Tensor{Name: r.text()}
	dims := r.u32()
	if r.err == nil && dims > maxDims {
		return nil, fmt.Errorf("gguf: tensor %s has %d dimensions, at most %d", t.Name, dims, maxDims)
	}
	for range dims {
		n := r.u64()
		if n > math.MaxInt64 {
			return nil, fmt.Errorf("gguf: tensor %s has a dimension of %d", t.Name, n)
		}
		t.Shape = append(t.Shape, int64(n))
	}
	slices.Reverse(t.Shape)
	kind, offset := r.u32(), r.u64()
	if r.err != nil {
		return nil, fmt.Errorf("gguf: tensor list: %w", r.err)
	}
	if offset > math.MaxInt64 {
		return nil, fmt.Errorf("gguf: tensor %s is at %d", t.Name, offset)
	}
	t.Offset = int64(offset)
	var ok bool
	if t.DType, ok = ggufTypes[kind]; !ok {
		return nil, fmt.Errorf("gguf: tensor %s has the type %d, which is not supported (F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are)", t.Name, kind)
	}
	var err error
	if t.Length, err = t.DType.Bytes(t.Shape); err != nil {
		return nil, fmt.Errorf("gguf: tensor %s: %w", t.Name, err)
	}
	return t, nil
}

// errNotBlocks is returned by Repack for other types.
var errNotBlocks = errors.New("only matrices of Q4_0, Q4_1 and Q8_0 are stored in blocks of 32")
