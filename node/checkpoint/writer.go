package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// TensorSpec is a tensor that is to be stored.
type TensorSpec struct {
	Name  string
	DType DType
	Shape []int64
	Init  Init // how an untrained tensor starts; used by WriteRandomFolder only
}

// Writer writes one safetensors file. The layout is fixed at the start (so the same specs give the same bytes), the data may
// come in any order and from several goroutines. The file appears under its name only on Close, when all of it is there.
type Writer struct {
	path string
	file *os.File
	base int64 // first byte of the data

	mu      sync.Mutex
	spans   map[string]*span
	pending int
}

type span struct {
	spec    TensorSpec
	offset  int64 // in the file
	length  int64
	written bool
}

// CreateSafetensors starts a file with these tensors. Like the safetensors library it orders the data by element size, then
// by name, so that every tensor is aligned to its type; the data starts at a multiple of 64.
func CreateSafetensors(path string, metadata map[string]string, specs []TensorSpec) (*Writer, error) {
	header, spans, total, err := layOut(metadata, specs)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	file, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create safetensors: %w", err)
	}
	w := &Writer{path: path, file: file, base: int64(len(header)), spans: spans, pending: len(spans)}
	if _, err = file.WriteAt(header, 0); err == nil {
		// The size is set at once: what is never written (tensors of zeros) then needs no disk.
		err = file.Truncate(w.base + total)
	}
	if err != nil {
		w.Abort()
		return nil, fmt.Errorf("create safetensors: %w", err)
	}
	return w, nil
}

