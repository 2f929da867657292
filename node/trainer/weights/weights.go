// Package weights holds a model's tensors as plain numbers while it is trained, reads them from a model folder and writes
// them back as one.
package weights

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
)

// Tensor is one named tensor in float32.
type Tensor struct {
	Name  string
	Shape []int
	Data  []float32
}

// Set is a model's tensors by name.
type Set struct {
	byName map[string]*Tensor
}

// NewSet is an empty set.
func NewSet() *Set { return &Set{map[string]*Tensor{}} }

// Read reads all tensors of a model folder.
func Read(dir string) (*Set, error) {
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := make([]string, len(f.Tensors))
	for i, t := range f.Tensors {
		names[i] = t.Name
	}
	return Pick(f, names)
}

// Put adds or replaces a tensor.
func (s *Set) Put(t *Tensor) { s.byName[t.Name] = t }

// Get finds a tensor.
func (s *Set) Get(name string) (*Tensor, error) {
	t, ok := s.byName[name]
	if !ok {
		return nil, fmt.Errorf("weights: no tensor %s", name)
	}
	return t, nil
}

// Need is Get with a check of the shape.
func (s *Set) Need(name string, shape ...int) (*Tensor, error) {
	t, err := s.Get(name)
	if err == nil && !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("weights: %s is %v, expected %v", name, t.Shape, shape)
	}
	return t, err
}

// Names lists the tensors whose names begin with one of the prefixes (all without any), in order.
func (s *Set) Names(prefixes ...string) []string {
	var out []string
	for name := range s.byName {
		if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out
}

// Tensor lets a graph builder find the weights; see module.Finder.
func (s *Set) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	for _, name := range names {
		t, ok := s.byName[name]
		if !ok {
			continue
		}
		data, err := checkpoint.EncodeFloat32(checkpoint.F32, t.Data)
		if err != nil {
			return nil, false
		}
		shape := make([]int64, len(t.Shape))
		for i, d := range t.Shape {
			shape[i] = int64(d)
		}
		return &checkpoint.Tensor{Name: name, DType: checkpoint.F32, Shape: shape, Offset: -1, Length: int64(len(data)), Data: data}, true
	}
	return nil, false
}

// Write puts the tensors with the given names into model.safetensors of a folder, as WriteFile does.
func (s *Set) Write(dir string, dtype checkpoint.DType, names []string) error {
	return s.WriteFile(filepath.Join(dir, "model.safetensors"), dtype, names)
}

// WriteFile puts the tensors with the given names into a file, in one step: a full disk or a kill leaves the file that was
// there.
func (s *Set) WriteFile(path string, dtype checkpoint.DType, names []string) error {
	var list []*checkpoint.Tensor
	for _, name := range names {
		t, err := s.Get(name)
		if err != nil {
			return err
		}
		data, err := checkpoint.EncodeFloat32(dtype, t.Data)
		if err != nil {
			return fmt.Errorf("write weights: %s: %w", name, err)
		}
		shape := make([]int64, len(t.Shape))
		for i, d := range t.Shape {
			shape[i] = int64(d)
		}
		list = append(list, &checkpoint.Tensor{Name: name, DType: dtype, Shape: shape, Length: int64(len(data)), Data: data})
	}
	if err := checkpoint.WriteSafetensors(path, map[string]string{"format": "pt"}, list); err != nil {
		return fmt.Errorf("write weights: %w", err)
	}
	return nil
}

// Pick reads tensors of an open folder by name.
func Pick(f *checkpoint.Folder, names []string) (*Set, error) {
	s := NewSet()
	for _, name := range names {
		t, ok := f.Tensor(name)
		if !ok {
			return nil, fmt.Errorf("read weights: tensor %s is missing from %s", name, f.Dir)
		}
		data, err := t.Float32()
		if err != nil {
			return nil, fmt.Errorf("read weights: %s: %w", name, err)
		}
		shape := make([]int, len(t.Shape))
		for i, d := range t.Shape {
			shape[i] = int(d)
		}
		s.Put(&Tensor{name, shape, data})
	}
	return s, nil
}
