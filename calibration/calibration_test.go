package calibration

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
)

func camera(model string, d ...float64) *Intrinsics {
	return &Intrinsics{Width: 640, Height: 480, K: [9]float64{585, 0, 320, 0, 580, 240, 0, 0, 1}, Model: model, D: d, BinningX: 1, BinningY: 1}
}

// Distorted pixels of ideal ones, by OpenCV (projectPoints, fisheye.distortPoints), 1e-6 px.
func TestDistortLikeOpenCV(t *testing.T) {
	points := [][2]float64{{320, 240}, {100, 50}, {600, 400}, {10, 470}}
	for _, tc := range []struct {
		in   *Intrinsics
		want [][2]float64
	}{
		{camera(PlumbBob, -0.28, 0.07, 0.0005, -0.0003, 0.01), opencvPlumbBob},
		{camera(RationalPolynomial, 0.3, -0.2, 0.001, 0.0005, 0.05, 0.6, -0.15, 0.02), opencvRational},
		{camera(Equidistant, -0.02, 0.01, -0.005, 0.001), opencvFisheye},
	} {
		for i, p := range points {
			u, v := tc.in.Distort(p[0], p[1])
			if math.Hypot(u-tc.want[i][0], v-tc.want[i][1]) > 1e-6 {
				t.Errorf("%s: %v goes to %.7f %.7f, expected %v", tc.in.Model, p, u, v, tc.want[i])
			}
		}
	}
}

func TestUndistortInverts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, in := range []*Intrinsics{camera(PlumbBob, -0.28, 0.07, 0.0005, -0.0003, 0.01), camera(Equidistant, -0.02, 0.01, -0.005, 0.001),
		camera(RationalPolynomial, 0.3, -0.2, 0.001, 0.0005, 0.05, 0.6, -0.15, 0.02), camera("")} {
		for range 300 {
			u, v := r.Float64()*640, r.Float64()*480
			du, dv := in.Distort(u, v)
			back, ok := in.Undistort(du, dv)
			if !ok || math.Hypot(back[0]-u, back[1]-v) > 1e-6 {
				t.Fatalf("%s: %g %g came back as %v (%v)", in.Model, u, v, back, ok)
			}
		}
	}
}

