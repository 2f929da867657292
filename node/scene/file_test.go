package scene

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func randomCloud(seed uint64, n int, color bool) *Cloud {
	r := rand.New(rand.NewPCG(seed, 0))
	c := &Cloud{HasColor: color}
	for range 3 * n {
		c.XYZ = append(c.XYZ, 5*r.NormFloat64())
		v := uint8(Grey)
		if color {
			v = uint8(r.IntN(256))
		}
		c.RGB = append(c.RGB, v)
	}
	return c
}

func TestFilesRoundTrip(t *testing.T) {
	for _, color := range []bool{true, false} {
		c := randomCloud(1, 500, color)
		for _, name := range []string{"a.npy", "a.ply", "A.GLB"} {
			path := filepath.Join(t.TempDir(), name)
			if err := WriteFile(path, c); err != nil {
				t.Fatal(err)
			}
			got, dropped, err := ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if dropped != (Dropped{}) || got.HasColor != color || !slices.Equal(got.RGB, c.RGB) {
				t.Errorf("%s: dropped %+v, colour %v, or other colours", name, dropped, got.HasColor)
			}
			for i := range c.XYZ {
				tolerance := 0.0
				if name == "A.GLB" {
					tolerance = 2e-6 // float32 about the middle
				}
				if math.Abs(got.XYZ[i]-c.XYZ[i]) > tolerance {
					t.Fatalf("%s: coordinate %d is %v, expected %v", name, i, got.XYZ[i], c.XYZ[i])
				}
			}
		}
	}
	if _, _, err := ReadFile("a.xyz"); err == nil || !strings.Contains(err.Error(), ".npy, .ply or .glb") {
		t.Errorf("unknown ending: %v", err)
	}
}

func TestPLYFormats(t *testing.T) {
	c := randomCloud(2, 50, true)
	for _, f := range []PLYFormat{PLYASCII, PLYBinaryLittleEndian, PLYBinaryBigEndian} {
		var b bytes.Buffer
		if err := WritePLY(&b, c, f); err != nil {
			t.Fatal(err)
		}
		got, _, err := ReadPLY(&b)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.XYZ, c.XYZ) || !slices.Equal(got.RGB, c.RGB) {
			t.Errorf("%s: another cloud comes back", f)
		}
	}
}

func TestPLYFromElsewhere(t *testing.T) {
	text := "ply\r\nformat ascii 1.0\r\ncomment by hand\r\nelement face 2\r\nproperty list uchar int vertex_indices\r\n" +
		"element vertex 3\r\nproperty float nx\r\nproperty float z\r\nproperty float y\r\nproperty float x\r\n" +
		"property float diffuse_red\r\nproperty float diffuse_green\r\nproperty float diffuse_blue\r\nend_header\r\n" +
		"3 0 1 2\r\n0\r\n9 3 2 1 0 0.5 1\r\n9 nan 2 1 0 0 0\r\n9 6 5 4 1 1 0\r\n"
	c, dropped, err := ReadPLY(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.XYZ, []float64{1, 2, 3, 4, 5, 6}) || !slices.Equal(c.RGB, []uint8{0, 128, 255, 255, 255, 0}) || dropped.NotFinite != 1 {
		t.Errorf("got %v %v %+v", c.XYZ, c.RGB, dropped)
	}
}

func TestNPYTypes(t *testing.T) {
	head := func(descr, shape string) string {
		h := "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n"
		return "\x93NUMPY\x01\x00" + string([]byte{byte(len(h)), 0}) + h
	}
	c, _, err := ReadNPY(strings.NewReader(head("|u1", "(1, 6)") + "\x01\x02\x03\x04\x05\xff"))
	if err != nil || !slices.Equal(c.XYZ, []float64{1, 2, 3}) || !slices.Equal(c.RGB, []uint8{4, 5, 255}) {
		t.Errorf("u1: %v %v", c, err)
	}
	c, _, err = ReadNPY(strings.NewReader(head(">f4", "(1, 6)") + "\x3f\x80\x00\x00\xc0\x00\x00\x00\x40\x40\x00\x00" + strings.Repeat("\x3f\x80\x00\x00", 3)))
	if err != nil || !slices.Equal(c.XYZ, []float64{1, -2, 3}) || !slices.Equal(c.RGB, []uint8{255, 255, 255}) {
		t.Errorf(">f4: %v %v", c, err)
	}
	c, _, err = ReadNPY(strings.NewReader(head("<i2", "(1, 3)") + "\xff\xff\x02\x00\x03\x00"))
	if err != nil || !slices.Equal(c.XYZ, []float64{-1, 2, 3}) || c.HasColor || c.RGB[0] != Grey {
		t.Errorf("<i2: %v %v", c, err)
	}
}

