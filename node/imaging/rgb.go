// Package imaging turns camera messages into plain RGB pictures and resizes them byte for byte as Pillow does, which is what
// the vision tower was trained on.
package imaging

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
)

// RGB is a picture of 8 bits a channel, rows from the top without padding.
type RGB struct {
	Width, Height int
	Pix           []uint8 // 3·Width·Height
}

// MaxPixels bounds a picture: 8K in both directions.
const MaxPixels = 7680 * 4320

// checkSize refuses empty pictures and those above MaxPixels.
func checkSize(width, height int) error {
	if width < 1 || height < 1 || width > MaxPixels || height > MaxPixels || width*height > MaxPixels {
		return fmt.Errorf("picture of %d×%d pixels, expected 1×1 to %d pixels in all", width, height, MaxPixels)
	}
	return nil
}

// NewRGB makes a black picture.
func NewRGB(width, height int) (*RGB, error) {
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	return &RGB{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}, nil
}

// At returns the colour of a pixel.
func (p *RGB) At(x, y int) (r, g, b uint8) {
	i := 3 * (y*p.Width + x)
	return p.Pix[i], p.Pix[i+1], p.Pix[i+2]
}

// Image gives the picture to packages that draw.
func (p *RGB) Image() *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, p.Width, p.Height))
	for i, j := 0, 0; i < len(p.Pix); i, j = i+3, j+4 {
		out.Pix[j], out.Pix[j+1], out.Pix[j+2], out.Pix[j+3] = p.Pix[i], p.Pix[i+1], p.Pix[i+2], 255
	}
	return out
}

// FromImage copies any image; transparency is dropped.
func FromImage(src image.Image) (*RGB, error) {
	b := src.Bounds()
	out, err := NewRGB(b.Dx(), b.Dy())
	if err != nil {
		return nil, err
	}
	switch m := src.(type) {
	case *image.YCbCr:
		fromYCbCr(out, m)
	case *image.RGBA:
		packed(out, m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride)
	case *image.NRGBA:
		packed(out, m.Pix[m.PixOffset(b.Min.X, b.Min.Y):], m.Stride)
	case *image.Gray:
		for y := range out.Height {
			row := m.Pix[m.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range out.Width {
				i := 3 * (y*out.Width + x)
				out.Pix[i], out.Pix[i+1], out.Pix[i+2] = row[x], row[x], row[x]
			}
		}
	default:
		for y := range out.Height {
			for x := range out.Width {
				r, g, bl, _ := src.At(b.Min.X+x, b.Min.Y+y).RGBA()
				i := 3 * (y*out.Width + x)
				out.Pix[i], out.Pix[i+1], out.Pix[i+2] = uint8(r>>8), uint8(g>>8), uint8(bl>>8)
			}
		}
	}
	return out, nil
}

func packed(out *RGB, pix []uint8, stride int) {
	for y := range out.Height {
		row := pix[y*stride:]
		for x := range out.Width {
			copy(out.Pix[3*(y*out.Width+x):], row[4*x:4*x+3])
		}
	}
}

// fromYCbCr is color.YCbCrToRGB over whole rows.
func fromYCbCr(out *RGB, m *image.YCbCr) {
	for y := range out.Height {
		for x := range out.Width {
			yi := m.YOffset(m.Rect.Min.X+x, m.Rect.Min.Y+y)
			ci := m.COffset(m.Rect.Min.X+x, m.Rect.Min.Y+y)
			r, g, b := yuv(int32(m.Y[yi]), int32(m.Cb[ci]), int32(m.Cr[ci]))
			i := 3 * (y*out.Width + x)
			out.Pix[i], out.Pix[i+1], out.Pix[i+2] = r, g, b
		}
	}
}

// yuv is full-range BT.601, as JPEG and the standard library have it.
func yuv(y, cb, cr int32) (r, g, b uint8) {
	yy := y * 0x10101
	cb -= 128
	cr -= 128
	return clamp16(yy + 91881*cr), clamp16(yy - 22554*cb - 46802*cr), clamp16(yy + 116130*cb)
}

func clamp16(v int32) uint8 {
	if uint32(v)&0xFF000000 == 0 {
		return uint8(v >> 16)
	}
	return uint8(^(v >> 31))
}

// JPEG encodes the picture.
func (p *RGB) JPEG(quality int) ([]byte, error) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, p.Image(), &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("encode JPEG: %w", err)
	}
	return b.Bytes(), nil
}
