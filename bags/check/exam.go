package check

import (
	"bytes"
	"image"
	_ "image/jpeg" // what camera drivers compress to
	_ "image/png"
	"path"
	"slices"
	"strings"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/tf"
)

// jump is by how much stamps may run backwards, in ns, before it counts as a
// jump of time.
const jump = int64(1e9)

// Topics of transforms; they are not remapped.
const (
	tfTopic     = "/tf"
	staticTopic = "/tf_static"
)

// maxPending bounds the pictures that wait for a transform.
const maxPending = 4096

// exam is a check under way.
type exam struct {
	opts   Options
	report *Report
	// Topics chosen; empty where there is none.
	image, info, cloud string
	depth              depth

	buffer  *tf.Buffer
	links   map[string]*link // by child frame
	pending []picture
	refused refusals

	frame         string // of the camera
	width, height int
	lastStamp     int64
	jumps         int
	zeroStamps    int64
	undecoded     map[string]undecoded // by topic
	failures      map[string]*failure  // pictures without a pose by cause

	infos     int64
	infoFirst *msgs.CameraInfo
	infoBad   string
	stamps    map[int64]struct{} // of camera_info, to be paired
	unpaired  map[int64]struct{} // of pictures

	clouds     int64
	cloudFirst int64 // log time
	cloudLast  *msgs.PointCloud2
	firstImage int64 // log time
}

// picture waits for its transform.
type picture struct {
	stamp, log int64
	frame      string
}

// link is what is known of one child frame's transform.
type link struct {
	parent     string
	static     bool
	first      int64
	last       int64
	gap, gapAt int64 // longest time without a transform, and its start
}

type undecoded struct {
	count int64
	first error
}

type refusals struct {
	count int64
	first error
}

// failure counts pictures without a pose for one cause.
type failure struct {
	count       int64
	first, last int64 // stamps
	err         error
}

func newExam(s *Summary, opts Options) *exam {
	e := &exam{opts: opts, report: &Report{Summary: s}, buffer: tf.New(opts.TFCache), links: map[string]*link{},
		undecoded: map[string]undecoded{}, failures: map[string]*failure{},
		stamps: map[int64]struct{}{}, unpaired: map[int64]struct{}{}}
	e.image = choose(opts.Image, s.topicsOf("sensor_msgs/Image", "sensor_msgs/CompressedImage"), func(t Topic) bool {
		return bags.ColourTopic(t.Name)
	})
	e.info = opts.CameraInfo
	if e.info == "" && e.image != "" {
		e.info = sibling(e.image)
	}
	e.cloud = choose(opts.Map, s.topicsOf("sensor_msgs/PointCloud2"), func(t Topic) bool {
		return t.Latched || t.Count == 1 || strings.Contains(t.Name, "map")
	})
	return e
}

// choose returns the wanted topic, or else the first that is preferred, or else
// the first.
func choose(wanted string, topics []Topic, prefer func(Topic) bool) string {
	if wanted != "" {
		return wanted
	}
	if i := slices.IndexFunc(topics, prefer); i >= 0 {
		return topics[i].Name
	}
	if len(topics) > 0 {
		return topics[0].Name
	}
	return ""
}

// sibling is the camera_info that belongs to an image topic, as image_transport
// names it.
func sibling(image string) string {
	return path.Join(path.Dir(strings.TrimSuffix(image, "/compressed")), "camera_info")
}

