// Package mapped reads files by mapping them into memory.
package mapped

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File is a file mapped read-only into memory.
type File struct {
	Path string // absolute, symbolic links resolved
	Data []byte // empty for an empty file
}

// Open maps a regular file. A file that shrinks while mapped gives a bus error when the lost pages are read; that
// cannot be told apart from a good file at open time.
func Open(path string) (*File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	f, err := os.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	m := &File{Path: real}
	if st.Size() == 0 {
		return m, nil
	}
	if m.Data, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return m, nil
}

// Anonymous is memory of no file, of zeros, that the system has back as soon as it is closed: for what is large and needed for a
// moment, and would stay until the collector's next turn.
func Anonymous(size int) (*File, error) {
	m := &File{}
	if size == 0 {
		return m, nil
	}
	var err error
	if m.Data, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return nil, fmt.Errorf("memory for %d bytes: %w", size, err)
	}
	return m, nil
}

// Close unmaps the file: Data must not be read any more. It may be called twice.
func (m *File) Close() error {
	if m == nil || m.Data == nil {
		return nil
	}
	data := m.Data
	m.Data = nil
	return unix.Munmap(data)
}
