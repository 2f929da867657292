package imaging

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of sensor_msgs/CompressedImage
	_ "image/png"
	"strings"

	"github.com/stllm/stllm/msgs"
)

// layout is how an encoding stores a pixel.
type layout struct {
	bytes int // of one pixel; 0 for those with a decoder of their own
	take  func(dst []uint8, src []byte, big bool)
}

func copyOrder(r, g, b int) func([]uint8, []byte, bool) {
	return func(dst []uint8, src []byte, _ bool) { dst[0], dst[1], dst[2] = src[r], src[g], src[b] }
}

func grey8(dst []uint8, src []byte, _ bool) { dst[0], dst[1], dst[2] = src[0], src[0], src[0] }

// sample16 is a 16 bit sample in 8 bits, scaled by 255/65535 and rounded as cv_bridge does.
func sample16(src []byte, big bool) uint8 {
	v := uint32(src[1])<<8 | uint32(src[0])
	if big {
		v = uint32(src[0])<<8 | uint32(src[1])
	}
	return uint8((v + 128) / 257)
}

func grey16(dst []uint8, src []byte, big bool) {
	v := sample16(src, big)
	dst[0], dst[1], dst[2] = v, v, v
}

func scaled16(r, g, b int) func([]uint8, []byte, bool) {
	return func(dst []uint8, src []byte, big bool) {
		dst[0], dst[1], dst[2] = sample16(src[2*r:], big), sample16(src[2*g:], big), sample16(src[2*b:], big)
	}
}

// layouts are the encodings of sensor_msgs/image_encodings.hpp that pictures come in.
var layouts = map[string]layout{
	"rgb8": {3, copyOrder(0, 1, 2)}, "bgr8": {3, copyOrder(2, 1, 0)}, "rgba8": {4, copyOrder(0, 1, 2)}, "bgra8": {4, copyOrder(2, 1, 0)},
	"8UC3": {3, copyOrder(2, 1, 0)}, "8UC4": {4, copyOrder(2, 1, 0)}, // OpenCV's order
	"mono8": {1, grey8}, "8UC1": {1, grey8}, "mono16": {2, grey16}, "16UC1": {2, grey16},
	"rgb16": {6, scaled16(0, 1, 2)}, "bgr16": {6, scaled16(2, 1, 0)}, "rgba16": {8, scaled16(0, 1, 2)}, "bgra16": {8, scaled16(2, 1, 0)},
}

// Decode reads a raw image. Row padding and endianness are honoured; the error names the field that does not fit.
func Decode(m *msgs.Image) (*RGB, error) {
	if err := checkSize(int(m.Width), int(m.Height)); err != nil {
		return nil, fmt.Errorf("image: width and height: %w", err)
	}
	pattern, depth, isBayer := bayer(m.Encoding)
	uFirst, isYUV := yuv422(m.Encoding)
	l, known := layouts[m.Encoding]
	size := l.bytes
	switch {
	case isBayer:
		size = depth / 8
	case isYUV:
		size = 2
	case !known:
		return nil, fmt.Errorf("image: encoding is %q, which is not known; known are rgb8, bgr8, rgba8, bgra8, mono8, mono16, bayer_*8, bayer_*16, yuv422, yuv422_yuy2", m.Encoding)
	}
	row := int(m.Width) * size
	if int64(m.Step) < int64(row) {
		return nil, fmt.Errorf("image: step is %d, %d pixels of %s need %d bytes", m.Step, m.Width, m.Encoding, row)
	}
	// The last row may come without its padding.
	if need := int64(m.Step)*int64(m.Height-1) + int64(row); int64(len(m.Data)) < need {
		return nil, fmt.Errorf("image: data has %d bytes, %d rows of step %d need %d", len(m.Data), m.Height, m.Step, need)
	}
	if isYUV && m.Width%2 != 0 {
		return nil, fmt.Errorf("image: width is %d, %s needs an even one", m.Width, m.Encoding)
	}
	// Only now: a short message may claim any size.
	out, err := NewRGB(int(m.Width), int(m.Height))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	line := func(y int) []byte { return m.Data[y*int(m.Step):][:row] }
	big := m.IsBigendian != 0
	switch {
	case isBayer:
		demosaic(out, pattern, depth, big, line)
	case isYUV:
		for y := range out.Height {
			fromYUV422(out.Pix[3*y*out.Width:], line(y), uFirst)
		}
	default:
		for y := range out.Height {
			src := line(y)
			for x := range out.Width {
				l.take(out.Pix[3*(y*out.Width+x):][:3], src[x*size:], big)
			}
		}
	}
	return out, nil
}

// yuv422 knows both orders: UYVY (ROS 1's yuv422, ROS 2's uyvy) and YUYV.
func yuv422(encoding string) (uFirst, ok bool) {
	switch encoding {
	case "yuv422", "uyvy":
		return true, true
	case "yuv422_yuy2", "yuyv":
		return false, true
	}
	return false, false
}

func fromYUV422(dst []uint8, src []byte, uFirst bool) {
	for i := 0; i+4 <= len(src); i += 4 {
		y0, u, y1, v := src[i], src[i+1], src[i+2], src[i+3]
		if uFirst {
			u, y0, v, y1 = src[i], src[i+1], src[i+2], src[i+3]
		}
		at := dst[i/2*3:]
		at[0], at[1], at[2] = videoYUV(y0, u, v)
		at[3], at[4], at[5] = videoYUV(y1, u, v)
	}
}

