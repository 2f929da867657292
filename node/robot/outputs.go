package robot

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/window"
)

// Looks of the markers.
const (
	coneDepth = 0.25 // m, length of a viewing cone
	lineWidth = 0.01 // m
)

// publishWindow shows the window in rviz: after an answer the frames that it was made from, in between those that a question
// would see now.
func (r *Robot) publishWindow(o *Outcome) {
	r.s.dirty = false
	frames, stamp := []window.Frame(nil), r.cfg.Transport.Clock().Now()
	if o != nil {
		frames, stamp = o.Frames, o.Stamp
	} else {
		n := int(r.s.params.Frames)
		if n == 0 && r.s.model != nil {
			n = r.s.model.Frames()
		}
		stats := r.s.window.Stats()
		frames = window.Pick(r.s.window.Snapshot(stats.Last), n)
	}
	header := r.header(stamp)
	r.ends.publish(r.ends.path, windowPath(header, frames))
	m := &msgs.MarkerArray{Markers: []msgs.Marker{cones(header, frames), cameraPath(header, frames)}}
	if o != nil {
		m.Markers = append(m.Markers, evidenceMarkers(header, o)...)
	}
	r.ends.publish(r.ends.markers, m)
}

func point(v r3.Vec) msgs.Point { return msgs.Point{X: v.X, Y: v.Y, Z: v.Z} }

func pose(f *window.Frame) msgs.Pose {
	t := transformOf(f.Pose)
	return msgs.Pose{Position: point(f.Pose.Translation), Orientation: t.Rotation}
}

// windowPath is the optical frame's poses.
func windowPath(header msgs.Header, frames []window.Frame) *msgs.Path {
	p := &msgs.Path{Header: header}
	for i := range frames {
		h := header
		h.Stamp = msgs.TimeFromNanos(frames[i].Stamp)
		p.Poses = append(p.Poses, msgs.PoseStamped{Header: h, Pose: pose(&frames[i])})
	}
	return p
}

func marker(header msgs.Header, ns string, typ int32, width float64, c msgs.ColorRGBA) msgs.Marker {
	return msgs.Marker{
		Header: header, Ns: ns, Type: typ, Action: msgs.MarkerAdd,
		Pose: msgs.Pose{Orientation: msgs.Quaternion{W: 1}}, Scale: msgs.Vector3{X: width, Y: width, Z: width}, Color: c,
	}
}

// remove is a marker that takes the one of its name away: rviz logs an error for shapes without points.
func remove(header msgs.Header, ns string, id int32) msgs.Marker {
	return msgs.Marker{Header: header, Ns: ns, ID: id, Action: msgs.MarkerDelete, Pose: msgs.Pose{Orientation: msgs.Quaternion{W: 1}}}
}

// cones are the pyramids of what each frame sees.
func cones(header msgs.Header, frames []window.Frame) msgs.Marker {
	if len(frames) == 0 {
		return remove(header, "window", 0)
	}
	m := marker(header, "window", msgs.MarkerLineList, lineWidth/2, msgs.ColorRGBA{R: 0.1, G: 0.6, B: 1, A: 0.8})
	for i := range frames {
		f := &frames[i]
		apex := f.Pose.Translation
		var corners [4]r3.Vec
		for j, px := range [4][2]float64{{0, 0}, {float64(f.Width), 0}, {float64(f.Width), float64(f.Height)}, {0, float64(f.Height)}} {
			corners[j] = f.Pose.Apply(r3.Vec{X: (px[0] - f.K[2]) / f.K[0] * coneDepth, Y: (px[1] - f.K[5]) / f.K[4] * coneDepth, Z: coneDepth})
		}
		for j := range corners {
			m.Points = append(m.Points, point(apex), point(corners[j]), point(corners[j]), point(corners[(j+1)%4]))
		}
	}
	return m
}

func cameraPath(header msgs.Header, frames []window.Frame) msgs.Marker {
	if len(frames) < 2 {
		return remove(header, "path", 0)
	}
	m := marker(header, "path", msgs.MarkerLineStrip, lineWidth*2, msgs.ColorRGBA{R: 1, G: 0.6, B: 0.1, A: 1})
	for i := range frames {
		m.Points = append(m.Points, point(frames[i].Pose.Translation))
	}
	return m
}

// maxRegions bounds the balls of evidence.
const maxRegions = 32

// evidenceMarkers are balls where the answer looked, opaque where it looked most, and the answer as text over the camera.
func evidenceMarkers(header msgs.Header, o *Outcome) []msgs.Marker {
	var out []msgs.Marker // balls are replaced one by one: DELETEALL would take every namespace with it
	regions := o.Answer.RegionEvidence
	for i := range maxRegions {
		if i >= len(regions) {
			out = append(out, remove(header, "evidence", int32(i)))
			continue
		}
		e := regions[i]
		alpha := 0.15 + 0.6*math.Sqrt(max(0, e.Weight)/max(regions[0].Weight, 1e-12))
		m := marker(header, "evidence", msgs.MarkerSphere, 2*max(e.Radius, 0.02), msgs.ColorRGBA{R: 1, G: 0.2, B: 0.6, A: float32(min(alpha, 0.75))})
		m.ID, m.Pose.Position = int32(i), e.Position
		out = append(out, m)
	}
	text := o.Answer.Text
	if o.Answer.ErrorCode != msgs.AnswerErrorNone {
		text = o.Answer.ErrorMessage
	}
	last := o.Frames[len(o.Frames)-1]
	if text == "" {
		return append(out, remove(header, "answer", 0))
	}
	m := marker(header, "answer", msgs.MarkerTextViewFacing, 0.12, msgs.ColorRGBA{R: 1, G: 1, B: 1, A: 1})
	m.Text = text
	m.Pose.Position = point(last.Pose.Translation)
	m.Pose.Position.Z += 0.4
	return append(out, m)
}
