// Package smallfile reads files that should be small, whatever they turn out to be.
package smallfile

import (
	"fmt"
	"io"
	"os"
)

// Read reads a whole file of at most limit bytes; a larger one, or a device without an end, is an error that says so.
func Read(path string, limit int64) ([]byte, error) {
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, expected at most %d", path, st.Size(), limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1)) // a device tells no size, and a file may grow
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
