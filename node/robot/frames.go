package robot

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/tf"
	"github.com/stllm/stllm/node/window"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"
)

// pipeline is how many frame jobs may be with the workers: one that is decoded, one that is encoded.
const pipeline = 2

// frameJob is an image on its way into the window.
type frameJob struct {
	seq      uint64
	msg      msgs.Message
	stamp    int64
	frameID  string
	received int64
	deadline time.Duration // of its wait for camera_info and transforms
	waitErr  error         // what it waits for
	depth    *depthImage   // the nearest one that has come; nil: none
	depthBy  time.Duration // until when it waits for a nearer one
	lack     depthLack     // why it has none

	// Known once it is posed.
	pose   geometry.Transform
	camera *camera
	epoch  uint64
	model  stllm.Model
	use    stllm.DepthUse

	// Made by the workers.
	img    *imaging.RGB
	took   time.Duration // the model, to encode it
	frame  window.Frame
	cause  Cause
	detail string
	misfit error // why its depth image is of no use
}

// expiry is when its wait ends.
func (j *frameJob) expiry() time.Duration {
	if errors.Is(j.waitErr, errNoDepth) {
		return j.depthBy
	}
	return j.deadline
}

func newFrameJob(in input) *frameJob {
	job := &frameJob{seq: in.seq, msg: in.msg, received: in.received, deadline: in.elapsed}
	header := imageHeader(in.msg)
	job.stamp, job.frameID = header.Stamp.UnixNano(), header.FrameID
	return job
}

func imageHeader(m msgs.Message) msgs.Header {
	switch m := m.(type) {
	case *msgs.Image:
		return m.Header
	case *msgs.CompressedImage:
		return m.Header
	}
	return msgs.Header{}
}

// image takes an image in: what can be refused at once is, the rest waits for its pose.
func (r *Robot) image(in input) {
	r.s.images.add(1)
	job := newFrameJob(in)
	job.depthBy = job.deadline + params.Seconds(r.s.params.DepthTimeout)
	job.deadline += params.Seconds(r.s.params.TFTimeout)
	if r.s.imageSource < 0 {
		r.s.imageSource = in.source
		r.ends.keepSource(&r.ends.images, in.source)
	}
	if in.source != r.s.imageSource {
		r.drop(job, CauseOtherTransport, "")
		r.ends.keepSource(&r.ends.images, r.s.imageSource) // it may have been made after the first image came
		return
	}
	r.s.imageFrame = job.frameID
	if !r.guarded(job.stamp) {
		r.s.lastImage = max(r.s.lastImage, job.stamp)
		r.s.lastLag = 0
		if in.received > 0 { // a simulated clock has begun
			r.s.lastLag = in.received - job.stamp
		}
	}
	if m, ok := in.msg.(*msgs.Image); ok && (m.Width == 0 || m.Height == 0) {
		r.drop(job, CauseZeroSize, fmt.Sprintf("the picture is %d×%d pixels", m.Width, m.Height))
		return
	}
	switch {
	case job.stamp == 0:
		r.drop(job, CauseNoStamp, "header.stamp is 0, so its pose cannot be looked up")
	case job.frameID == "":
		r.drop(job, CauseNoFrameID, "header.frame_id is empty, so its pose cannot be looked up")
	case r.s.model == nil || !r.s.active:
		r.drop(job, CauseModelNotReady, "")
	case r.guarded(job.stamp):
		r.drop(job, CauseTimeJump, "its stamp is from before the clock went back")
	default:
		r.s.waiting = append(r.s.waiting, job)
		r.matchDepth(job)
		if r.pose(job) {
			return
		}
		if len(r.s.waiting) > int(r.s.params.ImageQueue) {
			oldest := r.s.waiting[0]
			r.s.waiting = slices.Delete(r.s.waiting, 0, 1)
			if errors.Is(oldest.waitErr, errNoDepth) {
				r.withoutDepth(oldest)
				return
			}
			r.drop(oldest, CauseQueueFull, "it waited while image_queue newer images came: "+explain(oldest.waitErr))
		}
	}
}

// guarded tells whether a stamp is of the time before a jump that has just happened.
func (r *Robot) guarded(stamp int64) bool {
	return r.now() < r.s.guardUntil && stamp > r.cfg.Transport.Clock().Now()+int64(time.Second)
}

