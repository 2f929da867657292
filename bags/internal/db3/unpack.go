package db3

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A packed file may unpack to maxRatio times its size, plus minRoom: enough for
// any recording, and not enough for a bomb to fill the disk.
const (
	maxRatio = 1000
	minRoom  = 64 << 20
)

// maxWindow bounds the decoder's memory in bytes; rosbag2 packs with 8 MiB.
const maxWindow = 128 << 20

// Unpack writes the plain content of a zstd file to a temporary file and
// returns its name. The caller removes it.
func Unpack(path string) (name string, err error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return "", err
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return "", fmt.Errorf("unpacking: %w", err)
	}
	defer z.Close()
	out, err := os.CreateTemp("", "stllm-bag-*")
	if err != nil {
		return "", err
	}
	limit := maxRatio*st.Size() + minRoom
	n, err := io.Copy(out, io.LimitReader(z, limit+1))
	switch {
	case err != nil:
		err = fmt.Errorf("unpacking to %s after %d bytes: %w", out.Name(), n, err)
	case n > limit:
		err = fmt.Errorf("unpacking: more than %d bytes from a file of %d bytes", limit, st.Size())
	}
	if err = errors.Join(err, out.Close()); err != nil {
		os.Remove(out.Name())
		return "", err
	}
	return out.Name(), nil
}
