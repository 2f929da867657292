package robot

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
)

// depthModel is a fake that wants depth of 2 × 2 patches.
type depthModel struct{ *fakeModel }

func (depthModel) DepthUse() stllm.DepthUse { return stllm.DepthUse{Grid: 2, Near: 0.3, Far: 8} }

// newDepthRig is a rig whose model wants depth, and whose time is told (so that waits are as long as the test says).
func newDepthRig(t *testing.T, change func(*Config)) *depthRig {
	t.Helper()
	d := &depthRig{}
	d.rig = newRig(t, nil, func(c *Config) {
		c.Model = depthModel{&fakeModel{}}
		c.Elapsed = func() time.Duration {
			var at time.Duration
			d.now.lock(func() { at = d.now.at })
			return at
		}
		c.OnFrame = func(f windowFrame) { d.now.lock(func() { d.now.frames = append(d.now.frames, f) }) }
		if change != nil {
			change(c)
		}
	})
	d.info()
	return d
}

type depthRig struct {
	*rig
	now moment
}

// moment is what the test and the robot's goroutines share.
type moment struct {
	rigLock
	at     time.Duration
	frames []windowFrame
}

// wait lets time pass.
func (d *depthRig) wait(t time.Duration) {
	d.now.lock(func() { d.now.at += t })
	d.robot.Tick()
	d.settle()
}

// entered are the frames that have entered the window.
func (d *depthRig) entered() (frames []windowFrame) {
	d.settle()
	d.now.lock(func() { frames = append(frames, d.now.frames...) })
	return frames
}

// depthPicture is a depth image of 16 × 12 pixels: the upper left quarter 1 m deep, the upper right 2 m, the lower left 3 m, and
// nothing in the lower right.
func depthPicture(stamp int64) *msgs.Image {
	m := &msgs.Image{Header: header(stamp, "cam"), Width: 16, Height: 12, Encoding: "16UC1", Step: 32, Data: make([]byte, 32*12)}
	for y := range 12 {
		for x := range 16 {
			binary.LittleEndian.PutUint16(m.Data[32*y+2*x:], [4]uint16{1000, 2000, 3000, 0}[y/6*2+x/8])
		}
	}
	return m
}

func (d *depthRig) depth(stamp int64) { d.publish("/stllm/depth", depthPicture(stamp)) }

func (d *depthRig) look(stamp int64) {
	d.tf(stamp)
	d.image(stamp)
}

var quarters = []float32{1, 2, 3, 0}

func same(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Depth that comes before, with or after its image, by exactly its stamp or near it, is the image's; the nearest is.
func TestDepthIsMatched(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, c := range []struct {
		name  string
		drive func(d *depthRig)
		want  []float32
		lack  string
	}{
		{"before", func(d *depthRig) { d.depth(t0); d.look(t0) }, quarters, ""},
		{"after", func(d *depthRig) { d.look(t0); d.wait(100 * time.Millisecond); d.depth(t0) }, quarters, ""},
		{"before its transform", func(d *depthRig) { d.image(t0); d.depth(t0); d.tf(t0) }, quarters, ""},
		{"a little off, later", func(d *depthRig) { d.look(t0); d.depth(t0 + 20*ms) }, quarters, ""},
		{"a little off, earlier, and no other", func(d *depthRig) { d.depth(t0 - 20*ms); d.look(t0); d.wait(300 * time.Millisecond) }, quarters, ""},
		{"the nearest", func(d *depthRig) {
			far := depthPicture(t0 - 25*ms)
			clear(far.Data)
			d.publish("/stllm/depth", far)
			d.look(t0)
			d.depth(t0 + 10*ms)
		}, quarters, ""},
		{"too far off", func(d *depthRig) { d.look(t0); d.depth(t0 + 31*ms) }, nil, "none within depth_tolerance"},
		{"none at all", func(d *depthRig) { d.look(t0); d.wait(300 * time.Millisecond) }, nil, "no depth image has come"},
		{"too late", func(d *depthRig) { d.depth(t0 - second); d.look(t0); d.wait(300 * time.Millisecond); d.depth(t0) }, nil, "none within depth_timeout"},
		{"compressed", func(d *depthRig) { d.publish("/stllm/depth/compressedDepth", compressed(t, t0)); d.look(t0) }, quarters, ""},
		{"with a slash before its frame", func(d *depthRig) {
			m := depthPicture(t0)
			m.Header.FrameID = "/cam"
			d.publish("/stllm/depth", m)
			d.look(t0)
		}, quarters, ""},
		{"half the resolution", func(d *depthRig) {
			m := depthPicture(t0)
			m.Width, m.Height, m.Step = 8, 6, 16
			for y := range 6 {
				for x := range 8 {
					binary.LittleEndian.PutUint16(m.Data[16*y+2*x:], [4]uint16{1000, 2000, 3000, 0}[y/3*2+x/4])
				}
			}
			d.publish("/stllm/depth", m)
			d.look(t0)
		}, quarters, ""},
		{"nothing measured", func(d *depthRig) {
			m := depthPicture(t0)
			clear(m.Data)
			d.publish("/stllm/depth", m)
			d.look(t0)
		}, nil, "nothing measured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDepthRig(t, nil)
			c.drive(d)
			f := d.entered()
			if len(f) != 1 || !same(f[0].Depth, c.want) {
				t.Fatalf("%d frames entered: %+v, expected one of depth %v", len(f), f, c.want)
			}
			st := d.status().Depth
			want := map[string]uint64{}
			if c.lack != "" {
				want[c.lack] = 1
			}
			if !st.Wanted || !maps.Equal(st.Lacking, want) || st.Frames != uint64(1-len(want)) {
				t.Errorf("%+v, expected %v", st, want)
			}
			d.addUp()
		})
	}
}

