package robot

import (
	"time"
)

// Cause says why an image did not enter the window. Its text goes into diagnostics and dropped.jsonl.
type Cause string

// The causes.
const (
	CauseNoCameraInfo   Cause = "no_camera_info"        // none came within tf_timeout
	CauseUncalibrated   Cause = "uncalibrated"          // camera_info is not usable, for example K[0] = 0
	CauseInfoMismatch   Cause = "camera_info_mismatch"  // the picture's size cannot come from that camera
	CauseTFTimeout      Cause = "tf_timeout"            // the transform at the image's stamp did not come within tf_timeout
	CauseTFPast         Cause = "tf_extrapolation_past" // older than the transforms that are known: it cannot come any more
	CauseBadPose        Cause = "bad_pose"              // the transform is not a finite rigid one
	CauseTooFrequent    Cause = "too_frequent"          // closer to another frame than min_frame_interval
	CauseDuplicate      Cause = "duplicate"             // a frame of that stamp was there already
	CauseTooOld         Cause = "too_old"               // older than everything the window may hold
	CauseDecodeError    Cause = "decode_error"          // the picture cannot be read
	CauseZeroSize       Cause = "zero_size"             // width or height is 0
	CauseNoStamp        Cause = "no_stamp"              // header.stamp is 0
	CauseNoFrameID      Cause = "no_frame_id"           // header.frame_id is empty
	CauseQueueFull      Cause = "queue_full"            // image_queue images were waiting already
	CauseModelNotReady  Cause = "model_not_ready"       // still loading, failed to, or the node is not active
	CauseEncoderError   Cause = "encoder_error"         // the vision tower failed
	CauseTimeJump       Cause = "time_jump"             // simulated time went back meanwhile
	CauseCleared        Cause = "cleared"               // the window was cleared meanwhile
	CauseOtherTransport Cause = "other_transport"       // the same camera's other image topic is the one in use
	CauseShuttingDown   Cause = "shutting_down"
)

// Drop is an image that did not enter the window.
type Drop struct {
	Seq      uint64 // number of the image, from 0
	Stamp    int64  // ns, of the header
	FrameID  string
	Received int64 // ns, the transport's clock
	Cause    Cause
	Detail   string // one sentence, may be empty
}

// repeats lets a message through once a second for each key and counts the rest.
type repeats struct {
	now  func() time.Duration
	seen map[string]*repeat
}

type repeat struct {
	last  time.Duration
	since uint64
}

// maxRepeats bounds the keys, which may come from outside (frame names).
const maxRepeats = 256

// allow tells whether to log now, and how many were held back since the last time.
func (r *repeats) allow(key string) (held uint64, ok bool) {
	now := r.now()
	e := r.seen[key]
	if e == nil {
		if len(r.seen) >= maxRepeats {
			clear(r.seen)
		}
		r.seen[key] = &repeat{last: now}
		return 0, true
	}
	if now-e.last < time.Second {
		e.since++
		return 0, false
	}
	held, e.since, e.last = e.since, 0, now
	return held, true
}