// videoYUV is BT.601 with the video range (black 16, white 235), which is what cameras send in these encodings and what
// cv_bridge takes them for; the numbers are OpenCV's, 20 fraction bits. JPEG's own YCbCr has the full range: see yuv.
func videoYUV(y, u, v uint8) (r, g, b uint8) {
	const bits, half = 20, 1 << 19
	yy := max(0, int(y)-16) * 1220542
	cb, cr := int(u)-128, int(v)-128
	to8 := func(x int) uint8 { return uint8(min(max((yy+half+x)>>bits, 0), 255)) }
	return to8(1673527 * cr), to8(-852492*cr - 409993*cb), to8(2116026 * cb)
}

// bayer reads names such as bayer_rggb8: the colours of the upper left 2×2 pixels.
func bayer(encoding string) (pattern string, depth int, ok bool) {
	rest, found := strings.CutPrefix(encoding, "bayer_")
	if !found || len(rest) < 5 {
		return "", 0, false
	}
	pattern = rest[:4]
	switch pattern {
	case "rggb", "bggr", "gbrg", "grbg":
	default:
		return "", 0, false
	}
	switch rest[4:] {
	case "8":
		return pattern, 8, true
	case "16":
		return pattern, 16, true
	}
	return "", 0, false
}

// demosaic fills in the two colours that a pixel lacks with the mean of its neighbours that have them.
func demosaic(out *RGB, pattern string, depth int, big bool, line func(int) []byte) {
	value := func(x, y int) int {
		if depth == 8 {
			return int(line(y)[x])
		}
		return int(sample16(line(y)[2*x:], big))
	}
	channel := func(x, y int) int {
		switch pattern[2*(y&1)+x&1] {
		case 'r':
			return 0
		case 'g':
			return 1
		}
		return 2
	}
	for y := range out.Height {
		for x := range out.Width {
			var sum, count [3]int
			for dy := -1; dy <= 1; dy++ {
				for dx := -1; dx <= 1; dx++ {
					px, py := x+dx, y+dy
					if px < 0 || py < 0 || px >= out.Width || py >= out.Height {
						continue
					}
					c := channel(px, py)
					sum[c] += value(px, py)
					count[c]++
				}
			}
			own := channel(x, y)
			sum[own], count[own] = value(x, y), 1
			at := out.Pix[3*(y*out.Width+x):]
			for c := range 3 {
				if count[c] > 0 {
					at[c] = uint8((sum[c] + count[c]/2) / count[c])
				}
			}
		}
	}
}

// DecodeCompressed reads a JPEG or PNG image. Its size is checked before anything is decoded. A camera's mosaic, which
// compressed_image_transport compresses as if it were grey and tells of in the format alone, gets its colours.
func DecodeCompressed(m *msgs.CompressedImage) (*RGB, error) {
	if strings.Contains(m.Format, "compressedDepth") {
		return nil, fmt.Errorf("compressed image: format is %q: a depth image, a colour image was expected", m.Format)
	}
	img, err := decodeFile(m.Data)
	if err != nil {
		return nil, fmt.Errorf("compressed image (format %q): %w", m.Format, err)
	}
	encoding, _, _ := strings.Cut(m.Format, ";")
	if encoding = strings.TrimSpace(encoding); !strings.HasPrefix(encoding, "bayer_") {
		return FromImage(img)
	}
	pattern, _, ok := bayer(encoding)
	var depth int
	var line func(y int) []byte
	switch g := img.(type) {
	case *image.Gray:
		depth, line = 8, func(y int) []byte { return g.Pix[g.PixOffset(g.Rect.Min.X, g.Rect.Min.Y+y):] }
	case *image.Gray16:
		depth, line = 16, func(y int) []byte { return g.Pix[g.PixOffset(g.Rect.Min.X, g.Rect.Min.Y+y):] }
	default: // in colours already
		return FromImage(img)
	}
	if !ok {
		return nil, fmt.Errorf("compressed image: format is %q, which begins with no known mosaic (bayer_rggb8, bayer_bggr16, …)", m.Format)
	}
	out, err := NewRGB(img.Bounds().Dx(), img.Bounds().Dy())
	if err != nil {
		return nil, fmt.Errorf("compressed image (format %q): %w", m.Format, err)
	}
	demosaic(out, pattern, depth, true, line) // 16 bits are big-endian, as Gray16 has them
	return out, nil
}

// DecodeBytes reads a JPEG or PNG file.
func DecodeBytes(data []byte) (*RGB, error) {
	img, err := decodeFile(data)
	if err != nil {
		return nil, err
	}
	return FromImage(img)
}

func decodeFile(data []byte) (image.Image, error) {
	c, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%d bytes are neither JPEG nor PNG: %w", len(data), err)
	}
	if err := checkSize(c.Width, c.Height); err != nil {
		return nil, fmt.Errorf("%s: %w", format, err)
	}
	if least := leastBytes(data, format, c.Width, c.Height); len(data) < least {
		return nil, fmt.Errorf("%s claims %d×%d pixels, which need at least %d bytes; found %d", format, c.Width, c.Height, least, len(data))
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", format, err)
	}
	return img, nil
}

// leastBytes is what the best compression leaves of a picture. The decoders allocate by the header alone, so a file below it
// must be refused before.
func leastBytes(data []byte, format string, width, height int) int {
	switch {
	case format == "png" && len(data) > 25:
		// IHDR: bit depth at 24, colour type at 25. Deflate never does better than 1032 to 1.
		channels := map[byte]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
		return (width*channels*int(data[24]) + 7) / 8 * height / 1032
	case format == "jpeg":
		return width * height / 1024 // a block of 64 pixels takes a bit at least: 512 to 1, and a margin
	}
	return 0
}
