package picture

import (
	"bytes"
	"image/png"
	"os"
	"strings"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/scene"
)

func example(t *testing.T) Input {
	t.Helper()
	in := Input{Title: "q1 · nano-untrained", Question: "Where is the sink?", Answer: "The sink is to the left of the person. " + strings.Repeat("And so on. ", 60),
		Map: &scene.Cloud{HasColor: true}, MapID: "0123456789abcdef", Boxes: []Box{{Name: "sink", X: 2, Y: 1, Width: 0.8, Depth: 0.6, Yaw: 0.3, Asked: true}, {X: 1, Y: 3, Width: 1, Depth: 1},
			{Name: "counter", X: 1, Y: 0.4, Width: 1, Depth: 0.6, Answered: true}, {Name: "teapot", X: 1, Y: 0.4, Width: itemSize, Depth: itemSize, Small: true, Asked: true}},
		Regions: []Region{{X: 2, Y: 1, Radius: 0.4, Weight: 0.5}, {X: 3, Y: 3, Radius: 0.2, Weight: 0.1}}}
	for i := range 4000 {
		in.Map.XYZ = append(in.Map.XYZ, float64(i%80)*0.05, float64(i/80)*0.08, float64(i%7)*0.4)
		in.Map.RGB = append(in.Map.RGB, 200, uint8(i), 120)
	}
	img, err := imaging.NewRGB(160, 120)
	if err != nil {
		t.Fatal(err)
	}
	for i := range img.Pix {
		img.Pix[i] = uint8(i)
	}
	for i := range 7 {
		p := geometry.Identity()
		p.Translation = r3.Vec{X: 0.5 + 0.3*float64(i), Y: 2, Z: 1.4}
		in.Path = append(in.Path, p)
		in.Frames = append(in.Frames, Frame{Picture: img, Seconds: float64(i) - 7, Pose: p, K: [9]float64{585, 0, 320, 0, 585, 240, 0, 0, 1}, Width: 640, Weight: 0.1 * float64(i)})
	}
	in.Frames = append(in.Frames, Frame{Seconds: 0, Pose: geometry.Identity()})
	return in
}

func TestWindow(t *testing.T) {
	a, err := Window(example(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Window(example(t))
	if err != nil || !bytes.Equal(a, b) {
		t.Error("the same input gave other bytes")
	}
	img, err := png.Decode(bytes.NewReader(a))
	if err != nil || img.Bounds().Dx() != width {
		t.Errorf("%v, %v", img.Bounds(), err)
	}
	if path := os.Getenv("STLLM_PICTURE"); path != "" {
		if err := os.WriteFile(path, a, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWindowOfNothing(t *testing.T) {
	if _, err := Window(Input{Question: strings.Repeat("x", 5000), Answer: "\x00\xff\n"}); err != nil {
		t.Error(err)
	}
}

// The legend names what is in the picture and nothing else.
func TestLegend(t *testing.T) {
	whole := example(t)
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"nothing":      {Input{}, ""},
		"whole":        {whole, "asked about, named in the answer, other furniture, camera when asked, its path, view of a frame, looked at here, frame's share of the looking"},
		"no evidence":  {Input{Path: whole.Path, Frames: []Frame{{}}}, "camera when asked, its path, view of a frame"},
		"both at once": {Input{Boxes: []Box{{Asked: true, Answered: true}}}, "asked about"},
	} {
		var got []string
		for _, e := range legend(c.in) {
			got = append(got, e.text)
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %q, expected %q", name, text, c.want)
		}
	}
}
