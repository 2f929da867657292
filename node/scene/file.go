package scene

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Dropped counts the rows of an input that did not become points.
type Dropped struct {
	NotFinite int // a coordinate is NaN or infinite
}

// ReadFile reads a cloud from a .npy, .ply or .glb file, by its ending.
func ReadFile(path string) (*Cloud, Dropped, error) {
	read, ok := map[string]func(io.Reader) (*Cloud, Dropped, error){".npy": ReadNPY, ".ply": ReadPLY, ".glb": ReadGLB}[strings.ToLower(filepath.Ext(path))]
	if !ok {
		return nil, Dropped{}, fmt.Errorf("read cloud %s: ending %q, expected .npy, .ply or .glb", path, filepath.Ext(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, Dropped{}, fmt.Errorf("read cloud: %w", err)
	}
	defer f.Close()
	c, dropped, err := read(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, dropped, fmt.Errorf("read cloud %s: %w", path, err)
	}
	return c, dropped, nil
}

// WriteFile writes a cloud to a .npy, .ply (binary) or .glb file, by its ending.
func WriteFile(path string, c *Cloud) (err error) {
	write, ok := map[string]func(io.Writer, *Cloud) error{
		".npy": WriteNPY,
		".ply": func(w io.Writer, c *Cloud) error { return WritePLY(w, c, PLYBinaryLittleEndian) },
		".glb": WriteGLB,
	}[strings.ToLower(filepath.Ext(path))]
	if !ok {
		return fmt.Errorf("write cloud %s: ending %q, expected .npy, .ply or .glb", path, filepath.Ext(path))
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write cloud: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("write cloud %s: %w", path, e)
		}
	}()
	b := bufio.NewWriterSize(f, 1<<20)
	if err := write(b, c); err != nil {
		return fmt.Errorf("write cloud %s: %w", path, err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write cloud %s: %w", path, err)
	}
	return nil
}

// builder collects points whose colours may turn out to be on a scale of 0…1 only when all have been seen.
type builder struct {
	cloud   Cloud
	dropped Dropped
	colors  []float32 // of files with real-valued colours; three per point
	top     float32   // the largest of them
}

func finite(v float64) bool { return v-v == 0 }

// add appends a point unless a coordinate is not finite, and reports whether it did.
func (b *builder) add(x, y, z float64) bool {
	if !finite(x) || !finite(y) || !finite(z) {
		b.dropped.NotFinite++
		return false
	}
	b.cloud.XYZ = append(b.cloud.XYZ, x, y, z)
	return true
}

// addReal appends the colour of the last point as real numbers on an unknown scale.
func (b *builder) addReal(r, g, bl float64) {
	for _, v := range [3]float64{r, g, bl} {
		f := float32(v)
		if !(f > 0) { // also NaN
			f = 0
		}
		b.colors = append(b.colors, f)
		b.top = max(b.top, f)
	}
}

// finish settles colours. Real-valued colours are on a scale of 0…1 when none exceeds 1, else of 0…255.
func (b *builder) finish(hasColor bool) (*Cloud, Dropped) {
	c := &b.cloud
	c.HasColor = hasColor
	switch {
	case !hasColor:
		c.RGB = make([]uint8, len(c.XYZ))
		for i := range c.RGB {
			c.RGB[i] = Grey
		}
	case b.colors != nil:
		scale := float32(1)
		if b.top <= 1 {
			scale = 255
		}
		c.RGB = make([]uint8, len(b.colors))
		for i, v := range b.colors {
			c.RGB[i] = uint8(min(math.Round(float64(v*scale)), 255))
		}
	}
	return c, b.dropped
}
