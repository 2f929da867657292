package robot

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
)

func jpegOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewRGBA(image.Rect(0, 0, w, h)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// virtual gives a rig a clock of waits that the test sets: seconds since t0.
func virtual(now *time.Duration) func(*Config) {
	return func(c *Config) {
		c.Elapsed = func() time.Duration { return *now }
		c.Lossless = true
		c.Params.TFTimeout = 0.5
	}
}

// Every cause of a dropped image.
func TestCauses(t *testing.T) {
	with := func(edit func(*msgs.Image)) func(*rig, *time.Duration) {
		return func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0)
			m := picture(t0)
			edit(m)
			g.publish("/cam/image_raw", m)
		}
	}
	for _, c := range []struct {
		cause  Cause
		detail string
		drive  func(*rig, *time.Duration)
	}{
		{CauseZeroSize, "0×12", with(func(m *msgs.Image) { m.Width = 0 })},
		{CauseNoStamp, "stamp", with(func(m *msgs.Image) { m.Header.Stamp = msgs.Time{} })},
		{CauseNoFrameID, "frame_id", with(func(m *msgs.Image) { m.Header.FrameID = "" })},
		{CauseDecodeError, "", with(func(m *msgs.Image) { m.Data = m.Data[:10] })},
		{CauseDecodeError, "", with(func(m *msgs.Image) { m.Encoding = "smell8" })},
		{CauseInfoMismatch, "", with(func(m *msgs.Image) { m.Width, m.Height, m.Step, m.Data = 12, 16, 36, make([]byte, 36*16) })},
		{CauseUncalibrated, "K[0]", func(g *rig, _ *time.Duration) {
			g.publish("/cam/camera_info", &msgs.CameraInfo{Width: 16, Height: 12})
			g.tf(t0)
			g.image(t0)
		}},
		{CauseNoCameraInfo, "after 0.5 s", func(g *rig, now *time.Duration) {
			g.tf(t0)
			g.image(t0)
			*now = 501 * time.Millisecond
			g.info()
		}},
		{CauseTFTimeout, "after 0.5 s: tf:", func(g *rig, now *time.Duration) {
			g.info()
			g.tf(t0)
			g.image(t0 + 1)
			*now = 501 * time.Millisecond
			g.tf(t0 + second)
		}},
		{CauseTFPast, "before the oldest", func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0 + 1)
			g.tf(t0 + 2)
			g.image(t0)
		}},
		{CauseTooFrequent, "", func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0)
			g.tf(t0 + second)
			g.image(t0)
			g.image(t0 + 40e6)
		}},
		{CauseDuplicate, "", func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0)
			g.image(t0)
			g.image(t0)
		}},
		{CauseTooOld, "window_duration", func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0 - 3*second)
			g.tf(t0)
			g.tf(t0 + second)
			if _, err := g.robot.SetParameters(g.context(), map[string]any{"window_duration": 2}); err != nil {
				g.t.Fatal(err)
			}
			g.image(t0)
			g.settle()
			g.image(t0 - 3*second)
		}},
		{CauseBadPose, "", func(g *rig, _ *time.Duration) {
			g.info()
			far := msgs.Vector3{X: math.MaxFloat64}
			g.publish("/tf_static", &msgs.TFMessage{Transforms: []msgs.TransformStamped{
				{Header: header(t0, "map"), ChildFrameID: "b", Transform: msgs.Transform{Translation: far, Rotation: msgs.Quaternion{W: 1}}},
				{Header: header(t0, "b"), ChildFrameID: "cam", Transform: msgs.Transform{Translation: far, Rotation: msgs.Quaternion{W: 1}}},
			}})
			g.image(t0)
		}},
		{CauseEncoderError, "broken", func(g *rig, _ *time.Duration) {
			g.model.encodeErr = fmt.Errorf("broken")
			g.info()
			g.tf(t0)
			g.image(t0)
		}},
		{CauseModelNotReady, "", func(g *rig, _ *time.Duration) {
			_ = g.robot.SetModel(g.context(), nil, errors.New("none"))
			g.image(t0)
		}},
		{CauseQueueFull, "image_queue", func(g *rig, _ *time.Duration) {
			for i := range int64(31) { // without transforms
				g.image(t0 + i)
			}
		}},
		{CauseOtherTransport, "", func(g *rig, _ *time.Duration) {
			g.info()
			g.tf(t0)
			// Straight into the intake: the second subscription is closed as soon as the first has delivered.
			g.robot.intake.push(input{kind: kindImage, source: sourceRaw, msg: picture(t0), received: t0})
			g.robot.intake.push(input{kind: kindImage, source: sourceCompressed, msg: &msgs.CompressedImage{Header: header(t0, "cam"), Data: jpegOf(g.t, 16, 12)}, received: t0})
		}},
	} {
		t.Run(string(c.cause), func(t *testing.T) {
			t.Parallel()
			var now time.Duration
			g := newRig(t, &fakeModel{}, virtual(&now))
			c.drive(g, &now)
			g.settle()
			st := g.status()
			if st.Drops[c.cause] != 1 || len(g.drops) != 1 || g.drops[0].Cause != c.cause || !strings.Contains(g.drops[0].Detail, c.detail) {
				t.Errorf("%v %+v", st.Drops, g.drops)
			}
			g.addUp()
		})
	}
}

