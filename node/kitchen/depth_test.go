package kitchen

import (
	"bytes"
	"errors"
	"io"
	"math"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen/render"
)

// messages reads a bag: for each message its topic, time and bytes, and the depth images.
func messages(t *testing.T, path string) (all []string, depth []*msgs.Image) {
	t.Helper()
	r, err := bags.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	it := r.Messages(bags.Filter{})
	defer it.Close()
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			return all, depth
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if m.Connection.Topic == DepthTopic {
			depth = append(depth, d.(*msgs.Image))
			continue
		}
		var b bytes.Buffer
		b.WriteString(m.Connection.Topic)
		b.Write(m.Data)
		all = append(all, b.String())
	}
}

// A depth camera adds its topic, the same for the same seed, and changes nothing else.
func TestDepthCamera(t *testing.T) {
	write := func(depth bool) (string, *Kitchen) {
		k, err := Generate(Options{Seed: 3, Seconds: 3, Rate: 5, Width: 160, Height: 120, Depth: depth})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "k.bag")
		if err := Write(t.Context(), k, path, nil); err != nil {
			t.Fatal(err)
		}
		return path, k
	}
	plain, _ := write(false)
	with, k := write(true)
	again, _ := write(true)
	others, none := messages(t, plain)
	same, depth := messages(t, with)
	_, twice := messages(t, again)
	if len(none) != 0 || len(depth) != len(k.Frames) || len(twice) != len(depth) {
		t.Fatalf("%d depth images without the option, %d and %d with it, of %d pictures", len(none), len(depth), len(twice), len(k.Frames))
	}
	if len(others) != len(same) {
		t.Fatalf("%d other messages with a depth camera, %d without", len(same), len(others))
	}
	for i := range others {
		if others[i] != same[i] {
			t.Fatalf("message %d differs with a depth camera", i)
		}
	}
	var pic render.Picture
	var near, far [2]float64 // sum of squares and number of the errors at 1 to 2 m and at 3 to 5 m
	measured, total := 0, 0
	for i, m := range depth {
		if !bytes.Equal(m.Data, twice[i].Data) {
			t.Fatalf("depth image %d differs from that of the same seed", i)
		}
		if m.Header.Stamp.UnixNano() != k.Frames[i].Stamp || m.Header.FrameID != opticalName || m.Encoding != "16UC1" {
			t.Fatalf("depth image %d: %+v %s", i, m.Header, m.Encoding)
		}
		d, err := imaging.ReadDepth(m)
		if err != nil {
			t.Fatal(err)
		}
		k.Picture(i, &pic)
		for j, want := range pic.Depth {
			z := d.At(j%160, j/160)
			total++
			if z == 0 {
				continue
			}
			measured++
			if want > depthFar || want < depthNear {
				t.Fatalf("picture %d: %g m was measured, which is out of range", i, want)
			}
			off := float64(z - want)
			if math.Abs(off) > 0.03*float64(want*want)+0.001 {
				t.Fatalf("picture %d, pixel %d: %g m for %g m", i, j, z, want)
			}
			switch {
			case want > 1 && want < 2:
				near[0], near[1] = near[0]+off*off, near[1]+1
			case want > 3 && want < 5:
				far[0], far[1] = far[0]+off*off, far[1]+1
			}
		}
	}
	if share := float64(measured) / float64(total); share < 0.6 || share > 0.98 {
		t.Errorf("%.2f of all pixels are measured", share)
	}
	a, b := math.Sqrt(near[0]/near[1]), math.Sqrt(far[0]/far[1])
	t.Logf("%.2f measured, error %.1f mm at 1 to 2 m, %.1f mm at 3 to 5 m", float64(measured)/float64(total), 1000*a, 1000*b)
	if !(a > 0.002 && a < 0.01 && b > 4*a && b < 12*a) {
		t.Errorf("errors of %g m at 1 to 2 m and %g m at 3 to 5 m: they should grow with the square of the distance", a, b)
	}
}
