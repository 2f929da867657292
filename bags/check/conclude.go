package check

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/tf"
)

// gapWarning is how long, in ns, poses may be interpolated across before the
// report says so.
const gapWarning = int64(1e9)

// conclude turns what was seen into findings.
func (e *exam) conclude() *Report {
	e.concludeBag()
	if e.concludeImages() {
		e.concludeCameraInfo()
		e.concludeTF()
		e.concludeDepth()
	}
	e.concludeMap()
	e.concludeTypes()
	r := e.report
	r.Usable = !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error })
	return r
}

func (e *exam) concludeBag() {
	r := e.report
	if n := len(r.Summary.Warnings); n > 0 {
		r.add(Warning, "bag", fmt.Sprintf("the bag is damaged or was not closed: %s", more(r.Summary.Warnings[0], n)),
			"What could be read is used. `rosbag reindex` or `mcap recover` make a whole bag of it.")
	}
	if e.jumps > 0 {
		r.add(Warning, "bag", fmt.Sprintf("stamps jump back %s", times(int64(e.jumps))),
			"The node clears window and transforms at each jump; play the bag once rather than looped where that is not wanted.")
	}
}

func more(first string, n int) string {
	if n == 1 {
		return first
	}
	return fmt.Sprintf("%s (and %d more)", first, n-1)
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// concludeImages reports whether there are any pictures.
func (e *exam) concludeImages() bool {
	r := e.report
	if e.image == "" {
		r.add(Error, "image", "no topic has sensor_msgs/Image or sensor_msgs/CompressedImage messages",
			"Record the camera's image topic.")
		return false
	}
	t, ok := r.Summary.topic(e.image)
	switch {
	case !ok:
		r.add(Error, "image", fmt.Sprintf("no messages on %s; image topics are: %s", e.image, e.names("sensor_msgs/Image", "sensor_msgs/CompressedImage")),
			"Name one of these as the image topic.")
		return false
	case r.Images == 0:
		text := fmt.Sprintf("no message on %s (%s) can be read as a picture", e.image, t.Type)
		if u := e.undecoded[e.image]; u.first != nil {
			text += ": " + u.first.Error()
		}
		r.add(Error, "image", text, "Name a topic of sensor_msgs/Image or sensor_msgs/CompressedImage.")
		return false
	}
	r.add(OK, "image", fmt.Sprintf("%d pictures of %d×%d on %s at %.1f Hz, frame %q", r.Images, e.width, e.height, e.image, t.Rate, e.frame), "")
	if e.zeroStamps > 0 {
		r.add(Error, "image", fmt.Sprintf("%d pictures have stamp 0", e.zeroStamps),
			"Make the camera driver stamp its pictures; without a stamp they have no pose.")
	}
	if e.width == 0 {
		r.add(Warning, "image", "the size of the pictures cannot be told", "Only JPEG and PNG are read; record another format as raw images.")
	}
	return true
}

func (e *exam) names(types ...string) string {
	var names []string
	for _, t := range e.report.Summary.topicsOf(types...) {
		names = append(names, t.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (e *exam) concludeCameraInfo() {
	r := e.report
	if e.infos == 0 {
		r.add(Error, "camera_info", fmt.Sprintf("no messages on %s; camera_info topics are: %s", e.info, e.names("sensor_msgs/CameraInfo")),
			"Record it with the images, name one of these, or give a calibration file.")
		return
	}
	c := e.infoFirst
	switch {
	case c.K[0] == 0:
		r.add(Error, "camera_info", fmt.Sprintf("%s has K[0] = 0: the camera is not calibrated", e.info),
			"Calibrate the camera (camera_calibration) or give a calibration file.")
		return
	case !finite(c.K[:]) || c.K[0] < 0 || c.K[4] <= 0:
		r.add(Error, "camera_info", fmt.Sprintf("%s has K = %v, which is no camera", e.info, c.K), "Calibrate the camera or give a calibration file.")
		return
	}
	binned := func(n, by uint32) int { return int(n) / int(max(by, 1)) }
	if e.width > 0 && c.Roi == (msgs.RegionOfInterest{}) &&
		(binned(c.Width, c.BinningX) != e.width || binned(c.Height, c.BinningY) != e.height) {
		r.add(Error, "camera_info", fmt.Sprintf("%s is for %d×%d, pictures are %d×%d", e.info, c.Width, c.Height, e.width, e.height),
			"Set the driver's calibration for the resolution that it sends, or name the camera_info of this image topic.")
	}
	if got := strings.TrimPrefix(c.Header.FrameID, "/"); got != e.frame {
		r.add(Warning, "camera_info", fmt.Sprintf("its frame is %q, the pictures' is %q", got, e.frame), "The pictures' frame is used.")
	}
	if e.infoBad != "" {
		r.add(Warning, "camera_info", e.infoBad, "Each picture is used with the camera_info of its stamp, or the last one before it.")
	}
	model := c.DistortionModel
	if model == "" {
		model = "no distortion model"
	}
	r.add(OK, "camera_info", fmt.Sprintf("%d messages on %s, fx %.1f fy %.1f cx %.1f cy %.1f, %s", e.infos, e.info, c.K[0], c.K[4], c.K[2], c.K[5], model), "")
	if n := len(e.unpaired); n > 0 {
		r.add(Warning, "camera_info", fmt.Sprintf("%d of %d pictures have none with the same stamp", n, r.Images),
			"The last one before the picture is used; that is right for a camera that does not change.")
	}
}

func finite(v []float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
}

func (e *exam) concludeTF() {
	r := e.report
	r.Chain = e.chain()
	if e.refused.count > 0 {
		r.add(Warning, "tf", fmt.Sprintf("%d transforms are refused, as tf2 does; the first: %v", e.refused.count, e.refused.first),
			"Look at who publishes them.")
	}
	if r.Posed > 0 {
		r.add(OK, "tf", fmt.Sprintf("%d of %d pictures have a transform from %q to %q (%s)", r.Posed, r.Images, e.frame, e.opts.FixedFrame,
			strings.Join(r.Chain, " → ")), "")
	}
	severity := Warning
	if r.Posed == 0 {
		severity = Error
	}
	for _, cause := range slices.Sorted(maps.Keys(e.failures)) {
		f := e.failures[cause]
		text := fmt.Sprintf("%d of %d pictures (%s to %s) have no pose: %v", f.count, r.Images, e.when(f.first), e.when(f.last), f.err)
		r.add(severity, "tf", text, e.remedy(cause))
	}
	for _, frame := range r.Chain {
		if l := e.links[frame]; l != nil && !l.static && l.gap > gapWarning {
			r.add(Warning, "tf", fmt.Sprintf("%q has no transform for %.2f s from %s on", frame, float64(l.gap)/1e9, e.when(l.gapAt)),
				"Poses in there are interpolated across, as far as pictures can wait; look at why its publisher paused.")
		}
	}
}

// when is a stamp in seconds from the bag's start.
func (e *exam) when(stamp int64) string {
	return fmt.Sprintf("%.3f s", float64(stamp-e.report.Summary.First)/1e9)
}

// The causes for which a picture has no pose.
const (
	causeUnknown  = "frame not known"
	causeApart    = "not connected"
	causeBackward = "before the transforms"
	causeForward  = "after the transforms"
	causeInvalid  = "refused"
)

func causeOf(err error) string {
	var x *tf.ExtrapolationError
	var lookup *tf.LookupError
	var apart *tf.ConnectivityError
	switch {
	case errors.As(err, &x):
		if x.Bound > x.Requested {
			return causeBackward
		}
		return causeForward
	case errors.As(err, &lookup):
		return causeUnknown
	case errors.As(err, &apart):
		return causeApart
	}
	return causeInvalid
}

// remedy says what to do about a cause.
func (e *exam) remedy(cause string) string {
	top := e.frame
	if n := len(e.report.Chain); n > 0 {
		top = e.report.Chain[n-1]
	}
	frames := e.buffer.Frames()
	known := strings.Join(frames[:min(len(frames), 20)], ", ")
	switch cause {
	case causeUnknown:
		if len(frames) == 0 {
			return "Record /tf and /tf_static."
		}
		return fmt.Sprintf("Record /tf and /tf_static in full, or set fixed_frame to one of the frames known: %s.", known)
	case causeApart:
		return fmt.Sprintf("The chain from %q ends at %q. Publish the missing link (an extrinsics file, static_transform_publisher, or localisation that gives %q), or set fixed_frame to %q.",
			e.frame, top, e.opts.FixedFrame, top)
	case causeBackward:
		return "These pictures are dropped; start the recording of /tf before that of the camera."
	case causeForward:
		return "These pictures are dropped; where it is only the last ones, the recording of /tf ended first. Otherwise raise tf_timeout, or look at the clocks of the camera and of who publishes /tf."
	}
	return "Look at who publishes the pictures: their frame_id must name a frame."
}

// chain is the frames from the camera up to the fixed frame or the root.
func (e *exam) chain() []string {
	var out []string
	for frame := e.frame; frame != "" && !slices.Contains(out, frame); frame = e.buffer.Parent(frame) {
		out = append(out, frame)
		if frame == strings.TrimPrefix(e.opts.FixedFrame, "/") {
			break
		}
	}
	return out
}

func (e *exam) concludeTypes() {
	var unknown []string
	for _, t := range e.report.Summary.Topics {
		switch {
		case t.Differs != "":
			e.report.add(Warning, "types", fmt.Sprintf("%s: the bag's definition differs from the built-in one: %s", t.Name, t.Differs),
				"Its messages are skipped; migrate the bag (`rosbag fix`).")
		case !t.Known && t.Count > 0:
			unknown = append(unknown, fmt.Sprintf("%s (%s)", t.Name, t.Type))
		}
	}
	if len(unknown) > 0 {
		e.report.add(OK, "types", fmt.Sprintf("%d topics of other types are skipped: %s", len(unknown), strings.Join(unknown[:min(len(unknown), 10)], ", ")), "")
	}
	for _, topic := range slices.Sorted(maps.Keys(e.undecoded)) {
		u := e.undecoded[topic]
		e.report.add(Warning, "types", fmt.Sprintf("%d messages of %s cannot be read; the first: %v", u.count, topic, u.first),
			"They are skipped; the recording or its publisher is at fault.")
	}
}
