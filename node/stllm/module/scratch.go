package module

import (
	"fmt"
	"os"
)

// Scratch is a file for weights that had to be converted: a model's bytes may not exceed 2 GiB, and from a file ONNX Runtime
// maps them rather than keeping a second copy. The file has no name any more once Unlink was called; its space is given back
// when the last session on it ends.
type Scratch struct {
	f     *os.File
	size  int64
	grown int64 // how far it is written, with zeros at first
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

// Reserve sets bytes aside at the end and says where they lie.
func (s *Scratch) Reserve(length int64) (file string, offset int64) {
	offset = (s.size + scratchAlign - 1) / scratchAlign * scratchAlign
	s.size = offset + length
	s.grow()
	return s.f.Name(), offset
}

// scratchGrowth is how much is written at a time so that the system takes large pages for it (2 MiB).
const scratchGrowth = 4 << 20

// grow writes zeros. Conversions write little at a time, and the file would lie in small pages for ever: a decoder then
// reads its weights 6 % slower. An error shows when the weights are written.
func (s *Scratch) grow() {
	if s.grown >= s.size {
		return
	}
	for zeros := make([]byte, scratchGrowth); s.grown < s.size; s.grown += scratchGrowth {
		_, _ = s.f.WriteAt(zeros, s.grown)
	}
}

// WriteAt fills in what was set aside; several goroutines may.
func (s *Scratch) WriteAt(data []byte, offset int64) (int, error) {
	n, err := s.f.WriteAt(data, offset)
	if err != nil {
		err = fmt.Errorf("scratch file for converted weights: %w", err)
	}
	return n, err
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