// A straight line seen through a lens is straight again after rectification.
func TestRectify(t *testing.T) {
	in := camera(PlumbBob, -0.28, 0.07, 0, 0, 0)
	p, err := imaging.NewRGB(640, 480)
	if err != nil {
		t.Fatal(err)
	}
	for y := range 480 {
		for x := range 640 {
			ideal, ok := in.Undistort(float64(x), float64(y))
			if ok && ideal[0] > 200 {
				p.Pix[3*(y*640+x)] = 255
			}
		}
	}
	r, err := NewRectifier(in, 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Rectify(p)
	if err != nil {
		t.Fatal(err)
	}
	for y := 20; y < 460; y += 20 {
		left, _, _ := out.At(196, y)
		right, _, _ := out.At(204, y)
		if left > 20 || right < 235 {
			t.Errorf("row %d: %d left and %d right of the line", y, left, right)
		}
	}
	if r.K() != in.K {
		t.Errorf("K is %v, expected the camera's own", r.K())
	}
	flat, err := NewRectifier(camera(PlumbBob, 0, 0, 0, 0, 0), 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := flat.Rectify(p); err != nil || same != p {
		t.Error("a camera without distortion changed its picture")
	}
	if _, err := r.Rectify(&imaging.RGB{Width: 2, Height: 2, Pix: make([]uint8, 12)}); err == nil {
		t.Error("a picture of another size was rectified")
	}
}

func TestRegionAndBinning(t *testing.T) {
	in := camera("")
	in.ROI, in.BinningX, in.BinningY = ROI{100, 40, 400, 300}, 2, 2
	out, err := in.For(200, 150)
	if err != nil {
		t.Fatal(err)
	}
	if out.K != [9]float64{292.5, 0, 110, 0, 290, 100, 0, 0, 1} {
		t.Errorf("K is %v", out.K)
	}
	if _, err := in.For(640, 480); err == nil || !strings.Contains(err.Error(), "200×150") {
		t.Errorf("%v", err)
	}
	if k := Scaled(camera("").K, 640, 480, 320, 240); k[0] != 292.5 || k[5] != 120 || k[8] != 1 {
		t.Errorf("scaled K is %v", k)
	}
}

func TestRefusals(t *testing.T) {
	good := msgs.CameraInfo{Width: 640, Height: 480, K: camera("").K, DistortionModel: PlumbBob, D: make([]float64, 5)}
	if _, err := FromCameraInfo(&good); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*msgs.CameraInfo)
		want   string
	}{
		"uncalibrated": {func(m *msgs.CameraInfo) { m.K = [9]float64{} }, "not calibrated"},
		"no size":      {func(m *msgs.CameraInfo) { m.Width = 0 }, "width"},
		"other size":   {func(m *msgs.CameraInfo) { m.Width, m.Height = 64, 48 }, "principal point"},
		"nan":          {func(m *msgs.CameraInfo) { m.K[4] = math.NaN() }, "K[4]"},
		"model":        {func(m *msgs.CameraInfo) { m.DistortionModel = "wobbly" }, "wobbly"},
		"short D":      {func(m *msgs.CameraInfo) { m.D = []float64{1, 2} }, "D has 2"},
		"nan D":        {func(m *msgs.CameraInfo) { m.D = []float64{1, 2, 3, math.Inf(1)} }, "D[3]"},
		"negative":     {func(m *msgs.CameraInfo) { m.K[0] = -585 }, "focal"},
		"nan R":        {func(m *msgs.CameraInfo) { m.R[4] = math.NaN() }, "R[4]"},
		"no rotation":  {func(m *msgs.CameraInfo) { m.R = [9]float64{5, 0, 0, 0, 1, 0, 0, 0, 1} }, "R is"},
		"mirror":       {func(m *msgs.CameraInfo) { m.R = [9]float64{-1, 0, 0, 0, 1, 0, 0, 0, 1} }, "mirrors"},
		"nan P":        {func(m *msgs.CameraInfo) { m.P = [12]float64{585, 0, math.NaN(), 0, 0, 580} }, "P[2]"},
		"wild P":       {func(m *msgs.CameraInfo) { m.P = [12]float64{585, 0, 1e9, 0, 0, 580} }, "of P"},
		"D, no model":  {func(m *msgs.CameraInfo) { m.DistortionModel, m.D = "", []float64{0.1, 0.2} }, "model is empty"},
		"not K":        {func(m *msgs.CameraInfo) { m.K[8] = 0 }, "K is"},
	} {
		m := good
		tc.change(&m)
		if _, err := FromCameraInfo(&m); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected a word on %q", name, err, tc.want)
		}
	}
}

