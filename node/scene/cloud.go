// Package scene holds the map: a coloured point cloud in the fixed frame, read from a PointCloud2 message or a file,
// named by its content and thinned to a size that the model can take.
package scene

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// Grey is the colour of points that come without one: the middle of the scale, which the encoders see as about zero.
const Grey = 128

// Cloud is a coloured point cloud. Every coordinate is finite.
type Cloud struct {
	XYZ      []float64 // metres, three per point
	RGB      []uint8   // three per point; all [Grey] when HasColor is false
	HasColor bool
}

// Len is the number of points.
func (c *Cloud) Len() int { return len(c.XYZ) / 3 }

// Bytes is what the cloud weighs in memory.
func (c *Cloud) Bytes() int { return 8*len(c.XYZ) + len(c.RGB) }

// Point returns point i, in metres.
func (c *Cloud) Point(i int) r3.Vec {
	return r3.Vec{X: c.XYZ[3*i], Y: c.XYZ[3*i+1], Z: c.XYZ[3*i+2]}
}

// Bounds returns the corners of the axis-aligned box around the cloud, in metres; ok is false for an empty cloud.
func (c *Cloud) Bounds() (box r3.Box, ok bool) {
	if c.Len() == 0 {
		return r3.Box{}, false
	}
	lo := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	hi := [3]float64{math.Inf(-1), math.Inf(-1), math.Inf(-1)}
	for i := 0; i+2 < len(c.XYZ); i += 3 {
		for k, v := range c.XYZ[i : i+3] {
			// Comparisons, not math.Min: they pass over a NaN and are several times as fast.
			if v < lo[k] {
				lo[k] = v
			}
			if v > hi[k] {
				hi[k] = v
			}
		}
	}
	return r3.Box{Min: r3.Vec{X: lo[0], Y: lo[1], Z: lo[2]}, Max: r3.Vec{X: hi[0], Y: hi[1], Z: hi[2]}}, true
}

// Validate reports the first thing wrong with a cloud that was put together by hand.
func (c *Cloud) Validate() error {
	if len(c.XYZ)%3 != 0 {
		return fmt.Errorf("cloud: XYZ has %d numbers, expected three per point", len(c.XYZ))
	}
	if len(c.RGB) != len(c.XYZ) {
		return fmt.Errorf("cloud: RGB has %d bytes, expected %d (three per point)", len(c.RGB), len(c.XYZ))
	}
	for i, v := range c.XYZ {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("cloud: coordinate %c of point %d is %v, expected a finite number", "xyz"[i%3], i/3, v)
		}
	}
	return nil
}

// ID names the content of the cloud: coordinates, colours and whether it has any; 32 hexadecimal digits. It does not
// depend on stamps or on how the message was laid out.
func (c *Cloud) ID() string {
	h := sha256.New()
	var head [9]byte
	binary.LittleEndian.PutUint64(head[:], uint64(c.Len()))
	if c.HasColor {
		head[8] = 1
	}
	h.Write(head[:])
	buf := make([]byte, 0, 32<<10)
	for _, v := range c.XYZ {
		buf = binary.LittleEndian.AppendUint64(buf, math.Float64bits(v))
		if len(buf) == cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
	if c.HasColor {
		h.Write(c.RGB)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Transform returns the cloud in the target frame of t. Colours are shared with c, which stays as it was. A point that
// leaves the range of float64 or a transform that is not finite is an error.
func (c *Cloud) Transform(t geometry.Transform) (*Cloud, error) {
	if !t.Finite() {
		return nil, fmt.Errorf("cloud: transform has a component that is not finite: %v", t)
	}
	m := t.Matrix()
	out := &Cloud{XYZ: make([]float64, len(c.XYZ)), RGB: c.RGB, HasColor: c.HasColor}
	for i := 0; i+2 < len(c.XYZ); i += 3 {
		x, y, z := c.XYZ[i], c.XYZ[i+1], c.XYZ[i+2]
		px, py, pz := m[0]*x+m[1]*y+m[2]*z+m[3], m[4]*x+m[5]*y+m[6]*z+m[7], m[8]*x+m[9]*y+m[10]*z+m[11]
		// The difference of a finite number with itself is 0; of NaN or an infinity it is NaN.
		if d := (px - px) + (py - py) + (pz - pz); d != 0 {
			return nil, fmt.Errorf("cloud: point %d (%g, %g, %g) leaves the range of numbers when transformed", i/3, x, y, z)
		}
		out.XYZ[i], out.XYZ[i+1], out.XYZ[i+2] = px, py, pz
	}
	return out, nil
}