// A live robot drops a frame whose transform does not come, without anything else happening.
func TestExpiryAlone(t *testing.T) {
	g := newRig(t, &fakeModel{}, func(c *Config) { c.Params.TFTimeout = 0.01 })
	g.info()
	g.image(t0)
	g.publish("/stllm/map_points", cloud("elsewhere", 9, 0))
	g.until("the drop", func() bool { return len(g.drops) == 1 && g.drops[0].Cause == CauseTFTimeout })
	for g.status().MapError == "" {
		time.Sleep(time.Millisecond)
	}
	if st := g.status(); !strings.Contains(st.MapError, "elsewhere") {
		t.Errorf("%q", st.MapError)
	}
}

// A frame waits for its transform, and for camera_info.
func TestWaiting(t *testing.T) {
	var now time.Duration
	g := newRig(t, &fakeModel{}, virtual(&now))
	g.image(t0 + 50e6)
	now = 200 * time.Millisecond
	g.info()
	g.tf(t0)
	if st := g.status(); st.Waiting != 1 {
		t.Errorf("%+v", st)
	}
	now = 500 * time.Millisecond
	g.tf(t0 + 100e6)
	g.settle()
	if st := g.status(); st.Frames != 1 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	now = time.Second
	g.robot.Tick()
	g.image(t0 + 100e6)
	g.scene(9)
	g.settle()
	if o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{}); o.Answer.ErrorCode != msgs.AnswerErrorEmptyWindow {
		t.Errorf("a question at t0 sees frames that come later: %+v", o.Answer)
	}
	g.graph.SetTime(t0 + 100e6)
	o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{})
	if len(o.Frames) != 2 || math.Abs(o.Frames[0].Pose.Translation.X-0.05) > 1e-9 {
		t.Errorf("%+v", o.Answer)
	}
}

// A camera that zooms: each picture has the intrinsics of its own stamp.
func TestZoom(t *testing.T) {
	var now time.Duration
	g := newRig(t, &fakeModel{}, virtual(&now))
	g.tf(t0)
	g.tf(t0 + second)
	for i := range int64(3) {
		g.publish("/cam/camera_info", &msgs.CameraInfo{Header: header(t0+i*second/10, "cam"), Width: 16, Height: 12, K: [9]float64{10 + float64(i), 0, 8, 0, 10, 6, 0, 0, 1}})
	}
	for i := range int64(3) {
		g.image(t0 + i*second/10)
	}
	g.scene(9)
	g.settle()
	g.graph.SetTime(t0 + second)
	o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{})
	for i, f := range o.Frames {
		if f.K[0] != 10+float64(i) {
			t.Errorf("frame %d has fx %g", i, f.K[0])
		}
	}
	if len(o.Frames) != 3 {
		t.Errorf("%d frames", len(o.Frames))
	}
}

