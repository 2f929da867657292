package imaging

import (
	"encoding/binary"
	"fmt"
	"image"
	"math"
	"strings"

	"github.com/stllm/stllm/msgs"
)

// Depth is a depth image. Its pixels are read as they are asked for, from the bytes that it came in: few of them are.
type Depth struct {
	Width, Height int

	data []byte
	step int // bytes of a row
	size int // bytes of a pixel: 2 or 4
	big  bool
	// a and b turn 16 bit codes of inverse depth into metres, a/(code − b); a is 0 where codes are millimetres.
	a, b float32
}

// ReadDepth reads a raw depth image: 16UC1 (or mono16) in millimetres, or 32FC1 in metres (REP-118). Row padding and endianness
// are honoured; the error names the field that does not fit.
func ReadDepth(m *msgs.Image) (*Depth, error) {
	size := map[string]int{"16UC1": 2, "mono16": 2, "32FC1": 4}[m.Encoding]
	if size == 0 {
		return nil, fmt.Errorf("depth image: encoding is %q, expected 16UC1 (millimetres) or 32FC1 (metres)", m.Encoding)
	}
	if err := checkSize(int(m.Width), int(m.Height)); err != nil {
		return nil, fmt.Errorf("depth image: width and height: %w", err)
	}
	row := int64(m.Width) * int64(size)
	if int64(m.Step) < row {
		return nil, fmt.Errorf("depth image: step is %d, %d pixels of %s need %d bytes", m.Step, m.Width, m.Encoding, row)
	}
	// The last row may come without its padding.
	if need := int64(m.Step)*int64(m.Height-1) + row; int64(len(m.Data)) < need {
		return nil, fmt.Errorf("depth image: data has %d bytes, %d rows of step %d need %d", len(m.Data), m.Height, m.Step, need)
	}
	return &Depth{Width: int(m.Width), Height: int(m.Height), data: m.Data, step: int(m.Step), size: size, big: m.IsBigendian != 0}, nil
}

// At returns a pixel's depth in metres along the optical axis, 0 where nothing was measured.
func (d *Depth) At(x, y int) float32 {
	b := d.data[y*d.step+x*d.size:]
	if d.size == 4 {
		bits := binary.LittleEndian.Uint32(b)
		if d.big {
			bits = binary.BigEndian.Uint32(b)
		}
		return known(math.Float32frombits(bits))
	}
	code := binary.LittleEndian.Uint16(b)
	if d.big {
		code = binary.BigEndian.Uint16(b)
	}
	switch {
	case code == 0:
		return 0
	case d.a != 0:
		return known(d.a / (float32(code) - d.b))
	}
	return float32(code) / 1000
}

// known makes 0 of what is no distance.
func known(v float32) float32 {
	if !(v > 0) || math.IsInf(float64(v), 0) {
		return 0
	}
	return v
}

// depthHeader is what compressed_depth_image_transport puts before the compressed codes: int32 kind, float32 a, float32 b, all
// little-endian, as its publishers' memory has them.
const depthHeader = 12

// ReadCompressedDepth reads a depth image of image_transport's compressedDepth, as PNG or RVL. 16UC1 is in millimetres; 32FC1 was
// made into 16 bit codes of inverse depth, by the numbers in the header.
func ReadCompressedDepth(m *msgs.CompressedImage) (*Depth, error) {
	encoding, rest, several := strings.Cut(m.Format, ";")
	encoding, rest = strings.TrimSpace(encoding), strings.TrimSpace(rest)
	kind, ours := strings.CutPrefix(rest, "compressedDepth")
	kind = strings.TrimSpace(kind)
	if kind == "" {
		kind = "png" // of older publishers, which knew no other
	}
	if several && !ours || encoding != "16UC1" && encoding != "mono16" && encoding != "32FC1" || kind != "png" && kind != "rvl" {
		return nil, fmt.Errorf("compressed depth image: format is %q, expected \"16UC1; compressedDepth png\", the same with 32FC1, or with rvl", m.Format)
	}
	if len(m.Data) <= depthHeader {
		return nil, fmt.Errorf("compressed depth image: %d bytes, expected a header of %d and the picture", len(m.Data), depthHeader)
	}
	read := pngDepth
	if kind == "rvl" {
		read = rvlDepth
	}
	d, err := read(m.Data[depthHeader:])
	if err != nil {
		return nil, fmt.Errorf("compressed depth image (format %q): %w", m.Format, err)
	}
	if encoding == "32FC1" {
		d.a = math.Float32frombits(binary.LittleEndian.Uint32(m.Data[4:]))
		d.b = math.Float32frombits(binary.LittleEndian.Uint32(m.Data[8:]))
		if known(d.a) == 0 || d.b-d.b != 0 {
			return nil, fmt.Errorf("compressed depth image (format %q): the header's quantisation is %v and %v, expected a positive number and a finite one", m.Format, d.a, d.b)
		}
	}
	return d, nil
}

func pngDepth(data []byte) (*Depth, error) {
	img, err := decodeFile(data)
	if err != nil {
		return nil, err
	}
	g, ok := img.(*image.Gray16)
	if !ok {
		return nil, fmt.Errorf("the picture is a %T, expected a PNG of 16 bit grey", img)
	}
	b := g.Bounds()
	return &Depth{Width: b.Dx(), Height: b.Dy(), data: g.Pix[g.PixOffset(b.Min.X, b.Min.Y):], step: g.Stride, size: 2, big: true}, nil
}
