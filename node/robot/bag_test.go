package robot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"

	"github.com/rs/zerolog"
)

// played is what became of a bag.
type played struct {
	images  int
	frames  []windowFrame
	drops   []Drop
	jumped  bool
	answers []string // JSON of those to the question asked every second
	status  Status
}

// play runs a bag through a robot as replay does; pace, which may be nil, is called before each message.
func play(t *testing.T, path string, tfTimeout float64, pace func()) *played {
	t.Helper()
	reader, err := bags.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	info := reader.Info()
	p := &played{}
	graph := mem.NewGraph()
	node, err := graph.Node("/stllm", map[string]string{"~image": "/camera/color/image_raw", "~map_points": "/map/points"})
	if err != nil {
		t.Fatal(err)
	}
	player, err := graph.Node("/player", nil)
	if err != nil {
		t.Fatal(err)
	}
	var elapsed time.Duration
	set := params.Default()
	set.TFTimeout = tfTimeout
	r, err := New(Config{Transport: node, Params: set, Model: &fakeModel{frames: 8}, Log: zerolog.Nop(), ThumbWidth: 32, Lossless: true,
		Elapsed: func() time.Duration { return elapsed },
		OnFrame: func(f windowFrame) { p.frames = append(p.frames, f) },
		OnDrop:  func(d Drop) { p.drops = append(p.drops, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx := t.Context()
	settle := func() {
		if err := r.Settle(ctx); err != nil {
			t.Fatal(err)
		}
	}
	clock := false
	pubs := map[string]transport.Publisher{}
	for _, c := range info.Connections {
		sample, ok := msgs.New(c.Type)
		if !ok {
			t.Fatalf("no message %s", c.Type)
		}
		if c.Topic == "/clock" {
			clock = true
			continue
		}
		if pubs[c.Topic], err = player.Advertise(c.Topic, sample, transport.DefaultQoS()); err != nil {
			t.Fatal(err)
		}
	}
	it := reader.Messages(bags.Filter{})
	defer it.Close()
	question := info.First + second
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if pace != nil {
			pace()
		}
		if m.LogTime > question {
			settle()
			o := r.Ask(ctx, msgs.Question{ID: fmt.Sprint(question), Text: "?"}, Options{NoDeadline: true})
			a := *o.Answer
			a.Times = nil
			text, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			p.answers = append(p.answers, string(text))
			question += second
		}
		elapsed = time.Duration(m.LogTime - info.First)
		decoded, err := m.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := decoded.(*msgs.Clock); ok {
			if to := c.Clock.UnixNano(); to < node.Clock().Now() {
				settle()
				p.jumped = true
			}
			graph.SetTime(c.Clock.UnixNano())
			continue
		}
		if !clock {
			graph.SetTime(m.LogTime)
		}
		if strings.HasSuffix(m.Connection.Topic, "/compressed") {
			p.images++
		}
		if err := pubs[m.Connection.Topic].Publish(decoded); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	elapsed += params.Seconds(tfTimeout) + time.Second
	r.Tick()
	settle()
	if p.status, err = r.Status(ctx); err != nil {
		t.Fatal(err)
	}
	if len(p.frames)+len(p.drops) != p.images || p.status.Waiting != 0 {
		t.Errorf("%s: %d frames and %d dropped of %d images, %d waiting", path, len(p.frames), len(p.drops), p.images, p.status.Waiting)
	}
	return p
}

// The poses of the real kitchen agree with the true ones, and answers do not depend on speed.
func TestKitchen(t *testing.T) {
	path := testdata.Data(t, "kitchen_a.bag")
	var truth []struct {
		Stamp   float64       `json:"stamp"`
		Optical [4][4]float64 `json:"optical_in_map"`
	}
	testdata.JSON(t, testdata.Data(t, "kitchen_a.poses.json"), &truth)
	p := play(t, path, 0.5, nil)
	worst, angle, matched := 0.0, 0.0, 0
	for _, f := range p.frames {
		for _, want := range truth {
			if math.Abs(float64(f.Stamp)/1e9-want.Stamp) > 1e-3 {
				continue
			}
			var m [16]float64
			for i := range 16 {
				m[i] = want.Optical[i/4][i%4]
			}
			true, err := geometry.FromMatrix(m)
			if err != nil {
				t.Fatal(err)
			}
			d := f.Pose.Translation
			d.X, d.Y, d.Z = d.X-true.Translation.X, d.Y-true.Translation.Y, d.Z-true.Translation.Z
			worst = max(worst, math.Sqrt(d.X*d.X+d.Y*d.Y+d.Z*d.Z))
			angle = max(angle, geometry.Angle(f.Pose, true)*180/math.Pi)
			matched++
		}
	}
	t.Logf("%d images, %d frames, %d compared: at most %.2f mm and %.3f°; dropped %v", p.images, len(p.frames), matched, worst*1000, angle, p.status.Drops)
	if matched != len(p.frames) || worst > 0.005 || angle > 0.2 {
		t.Errorf("%d of %d frames compared, %.2f mm, %.3f°", matched, len(p.frames), worst*1000, angle)
	}
	if p.images != 160 || len(p.frames) < 158 {
		t.Errorf("%d frames of %d images: %+v", len(p.frames), p.images, p.drops)
	}
	if len(p.answers) < 14 || strings.Contains(p.answers[0], `"ErrorCode":1`) {
		t.Errorf("%d answers, first %s", len(p.answers), p.answers[0])
	}
	n := 0
	slow := play(t, path, 0.5, func() {
		if n++; n%40 == 0 {
			time.Sleep(3 * time.Millisecond)
		}
	})
	if a, b := strings.Join(p.answers, "\n"), strings.Join(slow.answers, "\n"); a != b {
		t.Errorf("answers differ with the speed:\n%s\n%s", a, b)
	}
	if a, b := fmt.Sprintf("%+v", p.drops), fmt.Sprintf("%+v", slow.drops); a != b {
		t.Errorf("drops differ with the speed:\n%s\n%s", a, b)
	}
}

// Transforms are missing from 1.2 s to 2.7 s: frames in there are refused or interpolated across, never extrapolated.
func TestGapBag(t *testing.T) {
	p := play(t, testdata.Data(t, "odd", "gap.bag"), 0.5, nil)
	if p.images != 40 || p.status.Drops[CauseTFTimeout] == 0 {
		t.Errorf("%d images, %v", p.images, p.status.Drops)
	}
	const first = 1_600_000_000 * second
	for _, d := range p.drops {
		if at := float64(d.Stamp-first) / 1e9; d.Cause == CauseTFTimeout && (at < 1.17 || at > 2.2) && at < 3.9 {
			t.Errorf("image at %.2f s: %s %s", at, d.Cause, d.Detail)
		}
	}
	patient := play(t, testdata.Data(t, "odd", "gap.bag"), 3, nil)
	if n := patient.status.Drops[CauseTFTimeout]; n > 1 || len(patient.frames) < 38 {
		t.Errorf("with patience %d frames, %v", len(patient.frames), patient.status.Drops)
	}
}

// The bag loops after 2 s: everything is cleared, and the second pass sees what the first one saw.
func TestLoopBag(t *testing.T) {
	p := play(t, testdata.Data(t, "odd", "loop.bag"), 0.5, nil)
	if !p.jumped || p.images != 40 {
		t.Errorf("jumped %v, %d images", p.jumped, p.images)
	}
	half := len(p.frames) / 2
	for i := range half {
		a, b := p.frames[i], p.frames[half+i]
		if a.Stamp != b.Stamp || geometry.Angle(a.Pose, b.Pose) > 1e-6 {
			t.Errorf("frame %d: stamps %d and %d", i, a.Stamp, b.Stamp)
		}
	}
	if p.status.Window.Frames != half || half < 18 {
		t.Errorf("%d frames, %d in the window, drops %+v", len(p.frames), p.status.Window.Frames, p.drops)
	}
}
