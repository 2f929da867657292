package imaging

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
)

func readPNG(t *testing.T, path string) *RGB {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := DecodeBytes(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

func TestGoldenResize(t *testing.T) {
	dir := testdata.Golden(t, "core", "resize")
	results, err := filepath.Glob(filepath.Join(dir, "*_to_*.png"))
	if err != nil || len(results) == 0 {
		t.Fatalf("no resized pictures in %s: %v", dir, err)
	}
	for _, path := range results {
		source, _, _ := strings.Cut(path, "_to_")
		want := readPNG(t, path)
		got, err := readPNG(t, source+".png").Resize(want.Width, want.Height)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%s: differs from Pillow", filepath.Base(path))
		}
	}
}

func TestGoldenFrames(t *testing.T) {
	dir := testdata.Golden(t, "core")
	var list struct {
		Image int
		Cases []struct{ Name string }
	}
	testdata.JSON(t, filepath.Join(dir, "cases.json"), &list)
	if len(list.Cases) == 0 {
		t.Fatal("cases.json has no cases")
	}
	for _, c := range list.Cases {
		x, _ := testdata.Tensors(t, filepath.Join(dir, "case_"+c.Name+".safetensors"))
		want := x["frames.resized"]
		size := 3 * list.Image * list.Image
		for i := range want.Shape[0] {
			got, err := readPNG(t, filepath.Join(dir, "frames", fmt.Sprintf("%s_%d.png", c.Name, i))).Resize(list.Image, list.Image)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Pix, want.Data[i*size:(i+1)*size]) {
				t.Errorf("%s frame %d: differs from the reference's image processor", c.Name, i)
			}
		}
	}
}

// One red, one green, one blue and one grey pixel in every encoding, with padded rows.
func TestEncodings(t *testing.T) {
	le := func(v ...uint8) (out []byte) {
		for _, b := range v {
			out = append(out, b, b)
		}
		return out
	}
	be := func(v ...uint8) (out []byte) {
		for _, b := range v {
			out = append(out, b, b)
		}
		return out
	}
	for _, tc := range []struct {
		encoding string
		big      uint8
		pixels   []byte // of two pixels: red 200,30,10 and grey 77
		want     []uint8
	}{
		{"rgb8", 0, []byte{200, 30, 10, 77, 77, 77}, []uint8{200, 30, 10, 77, 77, 77}},
		{"bgr8", 0, []byte{10, 30, 200, 77, 77, 77}, []uint8{200, 30, 10, 77, 77, 77}},
		{"8UC3", 0, []byte{10, 30, 200, 77, 77, 77}, []uint8{200, 30, 10, 77, 77, 77}},
		{"rgba8", 0, []byte{200, 30, 10, 9, 77, 77, 77, 9}, []uint8{200, 30, 10, 77, 77, 77}},
		{"bgra8", 0, []byte{10, 30, 200, 9, 77, 77, 77, 9}, []uint8{200, 30, 10, 77, 77, 77}},
		{"mono8", 0, []byte{200, 77}, []uint8{200, 200, 200, 77, 77, 77}},
		{"mono16", 0, le(200, 77), []uint8{200, 200, 200, 77, 77, 77}},
		{"mono16", 1, be(200, 77), []uint8{200, 200, 200, 77, 77, 77}},
		{"rgb16", 1, be(200, 30, 10, 77, 77, 77), []uint8{200, 30, 10, 77, 77, 77}},
		{"yuv422", 0, []byte{128, 200, 128, 77}, []uint8{214, 214, 214, 71, 71, 71}},
		{"yuv422_yuy2", 0, []byte{200, 128, 77, 128}, []uint8{214, 214, 214, 71, 71, 71}},
		{"uyvy", 0, []byte{128, 200, 128, 77}, []uint8{214, 214, 214, 71, 71, 71}},
	} {
		row := append(append([]byte(nil), tc.pixels...), 1, 2, 3)
		m := &msgs.Image{Width: 2, Height: 2, Encoding: tc.encoding, IsBigendian: tc.big, Step: uint32(len(row)), Data: append(append([]byte(nil), row...), row[:len(tc.pixels)]...)}
		p, err := Decode(m)
		if err != nil {
			t.Errorf("%s: %v", tc.encoding, err)
			continue
		}
		if want := append(append([]uint8(nil), tc.want...), tc.want...); !bytes.Equal(p.Pix, want) {
			t.Errorf("%s: %v, expected %v", tc.encoding, p.Pix, want)
		}
	}
}

