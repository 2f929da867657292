package kitchen

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/scene"
)

// start is the stamp of the first picture, ns: a fixed moment, so that the same seed gives the same bytes.
const start = int64(1_700_000_000_000_000_000)

// Topics of a kitchen bag.
const (
	ImageTopic  = "/camera/color/image_raw/compressed"
	InfoTopic   = "/camera/color/camera_info"
	MapTopic    = "/map/points"
	opticalName = "camera_color_optical_frame"
)

// Write writes a kitchen as a bag (.bag or .mcap), and beside it OUT.scene.json and OUT.questions.yaml. progress, which may be
// nil, is called with the pictures done.
func Write(k *Kitchen, path string, progress func(done, total int)) error {
	w, err := bags.Create(path)
	if err != nil {
		return err
	}
	encoding := msgs.CDR
	if filepath.Ext(path) == ".bag" {
		encoding = msgs.ROS1
	}
	if err := k.record(w, encoding, progress); err != nil {
		w.Close()
		return fmt.Errorf("write kitchen %s: %w", path, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write kitchen %s: %w", path, err)
	}
	base := strings.TrimSuffix(path, filepath.Ext(path))
	if err := k.writeScene(base + ".scene.json"); err != nil {
		return err
	}
	return k.writeQuestions(base + ".questions.yaml")
}

// record writes the messages in order of time.
func (k *Kitchen) record(w bags.Writer, encoding msgs.Encoding, progress func(done, total int)) error {
	o := k.Options
	ids := map[string]*bags.Connection{}
	for _, c := range []struct {
		topic  string
		sample msgs.Message
		latch  bool
	}{
		{"/tf_static", &msgs.TFMessage{}, true}, {MapTopic, &msgs.PointCloud2{}, true}, {"/tf", &msgs.TFMessage{}, false},
		{ImageTopic, &msgs.CompressedImage{}, false}, {InfoTopic, &msgs.CameraInfo{}, false},
	} {
		id, err := w.Add(bags.Connection{Topic: c.topic, Type: c.sample.ROSType(), Encoding: encoding, Latched: c.latch})
		if err != nil {
			return err
		}
		ids[c.topic] = id
	}
	put := func(topic string, at int64, m msgs.Message) error { return bags.WriteMessage(w, ids[topic], at, m) }
	first := start - int64(100e6)
	static := &msgs.TFMessage{Transforms: []msgs.TransformStamped{
		stamped("base_link", "camera_link", first, CameraLink()), stamped("camera_link", opticalName, first, OpticalLink()),
	}}
	if err := put("/tf_static", first, static); err != nil {
		return err
	}
	cloud, err := k.Cloud().PointCloud2(msgs.Header{Stamp: msgs.TimeFromNanos(first), FrameID: "map"})
	if err != nil {
		return err
	}
	if err := put(MapTopic, first, cloud); err != nil {
		return err
	}
	mesh := []*render.Mesh{k.mesh()}
	var draw render.Renderer
	var pic render.Picture
	pictures := int(o.Seconds * o.Rate)
	tick, shot := -3, 0
	for shot < pictures || float64(tick)/30 < o.Seconds+0.1 {
		tfAt := start + int64(tick)*1e9/30 + 7e6 // a few ms after the pictures, as odometry comes
		imageAt := start + int64(float64(shot)*1e9/o.Rate)
		if shot >= pictures || tfAt < imageAt {
			t := float64(tfAt-start) / 1e9
			drift := k.drift(t)
			m := &msgs.TFMessage{Transforms: []msgs.TransformStamped{
				stamped("map", "odom", tfAt, drift), stamped("odom", "base_link", tfAt, drift.Inverse().Mul(k.Base(t))),
			}}
			if err := put("/tf", tfAt+1e6, m); err != nil {
				return err
			}
			tick++
			continue
		}
		t := float64(imageAt-start) / 1e9
		draw.Draw(render.View{Camera: o.camera(), Pose: k.Camera(t)}, mesh, 1, &pic)
		jpeg, err := (&imaging.RGB{Width: pic.Width, Height: pic.Height, Pix: pic.RGB}).JPEG(88)
		if err != nil {
			return err
		}
		header := msgs.Header{Seq: uint32(shot), Stamp: msgs.TimeFromNanos(imageAt), FrameID: opticalName}
		if err := put(ImageTopic, imageAt+2e6, &msgs.CompressedImage{Header: header, Format: "rgb8; jpeg compressed bgr8", Data: jpeg}); err != nil {
			return err
		}
		if err := put(InfoTopic, imageAt+2e6, k.info(header)); err != nil {
			return err
		}
		shot++
		if progress != nil {
			progress(shot, pictures)
		}
	}
	return nil
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

// drift is how far odometry is off: it grows, and a correction takes it back every four seconds.
func (k *Kitchen) drift(t float64) geometry.Transform {
	since := math.Mod(t+8, 4)
	return planar(0.2+0.004*since, -0.1-0.003*since, 0.05+0.002*since)
}

func (k *Kitchen) info(h msgs.Header) *msgs.CameraInfo {
	kk := k.Options.camera().K()
	return &msgs.CameraInfo{
		Header: h, Width: uint32(k.Options.Width), Height: uint32(k.Options.Height), DistortionModel: "plumb_bob", D: make([]float64, 5), K: kk,
		R: [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}, P: [12]float64{kk[0], 0, kk[2], 0, 0, kk[4], kk[5], 0, 0, 0, 1, 0},
	}
}

// Cloud is the map: points on every surface about 3 cm apart, with a little noise and holes.
func (k *Kitchen) Cloud() *scene.Cloud {
	const step = 0.03
	r := rand.New(rand.NewPCG(k.Options.Seed, 0x6d6170))
	c := &scene.Cloud{HasColor: true}
	m := k.mesh()
	for _, t := range m.Tris {
		a, b, d := m.Verts[t.V[0]], m.Verts[t.V[1]], m.Verts[t.V[2]]
		u, v := b.P.Sub(a.P), d.P.Sub(a.P)
		area := u.Cross(v).Norm() / 2
		n := float64(area) / (step * step)
		count := int(n)
		if r.Float64() < n-float64(count) {
			count++
		}
		for range count {
			if r.Float64() < 0.04 {
				continue // what a scanner misses
			}
			s, q := float32(r.Float64()), float32(r.Float64())
			if s+q > 1 {
				s, q = 1-s, 1-q
			}
			p := a.P.Add(u.Scale(s)).Add(v.Scale(q))
			mat := &m.Materials[t.Material]
			tu, tv := a.U+s*(b.U-a.U)+q*(d.U-a.U), a.V+s*(b.V-a.V)+q*(d.V-a.V)
			light := a.Light.Add(b.Light.Sub(a.Light).Scale(s)).Add(d.Light.Sub(a.Light).Scale(q))
			rgb := render.Encode(mat.At(tu, tv, step).Mul(light))
			for axis := range 3 {
				c.XYZ = append(c.XYZ, float64(p[axis])+0.004*r.NormFloat64())
			}
			c.RGB = append(c.RGB, rgb[0], rgb[1], rgb[2])
		}
	}
	return c
}

func (k *Kitchen) writeScene(path string) error {
	type pose struct {
		Stamp   int64       `json:"stamp_ns"`
		Optical [16]float64 `json:"optical_in_map"`
	}
	var poses []pose
	for i := range int(k.Options.Seconds * k.Options.Rate) {
		at := start + int64(float64(i)*1e9/k.Options.Rate)
		poses = append(poses, pose{at, k.Camera(float64(at-start) / 1e9).Matrix()})
	}
	data, err := json.MarshalIndent(map[string]any{"seed": k.Options.Seed, "room": []float64{k.Width, k.Depth, roomHeight}, "boxes": k.Boxes, "cameras": poses}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// Question is one entry of the questions file.
type Question struct {
	ID     string  `yaml:"id"`
	At     float64 `yaml:"at"`
	Text   string  `yaml:"text"`
	Task   string  `yaml:"task,omitempty"`
	Answer string  `yaml:"answer,omitempty"`
	Label  string  `yaml:"label,omitempty"`
	Group  string  `yaml:"group,omitempty"`
}

// Thresholds of direction labels, metres: two thirds of REA's 1.5 and 1.0, whose unit is not the metre.
const (
	mainDistance = 1.0
	sideDistance = 0.7
)

// Direction is the label of a place as seen from a camera: ahead, behind, left, right and their pairs.
func Direction(camera geometry.Transform, x, y float64) string {
	local := camera.Inverse().Apply(r3.Vec{X: x, Y: y, Z: camera.Translation.Z})
	// The ground plane's own axes: the camera looks down a little, which must not shorten what lies ahead.
	ahead := camera.Rotate(r3.Vec{Z: 1})
	ahead.Z = 0
	ahead = r3.Unit(ahead)
	to := r3.Vec{X: x - camera.Translation.X, Y: y - camera.Translation.Y}
	side, front := local.X, r3.Dot(ahead, to)
	depth, across := "front", "right"
	if front < 0 {
		depth = "back"
	}
	if side < 0 {
		across = "left"
	}
	far, wide := math.Abs(front), math.Abs(side)
	switch {
	case far <= mainDistance && wide <= mainDistance:
		return "here"
	case far > mainDistance && wide > sideDistance || wide > mainDistance && far > sideDistance:
		return depth + "-" + across
	case far >= wide:
		return depth
	}
	return across
}

// phrase writes a direction as an answer has it.
func phrase(name, direction string) string {
	switch direction {
	case "here":
		return "The " + name + " is right beside the person."
	case "front":
		return "The " + name + " is in front of the person."
	case "back":
		return "The " + name + " is behind the person."
	}
	return "The " + name + " is to the " + direction + " of the person."
}

func (k *Kitchen) writeQuestions(path string) error {
	var qs []Question
	r := rand.New(rand.NewPCG(k.Options.Seed, 0x71))
	for i, b := range r.Perm(len(k.Boxes))[:min(3, len(k.Boxes))] {
		at := math.Round(k.Options.Seconds*(0.5+0.24*float64(i))*10) / 10
		box := k.Boxes[b]
		label := Direction(k.Camera(at), box.X, box.Y)
		qs = append(qs, Question{ID: fmt.Sprintf("q%d", i+1), At: at, Task: "relative_direction", Group: "now", Label: label,
			Text: fmt.Sprintf("In which direction is the %s from where I stand now?", box.Name), Answer: phrase(box.Name, label)})
	}
	data, err := yaml.Marshal(qs)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
