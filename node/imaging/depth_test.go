package imaging

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
)

func floats(order binary.AppendByteOrder, list ...float32) (out []byte) {
	for _, v := range list {
		out = order.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

func TestReadDepth(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		m    msgs.Image
		want []float32 // row by row
	}{
		{"millimetres", msgs.Image{Width: 2, Height: 1, Encoding: "16UC1", Step: 4, Data: []byte{0xDC, 5, 0, 0}}, []float32{1.5, 0}},
		{"big-endian, padded rows, the last one cut", msgs.Image{Width: 1, Height: 2, Encoding: "16UC1", Step: 5, IsBigendian: 1, Data: []byte{5, 0xDC, 9, 9, 9, 0, 1}}, []float32{1.5, 0.001}},
		{"mono16", msgs.Image{Width: 1, Height: 1, Encoding: "mono16", Step: 2, Data: []byte{0xFF, 0xFF}}, []float32{65.535}},
		{"metres", msgs.Image{Width: 5, Height: 1, Encoding: "32FC1", Step: 20, Data: floats(binary.LittleEndian, 1.5, nan, inf, -1, 0)}, []float32{1.5, 0, 0, 0, 0}},
		{"metres, big-endian", msgs.Image{Width: 2, Height: 1, Encoding: "32FC1", Step: 8, IsBigendian: 1, Data: floats(binary.BigEndian, 2.25, inf)}, []float32{2.25, 0}},
	} {
		d, err := ReadDepth(&c.m)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for i, want := range c.want {
			if got := d.At(i%d.Width, i/d.Width); got != want {
				t.Errorf("%s: pixel %d is %v, expected %v", c.name, i, got, want)
			}
		}
	}
	for want, m := range map[string]msgs.Image{
		`encoding is "rgb8"`: {Width: 2, Height: 1, Encoding: "rgb8", Step: 6, Data: make([]byte, 6)},
		"width and height":   {Encoding: "16UC1"},
		"step is 3":          {Width: 2, Height: 1, Encoding: "16UC1", Step: 3, Data: make([]byte, 6)},
		"data has 7 bytes":   {Width: 2, Height: 2, Encoding: "16UC1", Step: 4, Data: make([]byte, 7)},
		"data has 8 bytes":   {Width: 1 << 16, Height: 1 << 8, Encoding: "32FC1", Step: 1 << 31, Data: make([]byte, 8)},
	} {
		if _, err := ReadDepth(&m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

// codes are 16 bit codes as a PNG behind the header.
func codes(t testing.TB, width int, a, b float32, list ...uint16) []byte {
	g := image.NewGray16(image.Rect(0, 0, width, len(list)/width))
	for i, v := range list {
		g.SetGray16(i%width, i/width, color.Gray16{Y: v})
	}
	out := bytes.NewBuffer(append([]byte{1, 0, 0, 0}, floats(binary.LittleEndian, a, b)...))
	if err := png.Encode(out, g); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// rvl compresses as the transport's publisher does.
func rvl(width int, list ...uint16) []byte {
	out := make([]byte, depthHeader)
	out = binary.LittleEndian.AppendUint32(out, uint32(width))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(list)/width))
	var nibbles []uint32
	number := func(v int) {
		for {
			n := uint32(v & 7)
			if v >>= 3; v != 0 {
				n |= 8
			}
			if nibbles = append(nibbles, n); v == 0 {
				return
			}
		}
	}
	last := 0
	for at := 0; at < len(list); {
		from := at
		for at < len(list) && list[at] == 0 {
			at++
		}
		number(at - from)
		from = at
		for at < len(list) && list[at] != 0 {
			at++
		}
		number(at - from)
		for _, v := range list[from:at] {
			delta := int(v) - last
			number(delta<<1 ^ delta>>63)
			last = int(v)
		}
	}
	for len(nibbles)%8 != 0 {
		nibbles = append(nibbles, 0)
	}
	for i := 0; i < len(nibbles); i += 8 {
		word := uint32(0)
		for _, n := range nibbles[i : i+8] {
			word = word<<4 | n
		}
		out = binary.LittleEndian.AppendUint32(out, word)
	}
	return out
}

func TestReadCompressedDepth(t *testing.T) {
	// The transport's numbers for depth_quantization 100 and depth_max 10: a = 100 · 101, b = 1 − a/10.
	const a, b = float32(10100), float32(-1009)
	quantised := uint16(a/2 + b) // 2 m
	for _, c := range []struct {
		format string
		data   []byte
		want   []float32
		within float32
	}{
		{"16UC1; compressedDepth png", codes(t, 2, 0, 0, 1500, 0, 65535, 7), []float32{1.5, 0, 65.535, 0.007}, 0},
		{"16UC1; compressedDepth", codes(t, 1, 0, 0, 1500), []float32{1.5}, 0},
		{"16UC1", codes(t, 1, 0, 0, 1500), []float32{1.5}, 0},
		{"32FC1; compressedDepth png", codes(t, 2, a, b, quantised, 0), []float32{2, 0}, 1e-3},
		{"16UC1; compressedDepth rvl", rvl(3, 0, 0, 1500, 1501, 1400, 0, 65535, 1, 0), []float32{0, 0, 1.5, 1.501, 1.4, 0, 65.535, 0.001, 0}, 0},
		{"16UC1; compressedDepth rvl", rvl(1280, make([]uint16, 1280*720)...), []float32{0, 0}, 0}, // 20 bytes: the lens is covered
		{"16UC1; compressedDepth rvl", rvl(2, 1, 2, 3, 4), []float32{0.001, 0.002, 0.003, 0.004}, 0},
		{"32FC1; compressedDepth rvl", append(append([]byte{1, 0, 0, 0}, floats(binary.LittleEndian, a, b)...), rvl(1, quantised, 0)[depthHeader:]...), []float32{2, 0}, 1e-3},
	} {
		d, err := ReadCompressedDepth(&msgs.CompressedImage{Format: c.format, Data: c.data})
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		for i, want := range c.want {
			if got := d.At(i%d.Width, i/d.Width); got < want-c.within || got > want+c.within {
				t.Errorf("%s: pixel %d is %v, expected %v", c.format, i, got, want)
			}
		}
	}
	var colour bytes.Buffer
	colour.Write(make([]byte, depthHeader))
	if err := png.Encode(&colour, image.NewRGBA(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	huge := rvl(1, 1)
	binary.LittleEndian.PutUint32(huge[depthHeader:], 7680)
	binary.LittleEndian.PutUint32(huge[depthHeader+4:], 4320)
	for want, m := range map[string]msgs.CompressedImage{
		`format is "rgb8; jpeg compressed bgr8"`:  {Format: "rgb8; jpeg compressed bgr8", Data: codes(t, 1, 0, 0, 1)},
		`format is "bgr8; compressedDepth png"`:   {Format: "bgr8; compressedDepth png", Data: codes(t, 1, 0, 0, 1)},
		`format is "16UC1; compressedDepth zstd"`: {Format: "16UC1; compressedDepth zstd", Data: codes(t, 1, 0, 0, 1)},
		"12 bytes":               {Format: "16UC1; compressedDepth png", Data: make([]byte, 12)},
		"neither JPEG nor PNG":   {Format: "16UC1; compressedDepth png", Data: make([]byte, 40)},
		"16 bit grey":            {Format: "16UC1; compressedDepth png", Data: colour.Bytes()},
		"quantisation":           {Format: "32FC1; compressedDepth png", Data: codes(t, 1, 0, 0, 1)},
		"claim 7680×4320 pixels": {Format: "16UC1; compressedDepth rvl", Data: huge},
		"the data ends":          {Format: "16UC1; compressedDepth rvl", Data: rvl(4, 1, 2, 3, 4, 5, 6, 7, 8)[:24]},
		"8 of width and height":  {Format: "16UC1; compressedDepth rvl", Data: make([]byte, 15)},
		"0×0":                    {Format: "16UC1; compressedDepth rvl", Data: make([]byte, 30)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadCompressedDepth(&m)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), want) || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%v (%d bytes allocated), expected %q", err, after.TotalAlloc-before.TotalAlloc, want)
		}
	}
}

// Whatever comes is read, to its last pixel, or refused.
func FuzzDepth(f *testing.F) {
	f.Add("16UC1", uint32(2), uint32(1), uint32(4), byte(0), []byte{0xDC, 5, 0, 0})
	f.Add("32FC1", uint32(1), uint32(2), uint32(5), byte(1), floats(binary.BigEndian, 1, 2, 3))
	f.Add("16UC1; compressedDepth png", uint32(0), uint32(0), uint32(0), byte(0), codes(f, 2, 0, 0, 1, 2))
	f.Add("32FC1; compressedDepth rvl", uint32(0), uint32(0), uint32(0), byte(0), rvl(2, 0, 9, 9, 0))
	f.Fuzz(func(t *testing.T, encoding string, w, h, step uint32, big byte, data []byte) {
		d, err := ReadDepth(&msgs.Image{Width: w, Height: h, Step: step, IsBigendian: big, Encoding: encoding, Data: data})
		c, err2 := ReadCompressedDepth(&msgs.CompressedImage{Format: encoding, Data: data})
		for _, r := range []struct {
			d   *Depth
			err error
		}{{d, err}, {c, err2}} {
			if r.err != nil {
				continue
			}
			for y := range r.d.Height {
				for x := range r.d.Width {
					if v := r.d.At(x, y); !(v >= 0) || math.IsInf(float64(v), 0) {
						t.Fatalf("pixel %d %d is %v", x, y, v)
					}
				}
			}
		}
	})
}