func TestBadFiles(t *testing.T) {
	npy := func(h string) string { return "\x93NUMPY\x01\x00" + string([]byte{byte(len(h)), 0}) + h }
	ply := func(h string) string { return "ply\n" + h + "end_header\n" }
	var whole bytes.Buffer
	if err := WriteGLB(&whole, randomCloud(3, 10, true)); err != nil {
		t.Fatal(err)
	}
	glb := whole.String()
	for _, c := range []struct {
		name, text, want string
		read             func(io.Reader) (*Cloud, Dropped, error)
	}{
		{"npy magic", "hello world", "magic", ReadNPY},
		{"npy empty", "", "magic", ReadNPY},
		{"npy object", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 6)}"), "'descr' is \"|O\"", ReadNPY},
		{"npy fortran", npy("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 6)}"), "fortran_order", ReadNPY},
		{"npy shape", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}"), "'shape'", ReadNPY},
		{"npy huge", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000000000000, 6)}"), "row 0 of", ReadNPY},
		{"ply magic", "plx\n", "header line 1", ReadPLY},
		{"ply no vertex", ply("format ascii 1.0\n"), "no element vertex", ReadPLY},
		{"ply no z", ply("format ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"), "no property z", ReadPLY},
		{"ply short", ply("format ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n") + "1 2 3 4\n", "vertex 1 of 2: property y", ReadPLY},
		{"ply word", ply("format ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n") + "1 two 3\n", "property y", ReadPLY},
		{"ply hollow", ply("format ascii 1.0\nelement face 9000000000000000000\nelement vertex 1\nproperty float x\n"), "no properties", ReadPLY},
		{"ply list", ply("format ascii 1.0\nelement face 1\nproperty list int int v\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n") + "-1", "list length", ReadPLY},
		{"ply format", ply("format ebcdic 1.0\n"), "header line 2", ReadPLY},
		{"glb magic", "notaglbfile!", "magic", ReadGLB},
		{"glb cut", glb[:len(glb)-20], "bytes", ReadGLB},
		{"glb circle", glbOf(`{"scenes":[{"nodes":[0]}],"nodes":[{"children":[0]}]}`), "circle", ReadGLB},
		{"glb no mesh", glbOf(`{"scenes":[{"nodes":[0]}],"nodes":[{}]}`), "no mesh", ReadGLB},
		{"glb range", glbOf(`{"nodes":[{"mesh":0}],"meshes":[{"primitives":[{"attributes":{"POSITION":0}}]}],"accessors":[{"bufferView":0,"componentType":5126,"type":"VEC3","count":1}],"bufferViews":[{"byteLength":12}]}`), "bufferView 0", ReadGLB},
	} {
		_, _, err := c.read(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected one that says %q", c.name, err, c.want)
		}
	}
}

func glbOf(text string) string {
	n := len(text)
	le := func(v int) string { return string([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}) }
	return "glTF" + le(2) + le(20+n) + le(n) + "JSON" + text
}

func fuzzReader(f *testing.F, read func(io.Reader) (*Cloud, Dropped, error)) {
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if c.Bytes() > 1<<20+200*len(data) {
			t.Fatalf("%d bytes of cloud from %d bytes of file", c.Bytes(), len(data))
		}
	})
}

func FuzzReadNPY(f *testing.F) {
	var b bytes.Buffer
	if err := WriteNPY(&b, randomCloud(4, 3, true)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	fuzzReader(f, ReadNPY)
}

func FuzzReadPLY(f *testing.F) {
	for _, format := range []PLYFormat{PLYASCII, PLYBinaryLittleEndian, PLYBinaryBigEndian} {
		var b bytes.Buffer
		if err := WritePLY(&b, randomCloud(5, 3, true), format); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	fuzzReader(f, ReadPLY)
}

func FuzzReadGLB(f *testing.F) {
	for _, color := range []bool{true, false} {
		var b bytes.Buffer
		if err := WriteGLB(&b, randomCloud(6, 3, color)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(glbOf(`{"scenes":[{"nodes":[0]}],"nodes":[{"children":[0,0],"matrix":[1]}]}`)))
	fuzzReader(f, ReadGLB)
}
