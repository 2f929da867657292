package kitchen

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/render"
)

func TestSameSeedSameBytes(t *testing.T) {
	read := func(seed uint64, ending string) []byte {
		k, err := Generate(Options{Seed: seed, Seconds: 2, Rate: 5, Width: 96, Height: 72})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "k"+ending)
		if err := Write(k, path, nil); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, beside := range []string{".scene.json", ".questions.yaml"} {
			if _, err := os.Stat(path[:len(path)-len(ending)] + beside); err != nil {
				t.Error(err)
			}
		}
		return data
	}
	for _, ending := range []string{".bag", ".mcap"} {
		if !bytes.Equal(read(3, ending), read(3, ending)) {
			t.Errorf("%s: the same seed gave other bytes", ending)
		}
		if bytes.Equal(read(3, ending), read(4, ending)) {
			t.Errorf("%s: another seed gave the same bytes", ending)
		}
	}
}

func TestBagIsReadable(t *testing.T) {
	k, err := Generate(Options{Seed: 1, Seconds: 2, Rate: 10, Width: 96, Height: 72})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k.bag")
	if err := Write(k, path, nil); err != nil {
		t.Fatal(err)
	}
	r, err := bags.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	it := r.Messages(bags.Filter{})
	defer it.Close()
	counts := map[string]int{}
	last := int64(0)
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.LogTime < last {
			t.Errorf("%s goes back in time", m.Connection.Topic)
		}
		last = m.LogTime
		if _, err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		counts[m.Connection.Topic]++
	}
	if counts[ImageTopic] != 20 || counts[InfoTopic] != 20 || counts[MapTopic] != 1 || counts["/tf_static"] != 1 || counts["/tf"] < 60 {
		t.Errorf("messages: %v", counts)
	}
}

// Rooms are furnished, nothing stands in another thing, and the drive keeps clear of all.
func TestRooms(t *testing.T) {
	for seed := range uint64(40) {
		k, err := Generate(Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Boxes) < 7 {
			t.Errorf("seed %d: only %d pieces", seed, len(k.Boxes))
		}
		for i, a := range k.Boxes {
			for _, b := range k.Boxes[:i] {
				if math.Hypot(a.X-b.X, a.Y-b.Y) < (math.Min(a.Width, a.Depth)+math.Min(b.Width, b.Depth))/2-0.05 {
					t.Errorf("seed %d: %s and %s stand in each other", seed, a.Name, b.Name)
				}
			}
			for _, w := range k.path {
				dx, dy := w.x-a.X, w.y-a.Y
				sin, cos := math.Sincos(-a.Yaw)
				if x, y := dx*cos-dy*sin, dx*sin+dy*cos; math.Abs(x) < a.Width/2 && math.Abs(y) < a.Depth/2 {
					t.Fatalf("seed %d: the robot drives through the %s", seed, a.Name)
				}
			}
		}
	}
}

func TestDirection(t *testing.T) {
	camera := geometry.Identity().Mul(CameraLink()).Mul(OpticalLink()) // looks along +x from above the origin
	for want, p := range map[string][2]float64{"front": {3, 0}, "back": {-3, 0.2}, "left": {0, 3}, "right": {0.1, -3}, "front-left": {2, 2}, "back-right": {-2, -1}, "here": {0.3, 0.4}} {
		if got := Direction(camera, p[0], p[1]); got != want {
			t.Errorf("%v is %s, expected %s", p, got, want)
		}
	}
}

// A point of the map projects to where the renderer draws it.
func TestCameraMatchesRenderer(t *testing.T) {
	k, err := Generate(Options{Seed: 2, Width: 160, Height: 120})
	if err != nil {
		t.Fatal(err)
	}
	var d render.Renderer
	var pic render.Picture
	pose := k.Camera(1)
	d.Draw(render.View{Camera: k.Options.camera(), Pose: pose}, []*render.Mesh{k.mesh()}, 1, &pic)
	kk := k.Options.camera().K()
	inside := 0
	for y := range pic.Height {
		for x := range pic.Width {
			z := float64(pic.Depth[y*pic.Width+x])
			if math.IsInf(z, 0) {
				t.Fatal("the picture has a hole: the room is not closed")
			}
			p := pose.Apply(r3.Vec{X: (float64(x) - kk[2]) / kk[0] * z, Y: (float64(y) - kk[5]) / kk[4] * z, Z: z})
			if p.X > -0.05 && p.X < k.Width+0.05 && p.Y > -0.05 && p.Y < k.Depth+0.05 && p.Z > -0.05 && p.Z < roomHeight+0.05 {
				inside++
			}
		}
	}
	if inside < pic.Width*pic.Height*99/100 {
		t.Errorf("%d of %d pixels lie inside the room", inside, pic.Width*pic.Height)
	}
}

func TestRefusals(t *testing.T) {
	for _, o := range []Options{{Seconds: 1000}, {Rate: -1}, {Width: 4, Height: 4}, {Seconds: math.NaN()}} {
		if _, err := Generate(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	k, err := Generate(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(k, filepath.Join(t.TempDir(), "no", "such", "k.bag"), nil); err == nil {
		t.Error("a bag in a folder that is not there was written")
	}
}
