package robot

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
)

// maxDepths bounds the depth images that are kept for frames that are still to come, and those that wait to be taken in.
const maxDepths = 10

// patience is how many frames in a row may wait for depth in vain. Those that follow do not wait, until a depth image comes.
const patience = 5

var errNoDepth = errors.New("no depth image near its stamp has come")

// depthImage is a depth image that may belong to a frame.
type depthImage struct {
	stamp   int64
	frameID string
	msg     msgs.Message
}

// depthLack says why a frame has no depth.
type depthLack string

// The lacks.
const (
	lackNone      depthLack = "no depth image has come"
	lackUnmatched depthLack = "none within depth_tolerance"
	lackLate      depthLack = "none within depth_timeout"
	lackMisfit    depthLack = "unusable depth image"
	lackEmpty     depthLack = "nothing measured"
)

// Why depth images are refused at once.
const (
	depthFrame     = "other frame"
	depthStamp     = "no stamp"
	depthJump      = "from before a time jump"
	depthTransport = "other transport"
	depthContent   = "encoding, size or content"
)

// depthState is what the state goroutine knows of measured depth.
type depthState struct {
	use     stllm.DepthUse // of the model; a Grid of 0: none
	source  int            // subscription that delivers, -1 before the first
	recent  []*depthImage  // in order of arrival, maxDepths at most
	vain    int            // frames in a row for which depth_timeout has passed in vain
	images  uint64         // that came
	frames  uint64         // that entered the window with depth
	refused map[string]uint64
	lacking map[depthLack]uint64
	trouble string // why the last one was of no use; empty: it was
}

func newDepthState() depthState {
	return depthState{source: -1, refused: map[string]uint64{}, lacking: map[depthLack]uint64{}}
}

// forget drops the images that are kept: they are of another time or another model.
func (d *depthState) forget() { d.recent, d.vain = nil, 0 }

// reached is the stamp that depth images have come to, 0 before the first. It is not the highest of all stamps: a single one of
// the far future would end the wait of every frame from then on.
func (d *depthState) reached() int64 {
	if len(d.recent) == 0 {
		return 0
	}
	return d.recent[len(d.recent)-1].stamp
}

// depthUse is what a model, which may be nil, wants of depth, where depth is to be had at all.
func (r *Robot) depthUse(m stllm.Model) stllm.DepthUse {
	if m == nil || r.cfg.Params.DepthTopic == "" {
		return stllm.DepthUse{}
	}
	return stllm.DepthOf(m)
}

// followModel listens to depth if the model wants it, and only then. The activity lock is held.
func (r *Robot) followModel(m stllm.Model) error {
	before := r.measures
	r.measures = r.depthUse(m).Grid > 0
	switch {
	case r.measures == before || !r.connected:
		return nil
	case !r.measures:
		r.ends.keepSource(&r.ends.depths, -1)
		return nil
	}
	if err := r.connectDepth(); err != nil {
		r.measures = false // the next model is another try
		r.ends.keepSource(&r.ends.depths, -1)
		return fmt.Errorf("set model: depth: %w", err)
	}
	return nil
}

// connectDepth subscribes to depth images.
func (r *Robot) connectDepth() error {
	p := &r.cfg.Params
	names, err := resolveInputs(r.cfg.Transport, p)
	if err != nil {
		return err
	}
	if err := r.connectImages(kindDepth, p.DepthTransport, names.depth, names.compressedDepth); err != nil {
		return err
	}
	r.log.Info().Str("depth", names.depth).Msg("listening for registered depth images")
	return nil
}

// depthImage takes a depth image in: it is kept for frames that come later, and given to those that wait.
func (r *Robot) depthImage(in input) {
	d := &r.s.depth
	d.images++
	if d.source < 0 {
		d.source = in.source
		r.ends.keepSource(&r.ends.depths, in.source)
	}
	header := imageHeader(in.msg)
	im := &depthImage{header.Stamp.UnixNano(), header.FrameID, in.msg}
	switch {
	case in.source != d.source:
		d.refused[depthTransport]++
		r.ends.keepSource(&r.ends.depths, d.source) // it may have been made after the first image came
		return
	case d.use.Grid == 0 || !r.s.active:
		return // of a subscription that is being closed
	case im.stamp == 0:
		r.refuseDepth(depthStamp, "its header.stamp is 0, so it belongs to no image")
		return
	case r.guarded(im.stamp):
		d.refused[depthJump]++
		return
	case r.s.imageFrame != "" && !sameFrame(im.frameID, r.s.imageFrame):
		r.refuseDepth(depthFrame, fmt.Sprintf("it is in frame %q, images in %q: publish depth that is registered (aligned) to the colour camera", im.frameID, r.s.imageFrame))
		return
	}
	d.vain = 0
	if d.recent = append(d.recent, im); len(d.recent) > maxDepths {
		d.recent = slices.Delete(d.recent, 0, 1)
	}
	for _, job := range r.s.waiting {
		r.matchDepth(job)
	}
	r.poseWaiting()
}

// refuseDepth counts and tells of a depth image that cannot be used.
func (r *Robot) refuseDepth(why, detail string) {
	r.s.depth.refused[why]++
	r.s.depth.trouble = detail
	r.warn("depth "+why, "depth image not used: "+detail)
}

