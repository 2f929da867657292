package robot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/window"
)

// counter counts since the start.
type counter struct{ total uint64 }

func (c *counter) add(n uint64) { c.total += n }

// answerStats are what became of questions.
type answerStats struct {
	frames   counter       // that entered the window
	encoding time.Duration // of these frames
	asked    uint64
	answered uint64
	errors   map[uint16]uint64
	last     *msgs.Answer
}

func (s *answerStats) add(q *question, a *msgs.Answer) {
	if a.ErrorCode == msgs.AnswerErrorNone {
		s.answered++
	} else {
		if s.errors == nil {
			s.errors = map[uint16]uint64{}
		}
		s.errors[a.ErrorCode]++
	}
	s.last = a
}

// rates remembers the counters of the last diagnostics.
type rates struct {
	at             time.Duration
	images, frames uint64
}

// Status is the robot at one moment. Images = Frames + the sum of Drops + Waiting + Encoding.
type Status struct {
	Images      uint64 // taken in or lost by a full intake
	Frames      uint64 // that entered the window
	Drops       map[Cause]uint64
	LastDrop    Drop
	LastImage   int64 // ns, stamp of the newest image; 0 before the first
	Depth       DepthStatus
	CameraInfos uint64
	CameraError string        // why the latest camera_info cannot be used
	Waiting     int           // images that wait for camera_info or transforms
	Encoding    int           // images in the works
	FrameTime   time.Duration // that the model took to encode a frame, mean since the start; 0 before the first
	Window      window.Stats
	TFFrames    []string
	TFRejected  map[string]uint64

	MapID                  string // empty: none
	MapStamp               int64
	MapPoints, MapReceived int // in use; before thinning
	MapVoxels              int
	MapTime                time.Duration // that the model took to encode it
	MapWorking             bool
	MapError               string
	Maps, MapFailures      uint64 // messages

	ModelID, ModelState string // state: ready, loading, not loaded, inactive, or the error

	Asked, Answered uint64
	Errors          map[uint16]uint64 // by code
	Queued          int
	Answering       bool
	LastAnswer      *msgs.Answer // nil before the first

	Events       map[transport.EventKind]uint64
	LastEvent    string
	Troubles     map[string]string // by kind and topic: the last message
	Unpublished  uint64            // publications that the transport refused
	Subscribers  []transport.EndpointStats
	Publications []transport.EndpointStats
}

func (r *Robot) status() Status {
	s := &r.s
	st := Status{
		Images: s.images.total, Frames: s.stats.frames.total, Drops: maps.Clone(s.drops), LastDrop: s.lastDrop, LastImage: s.lastImage,
		Depth: s.depth.status(), CameraInfos: s.cameras.count, Waiting: len(s.waiting), Encoding: s.encoding + len(s.encodeQueue), Window: s.window.Stats(),
		TFFrames: s.tf.Frames(), TFRejected: maps.Clone(s.tfRejected),
		MapWorking: s.maps.working(), MapError: s.maps.failed, Maps: s.maps.received, MapFailures: s.maps.failures,
		ModelState: "ready", Asked: s.stats.asked, Answered: s.stats.answered, Errors: maps.Clone(s.stats.errors), Queued: len(s.queue),
		Answering: s.running != nil, LastAnswer: s.stats.last, Events: maps.Clone(s.events), LastEvent: s.lastEvent, Troubles: maps.Clone(s.troubles), Unpublished: r.ends.failed.Load(),
	}
	if n := s.tf.Dropped(); n > 0 {
		st.TFRejected["dropped for want of room"] = n
	}
	if n := s.stats.frames.total; n > 0 {
		st.FrameTime = s.stats.encoding / time.Duration(n)
	}
	if c := s.cameras.latest; c != nil && c.err != nil {
		st.CameraError = c.err.Error()
	}
	if m := s.maps.current; m != nil {
		st.MapID, st.MapStamp, st.MapPoints, st.MapReceived, st.MapVoxels, st.MapTime = m.ID, m.Stamp, m.Cloud.Len(), m.Received, m.Features.Voxels(), m.Took
	}
	switch {
	case s.modelErr != nil:
		st.ModelState = s.modelErr.Error()
	case s.model == nil && !s.active:
		st.ModelState = "not loaded" // a managed node that is not configured, or is being configured
	case s.model == nil:
		st.ModelState = "loading"
	case !s.active:
		st.ModelState = "inactive"
	}
	if s.model != nil {
		st.ModelID = s.model.ID()
	}
	r.ends.mu.Lock()
	defer r.ends.mu.Unlock()
	for _, sub := range r.ends.subs {
		st.Subscribers = append(st.Subscribers, sub.Stats())
	}
	for _, pub := range r.ends.pubs {
		st.Publications = append(st.Publications, pub.Stats())
	}
	return st
}

