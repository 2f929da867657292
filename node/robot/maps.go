package robot

import (
	"fmt"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/tf"
)

// mapJob is a cloud on its way to becoming the map. It has a message, or a cloud that was made from one before.
type mapJob struct {
	seq       uint64 // number of the job
	msg       *msgs.PointCloud2
	stamp     int64
	frameID   string
	deadline  time.Duration
	waitErr   error
	transform geometry.Transform // cloud frame to fixed frame
	model     stllm.Model
	maxPoints int
	known     *Map // to be encoded again for another model

	result *Map
	same   bool // the content is that of the current map: only the stamp is new
	err    error
}

// mapState is the map and what may replace it. While a new content is encoded, answers go on with the old one: they name
// its id and stamp. (A lossless robot waits for the new one, so that a replay does not depend on speed.)
type mapState struct {
	current  *Map
	waiting  *mapJob // for its transform; a newer message takes its place
	next     *mapJob // posed, for the worker or for a model
	working_ *mapJob // with the worker
	failed   string  // why the newest content is not in use, empty when it is
	received uint64  // messages
	jobs     uint64
	done     uint64 // jobs up to this number are in the map, or failed
	failures uint64
}

func (s *mapState) working() bool { return s.working_ != nil }

// reset keeps the cloud but not its features, which were another model's.
func (s *mapState) reset() {
	if s.current != nil && s.next == nil {
		s.jobs++
		s.next = &mapJob{seq: s.jobs, known: s.current, stamp: s.current.Stamp, frameID: s.current.FrameID}
	}
	s.current = nil
}

// mapMessage takes a cloud in. Nothing in it is read here.
func (r *Robot) mapMessage(in input) {
	m := in.msg.(*msgs.PointCloud2)
	s := &r.s.maps
	s.received++
	s.jobs++
	job := &mapJob{seq: s.jobs, msg: m, stamp: m.Header.Stamp.UnixNano(), frameID: m.Header.FrameID,
		deadline: in.elapsed + params.Seconds(r.s.params.TFTimeout), maxPoints: int(r.s.params.MapMaxPoints)}
	if job.frameID == "" {
		r.mapFailed(job, fmt.Errorf("header.frame_id of the map is empty, expected the frame its points are in"))
		return
	}
	s.waiting = job
	r.advanceMap()
}

// advanceMap moves the newest map on: transform, then worker.
func (r *Robot) advanceMap() {
	s := &r.s.maps
	if job := s.waiting; job != nil {
		t, _, err := r.s.tf.Lookup(r.s.params.FixedFrame, job.frameID, job.stamp)
		if sameFrame(job.frameID, r.s.params.FixedFrame) { // holds without any transform known, too
			t, err = geometry.Identity(), nil
		}
		switch {
		case err == nil && t.Finite():
			job.transform = t.Normalized()
			s.waiting, s.next = nil, job
		case err == nil:
			r.mapFailed(job, fmt.Errorf("the transform of the map from %q to %q is not finite", job.frameID, r.s.params.FixedFrame))
		case !tf.MayCome(err):
			r.mapFailed(job, err)
		default:
			job.waitErr = err
		}
	}
	if s.next != nil && s.working_ == nil && r.s.model != nil && r.s.active {
		s.working_, s.next = s.next, nil
		s.working_.model = r.s.model
		r.mapJobs <- s.working_ // has room: one job at a time
	}
	r.expireMap()
}

func sameFrame(a, b string) bool {
	trim := func(s string) string {
		if len(s) > 0 && s[0] == '/' {
			return s[1:]
		}
		return s
	}
	return trim(a) == trim(b)
}

func (r *Robot) expireMap() {
	if job := r.s.maps.waiting; job != nil && job.deadline < r.now() {
		r.mapFailed(job, fmt.Errorf("no transform of the map from %q to %q within %g s: %s", job.frameID, r.s.params.FixedFrame, r.s.params.TFTimeout, explain(job.waitErr)))
	}
}

func (r *Robot) mapFailed(job *mapJob, err error) {
	s := &r.s.maps
	if s.waiting == job {
		s.waiting = nil
	}
	s.failed, s.done = err.Error(), max(s.done, job.seq)
	s.failures++
	r.warn("map", "map_points: "+err.Error())
}

// mapEncoded takes a map from the worker.
func (r *Robot) mapEncoded(job *mapJob) {
	s := &r.s.maps
	s.working_ = nil
	switch {
	case job.model != r.s.model: // the model was changed meanwhile
		if s.next == nil {
			if job.err == nil {
				job.known = job.result
			}
			job.result, job.err, job.same = nil, nil, false
			s.next = job
		}
		return
	case job.err != nil:
		r.mapFailed(job, job.err)
		return
	}
	if !job.same {
		r.log.Info().Str("map", job.result.ID).Int("points", job.result.Cloud.Len()).Int("received", job.result.Received).
			Int("voxels", job.result.Features.Voxels()).Msg("map")
	}
	s.current, s.failed, s.done = job.result, "", max(s.done, job.seq)
	s.current.Stamp = max(job.stamp, 0)
}

// encodeMaps is the worker of maps.
func (r *Robot) encodeMaps() {
	var last *Map
	var lastKey string
	var lastTransform geometry.Transform
	var lastModel stllm.Model
	for job := range r.mapJobs {
		key := ""
		if job.known == nil {
			key = fmt.Sprintf("%s %d", scene.MessageID(job.msg), job.maxPoints)
		}
		if last != nil && key == lastKey && key != "" && job.transform == lastTransform && job.model == lastModel {
			again := *last
			job.result, job.same = &again, true
		} else if job.err = r.encodeMap(job, last, lastModel); job.err == nil {
			kept := *job.result
			last, lastKey, lastTransform, lastModel = &kept, key, job.transform, job.model
		}
		r.mapDone <- job
	}
}

// encodeMap reads, transforms, thins and encodes a map, as far as its content is new.
func (r *Robot) encodeMap(job *mapJob, last *Map, lastModel stllm.Model) error {
	m := job.known
	if m == nil {
		cloud, report, err := scene.FromPointCloud2(job.msg)
		if err != nil {
			return fmt.Errorf("read the map: %w", err)
		}
		if cloud.Len() == 0 {
			return fmt.Errorf("the map has no points (%d of its rows are not finite)", report.NotFinite)
		}
		m = &Map{FrameID: job.frameID, Received: cloud.Len()}
		if job.transform != geometry.Identity() {
			if cloud, err = cloud.Transform(job.transform); err != nil {
				return fmt.Errorf("transform the map: %w", err)
			}
		}
		if m.Cloud, m.Cell, err = cloud.Thin(job.maxPoints); err != nil {
			return fmt.Errorf("thin the map: %w", err)
		}
		m.ID = m.Cloud.ID()
	}
	job.result = &Map{Cloud: m.Cloud, ID: m.ID, FrameID: m.FrameID, Received: m.Received, Cell: m.Cell}
	if last != nil && last.ID == m.ID && job.model == lastModel {
		job.result.Cloud, job.result.Features, job.result.Took, job.same = last.Cloud, last.Features, last.Took, true
		return nil
	}
	start := time.Now()
	features, err := job.model.EncodeMap(r.ctx, m.Cloud)
	if err != nil {
		return fmt.Errorf("encode the map: %w", err)
	}
	if features == nil {
		return fmt.Errorf("encode the map: the model gave no features")
	}
	job.result.Features, job.result.Took = features, time.Since(start)
	return nil
}