// A live camera that is too fast for the encoder costs frames, and never more memory than the queues.
func TestSlowEncoder(t *testing.T) {
	m := &fakeModel{slowFrame: make(chan struct{}, 100)}
	g := newRig(t, m, func(c *Config) { c.Params.ImageQueue = 4 })
	g.info()
	g.scene(9)
	for i := range int64(40) {
		g.tf(t0 + i*second/10)
		g.image(t0 + i*second/10)
		if st := g.status(); st.Encoding > 4+pipeline || st.Waiting > 4 {
			t.Fatalf("%+v", st)
		}
	}
	g.graph.SetTime(t0 + 4*second)
	answer := make(chan *msgs.Answer, 1)
	go func() { answer <- g.ask("?") }() // waits for the frames that came before it
	g.until("waiting for frames", func() bool {
		return len(g.chunks) > 0 && g.chunks[len(g.chunks)-1].Stage == "frames"
	})
	for range 40 {
		m.slowFrame <- struct{}{}
	}
	if a := <-answer; a.ErrorCode != 0 || a.WindowEndNs != t0+39*second/10 {
		t.Errorf("%+v", a)
	}
	g.settle()
	st := g.status()
	if st.Frames < 5 || st.Drops[CauseQueueFull] != 40-st.Frames {
		t.Errorf("%d frames, %v", st.Frames, st.Drops)
	}
	g.addUp()
}

// The map is encoded once for each content, and answers go on with the old one meanwhile.
func TestMap(t *testing.T) {
	m := &fakeModel{slowMap: make(chan struct{}, 10)}
	g := newRig(t, m, nil)
	g.drive2()
	g.scene(50)
	answer := make(chan *msgs.Answer, 1)
	g.graph.SetTime(t0 + second)
	go func() { answer <- g.ask("?") }() // waits for the first map
	g.until("waiting for the map", func() bool { return len(g.chunks) > 0 && g.chunks[len(g.chunks)-1].Stage == "map" })
	m.slowMap <- struct{}{}
	first := <-answer
	if first.ErrorCode != 0 || !strings.HasSuffix(first.Text, "50 voxels") {
		t.Fatalf("%+v", first)
	}
	again := cloud("map", 50, 0)
	again.Header.Stamp = msgs.TimeFromNanos(t0 + second)
	g.publish("/stllm/map_points", again)
	g.settle()
	if st := g.status(); m.maps.Load() != 1 || st.MapStamp != t0+second || st.MapID != first.MapID {
		t.Errorf("the same content again: %d encoded, %+v", m.maps.Load(), st)
	}
	g.publish("/stllm/map_points", cloud("map", 60, 0))
	if a := g.ask("?"); !strings.HasSuffix(a.Text, "50 voxels") || a.MapID != first.MapID {
		t.Errorf("%q while another is encoded", a.Text)
	}
	m.slowMap <- struct{}{}
	g.settle()
	if a := g.ask("?"); !strings.HasSuffix(a.Text, "60 voxels") || a.MapID == first.MapID {
		t.Errorf("%q afterwards", a.Text)
	}
	bad := cloud("map", 70, 0)
	bad.Data = bad.Data[:3]
	g.publish("/stllm/map_points", bad)
	g.settle()
	if a := g.ask("?"); a.ErrorCode != 0 || g.status().MapError == "" {
		t.Errorf("an unreadable map takes the good one away: %+v", a)
	}
}

// A map in another frame is brought into the fixed one; a large one is thinned and not cut.
func TestMapFrameAndSize(t *testing.T) {
	var now time.Duration
	g := newRig(t, &fakeModel{}, func(c *Config) {
		virtual(&now)(c)
		c.Params.MapMaxPoints = 100
	})
	g.drive2()
	g.publish("/stllm/map_points", cloud("odom", 1000, 0))
	g.settle()
	g.publish("/tf_static", &msgs.TFMessage{Transforms: []msgs.TransformStamped{{Header: header(t0, "map"), ChildFrameID: "odom", Transform: msgs.Transform{Translation: msgs.Vector3{Z: 2}, Rotation: msgs.Quaternion{W: 1}}}}})
	g.settle()
	o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{})
	if o.Map == nil || o.Map.Received != 1000 || o.Map.Cloud.Len() > 100 || o.Map.Cloud.Len() < 50 || o.Map.Cell == 0 || o.Map.Cloud.XYZ[2] != 2 {
		t.Fatalf("%+v", o.Answer)
	}
	if box, _ := o.Map.Cloud.Bounds(); box.Max.X < 90 {
		t.Errorf("cut: %v", box)
	}
}