// compressed is depthPicture by image_transport's compressedDepth.
func compressed(t *testing.T, stamp int64) *msgs.CompressedImage {
	m := depthPicture(stamp)
	g := image.NewGray16(image.Rect(0, 0, 16, 12))
	for i := range 16 * 12 {
		g.SetGray16(i%16, i/16, color.Gray16{Y: binary.LittleEndian.Uint16(m.Data[2*i:])})
	}
	b := bytes.NewBuffer(make([]byte, 12))
	if err := png.Encode(b, g); err != nil {
		t.Fatal(err)
	}
	return &msgs.CompressedImage{Header: m.Header, Format: "16UC1; compressedDepth png", Data: b.Bytes()}
}

// Depth images of no use are counted and told of, and cost no frame.
func TestDepthOfNoUse(t *testing.T) {
	for _, c := range []struct {
		name          string
		spoil         func(*msgs.Image)
		refused, told string
		lack          string
	}{
		{"other frame", func(m *msgs.Image) { m.Header.FrameID = "depth_optical" }, "other frame", `"depth_optical"`, "none within depth_timeout"},
		{"no stamp", func(m *msgs.Image) { m.Header.Stamp = msgs.Time{} }, "no stamp", "stamp is 0", "none within depth_timeout"},
		{"encoding", func(m *msgs.Image) { m.Encoding = "rgb8" }, "encoding, size or content", `"rgb8"`, "unusable depth image"},
		{"step", func(m *msgs.Image) { m.Step = 5 }, "encoding, size or content", "step is 5", "unusable depth image"},
		{"short", func(m *msgs.Image) { m.Data = m.Data[:9] }, "encoding, size or content", "9 bytes", "unusable depth image"},
		{"no size", func(m *msgs.Image) { m.Width = 0 }, "encoding, size or content", "width and height", "unusable depth image"},
		{"aspect", func(m *msgs.Image) { m.Height = 9 }, "encoding, size or content", "16×9", "unusable depth image"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDepthRig(t, nil)
			d.look(t0)
			m := depthPicture(t0)
			c.spoil(m)
			d.publish("/stllm/depth", m)
			d.wait(300 * time.Millisecond)
			if f := d.entered(); len(f) != 1 || f[0].Depth != nil {
				t.Fatalf("%+v", f)
			}
			st := d.status()
			if st.Depth.Refused[c.refused] != 1 || !strings.Contains(st.Depth.Trouble, c.told) || st.Depth.Lacking[c.lack] != 1 {
				t.Errorf("%+v", st.Depth)
			}
			r := &Robot{cfg: d.robot.cfg}
			s := r.diagnostic("camera")
			st.Depth.report(s)
			if s.Level != msgs.DiagnosticStatusWarn || !strings.Contains(s.Message, c.told) {
				t.Errorf("%+v", s)
			}
			d.addUp()
		})
	}
}

