package kitchen

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/wholefile"
)

// start is the stamp of the first picture, ns: a fixed moment, so that the same seed gives the same bytes.
const start = int64(1_700_000_000_000_000_000)

// Topics of a kitchen bag.
const (
	ImageTopic  = "/camera/color/image_raw/compressed"
	InfoTopic   = "/camera/color/camera_info"
	MapTopic    = "/map/points"
	DepthTopic  = "/camera/aligned_depth_to_color/image_raw" // with Options.Depth
	opticalName = "camera_color_optical_frame"
)

// Write writes a kitchen as a bag (.bag or .mcap), and beside it OUT.scene.json and OUT.questions.yaml. A run that is broken off, by
// ctx or by a full disk, leaves none of what it has begun. progress, which may be nil, is called with the pictures done.
func Write(ctx context.Context, k *Kitchen, path string, progress func(done, total int)) error {
	if err := CheckName(path); err != nil {
		return err
	}
	base := strings.TrimSuffix(path, filepath.Ext(path))
	for _, f := range []struct {
		path  string
		write func(path string) error
	}{
		{path, func(path string) error { return k.writeBag(ctx, path, progress) }},
		{base + ".scene.json", k.writeScene}, {base + ".questions.yaml", k.writeQuestions},
	} {
		if err := wholefile.Make(f.path, f.write); err != nil {
			return fmt.Errorf("kitchen: %w", err)
		}
	}
	return nil
}

// CheckName refuses names of files that are not of a kitchen's bag.
func CheckName(path string) error {
	if ext := filepath.Ext(path); ext != ".bag" && ext != ".mcap" {
		return fmt.Errorf("%s: the name of a kitchen's bag ends in .bag or .mcap", path)
	}
	return nil
}

func (k *Kitchen) writeBag(ctx context.Context, path string, progress func(done, total int)) error {
	w, err := bags.Create(path)
	if err != nil {
		return err
	}
	encoding := msgs.CDR
	if filepath.Ext(path) == ".bag" {
		encoding = msgs.ROS1
	}
	if err := k.record(ctx, w, encoding, progress); err != nil {
		_ = w.Close() // the file is of no use, and why is known
		return err
	}
	return w.Close()
}

// The camera on its carrier: camera_link lies ahead of and above base_link, tilted 14° down. base_link is whatever carries the
// camera at a person's height; it moves freely, so that the optical frame is exactly where the picture was taken.
const (
	cameraAhead = 0.08
	cameraUp    = 0.12
	cameraTilt  = 14 * math.Pi / 180
)

// CameraLink is camera_link in base_link (x ahead, y left, z up).
func CameraLink() geometry.Transform {
	return geometry.Transform{Translation: r3.Vec{X: cameraAhead, Z: cameraUp}, Rotation: quat.Number{Real: math.Cos(cameraTilt / 2), Jmag: math.Sin(cameraTilt / 2)}}
}

// OpticalLink is the optical frame in camera_link: z ahead, x right, y down (REP-103).
func OpticalLink() geometry.Transform {
	return geometry.Transform{Rotation: quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5}}
}

// Base is the true base_link in the map at a time.
func (k *Kitchen) Base(t float64) geometry.Transform {
	return k.Camera(t).Mul(CameraLink().Mul(OpticalLink()).Inverse()).Normalized()
}

// correction is a new map→odom from a time on.
type correction struct{ t, x, y, yaw float64 }

// corrections draws how localisation corrects odometry: every few seconds by a few centimetres.
func (k *Kitchen) corrections(r *rand.Rand) {
	c := correction{-1, 0.6 * (r.Float64() - 0.5), 0.6 * (r.Float64() - 0.5), 0.6 * (r.Float64() - 0.5)}
	k.drift = []correction{c}
	for t := 1 + 3*r.Float64(); t < 60; t += 2 + 3*r.Float64() {
		c = correction{t, c.x + 0.03*r.NormFloat64(), c.y + 0.03*r.NormFloat64(), c.yaw + 0.012*r.NormFloat64()}
		k.drift = append(k.drift, c)
	}
}

