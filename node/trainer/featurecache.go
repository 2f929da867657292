package trainer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stllm/stllm/node/wholefile"
)

// featureCache keeps what the frozen encoders have said of pictures and maps in files of a folder, up to so many bytes; those
// used longest ago go first. Nothing depends on what it holds but the time that a run takes.
type featureCache struct {
	dir   string
	limit int64

	mu    sync.Mutex
	size  int64
	files map[string]*cached
}

type cached struct {
	size int64
	used time.Time
}

const featureEnding = ".f32"

// openFeatures opens a folder and what an earlier run has left there. A limit of 0 keeps nothing.
func openFeatures(dir string, limit int64) (*featureCache, error) {
	c := &featureCache{dir: dir, limit: limit, files: map[string]*cached{}}
	if limit <= 0 {
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("frozen features: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("frozen features: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("frozen features: %w", err)
		case strings.HasSuffix(e.Name(), featureEnding):
			c.files[e.Name()] = &cached{info.Size(), info.ModTime()}
			c.size += info.Size()
		case strings.HasSuffix(e.Name(), wholefile.Ending): // of a run that was killed
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink()
	return c, nil
}

// get gives the features under a key and makes them where they are absent or damaged. That they cannot be kept (a full disk) is
// no error: they are made again.
func (c *featureCache) get(key string, encode func() ([]float32, error)) ([]float32, error) {
	if c.limit <= 0 {
		return encode()
	}
	name := key + featureEnding
	if v, ok := c.read(name); ok {
		return v, nil
	}
	v, err := encode()
	if err == nil {
		c.write(name, v)
	}
	return v, err
}

func (c *featureCache) read(name string) ([]float32, bool) {
	c.mu.Lock()
	f, ok := c.files[name]
	if ok {
		f.used = time.Now()
	}
	c.mu.Unlock()
	if !ok {
		return nil, false
	}
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		return nil, false
	}
	return decodeFeatures(data)
}

// castagnoli is the checksum at the end of a file.
func castagnoli(data []byte) uint32 { return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) }

// decodeFeatures reads float32 values, little endian, and a checksum of their bytes.
func decodeFeatures(data []byte) ([]float32, bool) {
	n := len(data) - 4
	if n < 0 || n%4 != 0 || castagnoli(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, false
	}
	out := make([]float32, n/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, true
}

func encodeFeatures(v []float32) []byte {
	data := make([]byte, 0, 4*len(v)+4)
	for _, x := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return binary.LittleEndian.AppendUint32(data, castagnoli(data))
}

func (c *featureCache) write(name string, v []float32) {
	data := encodeFeatures(v)
	if int64(len(data)) > c.limit {
		return
	}
	if wholefile.Write(filepath.Join(c.dir, name), data) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.files[name]; old != nil {
		c.size -= old.size
	}
	c.files[name] = &cached{int64(len(data)), time.Now()}
	c.size += int64(len(data))
	c.shrink()
}

// shrink deletes what was used longest ago; c.mu is held.
func (c *featureCache) shrink() {
	if c.size <= c.limit {
		return
	}
	var names []string
	for name := range c.files {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.files[a].used.Compare(c.files[b].used) })
	for _, name := range names {
		if c.size <= c.limit*9/10 { // room for a few more before the next time
			return
		}
		_ = os.Remove(filepath.Join(c.dir, name))
		c.size -= c.files[name].size
		delete(c.files, name)
	}
}
