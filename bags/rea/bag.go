package rea

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of frames
	_ "image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/scene"
)

// Rate is the number of frames a second by which EPIC's frame files are numbered, from 1.
const Rate = 60

// Imported is a bag that was made of REA items.
type Imported struct {
	Bag       string
	Questions string
	Items     int
	// Longest is the length of the longest clip, seconds. A robot sees all of it where its window is as long, and no more than
	// it where its window is shorter than Pause.
	Longest float64
}

// Pause lies between two clips of a bag, seconds: longer than any window.
const Pause = 150

// epoch is the stamp of a bag's first frame, ns: a fixed moment, so that the same items give the same bytes.
const epoch = int64(1_700_000_000_000_000_000)

// Topics of a bag made of REA items.
const (
	imageTopic   = "/camera/color/image_raw/compressed"
	infoTopic    = "/camera/color/camera_info"
	mapTopic     = "/map/points"
	opticalFrame = "camera_color_optical_frame"
)

// askedAfter is the time from a clip's last frame to its questions, seconds.
const askedAfter = 0.15

// Import makes bags of REA items, one for every point cloud, video and intrinsics, with questions files beside them: the
// frames of every clip (the published choice of count, or all where it is 0) with their exact poses, one clip after another.
// Frames keep their file's bytes; times are those of their numbers. Items that cannot be read come back as errors.
func Import(items []Item, roots Roots, count int, dir, file string) (out []Imported, broken []*ItemError, err error) {
	type scenery struct{ cloud, video, k string }
	order := []scenery{}
	by := map[scenery][]Item{}
	for _, it := range items {
		s := scenery{it.PointCloud, it.Video, it.K}
		if by[s] == nil {
			order = append(order, s)
		}
		by[s] = append(by[s], it)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("import: %w", err)
	}
	used := map[string]bool{}
	for i, s := range order {
		name := by[s][0].SceneID
		if name == "" {
			name = fmt.Sprintf("scene%03d", i)
		}
		name = plain(name)
		for base, n := name, 2; used[name]; n++ {
			name = fmt.Sprintf("%s_%d", base, n)
		}
		used[name] = true
		one, bad, err := importScene(by[s], roots, count, filepath.Join(dir, name+".bag"), file)
		broken = append(broken, bad...)
		if err != nil {
			return out, broken, fmt.Errorf("import scene %s: %w", name, err)
		}
		if one.Items > 0 {
			out = append(out, one)
		}
	}
	return out, broken, nil
}

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
}

// clipOf is a clip with the items that ask about it.
type clipOf struct {
	clip  *Clip
	items []Item
}

func importScene(items []Item, roots Roots, count int, path, file string) (Imported, []*ItemError, error) {
	var broken []*ItemError
	var clips []*clipOf
	by := map[string]*clipOf{}
	for _, it := range items {
		if c := by[it.C2Ws]; c != nil {
			c.items = append(c.items, it)
			continue
		}
		clip, err := it.Open(roots, count)
		if err != nil {
			broken = append(broken, &ItemError{it.ID, file, err})
			continue
		}
		by[it.C2Ws] = &clipOf{clip, []Item{it}}
		clips = append(clips, by[it.C2Ws])
	}
	one := Imported{Bag: path, Questions: strings.TrimSuffix(path, ".bag") + ".questions.yaml"}
	if len(clips) == 0 {
		return one, broken, nil
	}
	cloud, _, err := scene.ReadFile(clips[0].clip.Map)
	if err != nil {
		for _, c := range clips {
			for _, it := range c.items {
				broken = append(broken, &ItemError{it.ID, file, err})
			}
		}
		return one, broken, nil
	}
	w, err := newRecorder(path, cloud)
	if err != nil {
		return one, broken, err
	}
	defer w.bag.Close()
	at := epoch
	var questions []replay.Question
	for _, c := range clips {
		last, err := w.clip(c.clip, at)
		if err != nil {
			for _, it := range c.items {
				broken = append(broken, &ItemError{it.ID, file, err})
			}
			at = last + Pause*int64(1e9)
			continue
		}
		one.Longest = max(one.Longest, float64(last-at)/1e9)
		for _, it := range c.items {
			when := float64(last-epoch)/1e9 + askedAfter
			m := it.Metadata
			q := replay.Question{ID: plain(it.ID), At: &when, Text: it.Question(), Task: string(it.Task()), Answer: it.Answer(), Label: m.Label, Group: m.Group, Choices: m.Choices}
			if m.About != "" {
				q.Metadata = map[string]any{"about": m.About}
			}
			questions = append(questions, q)
			one.Items++
		}
		at = last + Pause*int64(1e9)
	}
	if err := w.bag.Close(); err != nil {
		return one, broken, err
	}
	return one, broken, WriteQuestions(one.Questions, questions)
}

// recorder writes clips into a bag.
type recorder struct {
	bag  bags.Writer
	conn map[string]*bags.Connection
}

