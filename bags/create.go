package bags

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/bags/internal/mcap"
	"github.com/stllm/stllm/bags/internal/metadata"
	"github.com/stllm/stllm/bags/internal/rosbag1"
	"github.com/stllm/stllm/msgs"
)

// Create makes a bag with default options: path ends in .bag or .mcap, or has
// no ending for a folder with an .mcap file and metadata.yaml as ros2 bag makes.
func Create(path string) (Writer, error) { return CreateWith(path, WriteOptions{}) }

// CreateWith makes a bag with the given options. A file of that name is
// replaced; a folder must not exist.
func CreateWith(path string, opts WriteOptions) (Writer, error) {
	w, err := create(path, opts)
	if err != nil {
		return nil, fmt.Errorf("creating bag %s: %w", path, err)
	}
	return w, nil
}

func create(path string, opts WriteOptions) (Writer, error) {
	switch ext := filepath.Ext(path); ext {
	case ".bag":
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		w, err := rosbag1.NewWriter(newBuffered(f), opts)
		if err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(path))
		}
		return w, nil
	case ".mcap":
		return createMCAP(path, opts)
	case "":
		return createFolder(path, opts)
	default:
		return nil, fmt.Errorf("its name ends in %q, expected .bag, .mcap or nothing (a folder)", ext)
	}
}

func createMCAP(path string, opts WriteOptions) (*mcap.Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w, err := mcap.NewWriter(newBuffered(f), opts)
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return w, nil
}

func createFolder(folder string, opts WriteOptions) (Writer, error) {
	if err := os.Mkdir(folder, 0o777); err != nil {
		return nil, err
	}
	// rosbag2 numbers the files of a bag, from 0.
	name := filepath.Base(folder) + "_0.mcap"
	w, err := createMCAP(filepath.Join(folder, name), opts)
	if err != nil {
		return nil, errors.Join(err, os.Remove(folder))
	}
	return &folderWriter{Writer: w, folder: folder, name: name}, nil
}

// folderWriter adds the metadata.yaml to an MCAP file.
type folderWriter struct {
	*mcap.Writer
	folder, name string
	closed       bool
}

// Add registers a connection; ROS 2 bags hold CDR only.
func (w *folderWriter) Add(c Connection) (*Connection, error) {
	if c.Encoding != msgs.CDR {
		return nil, fmt.Errorf("%s: Encoding is %v, a ROS 2 bag holds CDR", c.Topic, c.Encoding)
	}
	return w.Writer.Add(c)
}

// Close completes the file and writes the metadata.
func (w *folderWriter) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if err := w.Writer.Close(); err != nil {
		return err
	}
	return metadata.Write(w.folder, w.name, w.Writer.Connections())
}

// WriteMessage encodes m for the connection and writes it.
func WriteMessage(w Writer, c *Connection, logTime int64, m msgs.Message) error {
	if m.ROSType() != c.Type {
		return fmt.Errorf("%s: message is a %s, the connection's type is %s", c.Topic, m.ROSType(), c.Type)
	}
	data, err := c.Encoding.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Topic, err)
	}
	return w.Write(c, logTime, data)
}

// buffered collects small writes.
type buffered struct {
	*bufio.Writer
	file *os.File
}

var _ io.WriterAt = (*buffered)(nil)

func newBuffered(f *os.File) *buffered { return &buffered{bufio.NewWriterSize(f, 64<<10), f} }

// WriteAt writes over what was written before.
func (b *buffered) WriteAt(p []byte, offset int64) (int, error) {
	if err := b.Flush(); err != nil {
		return 0, err
	}
	return b.file.WriteAt(p, offset)
}

// Close writes out what is left and closes the file.
func (b *buffered) Close() error { return errors.Join(b.Flush(), b.file.Close()) }