// publishDiagnostics tells how the node is.
func (r *Robot) publishDiagnostics() {
	st := r.status()
	now := r.now()
	seconds := max((now - r.s.rates.at).Seconds(), 1e-3)
	imageHz, frameHz := float64(st.Images-r.s.rates.images)/seconds, float64(st.Frames-r.s.rates.frames)/seconds
	r.s.rates = rates{now, st.Images, st.Frames}
	r.s.lastEvent = "" // said once; its count stays
	clock := r.cfg.Transport.Clock().Now()
	r.ends.publish(r.ends.diagnostics, &msgs.DiagnosticArray{
		Header: msgs.Header{Stamp: msgs.TimeFromNanos(clock)},
		Status: []msgs.DiagnosticStatus{
			r.cameraStatus(&st, clock, imageHz), r.windowStatus(&st, frameHz), r.mapStatus(&st, clock),
			r.modelStatus(&st), r.questionStatus(&st), r.transportStatus(&st),
		},
	})
}

// diagnostic is one status under the node's name.
func (r *Robot) diagnostic(name string) *msgs.DiagnosticStatus {
	node := strings.TrimPrefix(r.cfg.Transport.Name(), "/")
	return &msgs.DiagnosticStatus{Name: node + ": " + name, HardwareID: node, Message: "ok"}
}

func set(d *msgs.DiagnosticStatus, level byte, format string, args ...any) {
	if level >= d.Level {
		d.Level, d.Message = level, fmt.Sprintf(format, args...)
	}
}

func add(d *msgs.DiagnosticStatus, key string, value any) {
	text := fmt.Sprint(value)
	if f, ok := value.(float64); ok {
		text = strconv.FormatFloat(f, 'f', 3, 64)
	}
	d.Values = append(d.Values, msgs.KeyValue{Key: key, Value: text})
}

// addCounts lists a map in order of its keys.
func addCounts[K cmp.Ordered](d *msgs.DiagnosticStatus, prefix string, counts map[K]uint64, name func(K) string) {
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		add(d, prefix+name(k), counts[k])
	}
}

func age(now, stamp int64) float64 { return float64(now-stamp) / 1e9 }

func (r *Robot) cameraStatus(st *Status, clock int64, hz float64) msgs.DiagnosticStatus {
	d := r.diagnostic("camera")
	switch {
	case st.Images == 0:
		set(d, msgs.DiagnosticStatusStale, "%s", r.misfit("no image on "+r.ends.imageTopic+" or its /compressed topic.", r.ends.imageTopic, r.ends.compressedTopic))
	case r.clocksDiffer():
		set(d, msgs.DiagnosticStatusError, "images come, but %s", r.lag())
	case age(clock, st.LastImage) > r.s.params.StaleCameraTimeout:
		set(d, msgs.DiagnosticStatusError, "the camera has stopped")
	case st.CameraInfos == 0:
		set(d, msgs.DiagnosticStatusError, "%s", r.misfit("no camera_info on "+r.ends.infoTopic+".", r.ends.infoTopic))
	case st.CameraError != "":
		set(d, msgs.DiagnosticStatusError, "%s", st.CameraError)
	}
	st.Depth.report(d)
	add(d, "image rate (Hz)", hz)
	add(d, "images", st.Images)
	add(d, "camera_info messages", st.CameraInfos)
	if st.LastImage != 0 {
		add(d, "age of the newest image (s)", age(clock, st.LastImage))
	}
	return *d
}

func (r *Robot) windowStatus(st *Status, hz float64) msgs.DiagnosticStatus {
	d := r.diagnostic("window")
	if st.Window.Frames == 0 {
		set(d, msgs.DiagnosticStatusWarn, "the window is empty")
		if st.LastDrop.Cause != "" {
			set(d, msgs.DiagnosticStatusWarn, "the window is empty; the last image was dropped: %s: %s", st.LastDrop.Cause, st.LastDrop.Detail)
		}
	}
	add(d, "frame rate (Hz)", hz)
	add(d, "frames in the window", st.Window.Frames)
	add(d, "span (s)", st.Window.Span().Seconds())
	add(d, "memory (MB)", float64(st.Window.Bytes)/1e6)
	add(d, "frames since the start", st.Frames)
	add(d, "waiting for transforms", st.Waiting)
	add(d, "being encoded", st.Encoding)
	add(d, "encoding a frame, mean (s)", st.FrameTime.Seconds())
	addCounts(d, "dropped: ", st.Drops, func(c Cause) string { return string(c) })
	addCounts(d, "transforms refused: ", st.TFRejected, func(s string) string { return s })
	return *d
}