func newRecorder(path string, cloud *scene.Cloud) (*recorder, error) {
	b, err := bags.Create(path)
	if err != nil {
		return nil, err
	}
	w := &recorder{b, map[string]*bags.Connection{}}
	for _, c := range []struct {
		topic  string
		sample msgs.Message
		latch  bool
	}{{mapTopic, &msgs.PointCloud2{}, true}, {"/tf", &msgs.TFMessage{}, false}, {imageTopic, &msgs.CompressedImage{}, false}, {infoTopic, &msgs.CameraInfo{}, false}} {
		if w.conn[c.topic], err = b.Add(bags.Connection{Topic: c.topic, Type: c.sample.ROSType(), Encoding: msgs.ROS1, Latched: c.latch}); err != nil {
			b.Close()
			return nil, err
		}
	}
	points, err := cloud.PointCloud2(msgs.Header{Stamp: msgs.TimeFromNanos(epoch), FrameID: "map"})
	if err == nil {
		err = w.put(mapTopic, epoch, points)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return w, nil
}

func (w *recorder) put(topic string, at int64, m msgs.Message) error {
	return bags.WriteMessage(w.bag, w.conn[topic], at, m)
}

// clip writes a clip whose first frame is taken at a time and returns the time of the last one. Frames that were taken more
// than once of a short clip are written once.
func (w *recorder) clip(c *Clip, at int64) (last int64, err error) {
	last = at
	first := int64(0)
	for i, f := range c.Frames {
		n := number(f.Name, i)
		if i == 0 {
			first = n
		} else if f.Name == c.Frames[i-1].Name {
			continue
		}
		stamp := at + int64(math.Round(float64(n-first)*1e9/Rate))
		if i > 0 && stamp <= last {
			return last, fmt.Errorf("frame %s is not after the one before it", f.Name)
		}
		if err := w.frame(f, c.K, stamp); err != nil {
			return last, err
		}
		last = stamp
	}
	return last, nil
}

// maxImage bounds a frame's file.
const maxImage = 64 << 20

func (w *recorder) frame(f Frame, k [9]float64, stamp int64) error {
	info, err := os.Stat(f.Image)
	if err != nil {
		return err
	}
	if info.Size() > maxImage {
		return fmt.Errorf("%s has %d bytes, expected a picture", f.Image, info.Size())
	}
	data, err := os.ReadFile(f.Image)
	if err != nil {
		return err
	}
	size, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", f.Image, err)
	}
	h := msgs.Header{Stamp: msgs.TimeFromNanos(stamp), FrameID: opticalFrame}
	if err := w.put("/tf", stamp, &msgs.TFMessage{Transforms: []msgs.TransformStamped{optical(f.Pose, h.Stamp)}}); err != nil {
		return err
	}
	if err := w.put(infoTopic, stamp+1e6, &msgs.CameraInfo{Header: h, Width: uint32(size.Width), Height: uint32(size.Height), DistortionModel: "plumb_bob", D: make([]float64, 5),
		K: k, R: [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}, P: [12]float64{k[0], k[1], k[2], 0, k[3], k[4], k[5], 0, 0, 0, 1, 0}}); err != nil {
		return err
	}
	return w.put(imageTopic, stamp+1e6, &msgs.CompressedImage{Header: h, Format: format, Data: data})
}

func optical(t geometry.Transform, stamp msgs.Time) msgs.TransformStamped {
	return msgs.TransformStamped{Header: msgs.Header{Stamp: stamp, FrameID: "map"}, ChildFrameID: opticalFrame, Transform: msgs.Transform{
		Translation: msgs.Vector3{X: t.Translation.X, Y: t.Translation.Y, Z: t.Translation.Z},
		Rotation:    msgs.Quaternion{X: t.Rotation.Imag, Y: t.Rotation.Jmag, Z: t.Rotation.Kmag, W: t.Rotation.Real}}}
}

// number reads a frame's number off its name (frame_0000000113); other names count as a second each.
func number(name string, index int) int64 {
	if n, err := strconv.ParseInt(name[strings.LastIndexByte(name, '_')+1:], 10, 40); err == nil && n >= 0 {
		return n
	}
	return int64(index) * Rate
}

// WriteQuestions writes a questions file as replay reads it, in order of time.
func WriteQuestions(path string, list []replay.Question) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b replay.Question) int { return cmp.Compare(*a.At, *b.At) })
	out := make([]yaml.MapSlice, 0, len(list))
	for _, q := range list {
		m := yaml.MapSlice{{Key: "id", Value: q.ID}, {Key: "at", Value: math.Round(*q.At*1e6) / 1e6}, {Key: "text", Value: q.Text}}
		for _, f := range []struct{ key, value string }{{"task", q.Task}, {"answer", q.Answer}, {"label", q.Label}, {"group", q.Group}} {
			if f.value != "" {
				m = append(m, yaml.MapItem{Key: f.key, Value: f.value})
			}
		}
		if len(q.Choices) > 0 {
			m = append(m, yaml.MapItem{Key: "choices", Value: q.Choices})
		}
		if len(q.Metadata) > 0 {
			m = append(m, yaml.MapItem{Key: "metadata", Value: q.Metadata})
		}
		out = append(out, m)
	}
	data, err := yaml.Marshal(out)
	if err != nil {
		return fmt.Errorf("questions %s: %w", path, err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("questions: %w", err)
	}
	return nil
}