func explain(err error) string {
	if err == nil {
		return "nothing is missing"
	}
	return err.Error()
}

// poseWaiting tries all waiting frames again, in order of arrival.
func (r *Robot) poseWaiting() {
	for i := 0; i < len(r.s.waiting); {
		if !r.pose(r.s.waiting[i]) {
			i++
		}
	}
}

var errNoCameraInfo = errors.New("no camera_info has come")

// pose looks a waiting frame's intrinsics and pose up. It reports true when the frame does not wait any longer: it went on
// to the encoder, or was dropped.
func (r *Robot) pose(job *frameJob) bool {
	leave := func() {
		i := slices.Index(r.s.waiting, job)
		r.s.waiting = slices.Delete(r.s.waiting, i, i+1)
	}
	job.camera = r.s.cameras.at(job.stamp)
	if job.camera == nil {
		job.waitErr = errNoCameraInfo
		return false
	}
	if err := job.camera.err; err != nil {
		leave()
		r.drop(job, CauseUncalibrated, err.Error())
		return true
	}
	t, _, err := r.s.tf.Lookup(r.s.params.FixedFrame, job.frameID, job.stamp)
	switch {
	case err != nil && tf.MayCome(err):
		job.waitErr = err
		return false
	case err != nil:
		leave()
		r.drop(job, tfCause(err), err.Error())
		return true
	case !t.Finite():
		leave()
		r.drop(job, CauseBadPose, "the transform has a number that is not finite")
		return true
	}
	job.pose = t.Normalized()
	if r.awaitsDepth(job) {
		job.waitErr = errNoDepth
		return false
	}
	leave()
	r.queueFrame(job)
	return true
}

func tfCause(err error) Cause {
	var extrapolation *tf.ExtrapolationError
	if errors.As(err, &extrapolation) {
		return CauseTFPast
	}
	return CauseBadPose
}

// queueFrame puts a posed frame into the encoder's queue, unless the window does not want it.
func (r *Robot) queueFrame(job *frameJob) {
	limits := windowLimits(&r.s.params)
	if last := r.s.window.Stats().Last; last != 0 && job.stamp < last-int64(limits.Duration) {
		r.drop(job, CauseTooOld, fmt.Sprintf("it is %.1f s older than the newest frame, more than window_duration", float64(last-job.stamp)/1e9))
		return
	}
	if r.s.window.Has(job.stamp) || slices.Contains(r.s.recent, job.stamp) {
		r.drop(job, CauseDuplicate, "")
		return
	}
	interval := int64(params.Seconds(r.s.params.MinFrameInterval))
	for _, s := range r.s.recent {
		if d := job.stamp - s; max(d, -d) < interval {
			r.drop(job, CauseTooFrequent, "")
			return
		}
	}
	if r.s.recent = append(r.s.recent, job.stamp); len(r.s.recent) > 64 {
		r.s.recent = slices.Delete(r.s.recent, 0, 1)
	}
	job.epoch, job.model, job.use = r.s.epoch, r.s.model, r.s.depth.use
	r.s.encodeQueue = append(r.s.encodeQueue, job)
	r.s.submitted++
	r.feedEncoder()
	if !r.cfg.Lossless && len(r.s.encodeQueue) > int(r.s.params.ImageQueue) {
		oldest := r.s.encodeQueue[0]
		r.s.encodeQueue = slices.Delete(r.s.encodeQueue, 0, 1)
		r.s.encoded++
		r.drop(oldest, CauseQueueFull, "the encoder does not keep up; raise min_frame_interval")
	}
}

func (r *Robot) feedEncoder() {
	for len(r.s.encodeQueue) > 0 && r.s.encoding < pipeline {
		job := r.s.encodeQueue[0]
		r.s.encodeQueue[0] = nil
		r.s.encodeQueue = r.s.encodeQueue[1:]
		r.s.encoding++
		r.frameJobs <- job // has room for all that are with the workers
	}
}