// Whatever comes, nothing is unbounded, and every image is told of exactly once.
func TestProperty(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 7))
		m := &fakeModel{}
		g := newRig(t, m, func(c *Config) {
			c.Params.ImageQueue, c.Params.WindowMaxFrames, c.Params.WindowDuration, c.Params.TFTimeout, c.Params.QuestionQueue = 3, 5, 2, 0.002, 2
		})
		at := t0
		asked := 0
		for range 400 {
			at += rng.Int64N(second / 10)
			g.graph.SetTime(at)
			switch rng.IntN(12) {
			case 0, 1, 2:
				g.tf(at - rng.Int64N(second/5))
			case 3:
				g.info()
			case 4:
				g.scene(1 + rng.IntN(3))
			case 5:
				g.publish("/stllm/question_text", &msgs.String{Data: "?"})
				asked++
			case 6:
				if rng.IntN(20) == 0 {
					at = t0
					g.graph.SetTime(at)
				}
			case 7:
				if rng.IntN(10) == 0 {
					if _, err := g.robot.ClearWindow(g.context()); err != nil {
						t.Fatal(err)
					}
				}
			case 8:
				if st := g.status(); st.Waiting > 3 || st.Encoding > 3+pipeline || st.Window.Frames > 5 || st.Queued > 2 {
					t.Fatalf("%+v", st)
				}
			default:
				p := picture(at - rng.Int64N(second/5))
				if rng.IntN(10) == 0 {
					p.Data = nil
				}
				g.publish("/cam/image_raw", p)
			}
		}
		g.settle()
		g.until("all answers", func() bool { return len(g.answers) == asked })
		g.addUp()
		g.robot.Close()
		seen := map[uint64]bool{}
		for _, s := range g.frames {
			seen[s] = true
		}
		for _, d := range g.drops {
			if seen[d.Seq] {
				t.Errorf("image %d twice", d.Seq)
			}
			seen[d.Seq] = true
		}
		if len(seen) != len(g.frames)+len(g.drops) {
			t.Errorf("seed %d: %d frames, %d drops, %d numbers", seed, len(g.frames), len(g.drops), len(seen))
		}
	}
}

func TestIntake(t *testing.T) {
	q := newIntake([kinds]int{kindImage: 2, kindTF: 3, kindMap: 1, kindCameraInfo: 1, kindTFStatic: 1, kindQuestion: 1, kindTick: 1}, false)
	for range 5 {
		q.push(input{kind: kindImage})
		q.push(input{kind: kindTF})
	}
	n := q.takeEvicted()
	if n[kindImage] != 3 || n[kindTF] != 2 || q.takeEvicted() != [kinds]uint64{} {
		t.Errorf("%v", n)
	}
	var order []string
	for {
		in, ok := q.pop(false)
		if !ok {
			break
		}
		order = append(order, fmt.Sprint(in.kind, in.seq))
	}
	if got := strings.Join(order, " "); got != "2 0 0 3 2 0 0 4 2 0" { // TF, image 3, TF, image 4, TF
		t.Error(got)
	}
	if left := q.close(); left != nil || q.push(input{}) {
		t.Error("closed")
	}
	lossless := newIntake([kinds]int{kindImage: 1}, true)
	lossless.push(input{kind: kindImage})
	pushed := make(chan bool, 2)
	go func() { pushed <- lossless.push(input{kind: kindImage}) }()
	if _, ok := lossless.pop(true); ok {
		t.Error("images are held")
	}
	if in, ok := lossless.pop(false); !ok || in.seq != 0 || !<-pushed {
		t.Error("room")
	}
	go func() { pushed <- lossless.push(input{kind: kindImage}) }()
	time.Sleep(time.Millisecond)
	lossless.close()
	if <-pushed {
		t.Error("a push into a closed intake")
	}
}

// The model is replaced while the map is being encoded for the old one.
func TestModelChangesUnderTheMap(t *testing.T) {
	old := &fakeModel{slowMap: make(chan struct{})}
	g := newRig(t, old, nil)
	g.scene(50)
	for old.maps.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	next := &fakeModel{}
	if err := g.robot.SetModel(g.context(), next, nil); err != nil {
		t.Fatal(err)
	}
	old.slowMap <- struct{}{}
	g.drive2()
	g.graph.SetTime(t0 + second)
	if a := g.ask("?"); a.ErrorCode != 0 || next.maps.Load() != 1 || !strings.HasSuffix(a.Text, "50 voxels") {
		t.Errorf("%+v", a)
	}
}
