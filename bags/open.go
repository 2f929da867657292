package bags

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/bags/internal/db3"
	"github.com/stllm/stllm/bags/internal/mcap"
	"github.com/stllm/stllm/bags/internal/merge"
	"github.com/stllm/stllm/bags/internal/metadata"
	"github.com/stllm/stllm/bags/internal/record"
	"github.com/stllm/stllm/bags/internal/rosbag1"
)

// Open opens a bag: a .bag, .mcap or .db3 file (told apart by content, also
// .db3.zstd and .mcap.zstd) or the folder of a ROS 2 bag.
//
// Memory: the description of the bag, about 100 bytes a chunk; while iterating,
// the unpacked chunks that overlap in time, at most 256 MiB of them and the one
// being read, with 40 bytes for each of their messages. A chunk may have up to
// 1 GiB. Of a database, one message and SQLite's page cache; of a damaged one,
// or one without an index of times, 32 bytes a message on top.
//
// A bag that was damaged or not closed is read through once by Open to find
// what is in it.
func Open(path string) (Reader, error) {
	r, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("opening bag: %w", err)
	}
	for _, c := range r.Info().Connections {
		record.FillDefinition(c)
	}
	return r, nil
}

// OpenAll opens several bags and reads them as one, merged by log time.
// Connections are numbered anew; of messages with the same log time those of
// the bag named first come first.
func OpenAll(paths ...string) (Reader, error) {
	if len(paths) == 0 {
		return nil, errors.New("opening bags: none is named")
	}
	if len(paths) == 1 {
		return Open(paths[0])
	}
	var readers []Reader
	for _, path := range paths {
		r, err := Open(path)
		if err != nil {
			closeAll(readers)
			return nil, err
		}
		readers = append(readers, r)
	}
	return merge.New(readers, false), nil
}

func open(path string) (Reader, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return openFolder(path)
	}
	return openFile(path, packing{})
}

// packing is what a metadata.yaml tells of a bag's files.
type packing struct{ message, file string }

// zstdMagic starts a zstd frame.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

func openFile(path string, pack packing) (Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var start [16]byte
	n, err := f.ReadAt(start[:], 0)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch head := start[:n]; {
	case bytes.HasPrefix(head, zstdMagic):
		f.Close()
		return openPacked(path, pack)
	case bytes.HasPrefix(head, []byte("SQLite format 3")):
		f.Close()
		return db3.New(path, db3.Options{MessageCompression: pack.message})
	case bytes.HasPrefix(head, []byte("\x89MCAP")):
		if pack.message != "" {
			f.Close()
			return nil, fmt.Errorf("%s: messages compressed one by one within MCAP are not supported; convert the bag with `ros2 bag convert`", path)
		}
		return openPlain(f, path, func(size int64) (Reader, error) { return mcap.New(path, f, size) })
	case bytes.HasPrefix(head, []byte("#ROS")):
		return openPlain(f, path, func(size int64) (Reader, error) { return rosbag1.New(path, f, size) })
	case n == 0:
		f.Close()
		return nil, fmt.Errorf("%s: the file is empty", path)
	default:
		f.Close()
		return nil, fmt.Errorf("%s: neither a ROS 1 bag, an MCAP file nor an SQLite database: it starts with %q", path, head)
	}
}

func openPlain(f *os.File, path string, open func(size int64) (Reader, error)) (Reader, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r, err := open(st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// openPacked opens a file that is compressed as a whole.
func openPacked(path string, pack packing) (Reader, error) {
	if !strings.HasSuffix(strings.TrimSuffix(path, ".zstd"), ".mcap") {
		return db3.New(path, db3.Options{MessageCompression: pack.message, FileCompression: "zstd"})
	}
	temp, err := db3.Unpack(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Open(temp)
	if err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	r, err := openPlain(f, path, func(size int64) (Reader, error) { return mcap.New(path, &tempFile{f}, size) })
	if err != nil {
		os.Remove(temp)
		return nil, err
	}
	return r, nil
}

// tempFile is removed when closed.
type tempFile struct{ *os.File }

func (f *tempFile) Close() error { return errors.Join(f.File.Close(), os.Remove(f.Name())) }

// openFolder opens a ROS 2 bag folder by its metadata.yaml, or, where a killed
// recorder left none, by the names of its files.
func openFolder(folder string) (Reader, error) {
	var files []string
	var pack packing
	var missing error
	meta, err := metadata.Read(folder)
	switch {
	case err == nil:
		for _, name := range meta.Files {
			files = append(files, metadata.Path(folder, name))
		}
		switch meta.CompressionMode {
		case "file":
			pack.file = meta.CompressionFormat
		case "message":
			pack.message = meta.CompressionFormat
		}
		if c := meta.CompressionFormat; c != "" && c != "zstd" {
			return nil, fmt.Errorf("%s: unknown compression_format %q (known: zstd)", filepath.Join(folder, metadata.Name), c)
		}
	case errors.Is(err, fs.ErrNotExist):
		missing = err
		if files, err = bagFiles(folder); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	var readers []Reader
	var lost []Warning
	for _, file := range files {
		r, err := openFile(file, pack)
		if err != nil && len(files) > 1 {
			lost = append(lost, Warning{File: file, Lost: "all messages of this file of the bag", Err: err})
			continue
		}
		if err != nil {
			closeAll(readers)
			return nil, err
		}
		readers = append(readers, r)
	}
	if len(readers) == 0 {
		return nil, fmt.Errorf("%s: none of its %d files can be read, the first because: %w", folder, len(files), lost[0].Err)
	}
	m := merge.New(readers, true)
	if missing != nil {
		m.Warn(Warning{File: folder, Lost: "the order of files and their compression are guessed", Err: missing})
	}
	for _, w := range lost {
		m.Warn(w)
	}
	m.Each(func(c *Connection) {
		c.Source = folder
		c.Hash = cmp.Or(c.Hash, typeHash(meta, c))
	})
	return &folderReader{Reader: m, path: folder, meta: meta}, nil
}

// typeHash is what the metadata says of a connection's type, or empty.
func typeHash(meta *metadata.Bag, c *Connection) string {
	if meta == nil {
		return ""
	}
	for _, t := range meta.Topics {
		if t.Metadata.Name == c.Topic && record.ShortType(t.Metadata.Type) == c.Type {
			return t.Metadata.Hash
		}
	}
	return ""
}

// bagFiles lists the files of a bag folder without metadata, in the order of
// their numbers.
func bagFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".zstd")
		if ext := filepath.Ext(name); ext == ".db3" || ext == ".mcap" {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: not a bag: it has neither %s nor .db3 or .mcap files", folder, metadata.Name)
	}
	// name_9 before name_10: shorter names are earlier.
	slices.SortStableFunc(files, func(a, b string) int { return len(a) - len(b) })
	return files, nil
}

// folderReader is the bag in a folder.
type folderReader struct {
	*merge.Reader
	path string
	meta *metadata.Bag // nil where missing
}

// Info describes the bag.
func (r *folderReader) Info() Info {
	info := r.Reader.Info()
	info.Path = r.path
	if r.meta != nil && r.meta.Distro != "" {
		info.Distro = r.meta.Distro
	}
	return info
}

func closeAll(readers []Reader) {
	for _, r := range readers {
		_ = r.Close()
	}
}
