package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
)

// maxStamps bounds the stamps of pictures and depth images that are compared.
const maxStamps = 1 << 20

// depth is what is seen of depth images.
type depth struct {
	topic              string
	width, height      int
	encoding, frame    string
	count              int64
	bad                error // of the first that cannot be used
	badCount           int64
	pictures, measured []int64 // stamps
}

// choose takes the topic that was asked for, or the likeliest one.
func (d *depth) choose(conns []*bags.Connection, o Options) {
	if d.topic = o.Depth; d.topic == "" {
		_, d.topic = bags.DepthTopic(conns)
	}
}

func (d *depth) picture(stamp int64) {
	if d.topic != "" && len(d.pictures) < maxStamps {
		d.pictures = append(d.pictures, stamp)
	}
}

// take looks at one depth image.
func (d *depth) take(m msgs.Message) {
	var h msgs.Header
	var im *imaging.Depth
	var err error
	var encoding string
	switch v := m.(type) {
	case *msgs.Image:
		h, encoding = v.Header, v.Encoding
		im, err = imaging.ReadDepth(v)
	case *msgs.CompressedImage:
		h, encoding = v.Header, v.Format
		if d.width == 0 { // the others are as the first one is, and take their time
			im, err = imaging.ReadCompressedDepth(v)
		}
	default:
		err = fmt.Errorf("%s is no image", m.ROSType())
	}
	d.count++
	if err != nil {
		if d.badCount == 0 {
			d.bad = err
		}
		d.badCount++
		return
	}
	if d.width == 0 {
		d.width, d.height, d.encoding, d.frame = im.Width, im.Height, encoding, strings.TrimPrefix(h.FrameID, "/")
	}
	if len(d.measured) < maxStamps {
		d.measured = append(d.measured, h.Stamp.UnixNano())
	}
}

// matched counts the pictures that have a depth image near their stamp, and how far off they are at most.
func (d *depth) matched(within time.Duration) (n int, worst time.Duration) {
	slices.Sort(d.measured)
	for _, p := range d.pictures {
		best := within + 1
		i, _ := slices.BinarySearch(d.measured, p)
		for _, k := range []int{i - 1, i} {
			if k >= 0 && k < len(d.measured) {
				best = min(best, time.Duration(max(p-d.measured[k], d.measured[k]-p)))
			}
		}
		if best <= within {
			n, worst = n+1, max(worst, best)
		}
	}
	return n, worst
}

// concludeDepth says whether frames would have measured depth. None of it makes a bag unusable: depth may lack.
func (e *exam) concludeDepth() {
	r, d := e.report, &e.depth
	const align = "Record depth that is registered to the colour camera (align_depth, depth_image_proc/register); without it patches are placed by the map."
	switch {
	case d.topic == "":
		r.add(OK, "depth", "no depth images; patches are placed by the map", "")
		return
	case d.count == 0:
		r.add(Warning, "depth", fmt.Sprintf("no messages on %s; image topics are: %s", d.topic, e.names("sensor_msgs/Image", "sensor_msgs/CompressedImage")), "Name one of depth images, or none.")
		return
	case d.badCount > 0:
		r.add(Warning, "depth", fmt.Sprintf("%d of %d depth images on %s cannot be used; the first: %v", d.badCount, d.count, d.topic, d.bad), "They are refused and counted; their frames have no depth.")
	}
	if d.width == 0 {
		return
	}
	if d.frame != e.frame {
		r.add(Warning, "depth", fmt.Sprintf("%s is in frame %q, the pictures in %q: its images are refused", d.topic, d.frame, e.frame), align)
		return
	}
	if e.width > 0 && !calibration.SameAspect(d.width, d.height, e.width, e.height) {
		r.add(Warning, "depth", fmt.Sprintf("depth images on %s are %d×%d, pictures %d×%d: another aspect, so they are refused", d.topic, d.width, d.height, e.width, e.height), align)
		return
	}
	n, worst := d.matched(e.opts.DepthTolerance)
	text := fmt.Sprintf("%d depth images of %d×%d (%s) on %s; %d of %d pictures have one, stamps at most %.3f s apart", d.count, d.width, d.height, d.encoding, d.topic, n, len(d.pictures), worst.Seconds())
	if n < len(d.pictures) {
		r.add(Warning, "depth", text, fmt.Sprintf("The others have none within %g s (depth_tolerance) and enter the window without depth; look at the stamps, or at what the recorder lost.", e.opts.DepthTolerance.Seconds()))
		return
	}
	r.add(OK, "depth", text, "")
}