// expireFrames drops frames that have waited too long.
func (r *Robot) expireFrames() {
	now := r.now()
	for i := 0; i < len(r.s.waiting); {
		job := r.s.waiting[i]
		if job.expiry() >= now {
			i++
			continue
		}
		r.s.waiting = slices.Delete(r.s.waiting, i, i+1)
		if errors.Is(job.waitErr, errNoDepth) {
			r.withoutDepth(job)
			continue
		}
		cause := CauseTFTimeout
		if errors.Is(job.waitErr, errNoCameraInfo) {
			cause = CauseNoCameraInfo
		}
		r.drop(job, cause, fmt.Sprintf("after %g s: %s", r.s.params.TFTimeout, explain(job.waitErr)))
	}
}

// frameEncoded takes a frame from the workers into the window.
func (r *Robot) frameEncoded(job *frameJob) {
	r.s.encoding--
	r.s.encoded++
	job.img = nil
	switch {
	case job.epoch != r.s.epoch:
		r.drop(job, r.epochCause(), "it was being encoded when the window was cleared")
	case job.cause != "":
		r.drop(job, job.cause, job.detail)
	case !r.s.window.Add(job.frame):
		r.drop(job, CauseDuplicate, "")
	default:
		r.s.stats.frames.add(1)
		r.s.stats.encoding += job.took
		r.countDepth(job)
		r.s.cleared = false
		r.s.dirty = true
		if r.cfg.OnFrame != nil {
			r.cfg.OnFrame(job.frame)
		}
	}
}

// epochCause says why frames in the works were given up.
func (r *Robot) epochCause() Cause {
	switch {
	case r.ctx.Err() != nil:
		return CauseShuttingDown
	case r.now() < r.s.guardUntil:
		return CauseTimeJump
	}
	return CauseCleared
}

// drop counts and tells of an image that does not enter the window.
func (r *Robot) drop(job *frameJob, cause Cause, detail string) {
	d := Drop{Seq: job.seq, Stamp: job.stamp, FrameID: job.frameID, Received: job.received, Cause: cause, Detail: detail}
	job.msg, job.img, job.depth = nil, nil, nil
	r.s.drops[cause]++
	r.s.lastDrop = d
	if r.cfg.OnDrop != nil {
		r.cfg.OnDrop(d)
	}
	switch cause {
	case CauseTooFrequent, CauseOtherTransport, CauseShuttingDown, CauseCleared, CauseTimeJump, CauseDuplicate, CauseModelNotReady:
		return // as intended, or said elsewhere
	}
	r.warn("drop "+string(cause), fmt.Sprintf("image dropped: %s: %s", cause, detail))
}

// cameraInfo takes intrinsics in.
func (r *Robot) cameraInfo(m *msgs.CameraInfo) {
	if c := r.s.cameras.add(m); c != nil && c.err != nil {
		r.warn("camera_info", "camera_info: "+c.err.Error())
	}
	r.poseWaiting()
}

// transforms takes /tf and /tf_static in.
func (r *Robot) transforms(in input) {
	m := in.msg.(*msgs.TFMessage)
	for i := range m.Transforms {
		t := &m.Transforms[i]
		stamp := t.Header.Stamp.UnixNano()
		if in.kind == kindTF && r.guarded(stamp) {
			r.s.tfRejected["from before a time jump"]++
			continue
		}
		q, p := t.Transform.Rotation, t.Transform.Translation
		err := r.s.tf.Set(t.Header.FrameID, t.ChildFrameID, stamp, geometry.Transform{
			Translation: r3.Vec{X: p.X, Y: p.Y, Z: p.Z},
			Rotation:    quat.Number{Real: q.W, Imag: q.X, Jmag: q.Y, Kmag: q.Z},
		}, in.kind == kindTFStatic)
		if err == nil {
			continue
		}
		var old *tf.OldError
		var full *tf.FullError
		switch {
		case errors.As(err, &old):
			r.s.tfRejected["too old"]++
		case errors.As(err, &full):
			r.s.tfRejected["no room"]++
			r.warn("tf full", err.Error())
		default:
			r.s.tfRejected["invalid"]++
			r.warn("tf invalid "+t.ChildFrameID, fmt.Sprintf("transform from %q to %q refused: %v", t.ChildFrameID, t.Header.FrameID, err))
		}
	}
	r.poseWaiting()
}
