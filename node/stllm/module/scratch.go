package module

import (
	"fmt"
	"os"
)

// Scratch is a file for weights that had to be converted: a model's bytes may not exceed 2 GiB, and from a file ONNX Runtime
// maps them rather than keeping a second copy. The file has no name any more once Unlink was called; its space is given back
// when the last session on it ends.
type Scratch struct {
	f    *os.File
	size int64
}

// scratchAlign keeps every tensor on a page of its own, so that it can be mapped.
const scratchAlign = 4096

// NewScratch makes an empty scratch file in a folder ("": the system's temporary one).
func NewScratch(dir string) (*Scratch, error) {
	f, err := os.CreateTemp(dir, "stllm-weights-*.bin")
	if err != nil {
		return nil, fmt.Errorf("scratch file for converted weights: %w", err)
	}
	return &Scratch{f: f}, nil
}

// Put appends data and says where it lies.
func (s *Scratch) Put(data []byte) (file string, offset int64, err error) {
	offset = (s.size + scratchAlign - 1) / scratchAlign * scratchAlign
	if _, err := s.f.WriteAt(data, offset); err != nil {
		return "", 0, fmt.Errorf("scratch file for converted weights: %w", err)
	}
	s.size = offset + int64(len(data))
	return s.f.Name(), offset, nil
}

// Size is the number of bytes put.
func (s *Scratch) Size() int64 { return s.size }

// Unlink closes and removes the file; sessions that have it mapped keep it.
func (s *Scratch) Unlink() error {
	name := s.f.Name()
	if err := s.f.Close(); err != nil {
		return err
	}
	return os.Remove(name)
}