func (r *Robot) mapStatus(st *Status, clock int64) msgs.DiagnosticStatus {
	d := r.diagnostic("map")
	switch {
	case st.MapError != "":
		set(d, msgs.DiagnosticStatusError, "%s", st.MapError)
	case st.MapID == "" && st.MapWorking:
		set(d, msgs.DiagnosticStatusWarn, "the first map is being encoded")
	case st.MapID == "":
		set(d, msgs.DiagnosticStatusWarn, "%s", r.misfit("no map on "+r.ends.mapTopic+".", r.ends.mapTopic))
	}
	add(d, "messages", st.Maps)
	add(d, "unusable messages", st.MapFailures)
	if st.MapID != "" {
		add(d, "id", st.MapID)
		add(d, "age (s)", age(clock, st.MapStamp))
		add(d, "points", st.MapPoints)
		add(d, "points before thinning", st.MapReceived)
		add(d, "voxels", st.MapVoxels)
		add(d, "encoding it (s)", st.MapTime.Seconds())
		add(d, "another is being encoded", st.MapWorking)
	}
	return *d
}

func (r *Robot) modelStatus(st *Status) msgs.DiagnosticStatus {
	d := r.diagnostic("model")
	switch st.ModelState {
	case "ready":
	case "loading", "not loaded", "inactive":
		set(d, msgs.DiagnosticStatusWarn, "%s", st.ModelState)
	default:
		set(d, msgs.DiagnosticStatusError, "%s", st.ModelState)
	}
	add(d, "id", st.ModelID)
	add(d, "state", st.ModelState)
	if a := st.LastAnswer; a != nil {
		for _, t := range a.Times {
			add(d, "last answer: "+t.Stage+" (s)", t.Seconds)
			if t.Stage == string(stllm.StageDecode) && t.Seconds > 0 {
				add(d, "last answer: tokens/s", float64(a.NewTokens)/t.Seconds)
			}
		}
		add(d, "last answer: prompt tokens", a.PromptTokens)
		add(d, "last answer: new tokens", a.NewTokens)
	}
	return *d
}

func (r *Robot) questionStatus(st *Status) msgs.DiagnosticStatus {
	d := r.diagnostic("questions")
	if a := st.LastAnswer; a != nil && a.ErrorCode != msgs.AnswerErrorNone {
		set(d, msgs.DiagnosticStatusWarn, "the last question got no answer: %s: %s", ErrorName(a.ErrorCode), a.ErrorMessage)
	}
	add(d, "asked", st.Asked)
	add(d, "answered", st.Answered)
	add(d, "waiting", st.Queued)
	add(d, "answering", st.Answering)
	addCounts(d, "without answer: ", st.Errors, ErrorName)
	return *d
}

func (r *Robot) transportStatus(st *Status) msgs.DiagnosticStatus {
	d := r.diagnostic("transport")
	var wrong, dropped uint64
	for _, s := range st.Subscribers {
		wrong += s.Errors
		dropped += s.Dropped
		add(d, s.Topic+" received", s.Messages)
		if s.Dropped > 0 {
			add(d, s.Topic+" dropped", s.Dropped)
		}
		if s.Errors > 0 {
			add(d, s.Topic+" errors", s.Errors)
		}
		add(d, s.Topic+" publishers", s.Peers)
	}
	for _, s := range st.Publications {
		add(d, s.Topic+" sent", s.Messages)
		if s.Dropped > 0 {
			add(d, s.Topic+" dropped", s.Dropped)
		}
	}
	if r.cfg.Counters != nil {
		addCounts(d, "", r.cfg.Counters(), func(s string) string { return s })
	}
	addCounts(d, "event: ", st.Events, func(k transport.EventKind) string { return string(k) })
	for _, k := range slices.Sorted(maps.Keys(st.Troubles)) {
		add(d, "last "+k, st.Troubles[k])
	}
	if dropped > 0 {
		set(d, msgs.DiagnosticStatusWarn, "%d messages were dropped", dropped)
	}
	if wrong > 0 || st.Unpublished > 0 {
		set(d, msgs.DiagnosticStatusWarn, "%d messages could not be read, %d not be sent", wrong, st.Unpublished)
	}
	if st.LastEvent != "" {
		set(d, msgs.DiagnosticStatusWarn, "%s", st.LastEvent)
	}
	return *d
}