// MapToOdom is odom in the map at a time. A correction is spread over 0.4 s.
func (k *Kitchen) MapToOdom(t float64) geometry.Transform {
	i := len(k.drift) - 1
	for i > 0 && k.drift[i].t > t {
		i--
	}
	c := k.drift[i]
	if i > 0 {
		f := min(1, (t-c.t)/0.4)
		f = f * f * (3 - 2*f)
		p := k.drift[i-1]
		c = correction{0, p.x + f*(c.x-p.x), p.y + f*(c.y-p.y), p.yaw + f*(c.yaw-p.yaw)}
	}
	return planar(c.x, c.y, c.yaw)
}

// Clock of a bag: TF comes at 30 Hz, a few ms after the pictures.
const (
	tfRate  = 30
	tfDelay = int64(7e6)
)

// wobble is the error of published poses: a slow walk with the given deviation, one value a TF message.
type wobble struct {
	r           *rand.Rand
	trans, turn float64
	v           [6]float64
	begun       bool
}

func (w *wobble) next() geometry.Transform {
	if w.trans == 0 && w.turn == 0 {
		return geometry.Identity()
	}
	keep := math.Exp(-1.0 / tfRate / 0.7) // memory of 0.7 s
	for i := range w.v {
		if !w.begun {
			w.v[i] = w.r.NormFloat64()
			continue
		}
		w.v[i] = keep*w.v[i] + math.Sqrt(1-keep*keep)*w.r.NormFloat64()
	}
	w.begun = true
	// The deviations are of the length of the shift and of the angle, not of each axis.
	s, a := w.trans/math.Sqrt(3), w.turn*math.Pi/180/math.Sqrt(3)
	half := r3.Vec{X: w.v[3] * a / 2, Y: w.v[4] * a / 2, Z: w.v[5] * a / 2}
	t := geometry.Transform{Translation: r3.Vec{X: w.v[0] * s, Y: w.v[1] * s, Z: w.v[2] * s}, Rotation: quat.Number{Real: 1, Imag: half.X, Jmag: half.Y, Kmag: half.Z}}
	return t.Normalized()
}

// record writes the messages in order of time.
func (k *Kitchen) record(ctx context.Context, w bags.Writer, encoding msgs.Encoding, progress func(done, total int)) error {
	o := k.Options
	ids := map[string]*bags.Connection{}
	type channel struct {
		topic  string
		sample msgs.Message
		latch  bool
	}
	channels := []channel{
		{"/tf_static", &msgs.TFMessage{}, true}, {MapTopic, &msgs.PointCloud2{}, true}, {"/tf", &msgs.TFMessage{}, false},
		{ImageTopic, &msgs.CompressedImage{}, false}, {InfoTopic, &msgs.CameraInfo{}, false},
	}
	if o.Depth {
		channels = append(channels, channel{DepthTopic, &msgs.Image{}, false})
	}
	for _, c := range channels {
		id, err := w.Add(bags.Connection{Topic: c.topic, Type: c.sample.ROSType(), Encoding: encoding, Latched: c.latch})
		if err != nil {
			return err
		}
		ids[c.topic] = id
	}
	put := func(topic string, at int64, m msgs.Message) error { return bags.WriteMessage(w, ids[topic], at, m) }
	// The recording begins with TF, so that the first picture's moment lies within it.
	first := start - int64(1e9)*3/tfRate + tfDelay
	if o.MissingTF != "static" {
		static := &msgs.TFMessage{Transforms: []msgs.TransformStamped{
			stamped("base_link", "camera_link", first, CameraLink()), stamped("camera_link", opticalName, first, OpticalLink()),
		}}
		if err := put("/tf_static", first, static); err != nil {
			return err
		}
	}
	points, _ := k.Cloud()
	cloud, err := points.PointCloud2(msgs.Header{Stamp: msgs.TimeFromNanos(first), FrameID: "map"})
	if err != nil {
		return err
	}
	if err := put(MapTopic, first, cloud); err != nil {
		return err
	}
	last := k.Frames[len(k.Frames)-1].Stamp
	noise := &wobble{r: rand.New(rand.NewPCG(o.Seed, 0x706f7365)), trans: o.PoseTrans, turn: o.PoseTurn}
	grain, depth := newGrain(o.Seed, o.ImageNoise), newRanger(o.Seed)
	gap := [2]float64{k.Seconds()/2 - 1, k.Seconds()/2 + 1}
	var pic render.Picture
	tick, shot := int64(-3), 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		tfAt := start + tick*1e9/tfRate + tfDelay
		tfDone := tfAt > last+int64(1e9)*3/tfRate
		if shot == len(k.Frames) && tfDone {
			return nil
		}
		if shot == len(k.Frames) || tfAt < k.Frames[shot].Stamp {
			t := float64(tfAt-start) / 1e9
			base := k.Base(t).Mul(noise.next())
			tick++
			if o.MissingTF == "gap" && t > gap[0] && t < gap[1] {
				continue
			}
			drift := k.MapToOdom(t)
			m := &msgs.TFMessage{Transforms: []msgs.TransformStamped{
				stamped("map", "odom", tfAt, drift), stamped("odom", "base_link", tfAt, drift.Inverse().Mul(base).Normalized()),
			}}
			if o.MissingTF == "odom" {
				m.Transforms = m.Transforms[1:]
			}
			if err := put("/tf", tfAt+1e6, m); err != nil {
				return err
			}
			continue
		}
		f := k.Frames[shot]
		k.Picture(shot, &pic)
		grain.spoil(shot, pic.RGB)
		jpeg, err := (&imaging.RGB{Width: pic.Width, Height: pic.Height, Pix: pic.RGB}).JPEG(88)
		if err != nil {
			return err
		}
		header := msgs.Header{Seq: uint32(shot), Stamp: msgs.TimeFromNanos(f.Stamp), FrameID: opticalName}
		if err := put(ImageTopic, f.Stamp+2e6, &msgs.CompressedImage{Header: header, Format: "rgb8; jpeg compressed bgr8", Data: jpeg}); err != nil {
			return err
		}
		if err := put(InfoTopic, f.Stamp+2e6, k.info(header)); err != nil {
			return err
		}
		if o.Depth {
			if err := put(DepthTopic, f.Stamp+2e6, depth.measure(shot, pic.Width, pic.Height, pic.Depth, header)); err != nil {
				return err
			}
		}
		shot++
		if progress != nil {
			progress(shot, len(k.Frames))
		}
	}
}

