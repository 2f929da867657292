// Package smallfile reads files that should be small, whatever they turn out to be.
package smallfile

import (
	"fmt"
	"io"
	"os"
)

// Read reads a whole file of at most limit bytes; a larger one, or a device without an end, is an error that says so.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, expected at most %d", path, st.Size(), limit)
	}
	data := make([]byte, st.Size()) // what it claims; it may grow meanwhile, and a device claims nothing
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(f, limit-int64(n)+1))
	if err != nil {
		return nil, err
	}
	if data = append(data[:n], rest...); int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
