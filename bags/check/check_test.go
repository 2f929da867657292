package check

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
)

// start is the log time in ns at which made bags begin.
const start = int64(1_700_000_000_000_000_000)

// robot is what a made bag has; tests spoil one thing each.
type robot struct {
	info         *msgs.CameraInfo
	infoTopic    string
	static       []msgs.TransformStamped
	moving       string // frame that /tf moves
	cloud        *msgs.PointCloud2
	pictures     int
	loops        int
	tfFrom, tfTo int64                          // ns after the start
	depth        func(stamp int64) msgs.Message // nil: none
}

func joint(parent, child string) msgs.TransformStamped {
	return msgs.TransformStamped{Header: msgs.Header{FrameID: parent}, ChildFrameID: child,
		Transform: msgs.Transform{Rotation: msgs.Quaternion{W: 1}}}
}

func newRobot() *robot {
	return &robot{
		info: &msgs.CameraInfo{Header: msgs.Header{FrameID: "optical"}, Width: 4, Height: 2, DistortionModel: "plumb_bob",
			K: [9]float64{5, 0, 2, 0, 5, 1, 0, 0, 1}},
		infoTopic: "/cam/camera_info",
		static:    []msgs.TransformStamped{joint("base", "optical")},
		moving:    "base",
		cloud: &msgs.PointCloud2{Header: msgs.Header{FrameID: "map"}, Height: 1, Width: 2, PointStep: 16, RowStep: 32,
			Data: make([]byte, 32), Fields: []msgs.PointField{{Name: "x"}, {Name: "y"}, {Name: "z"}, {Name: "rgb"}}},
		pictures: 20, loops: 1, tfFrom: -50e6, tfTo: 3e9,
	}
}