// Where no depth comes, or it has stopped, frames soon do not wait for it any more; when it comes again, they do.
func TestFramesDoNotWaitForEver(t *testing.T) {
	d := newDepthRig(t, nil)
	at := int64(t0)
	for range patience {
		d.look(at)
		if n := len(d.entered()); n != int(at-t0)/int(second) {
			t.Fatalf("%d frames entered at once", n)
		}
		d.wait(300 * time.Millisecond)
		at += second
	}
	d.look(at)
	if f := d.entered(); len(f) != patience+1 {
		t.Fatalf("%d frames entered, expected all %d", len(f), patience+1)
	}
	if told := d.status().Depth.Trouble; !strings.Contains(told, "none has come on /stllm/depth") {
		t.Errorf("trouble is %q", told)
	}
	at += second
	d.depth(at - second/2)
	d.look(at)
	if f := d.entered(); len(f) != patience+1 {
		t.Fatalf("%d frames entered: the last one did not wait although depth comes again", len(f))
	}
	d.depth(at)
	if f := d.entered(); len(f) != patience+2 || !same(f[patience+1].Depth, quarters) {
		t.Fatalf("%+v", f)
	}
	if told := d.status().Depth.Trouble; told != "" {
		t.Errorf("depth is used and trouble is %q", told)
	}
	d.addUp()
}

// A wait that ends with whatever comes next, such as a transform, counts as one in vain like any other.
func TestWaitsInVainAreCounted(t *testing.T) {
	d := newDepthRig(t, nil)
	at := int64(t0)
	for i := range patience {
		d.look(at)
		d.wait(200 * time.Millisecond) // depth_timeout to the tick
		d.tf(at + second/2)
		if n := len(d.entered()); n != i+1 {
			t.Fatalf("%d frames entered, expected %d", n, i+1)
		}
		at += second
	}
	d.look(at)
	if n := len(d.entered()); n != patience+1 {
		t.Errorf("%d frames entered, expected all %d", n, patience+1)
	}
	d.addUp()
}

// A depth image whose stamp is of the far future does not end the waits of all frames from then on.
func TestDepthFromTheFuture(t *testing.T) {
	d := newDepthRig(t, nil)
	d.depth(t0 + 3600*second)
	at := int64(t0)
	for range maxDepths + 1 {
		d.look(at)
		d.depth(at)
		d.settle()
		at += second
	}
	before := d.status().Depth.Frames
	d.look(at)
	d.depth(at)
	d.settle()
	if st := d.status().Depth; st.Frames != before+1 {
		t.Errorf("%+v", st)
	}
	d.addUp()
}

// A queue that is full of frames that wait for depth alone gives them to the window, not away.
func TestNoFrameIsLostForWantOfDepth(t *testing.T) {
	d := newDepthRig(t, func(c *Config) { c.Params.ImageQueue, c.Params.DepthTimeout = 2, 60 })
	for i := range int64(6) {
		d.look(t0 + i*second/10)
		d.settle()
	}
	if f := d.entered(); len(f) != 4 {
		t.Errorf("%d of 6 frames entered, expected all but the two that the queue holds", len(f))
	}
	if st := d.status(); len(st.Drops) != 0 || st.Waiting != 2 {
		t.Errorf("%+v", st)
	}
	d.addUp()
}