func TestCameraFile(t *testing.T) {
	in := camera(PlumbBob, 0.1, 0.2, 0.3, 0.4, 0.5)
	in.P = [12]float64{500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0}
	in.R = [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := WriteCamera(path, "front", in); err != nil {
		t.Fatal(err)
	}
	back, err := ReadCamera(path)
	if err != nil || !reflect.DeepEqual(back, in) {
		t.Errorf("%+v (%v), expected %+v", back, err, in)
	}
	for _, bad := range []string{"camera_matrix: {rows: 3, cols: 3, data: [1,2]}", "image_width: many", ": : :"} {
		if _, err := ParseCamera([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestExtrinsics(t *testing.T) {
	links, err := ParseExtrinsics([]byte("links:\n  - {parent: base_link, child: optical, xyz: [0.1, 0, 1.2], rpy: [-1.5707963267948966, 0, -1.5707963267948966]}\n" +
		"  - {parent: base_link, child: b, xyz: [0, 0, 0], quaternion: [0, 0, 0, 1]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	// REP-103: what lies ahead of the camera (optical z) lies ahead of the robot (x), its right (optical x) is the robot's −y.
	ahead, right := links[0].Transform.Rotate(r3.Vec{Z: 1}), links[0].Transform.Rotate(r3.Vec{X: 1})
	if r3.Norm(r3.Sub(ahead, r3.Vec{X: 1})) > 1e-9 || r3.Norm(r3.Sub(right, r3.Vec{Y: -1})) > 1e-9 {
		t.Errorf("ahead is %v, right is %v", ahead, right)
	}
	for _, bad := range []string{"", "links: []", "links: [{parent: a, child: a, xyz: [0,0,0], rpy: [0,0,0]}]", "links: [{parent: a, child: b, xyz: [0,0], rpy: [0,0,0]}]",
		"links: [{parent: a, child: b, xyz: [0,0,0]}]", "links: [{parent: a, child: b, xyz: [0,0,0], quaternion: [0,0,0,2]}]",
		"links: [{parent: a, child: b, xyz: [0,0,.nan], rpy: [0,0,0]}]", "links: [{parent: a, child: b, typo: 1, xyz: [0,0,0], rpy: [0,0,0]}]"} {
		if _, err := ParseExtrinsics([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("links:\n  - {parent: a, child: b, xyz: [0, 0, 1], rpy: [0, 0, 0]}\n"))
	f.Add([]byte("links:\n !0 #0"))
	f.Add([]byte("image_width: 640\nimage_height: 480\ncamera_matrix: {rows: 3, cols: 3, data: [1,0,1,0,1,1,0,0,1]}\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ParseCamera(data)
		_, _ = ParseExtrinsics(data)
	})
}

// What was not given is written as what it means.
func TestWriteWithoutRectification(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := WriteCamera(path, "front", camera(PlumbBob, 0.1, 0.2, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	back, err := ReadCamera(path)
	if err != nil {
		t.Fatal(err)
	}
	if back.R != [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1} || back.P != [12]float64{585, 0, 320, 0, 0, 580, 240, 0, 0, 0, 1, 0} {
		t.Errorf("R is %v, P is %v", back.R, back.P)
	}
}

// Errors say on which line of a file they are.
func TestLines(t *testing.T) {
	link := func(s string) string {
		return "# the camera\nlinks:\n  - {parent: a, child: b, xyz: [0, 0, 0], rpy: [0, 0, 0]}\n  - " + s + "\n"
	}
	const head = "image_width: 640\nimage_height: 480\n"
	for _, tc := range []struct {
		camera     bool
		text, want string
	}{
		{false, link("{parent: a, child: c, xyz: [0, 0], rpy: [0, 0, 0]}"), "line 4: xyz has 2"},
		{false, link("{parent: a, child: c, xyz: [0, 0, 0]}"), "line 4: a to c: expected either"},
		{false, link("{parent: a, child: b, xyz: [0, 0, 0], rpy: [0, 0, 0]}"), "line 4: b has a parent already, at line 3"},
		{false, link("parent: a\n    child: c\n    xyz: [0, 0, .nan]\n    rpy: [0, 0, 0]"), "line 6: xyz[2] is NaN"},
		{false, link("parent: a\n    child: c\n    xyz: [0, 0, 0]\n    quaternion: [0, 0, 0, 2]"), "line 7: quaternion"},
		{false, link("{parent: a, child: c, typo: 1}"), "line 4: \"typo\""},
		{false, "links: " + strings.Repeat("[", 5000), "line 1: nested"},
		{false, "links:\n !0 #", "line"}, // go-yaml's own decoder panics on this
		{true, head + "camera_matrix:\n  rows: 3\n  cols: 3\n  data: [1, 2]\n", "line 6: camera_matrix.data has 2"},
		{true, head + "camera_matrix: {rows: 3, cols: 2, data: [585, 0, 320, 0, 580, 240, 0, 0, 1]}\n", "line 3: camera_matrix.data has 9 numbers, its rows"},
		{true, head + "camera_matrix: {data: [585, 0, 320, 0, x, 240, 0, 0, 1]}\n", "line 3: data[4]"},
		{true, "image_width: many\n", "line 1: image_width"},
		{true, head, "camera_matrix is missing"},
	} {
		var err error
		if tc.camera {
			_, err = ParseCamera([]byte(tc.text))
		} else {
			_, err = ParseExtrinsics([]byte(tc.text))
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, expected %q", tc.text, err, tc.want)
		}
	}
	var many strings.Builder // on one line, as JSON is
	for i := range 100 {
		fmt.Fprintf(&many, "{parent: a, child: c%d, xyz: [0, 0, 0], rpy: [0, 0, 0]},", i)
	}
	if links, err := ParseExtrinsics([]byte("links: [" + many.String() + "]")); err != nil || len(links) != 100 {
		t.Errorf("%d links, %v", len(links), err)
	}
	// As ROS's own calibrator writes it: flow lists over lines, exponents.
	in, err := ParseCamera([]byte(head + "camera_name: front\ncamera_matrix:\n  rows: 3\n  cols: 3\n  data: [585., 0, 320,\n         0, 5.8e2, 240, 0, 0, 1]\ndistortion_model: plumb_bob\n" +
		"distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [-0.1, 1e-05, 0, 0, 0]\n"))
	if err != nil || in.K != camera("").K || in.D[1] != 1e-5 || in.D[0] != -0.1 {
		t.Errorf("%+v %v", in, err)
	}
}