// topics to be read.
func (e *exam) topics() []string {
	// An empty list would select all.
	out := []string{tfTopic, staticTopic}
	for _, t := range []string{e.image, e.info, e.cloud, e.depth.topic} {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}

// take looks at one message.
func (e *exam) take(m *bags.Message) {
	e.expire(m.LogTime)
	decoded, err := m.Decode()
	if err != nil {
		u := e.undecoded[m.Connection.Topic]
		if u.count == 0 {
			u.first = err
		}
		u.count++
		e.undecoded[m.Connection.Topic] = u
		return
	}
	topic := m.Connection.Topic
	if topic == e.depth.topic && topic != e.image {
		e.depth.take(decoded)
		return
	}
	switch v := decoded.(type) {
	case *msgs.TFMessage:
		for i := range v.Transforms {
			e.transform(&v.Transforms[i], topic == staticTopic)
		}
		e.pending = slices.DeleteFunc(e.pending, e.pose)
	case *msgs.Image:
		if topic == e.image {
			if e.width == 0 {
				e.width, e.height = int(v.Width), int(v.Height)
			}
			e.picture(v.Header, m.LogTime)
		}
	case *msgs.CompressedImage:
		if topic == e.image {
			if e.width == 0 {
				if c, _, err := image.DecodeConfig(bytes.NewReader(v.Data)); err == nil {
					e.width, e.height = c.Width, c.Height
				}
			}
			e.picture(v.Header, m.LogTime)
		}
	case *msgs.CameraInfo:
		if topic == e.info {
			e.cameraInfo(v)
		}
	case *msgs.PointCloud2:
		if topic == e.cloud {
			e.points(v, m.LogTime)
		}
	}
}

func (e *exam) transform(t *msgs.TransformStamped, static bool) {
	stamp := t.Header.Stamp.UnixNano()
	if !static {
		e.clock(stamp)
	}
	v, q := t.Transform.Translation, t.Transform.Rotation
	err := e.buffer.Set(t.Header.FrameID, t.ChildFrameID, stamp, geometry.Transform{
		Translation: r3.Vec{X: v.X, Y: v.Y, Z: v.Z}, Rotation: quat.Number{Real: q.W, Imag: q.X, Jmag: q.Y, Kmag: q.Z}}, static)
	if err != nil {
		if e.refused.count == 0 {
			e.refused.first = err
		}
		e.refused.count++
		return
	}
	child := strings.TrimPrefix(t.ChildFrameID, "/")
	l := e.links[child]
	if l == nil {
		l = &link{first: stamp, last: stamp}
		e.links[child] = l
	}
	l.parent, l.static = strings.TrimPrefix(t.Header.FrameID, "/"), static
	if gap := stamp - l.last; gap > l.gap {
		l.gap, l.gapAt = gap, l.last
	}
	l.first, l.last = min(l.first, stamp), max(l.last, stamp)
}

// clock follows the stamps of pictures and transforms. The node clears its
// transforms when time runs backwards, and so must the check.
func (e *exam) clock(stamp int64) {
	if stamp < e.lastStamp-jump {
		e.jumps++
		e.end()
		e.buffer.Clear(true)
		for _, l := range e.links {
			l.last = min(l.last, stamp)
		}
		e.lastStamp = stamp
	}
	e.lastStamp = max(e.lastStamp, stamp)
}

// picture queues one for its transform.
func (e *exam) picture(h msgs.Header, log int64) {
	stamp := h.Stamp.UnixNano()
	if e.report.Images == 0 {
		e.firstImage = log
		e.frame = strings.TrimPrefix(h.FrameID, "/")
	}
	e.report.Images++
	if stamp == 0 {
		e.zeroStamps++
	}
	e.clock(stamp)
	e.pair(stamp)
	e.depth.picture(stamp)
	if p := (picture{stamp, log, h.FrameID}); !e.pose(p) {
		e.pending = append(e.pending, p)
		if len(e.pending) > maxPending {
			e.fail(e.pending[0])
			e.pending = e.pending[1:]
		}
	}
}

// pose tells whether the transform of a picture is known by now.
func (e *exam) pose(p picture) bool {
	_, _, err := e.buffer.Lookup(e.opts.FixedFrame, p.frame, p.stamp)
	if err == nil {
		e.report.Posed++
	}
	return err == nil
}

// expire gives up the pictures that have waited too long by the log time.
func (e *exam) expire(now int64) {
	for len(e.pending) > 0 && now-e.pending[0].log > e.opts.TFTimeout.Nanoseconds() {
		e.fail(e.pending[0])
		e.pending = e.pending[1:]
	}
}

// fail counts a picture without a pose.
func (e *exam) fail(p picture) {
	_, _, err := e.buffer.Lookup(e.opts.FixedFrame, p.frame, p.stamp)
	cause := causeOf(err)
	f := e.failures[cause]
	if f == nil {
		f = &failure{first: p.stamp, last: p.stamp, err: err}
		e.failures[cause] = f
	}
	f.count++
	f.first, f.last = min(f.first, p.stamp), max(f.last, p.stamp)
}

func (e *exam) end() {
	for _, p := range e.pending {
		e.fail(p)
	}
	e.pending = nil
}

// maxUnpaired bounds the stamps kept for pairing.
const maxUnpaired = 4096

// pair matches a picture with the camera_info of the same stamp, whichever
// comes first.
func (e *exam) pair(stamp int64) {
	if _, ok := e.stamps[stamp]; ok {
		delete(e.stamps, stamp)
		return
	}
	if len(e.unpaired) < maxUnpaired {
		e.unpaired[stamp] = struct{}{}
	}
}

func (e *exam) cameraInfo(v *msgs.CameraInfo) {
	e.infos++
	if e.infoFirst == nil {
		first := *v
		first.D = slices.Clone(v.D)
		e.infoFirst = &first
	} else if v.K != e.infoFirst.K || v.Width != e.infoFirst.Width || v.Height != e.infoFirst.Height {
		e.infoBad = "the calibration changes within the bag"
	}
	stamp := v.Header.Stamp.UnixNano()
	if _, ok := e.unpaired[stamp]; ok {
		delete(e.unpaired, stamp)
		return
	}
	if len(e.stamps) >= maxUnpaired {
		clear(e.stamps)
	}
	e.stamps[stamp] = struct{}{}
}