// Picture renders a frame at the camera's resolution, without noise.
func (k *Kitchen) Picture(frame int, out *render.Picture) {
	f := k.Frames[frame]
	k.draw.Draw(render.View{Camera: k.Options.Camera(), Pose: k.tour.Camera(f.Time)}, k.scene(f.Time, true), 1, out)
}

// grain is a camera's noise.
type grain struct {
	seed  uint64
	table []int8
}

func newGrain(seed uint64, sd float64) *grain {
	g := &grain{seed: seed}
	if sd == 0 {
		return g
	}
	r := rand.New(rand.NewPCG(seed, 0x6772))
	g.table = make([]int8, 4096)
	for i := range g.table {
		g.table[i] = int8(min(127, max(-127, math.Round(sd*r.NormFloat64()))))
	}
	return g
}

func (g *grain) spoil(frame int, pix []uint8) {
	if g.table == nil {
		return
	}
	r := rand.NewPCG(g.seed, 0x70000000+uint64(frame))
	for i := 0; i < len(pix); i += 5 {
		bits := r.Uint64()
		for j := i; j < min(i+5, len(pix)); j++ {
			pix[j] = uint8(min(255, max(0, int(pix[j])+int(g.table[bits&4095]))))
			bits >>= 12
		}
	}
}

func stamped(parent, child string, at int64, t geometry.Transform) msgs.TransformStamped {
	return msgs.TransformStamped{
		Header: msgs.Header{Stamp: msgs.TimeFromNanos(at), FrameID: parent}, ChildFrameID: child,
		Transform: msgs.Transform{
			Translation: msgs.Vector3{X: t.Translation.X, Y: t.Translation.Y, Z: t.Translation.Z},
			Rotation:    msgs.Quaternion{X: t.Rotation.Imag, Y: t.Rotation.Jmag, Z: t.Rotation.Kmag, W: t.Rotation.Real},
		},
	}
}

func (k *Kitchen) info(h msgs.Header) *msgs.CameraInfo {
	kk := k.Options.Camera().K()
	return &msgs.CameraInfo{
		Header: h, Width: uint32(k.Options.Width), Height: uint32(k.Options.Height), DistortionModel: "plumb_bob", D: make([]float64, 5), K: kk,
		R: [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}, P: [12]float64{kk[0], 0, kk[2], 0, 0, kk[4], kk[5], 0, 0, 0, 1, 0},
	}
}
