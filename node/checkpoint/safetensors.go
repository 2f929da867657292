package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/mapped"
)

// maxHeader is the longest header that the safetensors library itself reads.
const maxHeader = 100_000_000

// Safetensors is an open, mapped safetensors file.
type Safetensors struct {
	Path     string            // symbolic links resolved
	Size     int64             // bytes of the file
	Metadata map[string]string // __metadata__
	Tensors  []*Tensor         // in the order of their data

	byName  map[string]*Tensor
	mapping *mapped.File
}

// OpenSafetensors maps a file and checks its whole header.
func OpenSafetensors(path string) (*Safetensors, error) {
	m, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors: %w", err)
	}
	s, err := ParseSafetensors(m.Data)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.Path, s.mapping = m.Path, m
	for _, t := range s.Tensors {
		t.File, t.mapped = m.Path, t.Offset >= 0
	}
	return s, nil
}

// ParseSafetensors reads a file that is in memory; the tensors are views of data.
func ParseSafetensors(data []byte) (*Safetensors, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("safetensors: %d bytes, a header length needs 8", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return nil, fmt.Errorf("safetensors: header length %d, at most %d", n, maxHeader)
	}
	if n > uint64(len(data)-8) {
		return nil, fmt.Errorf("safetensors: header length %d, but only %d bytes follow (truncated file?)", n, len(data)-8)
	}
	s := &Safetensors{Size: int64(len(data)), byName: map[string]*Tensor{}}
	body := data[8+n:]
	if err := s.parseHeader(data[8 : 8+n]); err != nil {
		return nil, fmt.Errorf("safetensors header: %w", err)
	}
	for _, t := range s.Tensors {
		if t.Offset > int64(len(body)) || t.Length > int64(len(body))-t.Offset {
			return nil, fmt.Errorf("safetensors: tensor %s is at bytes %d to %d of the data, but the file has %d (truncated file?)",
				t.Name, t.Offset, t.Offset+t.Length, len(body))
		}
	}
	slices.SortStableFunc(s.Tensors, func(a, b *Tensor) int {
		if a.Offset != b.Offset {
			return int(min(max(a.Offset-b.Offset, -1), 1))
		}
		return int(min(max(a.Length-b.Length, -1), 1))
	})
	end, last := int64(0), ""
	for _, t := range s.Tensors {
		if t.Offset < end {
			return nil, fmt.Errorf("safetensors: tensors %s and %s overlap at byte %d of the data", last, t.Name, t.Offset)
		}
		if t.Offset > end {
			return nil, fmt.Errorf("safetensors: bytes %d to %d before tensor %s belong to no tensor", end, t.Offset, t.Name)
		}
		t.Data = body[t.Offset : t.Offset+t.Length : t.Offset+t.Length]
		end, last = t.Offset+t.Length, t.Name
		t.Offset += int64(8 + n)
	}
	if end != int64(len(body)) {
		return nil, fmt.Errorf("safetensors: %d bytes after the last tensor", int64(len(body))-end)
	}
	return s, nil
}

// parseHeader walks the JSON by tokens: encoding/json into a map would let a duplicate name replace the first one unseen.
func (s *Safetensors) parseHeader(header []byte) error {
	dec := json.NewDecoder(bytes.NewReader(header))
	if tok, err := dec.Token(); err != nil {
		return err
	} else if tok != json.Delim('{') {
		return fmt.Errorf("starts with %v, expected an object", tok)
	}
	metadata := false
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		name := tok.(string) // keys are always strings
		if name == "__metadata__" {
			if metadata {
				return errors.New("__metadata__ appears twice")
			}
			metadata = true
			if err := dec.Decode(&s.Metadata); err != nil {
				return fmt.Errorf("__metadata__: %w", err)
			}
			continue
		}
		if s.byName[name] != nil {
			return fmt.Errorf("tensor %q appears twice", name)
		}
		t, err := parseEntry(dec, name)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		s.byName[name] = t
		s.Tensors = append(s.Tensors, t)
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if tok, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%v after the object", tok)
	}
	return nil
}

func parseEntry(dec *json.Decoder, name string) (*Tensor, error) {
	var e struct {
		DType   DType   `json:"dtype"`
		Shape   []int64 `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	if err := dec.Decode(&e); err != nil {
		return nil, err
	}
	if e.DType.Size() == 0 {
		return nil, fmt.Errorf("dtype %q is not known", string(e.DType))
	}
	if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] {
		return nil, fmt.Errorf("data_offsets %v, expected [begin, end]", e.Offsets)
	}
	want, err := e.DType.Bytes(e.Shape)
	if err != nil {
		return nil, err
	}
	if got := e.Offsets[1] - e.Offsets[0]; got != want {
		return nil, fmt.Errorf("data_offsets %v hold %d bytes, but %s %v needs %d", e.Offsets, got, e.DType, e.Shape, want)
	}
	// Names come from a big header: a copy lets that be freed.
	return &Tensor{Name: strings.Clone(name), DType: e.DType, Shape: e.Shape, Offset: e.Offsets[0], Length: want}, nil
}

// Tensor returns a tensor by name.
func (s *Safetensors) Tensor(name string) (*Tensor, bool) {
	t, ok := s.byName[name]
	return t, ok
}

// Close unmaps the file; the views become invalid.
func (s *Safetensors) Close() error { return s.mapping.Close() }
