package imaging

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"runtime"
	"testing"

	"github.com/stllm/stllm/msgs"
)

// A few bytes that claim to be a big picture must not cost its memory.
func TestClaimsCostNothing(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	claim := b.Bytes()
	binary.BigEndian.PutUint32(claim[16:], 7680)
	binary.BigEndian.PutUint32(claim[20:], 4320)
	claim[24], claim[25] = 16, 6 // 16 bits, RGBA
	binary.BigEndian.PutUint32(claim[29:], crc32.ChecksumIEEE(claim[12:29]))

	b = bytes.Buffer{}
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	photo := b.Bytes()
	at := bytes.Index(photo, []byte{0xFF, 0xC0})
	binary.BigEndian.PutUint16(photo[at+5:], 4320)
	binary.BigEndian.PutUint16(photo[at+7:], 7680)

	big := msgs.Image{Width: 7680, Height: 4320, Encoding: "rgb8", Step: 3 * 7680, Data: make([]byte, 10)}
	unknown := big
	unknown.Encoding = "rgb9"
	for name, decode := range map[string]func() error{
		"short data": func() error { _, err := Decode(&big); return err },
		"encoding":   func() error { _, err := Decode(&unknown); return err },
		"png":        func() error { _, err := DecodeBytes(claim); return err },
		"jpeg":       func() error { _, err := DecodeBytes(photo); return err },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decode()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; err == nil || got > 1<<20 {
			t.Errorf("%s: %d bytes allocated, %v", name, got, err)
		}
	}
}

// The best compressible pictures that there are still pass.
func TestFlatPicturesPass(t *testing.T) {
	r := image.Rect(0, 0, 2048, 2048)
	for name, m := range map[string]image.Image{
		"grey": image.NewGray(r), "1 bit": image.NewPaletted(r, color.Palette{color.Black, color.White}), "rgba64": image.NewNRGBA64(r),
	} {
		var p, j bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&p, m); err != nil {
			t.Fatal(err)
		}
		if err := jpeg.Encode(&j, m, &jpeg.Options{Quality: 1}); err != nil {
			t.Fatal(err)
		}
		for format, data := range map[string][]byte{"png": p.Bytes(), "jpeg": j.Bytes()} {
			if out, err := DecodeBytes(data); err != nil || out.Width != 2048 {
				t.Errorf("%s as %s, %d bytes: %v", name, format, len(data), err)
			}
		}
	}
}