// write makes the robot's bag: pictures at 10 Hz and transforms at 20 Hz.
func (r *robot) write(t *testing.T, name string, enc msgs.Encoding) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w, err := bags.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	conns := map[string]*bags.Connection{}
	put := func(topic string, log int64, m msgs.Message) {
		t.Helper()
		c := conns[topic]
		if c == nil {
			if c, err = w.Add(bags.Connection{Topic: topic, Type: m.ROSType(), Encoding: enc}); err != nil {
				t.Fatal(err)
			}
			conns[topic] = c
		}
		if err := bags.WriteMessage(w, c, log, m); err != nil {
			t.Fatal(err)
		}
	}
	put("/tf_static", start, &msgs.TFMessage{Transforms: r.static})
	if r.cloud != nil {
		put("/map_points", start, r.cloud)
	}
	for loop := range r.loops {
		shift := int64(loop) * 3e9 // in log time, not in stamps
		for ns := int64(-50e6); ns < 3e9; ns += 50e6 {
			log := start + 100e6 + ns + shift
			stamp := msgs.TimeFromNanos(start + ns)
			if r.moving != "" && ns >= r.tfFrom && ns <= r.tfTo {
				x := joint("map", r.moving)
				x.Header.Stamp = stamp
				put("/tf", log, &msgs.TFMessage{Transforms: []msgs.TransformStamped{x}})
			}
			if ns < 0 || ns%100e6 != 0 || ns/100e6 >= int64(r.pictures) {
				continue
			}
			header := msgs.Header{Stamp: stamp, FrameID: "optical"}
			put("/cam/image", log, &msgs.Image{Header: header, Width: 4, Height: 2, Step: 12, Encoding: "rgb8", Data: make([]byte, 24)})
			if r.depth != nil {
				m := r.depth(start + ns)
				put(map[string]string{"sensor_msgs/Image": "/cam/depth", "sensor_msgs/CompressedImage": "/cam/depth/compressedDepth"}[m.ROSType()], log, m)
			}
			if r.info != nil {
				r.info.Header.Stamp = stamp
				put(r.infoTopic, log, r.info)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(*robot)
		opts   Options
		usable bool
		posed  int64
		need   string
		want   []string // in one finding's text and remedy
	}{
		{"whole", func(*robot) {}, Options{}, true, 20, "tf", []string{"20 of 20 pictures", "optical → base → map"}},
		{"whole, named", func(*robot) {}, Options{Image: "/cam/image", CameraInfo: "/cam/camera_info", Map: "/map_points"}, true, 20, "image", []string{"20 pictures of 4×2 on /cam/image"}},
		{"no pictures", func(r *robot) { r.pictures = 0 }, Options{}, false, 0, "image", []string{"no topic", "Record the camera"}},
		{"other image topic", func(*robot) {}, Options{Image: "/front"}, false, 0, "image", []string{"/front", "/cam/image"}},
		{"no camera_info", func(r *robot) { r.info = nil }, Options{}, false, 20, "camera_info", []string{"/cam/camera_info", "none"}},
		{"camera_info elsewhere", func(r *robot) { r.infoTopic = "/info" }, Options{}, false, 20, "camera_info", []string{"/cam/camera_info", "/info"}},
		{"uncalibrated", func(r *robot) { r.info.K[0] = 0 }, Options{}, false, 20, "camera_info", []string{"K[0] = 0", "Calibrate"}},
		{"other size", func(r *robot) { r.info.Width = 8 }, Options{}, false, 20, "camera_info", []string{"8×2", "4×2"}},
		{"other frame", func(r *robot) { r.info.Header.FrameID = "lens" }, Options{}, true, 20, "camera_info", []string{`"lens"`, `"optical"`}},
		{"no tf", func(r *robot) { r.moving = "" }, Options{}, false, 0, "tf", []string{"20 of 20", "fixed_frame"}},
		{"unknown fixed frame", func(*robot) {}, Options{FixedFrame: "world"}, false, 0, "tf", []string{"20 of 20", "base, map, optical"}},
		{"not connected", func(r *robot) { r.moving = "rover" }, Options{}, false, 0, "tf", []string{"20 of 20", `ends at "base"`}},
		{"tf late", func(r *robot) { r.tfFrom = 500e6 }, Options{}, true, 15, "tf", []string{"5 of 20 pictures (0.000 s to 0.400 s)", "before that of the camera"}},
		{"tf ends", func(r *robot) { r.tfTo = 1000e6 }, Options{}, true, 11, "tf", []string{"9 of 20 pictures (1.100 s to 1.900 s)", "ended first"}},
		{"no map", func(r *robot) { r.cloud = nil }, Options{}, false, 20, "map", []string{"no topic", "Record the map"}},
		{"empty map", func(r *robot) { r.cloud.Width = 0; r.cloud.RowStep = 0 }, Options{}, false, 20, "map", []string{"is empty"}},
		{"map without z", func(r *robot) { r.cloud.Fields[2].Name = "depth" }, Options{}, false, 20, "map", []string{"no field z"}},
		{"grey map", func(r *robot) { r.cloud.Fields = r.cloud.Fields[:3] }, Options{}, true, 20, "map", []string{"no colours"}},
		{"map elsewhere", func(r *robot) { r.cloud.Header.FrameID = "site" }, Options{}, false, 20, "map", []string{`"site"`, `"map"`}},
		{"short map", func(r *robot) { r.cloud.Data = r.cloud.Data[:20] }, Options{}, true, 20, "types", []string{"20 bytes", "32"}},
		{"no depth", func(*robot) {}, Options{}, true, 20, "depth", []string{"no depth images"}},
		{"depth", func(r *robot) { r.depth = depthOf("optical", "16UC1", 4, 0) }, Options{}, true, 20, "depth", []string{"20 depth images of 4×2 (16UC1) on /cam/depth", "20 of 20", "0.000 s"}},
		{"compressed depth", func(r *robot) { r.depth = depthOf("optical", "16UC1; compressedDepth rvl", 4, 0) }, Options{}, true, 20, "depth", []string{"4×2 (16UC1; compressedDepth rvl) on /cam/depth/compressedDepth", "20 of 20"}},
		{"depth a little late", func(r *robot) { r.depth = depthOf("optical", "16UC1", 4, 20e6) }, Options{}, true, 20, "depth", []string{"20 of 20", "0.020 s"}},
		{"depth too late", func(r *robot) { r.depth = depthOf("optical", "16UC1", 4, 40e6) }, Options{}, true, 20, "depth", []string{"0 of 20", "within 0.03 s"}},
		{"depth in another frame", func(r *robot) { r.depth = depthOf("depth_optical", "16UC1", 4, 0) }, Options{}, true, 20, "depth", []string{`"depth_optical"`, `"optical"`, "registered"}},
		{"depth of another aspect", func(r *robot) { r.depth = depthOf("optical", "16UC1", 3, 0) }, Options{}, true, 20, "depth", []string{"3×2", "another aspect"}},
		{"no depth encoding", func(r *robot) { r.depth = depthOf("optical", "rgb8", 4, 0) }, Options{}, true, 20, "depth", []string{"20 of 20 depth images", `"rgb8"`}},
		{"depth elsewhere", func(*robot) {}, Options{Depth: "/depth"}, true, 20, "depth", []string{"/depth", "/cam/image"}},
		{"loop", func(r *robot) { r.loops = 2 }, Options{}, true, 40, "bag", []string{"jump back once"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRobot()
			c.spoil(r)
			for name, enc := range map[string]msgs.Encoding{"made.bag": msgs.ROS1, "made.mcap": msgs.CDR} {
				var text bytes.Buffer
				report, err := Check(&text, []string{r.write(t, name, enc)}, c.opts)
				if err != nil {
					t.Fatal(err)
				}
				if report.Usable != c.usable || report.Posed != c.posed {
					t.Errorf("%s: usable %v, %d posed, expected %v, %d\n%s", name, report.Usable, report.Posed, c.usable, c.posed, &text)
				}
				found := false
				for _, f := range report.Findings {
					all := f.Need == c.need
					for _, want := range c.want {
						all = all && strings.Contains(f.Text+" "+f.Remedy, want)
					}
					found = found || all
					if (f.Severity == OK) != (f.Remedy == "") {
						t.Errorf("%s: finding %+v", name, f)
					}
				}
				if !found {
					t.Errorf("%s: no finding on %s with %q\n%s", name, c.need, c.want, &text)
				}
			}
		})
	}
}

// depthOf gives empty depth images of two rows, later than their pictures by some ns.
func depthOf(frame, encoding string, width int, late int64) func(int64) msgs.Message {
	return func(stamp int64) msgs.Message {
		h := msgs.Header{Stamp: msgs.TimeFromNanos(stamp + late), FrameID: frame}
		if strings.Contains(encoding, ";") {
			return &msgs.CompressedImage{Header: h, Format: encoding, Data: append(make([]byte, 12), byte(width), 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x81)}
		}
		return &msgs.Image{Header: h, Width: uint32(width), Height: 2, Step: uint32(2 * width), Encoding: encoding, Data: make([]byte, 4*width)}
	}
}

func TestPrint(t *testing.T) {
	path := newRobot().write(t, "made.bag", msgs.ROS1)
	var text bytes.Buffer
	if err := Info(&text, []string{path}, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rosbag 2.0", "/cam/image", "sensor_msgs/Image", "10.00 Hz", "lz4 (1)"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, &text)
		}
	}
	text.Reset()
	if err := Info(&text, []string{path}, Options{JSON: true}); err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := json.Unmarshal(text.Bytes(), &s); err != nil || s.Messages == 0 || len(s.Topics) != 5 {
		t.Errorf("%v: %+v", err, s)
	}
	text.Reset()
	if _, err := Check(&text, []string{path}, Options{JSON: true}); err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(text.Bytes(), &r); err != nil || !r.Usable || r.Images != 20 {
		t.Errorf("%v: %+v", err, r)
	}
	if got := clean("a\x1b[31m\nb\u202e"); strings.ContainsAny(got, "\x1b\n\u202e") {
		t.Errorf("clean: %q", got)
	}
	if err := Info(&text, []string{filepath.Join(t.TempDir(), "absent")}, Options{}); err == nil {
		t.Error("an absent bag was taken")
	}
	if _, err := Check(&text, []string{path}, Options{TFTimeout: -1}); err == nil {
		t.Error("a negative timeout was taken")
	}
}

func TestData(t *testing.T) {
	folder := testdata.Data(t)
	for _, c := range []struct {
		path          string
		images, posed int64
		warns         string
	}{
		// The first picture is 7 ms older than the first transform.
		{"kitchen_a.bag", 160, 159, "before the oldest"},
		{"kitchen_a_mcap", 40, 39, "before the oldest"},
		{"kitchen_a_db3", 40, 39, "before the oldest"},
		{"odd/gap.bag", 40, 29, "no transform for 1.53 s"},
		{"odd/loop.bag", 40, 38, "jump back once"},
		{"odd/active.bag", 19, 18, "not closed"},
		{"odd/truncated.mcap", 12, 11, "not closed"},
	} {
		var text bytes.Buffer
		r, err := Check(&text, []string{filepath.Join(folder, c.path)}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Usable || r.Images != c.images || r.Posed != c.posed || !strings.Contains(text.String(), c.warns) {
			t.Errorf("%s: usable %v, %d of %d posed\n%s", c.path, r.Usable, r.Posed, r.Images, &text)
		}
	}
}
