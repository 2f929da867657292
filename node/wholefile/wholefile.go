// Package wholefile makes files, and folders, that appear under their names only when all of them is there: what is broken off,
// by a kill or a full disk, leaves what stood under the name before.
package wholefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Ending of the name under which a file of Write is made. A kill may leave one.
const Ending = ".partial"

// Write writes data beside path and renames it. Several may write the same path at a time: one of them stays.
func Write(path string, data []byte) error {
	return Stream(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Stream is Write for what is made as it is written, through a buffer.
func Stream(path string, write func(w io.Writer) error) error {
	made := fmt.Sprintf("%s.%08x%s", path, rand.Uint32(), Ending)
	return finish(made, path, func(made string) error {
		f, err := os.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		b := bufio.NewWriterSize(f, 1<<16)
		return errors.Join(write(b), b.Flush(), f.Close())
	})
}

// Make has a file or folder made under a name beside path that keeps the ending, and renames it. One at a time may make the same
// path; it is given what one that was killed has left.
func Make(path string, write func(made string) error) error {
	ext := filepath.Ext(path)
	return finish(strings.TrimSuffix(path, ext)+Ending+ext, path, write)
}

func finish(made, path string, write func(made string) error) error {
	err := write(made)
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.RemoveAll(made)))
	}
	return nil
}