// matchDepth gives a frame the nearest depth image of those that are kept.
func (r *Robot) matchDepth(job *frameJob) {
	best := int64(params.Seconds(r.s.params.DepthTolerance)) + 1
	if job.depth != nil {
		best = distance(job.depth.stamp, job.stamp)
	}
	for _, im := range r.s.depth.recent {
		if off := distance(im.stamp, job.stamp); off < best && sameFrame(im.frameID, job.frameID) {
			best, job.depth = off, im
		}
	}
}

func distance(a, b int64) int64 { return max(a-b, b-a) }

// awaitsDepth tells whether a frame that has all else should wait for its depth image, or for a nearer one. Where not, job.lack
// says why it has none.
func (r *Robot) awaitsDepth(job *frameJob) bool {
	d := &r.s.depth
	if d.use.Grid == 0 {
		return false
	}
	reach := job.stamp // a depth image of this stamp or a later one has come: no nearer one will
	if job.depth == nil {
		reach += int64(params.Seconds(r.s.params.DepthTolerance))
	}
	job.lack = ""
	switch reached := d.reached(); {
	case reached >= reach && (job.depth != nil || reached > reach):
		if job.depth == nil {
			job.lack = lackUnmatched
		}
		return false
	case r.now() >= job.depthBy:
		r.endDepthWait(job)
		return false
	case job.depth == nil && d.vain >= patience:
		job.lack = r.lateness()
		return false
	}
	return true
}

func (r *Robot) lateness() depthLack {
	if r.s.depth.images == 0 {
		return lackNone
	}
	return lackLate
}

// endDepthWait takes note that a frame's wait for depth is over.
func (r *Robot) endDepthWait(job *frameJob) {
	if job.depth != nil {
		return
	}
	d := &r.s.depth
	job.lack = r.lateness()
	if d.vain++; d.images == 0 && d.vain == patience {
		d.trouble = fmt.Sprintf("the model wants depth and none has come on %s, so patches lie where their rays meet the map", r.ends.depthTopic)
		r.warn("depth absent", d.trouble)
	}
}

// withoutDepth ends a frame's wait for depth: it goes into the window as it is.
func (r *Robot) withoutDepth(job *frameJob) {
	r.endDepthWait(job)
	r.queueFrame(job)
}

// measure takes the patches' depths from the frame's depth image, in the worker that has decoded its picture.
func (j *frameJob) measure(lens *calibration.Rectifier) {
	if j.depth == nil || j.use.Grid == 0 {
		return
	}
	m := j.depth.msg
	j.depth = nil
	var d *imaging.Depth
	var err error
	switch m := m.(type) {
	case *msgs.Image:
		d, err = imaging.ReadDepth(m)
	case *msgs.CompressedImage:
		d, err = imaging.ReadCompressedDepth(m)
	default:
		err = fmt.Errorf("the message is %T, expected an image", m)
	}
	var depths []float32
	if err == nil {
		depths, err = lens.PatchDepths(d, j.use.Grid, j.use.Near, j.use.Far)
	}
	switch {
	case err != nil:
		j.lack, j.misfit = lackMisfit, err
	case !slices.ContainsFunc(depths, func(z float32) bool { return z > 0 }):
		j.lack = lackEmpty
	default:
		j.frame.Depth = depths
	}
}

// countDepth notes whether a frame that enters the window has depth.
func (r *Robot) countDepth(job *frameJob) {
	d := &r.s.depth
	switch {
	case job.use.Grid == 0:
	case job.misfit != nil:
		d.lacking[job.lack]++
		r.refuseDepth(depthContent, job.misfit.Error())
	case job.lack != "":
		d.lacking[job.lack]++
	default:
		d.frames++
		d.trouble = ""
	}
}

// DepthStatus is what has become of depth images. Frames with depth and those without are all that have entered the window since
// a model wanted depth.
type DepthStatus struct {
	Wanted  bool              // by the model
	Images  uint64            // that came
	Refused map[string]uint64 // of them, by what was wrong
	Frames  uint64            // that entered the window with depth
	Lacking map[string]uint64 // that entered it without, by cause
	Trouble string            // why the last depth image was not used; empty: it was
}

func (d *depthState) status() DepthStatus {
	s := DepthStatus{Wanted: d.use.Grid > 0, Images: d.images, Refused: maps.Clone(d.refused), Frames: d.frames, Lacking: map[string]uint64{}, Trouble: d.trouble}
	for why, n := range d.lacking {
		s.Lacking[string(why)] = n
	}
	return s
}

// report adds depth to the camera's diagnostics.
func (s *DepthStatus) report(d *msgs.DiagnosticStatus) {
	if !s.Wanted {
		return
	}
	if s.Trouble != "" {
		set(d, msgs.DiagnosticStatusWarn, "depth is not used: %s", s.Trouble)
	}
	add(d, "depth images", s.Images)
	addCounts(d, "depth images refused: ", s.Refused, func(s string) string { return s })
	add(d, "frames with depth", s.Frames)
	addCounts(d, "frames without depth: ", s.Lacking, func(s string) string { return s })
}