// A flat colour seen through any mosaic comes out flat.
func TestBayer(t *testing.T) {
	colours := map[byte]uint8{'r': 200, 'g': 100, 'b': 40}
	for _, pattern := range []string{"rggb", "bggr", "gbrg", "grbg"} {
		for _, depth := range []string{"8", "16"} {
			m := &msgs.Image{Width: 6, Height: 4, Encoding: "bayer_" + pattern + depth}
			for y := range 4 {
				for x := range 6 {
					v := colours[pattern[2*(y&1)+x&1]]
					if depth == "16" {
						m.Data = append(m.Data, v)
					}
					m.Data = append(m.Data, v)
				}
			}
			m.Step = uint32(len(m.Data) / 4)
			p, err := Decode(m)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(p.Pix); i += 3 {
				if p.Pix[i] != 200 || p.Pix[i+1] != 100 || p.Pix[i+2] != 40 {
					t.Fatalf("%s: pixel %d is %v", m.Encoding, i/3, p.Pix[i:i+3])
				}
			}
		}
	}
}

// A mosaic that was compressed as if it were grey has its colours, at 8 and 16 bits; what was made colours before is left alone.
func TestCompressedBayer(t *testing.T) {
	colours := map[byte]uint8{'r': 200, 'g': 100, 'b': 40}
	for _, pattern := range []string{"rggb", "bggr", "gbrg", "grbg"} {
		grey, deep := image.NewGray(image.Rect(0, 0, 16, 8)), image.NewGray16(image.Rect(0, 0, 16, 8))
		for y := range 8 {
			for x := range 16 {
				v := colours[pattern[2*(y&1)+x&1]]
				grey.SetGray(x, y, color.Gray{Y: v})
				deep.SetGray16(x, y, color.Gray16{Y: 257 * uint16(v)})
			}
		}
		file := func(img image.Image, jpg bool) []byte {
			var b bytes.Buffer
			err := png.Encode(&b, img)
			if jpg {
				b.Reset()
				err = jpeg.Encode(&b, img, &jpeg.Options{Quality: 100})
			}
			if err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		flat := image.NewNRGBA(grey.Rect)
		draw.Draw(flat, flat.Rect, image.NewUniform(color.NRGBA{R: 200, G: 100, B: 40, A: 255}), image.Point{}, draw.Src)
		for _, c := range []struct {
			format string
			data   []byte
			off    int
		}{
			{"bayer_" + pattern + "8; png compressed ", file(grey, false), 0},
			{"bayer_" + pattern + "16; png compressed ", file(deep, false), 0},
			{"bayer_" + pattern + "16; jpeg compressed ", file(grey, true), 3},
			{"bayer_" + pattern + "8; jpeg compressed ", file(grey, true), 3},
			{"bayer_" + pattern + "8; png compressed bgr8", file(flat, false), 0},
		} {
			p, err := DecodeCompressed(&msgs.CompressedImage{Format: c.format, Data: c.data})
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range p.Pix {
				if d := int(v) - int([]uint8{200, 100, 40}[i%3]); d > c.off || d < -c.off {
					t.Fatalf("%s: pixel %d is %v", c.format, i/3, p.Pix[i/3*3:][:3])
				}
			}
		}
		if _, err := DecodeCompressed(&msgs.CompressedImage{Format: "bayer_rgbw8; png compressed ", Data: file(grey, false)}); err == nil || !strings.Contains(err.Error(), "bayer_rgbw8") {
			t.Errorf("an unknown mosaic: %v", err)
		}
		if p, err := DecodeCompressed(&msgs.CompressedImage{Format: "mono8; jpeg compressed mono8", Data: file(grey, false)}); err != nil || p.Pix[0] != p.Pix[2] {
			t.Errorf("grey: %v", err)
		}
	}
}

func TestBadImages(t *testing.T) {
	good := msgs.Image{Width: 2, Height: 2, Encoding: "rgb8", Step: 6, Data: make([]byte, 12)}
	for name, tc := range map[string]struct {
		change func(*msgs.Image)
		want   string
	}{
		"zero width": {func(m *msgs.Image) { m.Width = 0 }, "width"},
		"huge":       {func(m *msgs.Image) { m.Width, m.Height = 1<<31, 1<<31 }, "width"},
		"encoding":   {func(m *msgs.Image) { m.Encoding = "rgb9" }, "encoding"},
		"step":       {func(m *msgs.Image) { m.Step = 5 }, "step"},
		"data":       {func(m *msgs.Image) { m.Data = m.Data[:11] }, "data"},
		"overflow":   {func(m *msgs.Image) { m.Step = 1<<32 - 1 }, "data"},
		"odd yuv":    {func(m *msgs.Image) { m.Encoding, m.Width = "yuv422", 1 }, "even"},
	} {
		m := good
		tc.change(&m)
		if _, err := Decode(&m); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected a word on %s", name, err, tc.want)
		}
	}
	for name, m := range map[string]msgs.CompressedImage{
		"empty": {Format: "jpeg"}, "garbage": {Format: "jpeg", Data: []byte("garbage")}, "depth": {Format: "16UC1; compressedDepth png", Data: []byte{1}},
	} {
		if _, err := DecodeCompressed(&m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A PNG that claims to be huge is refused before it is decoded.
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	copy(data[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0})
	if _, err := DecodeBytes(data); err == nil {
		t.Error("a PNG of 65536×65536 was accepted")
	}
}

func TestFromImageKinds(t *testing.T) {
	c := color.RGBA{200, 30, 10, 255}
	r := image.Rect(3, 5, 7, 9)
	rgba, nrgba, pal := image.NewRGBA(r), image.NewNRGBA(r), image.NewPaletted(r, color.Palette{color.Black, c})
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			rgba.Set(x, y, c)
			nrgba.Set(x, y, c)
			pal.Set(x, y, c)
		}
	}
	for _, m := range []image.Image{rgba, nrgba, pal} {
		p, err := FromImage(m)
		if err != nil {
			t.Fatal(err)
		}
		if r, g, b := p.At(3, 3); p.Width != 4 || r != 200 || g != 30 || b != 10 {
			t.Errorf("%T: %d×%d, %d %d %d", m, p.Width, p.Height, r, g, b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for name := range layouts {
		f.Add(name, uint32(2), uint32(2), uint32(16), []byte("0123456789abcdef0123456789abcdef"))
	}
	f.Add("bayer_rggb8", uint32(3), uint32(3), uint32(3), []byte("012345678"))
	f.Fuzz(func(_ *testing.T, encoding string, w, h, step uint32, data []byte) {
		_, _ = Decode(&msgs.Image{Width: w, Height: h, Step: step, Encoding: encoding, Data: data})
		_, _ = DecodeBytes(data)
		_, _ = DecodeCompressed(&msgs.CompressedImage{Format: encoding + "; png compressed ", Data: data})
	})
}

// Pillow does the same in the same run, where it is installed.
func BenchmarkResize(b *testing.B) {
	p, err := NewRGB(1920, 1080)
	if err != nil {
		b.Fatal(err)
	}
	for i := range p.Pix {
		p.Pix[i] = uint8(i * 7)
	}
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Resize(384, 384); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pillow", func(b *testing.B) {
		script := "import sys,time\nfrom PIL import Image\nim=Image.frombytes('RGB',(1920,1080),bytes(i*7%256 for i in range(1920*1080*3)))\n" +
			"n=int(sys.argv[1]);t=time.perf_counter()\nfor _ in range(n): im.resize((384,384),Image.BICUBIC)\nprint((time.perf_counter()-t)/n*1e9)"
		out, err := exec.Command("python3", "-c", script, "20").Output()
		if err != nil {
			b.Skip("no Python with Pillow here (pip install pillow)")
		}
		b.Logf("Pillow: %s ns/op", strings.TrimSpace(string(out)))
	})
}
