package calibration

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
)

// depthImage is what a depth camera of some size gives of a scene, in whole millimetres; z tells the depth at a place of the
// original picture of 640 × 480.
func depthImage(t testing.TB, width, height int, z func(u, v float64) float64) *imaging.Depth {
	t.Helper()
	m := &msgs.Image{Width: uint32(width), Height: uint32(height), Step: uint32(2 * width), Encoding: "16UC1", Data: make([]byte, 2*width*height)}
	for y := range height {
		for x := range width {
			mm := math.Round(1000 * z((float64(x)+0.5)*640/float64(width)-0.5, (float64(y)+0.5)*480/float64(height)-0.5))
			if mm > 0 && mm < 65536 {
				binary.LittleEndian.PutUint16(m.Data[2*(y*width+x):], uint16(mm))
			}
		}
	}
	d, err := imaging.ReadDepth(m)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// plane is the depth of a plane a·x + b·y + c·z = 1 (optical frame, metres) along the ray with the given slopes.
func plane(a, b, c, x, y float64) float64 { return 1 / (a*x + b*y + c) }

// A slanted plane, seen through every kind of lens and by depth cameras of several sizes, has the depth at each patch's centre
// that geometry says.
func TestPatchDepthsOfAPlane(t *testing.T) {
	turned := camera(PlumbBob, -0.28, 0.07, 0.0005, -0.0003, 0.01)
	sin, cos := math.Sincos(0.1)
	turned.R = [9]float64{cos, 0, sin, 0, 1, 0, -sin, 0, cos}
	turned.P = [12]float64{500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0}
	const a, b, c = 0.12, -0.1, 0.4 // about 2.5 m ahead
	for name, in := range map[string]*Intrinsics{
		"pinhole": camera(""), "plumb_bob": camera(PlumbBob, -0.28, 0.07, 0.0005, -0.0003, 0.01), "fisheye": camera(Equidistant, -0.02, 0.01, -0.005, 0.001), "turned": turned,
	} {
		r, err := NewRectifier(in, 640, 480)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range [][2]int{{640, 480}, {320, 240}, {1280, 960}, {424, 318}} {
			if size[0] > 640 && in.Distorted() {
				continue // takes seconds to draw
			}
			d := depthImage(t, size[0], size[1], func(u, v float64) float64 {
				p, ok := in.Undistort(u, v)
				if !ok {
					return 0
				}
				return plane(a, b, c, (p[0]-in.K[2])/in.K[0], (p[1]-in.K[5])/in.K[4])
			})
			got, err := r.PatchDepths(d, 8, 0.3, 8)
			if err != nil {
				t.Fatal(err)
			}
			k, seen := r.K(), 0
			for i, z := range got {
				if z == 0 { // outside of the original picture
					continue
				}
				seen++
				x, y := ((float64(i%8)+0.5)*80-k[2])/k[0], ((float64(i/8)+0.5)*60-k[5])/k[4]
				want := plane(a, b, c, x, y)
				if in == turned { // the plane in the rectified frame: its normal turns with R
					m := in.R
					want = plane(m[0]*a+m[1]*b+m[2]*c, m[3]*a+m[4]*b+m[5]*c, m[6]*a+m[7]*b+m[8]*c, x, y)
				}
				// The camera gives whole millimetres.
				if math.Abs(float64(z)-want) > 0.001 {
					t.Errorf("%s, %v: patch %d is %.4f m deep, expected %.4f", name, size, i, z, want)
				}
			}
			if seen < 48 {
				t.Errorf("%s, %v: only %d of 64 patches have a depth", name, size, seen)
			}
		}
	}
}

// Outliers, holes and what is out of range do not reach a patch's depth.
func TestPatchDepthsAreRobust(t *testing.T) {
	r, err := NewRectifier(camera(""), 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	d := depthImage(t, 640, 480, func(u, v float64) float64 {
		switch {
		case u < 80: // the first column of patches: nothing
			return 0
		case u < 160 && random.IntN(10) > 0: // the second: nine of ten pixels lack
			return 0
		case u < 240: // the third: too near
			return 0.2
		case u < 320: // the fourth: too far
			return 9
		case random.IntN(3) == 0: // elsewhere a third of the pixels is far off
			return 0.5 + 7*random.Float64()
		case random.IntN(3) == 0: // and some lack
			return 0
		}
		return 2
	})
	got, err := r.PatchDepths(d, 8, 0.3, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i, z := range got {
		want := float32(2)
		if i%8 < 4 {
			want = 0
		}
		if z != want && !(want == 2 && math.Abs(float64(z)-2) < 0.05) {
			t.Errorf("patch %d is %v m deep, expected %v", i, z, want)
		}
	}
}

func TestPatchDepthsRefuse(t *testing.T) {
	r, err := NewRectifier(camera(""), 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	wide := depthImage(t, 640, 360, func(float64, float64) float64 { return 1 })
	if _, err := r.PatchDepths(wide, 8, 0.3, 8); err == nil || !strings.Contains(err.Error(), "640×360") {
		t.Errorf("another aspect: %v", err)
	}
	if _, err := r.PatchDepths(depthImage(t, 64, 48, func(float64, float64) float64 { return 1 }), 0, 0.3, 8); err == nil {
		t.Error("a grid of 0 was accepted")
	}
	if _, err := r.PatchDepths(depthImage(t, 4, 3, func(float64, float64) float64 { return 1 }), 27, 0.3, 8); err != nil {
		t.Errorf("a coarse depth image: %v", err)
	}
}

func BenchmarkPatchDepths(b *testing.B) {
	d := depthImage(b, 640, 480, func(u, v float64) float64 { return 1 + (u+v)/500 })
	for name, in := range map[string]*Intrinsics{"pinhole": camera(""), "plumb_bob": camera(PlumbBob, -0.28, 0.07, 0.0005, -0.0003, 0.01)} {
		r, err := NewRectifier(in, 640, 480)
		if err != nil {
			b.Fatal(err)
		}
		for _, side := range []int{8, 27} {
			b.Run(fmt.Sprintf("%s-%d", name, side), func(b *testing.B) {
				for b.Loop() {
					if _, err := r.PatchDepths(d, side, 0.3, 8); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