// Depth is listened to with a model that wants it, from the moment that the model is there, and with no other.
func TestDepthFollowsTheModel(t *testing.T) {
	g := newRig(t, nil, nil)
	listens := func() (n int) {
		for _, s := range g.status().Subscribers {
			if strings.HasPrefix(s.Topic, "/stllm/depth") {
				n++
			}
		}
		return n
	}
	for i, m := range []stllm.Model{&fakeModel{}, depthModel{&fakeModel{}}, depthModel{&fakeModel{}}, &fakeModel{}, depthModel{&fakeModel{}}, nil} {
		if err := g.robot.SetModel(g.context(), m, nil); err != nil {
			t.Fatal(err)
		}
		want := 2 * map[bool]int{true: 1}[stllm.DepthOf(m).Grid > 0]
		if n := listens(); n != want {
			t.Errorf("model %d: %d depth subscriptions, expected %d", i, n, want)
		}
	}
	if err := g.robot.SetModel(g.context(), depthModel{&fakeModel{}}, nil); err != nil {
		t.Fatal(err)
	}
	for _, active := range []bool{false, true} { // a managed node that rests and works again
		if err := g.robot.SetActive(g.context(), active); err != nil {
			t.Fatal(err)
		}
		if n := listens(); n != 2*map[bool]int{true: 1}[active] {
			t.Errorf("active %v: %d depth subscriptions", active, n)
		}
	}
	// The one that delivers first stays.
	g.info()
	g.publish("/stllm/depth", depthPicture(t0))
	g.until("the other subscription is closed", func() bool { return listens() == 1 })

	// After another model the other one may be it.
	for _, m := range []stllm.Model{&fakeModel{}, depthModel{&fakeModel{}}} {
		if err := g.robot.SetModel(g.context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	g.tf(t0)
	g.publish("/stllm/depth/compressedDepth", compressed(t, t0))
	g.image(t0)
	g.until("the compressed depth is used", func() bool { return len(g.frames) == 1 })
	if st := g.status().Depth; st.Frames != 1 || len(st.Refused) != 0 {
		t.Errorf("%+v", st)
	}

	none := newRig(t, nil, func(c *Config) { c.Model, c.Params.DepthTopic = depthModel{&fakeModel{}}, "" })
	if st := none.status(); st.Depth.Wanted {
		t.Errorf("an empty depth_topic: %+v", st.Depth)
	}
}

// A subscription that is made when the other one has delivered already is closed as well.
func TestLateSubscriptionIsClosed(t *testing.T) {
	d := newDepthRig(t, nil)
	d.depth(t0)
	d.look(t0)
	d.settle()
	r := d.robot
	for _, late := range []struct {
		k      kind
		topic  string
		sample msgs.Message
	}{{kindDepth, "/stllm/depth/compressedDepth", compressed(t, t0+second)}, {kindImage, "/stllm/image/compressed", &msgs.CompressedImage{Header: header(t0+second, "cam")}}} {
		closed := func() { // not by until, whose lock the drop's callback takes as well
			t.Helper()
			for end := time.Now().Add(20 * time.Second); slices.ContainsFunc(d.status().Subscribers, func(s transport.EndpointStats) bool { return s.Topic == late.topic }); {
				if time.Now().After(end) {
					t.Fatalf("%s is still listened to", late.topic)
				}
				time.Sleep(time.Millisecond)
			}
		}
		closed()
		if err := r.subscribe(false, late.k, sourceCompressed, late.topic, late.sample, r.cfg.Params.QoSImage()); err != nil {
			t.Fatal(err)
		}
		d.publish(late.topic, late.sample)
		closed()
	}
	d.addUp()
}

// A question sees the depth of its frames.
func TestDepthReachesTheModel(t *testing.T) {
	d := newDepthRig(t, nil)
	d.scene(50)
	d.depth(t0)
	d.look(t0)
	d.settle()
	o := d.robot.Ask(d.context(), msgs.Question{Text: "?"}, Options{NoDeadline: true})
	if o.Answer.ErrorCode != 0 || len(o.Frames) != 1 || !same(o.Frames[0].Depth, quarters) {
		t.Errorf("%+v", o.Answer)
	}
}

// When time goes back, depth images of the time before are forgotten, and frames of the new time wait for theirs.
func TestDepthAfterATimeJump(t *testing.T) {
	d := newDepthRig(t, nil)
	d.graph.SetTime(t0 + 50*second)
	d.depth(t0 + 50*second)
	d.look(t0 + 50*second)
	d.settle()
	d.graph.SetTime(t0)
	d.look(t0)
	if f := d.entered(); len(f) != 1 {
		t.Fatalf("%d frames entered: that after the jump did not wait for its depth", len(f))
	}
	d.depth(t0 + 51*second) // a straggler
	d.depth(t0)
	if f := d.entered(); len(f) != 2 || !same(f[1].Depth, quarters) {
		t.Fatalf("%+v", f)
	}
	if st := d.status().Depth; st.Refused["from before a time jump"] != 1 || st.Frames != 2 {
		t.Errorf("%+v", st)
	}
}
