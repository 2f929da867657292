package chunks

import (
	"errors"
	"fmt"
	"io"
)

// ErrShort says that the bytes end within a record.
var ErrShort = errors.New("the record is cut off")

// Window reads small pieces of a file through a buffer.
type Window struct {
	r io.ReaderAt
	// Size of the file in bytes.
	Size  int64
	ahead int64 // how much to read at least
	start int64
	buf   []byte
}

// At returns n bytes from offset, valid until the next call.
func (w *Window) At(offset, n int64) ([]byte, error) {
	if offset < 0 || n > w.Size-offset {
		return nil, ErrShort
	}
	if offset < w.start || offset+n > w.start+int64(len(w.buf)) {
		want := min(max(n, w.ahead), w.Size-offset)
		if int64(cap(w.buf)) < want || int64(cap(w.buf)) > 4*max(want, w.ahead) {
			w.buf = make([]byte, want)
		}
		w.buf = w.buf[:want]
		w.start = offset
		if got, err := w.r.ReadAt(w.buf, offset); got < len(w.buf) {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("%w: %d bytes at %d: %w", ErrRead, want, offset, err)
		}
	}
	return w.buf[offset-w.start:][:n], nil
}

// NewWindow reads r, which has size bytes, at least ahead bytes at a time.
func NewWindow(r io.ReaderAt, size, ahead int64) *Window {
	return &Window{r: r, Size: size, ahead: ahead}
}