func layOut(metadata map[string]string, specs []TensorSpec) (header []byte, spans map[string]*span, total int64, err error) {
	sorted := slices.Clone(specs)
	slices.SortFunc(sorted, func(a, b TensorSpec) int {
		if d := b.DType.Size() - a.DType.Size(); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	spans = make(map[string]*span, len(sorted))
	var buf bytes.Buffer
	buf.Write(make([]byte, 8))
	buf.WriteByte('{')
	if len(metadata) > 0 {
		m, err := json.Marshal(metadata) // sorts the keys
		if err != nil {
			return nil, nil, 0, err
		}
		fmt.Fprintf(&buf, `"__metadata__":%s`, m)
	}
	for _, s := range sorted {
		if s.DType.Size() == 0 {
			return nil, nil, 0, fmt.Errorf("tensor %s: dtype %q cannot be stored in safetensors", s.Name, string(s.DType))
		}
		if s.Name == "" || s.Name == "__metadata__" || spans[s.Name] != nil {
			return nil, nil, 0, fmt.Errorf("tensor %q: the name is empty, reserved or given twice", s.Name)
		}
		n, err := s.DType.Bytes(s.Shape)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("tensor %s: %w", s.Name, err)
		}
		name, err := json.Marshal(s.Name)
		if err != nil {
			return nil, nil, 0, err
		}
		if buf.Len() > 9 {
			buf.WriteByte(',')
		}
		shape, _ := json.Marshal(append([]int64{}, s.Shape...))
		fmt.Fprintf(&buf, `%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, s.DType, shape, total, total+n)
		spans[s.Name] = &span{spec: s, offset: total, length: n}
		total += n
	}
	buf.WriteByte('}')
	for buf.Len()%64 != 0 {
		buf.WriteByte(' ')
	}
	header = buf.Bytes()
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	for _, s := range spans {
		s.offset += int64(len(header))
	}
	return header, spans, total, nil
}

// take marks a tensor as written and returns its place.
func (w *Writer) take(name string) (*span, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.spans[name]
	switch {
	case s == nil:
		return nil, fmt.Errorf("%s: tensor %s was not announced", w.path, name)
	case s.written:
		return nil, fmt.Errorf("%s: tensor %s is written twice", w.path, name)
	}
	s.written = true
	w.pending--
	return s, nil
}

// WriteTensor stores all bytes of one tensor.
func (w *Writer) WriteTensor(name string, data []byte) error {
	s, err := w.take(name)
	if err != nil {
		return err
	}
	if int64(len(data)) != s.length {
		return fmt.Errorf("%s: tensor %s: %d bytes, expected %d for %s %v", w.path, name, len(data), s.length, s.spec.DType, s.spec.Shape)
	}
	if _, err := w.file.WriteAt(data, s.offset); err != nil {
		return fmt.Errorf("write tensor %s: %w", name, err)
	}
	return nil
}

// WriteFloat32 stores values, rounded to the tensor's type (F32, BF16 or F16).
func (w *Writer) WriteFloat32(name string, values []float32) error {
	w.mu.Lock()
	s := w.spans[name]
	w.mu.Unlock()
	if s == nil {
		return fmt.Errorf("%s: tensor %s was not announced", w.path, name)
	}
	data, err := EncodeFloat32(s.spec.DType, values)
	if err != nil {
		return fmt.Errorf("tensor %s: %w", name, err)
	}
	return w.WriteTensor(name, data)
}

// EncodeFloat32 returns the little-endian bytes of values in a float type, rounded to nearest even.
func EncodeFloat32(d DType, values []float32) ([]byte, error) {
	le := binary.LittleEndian
	out := make([]byte, 0, len(values)*d.Size())
	for _, v := range values {
		switch d {
		case F32:
			out = le.AppendUint32(out, math.Float32bits(v))
		case BF16:
			out = le.AppendUint16(out, Float32ToBFloat(v))
		case F16:
			out = le.AppendUint16(out, Float32ToHalf(v))
		default:
			return nil, fmt.Errorf("cannot store float32 values as %s", d)
		}
	}
	return out, nil
}

// chunk is the piece that Generate fills at a time: a multiple of every element size, small enough to stay in cache.
const chunk = 1 << 20

// Generate stores a tensor that is computed: fill writes the bytes that begin at the given byte of the tensor. It is called
// for pieces in any order from several goroutines, so the result must depend on the position alone.
func (w *Writer) Generate(ctx context.Context, name string, fill func(offset int64, piece []byte)) error {
	s, err := w.take(name)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	workers := int64(min(runtime.GOMAXPROCS(0), int((s.length+chunk-1)/chunk)))
	for k := range workers {
		group.Go(func() error {
			piece := make([]byte, min(chunk, s.length))
			for at := k * chunk; at < s.length; at += workers * chunk {
				if err := ctx.Err(); err != nil {
					return err
				}
				p := piece[:min(chunk, s.length-at)]
				fill(at, p)
				if _, err := w.file.WriteAt(p, s.offset+at); err != nil {
					return fmt.Errorf("write tensor %s: %w", name, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// Pieces stores a tensor whose pieces come in any order, from several goroutines: the returned function writes the bytes that
// begin at an offset of the tensor. All of it must have been written before Close.
func (w *Writer) Pieces(name string) (write func(offset int64, piece []byte) error, err error) {
	s, err := w.take(name)
	if err != nil {
		return nil, err
	}
	return func(offset int64, piece []byte) error {
		if offset < 0 || offset > s.length-int64(len(piece)) {
			return fmt.Errorf("%s: tensor %s: %d bytes at %d, expected %d in all", w.path, name, len(piece), offset, s.length)
		}
		if _, err := w.file.WriteAt(piece, s.offset+offset); err != nil {
			return fmt.Errorf("write tensor %s: %w", name, err)
		}
		return nil
	}, nil
}

// Copy stores a tensor as it is stored elsewhere; its pages are given back as it goes.
func (w *Writer) Copy(name string, t *Tensor) error {
	write, err := w.Pieces(name)
	if err != nil {
		return err
	}
	if s := w.spans[name]; s.length != t.Length {
		return fmt.Errorf("%s: tensor %s: %d bytes, expected %d for %s %v", w.path, name, t.Length, s.length, s.spec.DType, s.spec.Shape)
	}
	for at := int64(0); at < t.Length; at += chunk {
		end := min(at+chunk, t.Length)
		if err := write(at, t.Data[at:end]); err != nil {
			return err
		}
		t.forget(at, end)
	}
	return nil
}

// Zero marks a tensor as written with the zeros that are there already.
func (w *Writer) Zero(name string) error {
	_, err := w.take(name)
	return err
}

// Close finishes the file and gives it its name. A tensor that was never written is an error, and the file is removed.
func (w *Writer) Close() error {
	if w.pending > 0 {
		var missing []string
		for name, s := range w.spans {
			if !s.written {
				missing = append(missing, name)
			}
		}
		slices.Sort(missing)
		w.Abort()
		return fmt.Errorf("%s: %d tensors were not written: %s", w.path, len(missing), ListNames(missing))
	}
	if err := errors.Join(w.file.Close(), os.Rename(w.file.Name(), w.path)); err != nil {
		os.Remove(w.file.Name())
		return fmt.Errorf("finish %s: %w", filepath.Base(w.path), err)
	}
	return nil
}

// Abort gives up and removes what was written.
func (w *Writer) Abort() {
	w.file.Close()
	os.Remove(w.file.Name())
}

// WriteSafetensors writes float32 or raw tensors that are in memory. Tensor.Data holds the bytes.
func WriteSafetensors(path string, metadata map[string]string, tensors []*Tensor) error {
	specs := make([]TensorSpec, len(tensors))
	for i, t := range tensors {
		specs[i] = TensorSpec{Name: t.Name, DType: t.DType, Shape: t.Shape}
	}
	w, err := CreateSafetensors(path, metadata, specs)
	if err != nil {
		return err
	}
	for _, t := range tensors {
		if err := w.WriteTensor(t.Name, t.Data); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Close()
}
