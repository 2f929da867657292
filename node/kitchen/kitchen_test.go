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
		k, err := Generate(Options{Seed: seed, Seconds: 3, Rate: 5, Width: 96, Height: 72})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "k"+ending)
		if err := Write(t.Context(), k, path, nil); err != nil {
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
	k, err := Generate(Options{Seed: 1, Seconds: 3, Rate: 10, Width: 96, Height: 72})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k.bag")
	if err := Write(t.Context(), k, path, nil); err != nil {
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
	if counts[ImageTopic] != len(k.Frames) || counts[InfoTopic] != len(k.Frames) || counts[MapTopic] != 1 || counts["/tf_static"] != 1 || counts["/tf"] < 60 {
		t.Errorf("messages: %v", counts)
	}
}

// The optical frame through TF is exactly where the picture was taken, at the stamps of TF.
func TestTransforms(t *testing.T) {
	k, err := Generate(Options{Seed: 5, Seconds: 4, Width: 96, Height: 72})
	if err != nil {
		t.Fatal(err)
	}
	for at := 0.0; at < k.Seconds(); at += 0.13 {
		drift := k.MapToOdom(at)
		got := drift.Mul(drift.Inverse().Mul(k.Base(at))).Mul(CameraLink()).Mul(OpticalLink())
		want := k.Camera(at)
		if d := r3.Norm(r3.Sub(got.Translation, want.Translation)); d > 1e-9 || geometry.Angle(got, want) > 1e-6 {
			t.Fatalf("at %.2f s TF is off by %g m", at, d)
		}
	}
}

// The map agrees with the pictures: its points lie where the depth picture has a surface, or behind one.
func TestMapAgreesWithPictures(t *testing.T) {
	k, err := Generate(Options{Seed: 9, Seconds: 3, Width: 160, Height: 120, MapNoise: -1, MapHoles: -1, Quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	cloud, classes := k.Cloud()
	if cloud.Len() != len(classes) || cloud.Len() < 20000 {
		t.Fatalf("%d points, %d classes", cloud.Len(), len(classes))
	}
	var pic render.Picture
	k.Picture(3, &pic)
	inv := k.Frames[3].Camera.Inverse()
	kk := k.Options.Camera().K()
	near, far, before := 0, 0, 0
	for i := range cloud.Len() {
		p := inv.Apply(cloud.Point(i))
		if p.Z < 0.3 {
			continue
		}
		u, v := int(math.Round(kk[0]*p.X/p.Z+kk[2])), int(math.Round(kk[4]*p.Y/p.Z+kk[5]))
		if u < 0 || v < 0 || u >= pic.Width || v >= pic.Height {
			continue
		}
		switch d := float64(pic.Depth[v*pic.Width+u]) - p.Z; {
		case math.Abs(d) < 0.06:
			near++
		case d > 0:
			before++ // the map has something before what the picture shows: only at edges
		default:
			far++
		}
	}
	if near < 2000 || before > near/8 {
		t.Errorf("of the points in view %d lie on the surface, %d before it, %d behind", near, before, far)
	}
}

// No piece stands in another, nobody walks through furniture, and most seeds work.
func TestRooms(t *testing.T) {
	kinds := map[string]bool{}
	for seed := range uint64(30) {
		k, err := Generate(Options{Seed: seed, Seconds: 8, Rate: 2, Width: 64, Height: 48})
		if err != nil {
			t.Fatal(err)
		}
		fromMap := k.ToMap.Inverse()
		for i, a := range k.Boxes {
			kinds[a.Name] = true
			for _, b := range k.Boxes[:i] {
				tucked := (a.Name == "chair" || a.Name == "stool") || (b.Name == "chair" || b.Name == "stool")
				if !tucked && overlap(a, b) {
					t.Errorf("seed %d: %s and %s stand in each other", seed, a.Name, b.Name)
				}
			}
			for _, f := range k.Frames {
				if h := f.Camera.Translation.Z; h < 1.25 || h > 1.75 {
					t.Fatalf("seed %d: the camera is %.2f m up", seed, h)
				}
				if a.Z > 0.5 {
					continue
				}
				dx, dy := f.Camera.Translation.X-a.X, f.Camera.Translation.Y-a.Y
				sin, cos := math.Sincos(-a.Yaw)
				if x, y := dx*cos-dy*sin, dx*sin+dy*cos; math.Abs(x) < a.Width/2 && math.Abs(y) < a.Depth/2 {
					t.Fatalf("seed %d: the walk goes through the %s", seed, a.Name)
				}
			}
		}
		for _, f := range k.Frames {
			if p := fromMap.Apply(f.Camera.Translation); p.X < 0.2 || p.Y < 0.2 || p.X > k.Width-0.2 || p.Y > k.Depth-0.2 {
				t.Fatalf("seed %d: the walk leaves the room at %v", seed, p)
			}
		}
	}
	if len(kinds) < 25 {
		t.Errorf("30 rooms have %d categories of furniture, expected 25 or more", len(kinds))
	}
}

// overlap tells whether two boxes share space, by the separating axes of both.
func overlap(a, b Box) bool {
	const slack = 0.03
	if a.Z+a.Height < b.Z+slack || b.Z+b.Height < a.Z+slack {
		return false
	}
	for _, yaw := range []float64{a.Yaw, a.Yaw + math.Pi/2, b.Yaw, b.Yaw + math.Pi/2} {
		sin, cos := math.Sincos(yaw)
		reach := func(c Box) float64 {
			s, co := math.Sincos(c.Yaw - yaw)
			return math.Abs(co)*c.Width/2 + math.Abs(s)*c.Depth/2
		}
		if math.Abs((b.X-a.X)*cos+(b.Y-a.Y)*sin) > reach(a)+reach(b)-slack {
			return false
		}
	}
	return true
}

func TestRefusals(t *testing.T) {
	for _, o := range []Options{{Seconds: 1000}, {Rate: -1}, {Width: 4, Height: 4}, {Seconds: math.NaN()}, {Layout: "round"}, {MissingTF: "all"}, {MapEdge: 5}, {PoseTrans: 7}, {Items: 99}} {
		if _, err := Generate(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	k, err := Generate(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), k, filepath.Join(t.TempDir(), "no", "such", "k.bag"), nil); err == nil {
		t.Error("a bag in a folder that is not there was written")
	}
}
