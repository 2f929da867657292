package robot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/window"
)

// snapshot takes what the answer will be made from, or says why there can be none.
func (r *Robot) snapshot(q *question) (code uint16, sentence string) {
	p := &r.s.params
	q.outcome.Stamp = q.stamp
	q.outcome.Seen = r.s.window.Snapshot(q.stamp)
	newest, any := r.s.window.Newest(q.stamp)
	stale := int64(params.Seconds(p.StaleCameraTimeout))
	if len(q.outcome.Seen) == 0 || !any || newest.Stamp < q.stamp-stale {
		return r.noFrames(q, newest, any)
	}
	if r.s.maps.current == nil {
		if r.s.maps.failed != "" {
			return msgs.AnswerErrorMapUnusable, "The map cannot be used: " + r.s.maps.failed
		}
		if w := r.s.maps.waiting; w != nil {
			return msgs.AnswerErrorTfUnavailable, fmt.Sprintf("The map in frame %q waits for its transform to %q: %s", w.frameID, p.FixedFrame, explain(w.waitErr))
		}
		return msgs.AnswerErrorNoMap, r.misfit(fmt.Sprintf("No map has come yet on %s; publish a PointCloud2 there, latched or repeated.", r.ends.mapTopic), r.ends.mapTopic)
	}
	scene := *r.s.maps.current
	q.outcome.Map = &scene
	n := int(p.Frames)
	if n == 0 {
		n = r.s.model.Frames()
	}
	q.outcome.Frames = window.Pick(q.outcome.Seen, n)
	q.model = r.s.model
	q.request = stllm.Request{
		Question: q.msg.Text, Task: q.task, Map: scene.Features, Evidence: p.Evidence, Choices: q.msg.Choices,
		Plan: q.task == stllm.TaskPlanning && len(q.msg.Choices) == 0, Ablate: q.options.Ablate, MaxQuestionTokens: int(p.MaxQuestionTokens),
		Decoding: stllm.Decoding{
			MaxNewTokens: int(p.MaxNewTokens), DoSample: p.DoSample, NumBeams: int(p.NumBeams), Temperature: p.Temperature, TopP: p.TopP,
			TopK: int(p.TopK), RepetitionPenalty: p.RepetitionPenalty, LengthPenalty: p.LengthPenalty, Seed: uint64(p.Seed),
		},
	}
	for _, f := range q.outcome.Frames {
		q.request.Frames = append(q.request.Frames, stllm.Frame{Stamp: f.Stamp, Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height, Features: f.Features, Depth: f.Depth})
	}
	q.ready = true
	return msgs.AnswerErrorNone, ""
}

// noFrames says why there is nothing to look at.
func (r *Robot) noFrames(q *question, newest window.Frame, any bool) (uint16, string) {
	p := &r.s.params
	age := "no frame has a pose yet"
	if any {
		age = fmt.Sprintf("the newest frame with a pose is %.1f s older than the question", float64(q.stamp-newest.Stamp)/1e9)
	}
	camera := r.ends.imageTopic
	images := r.s.images.total
	lookedBack := r.s.lastImage != 0 && q.stamp < r.s.lastImage-int64(params.Seconds(p.StaleCameraTimeout))
	fresh := r.s.lastImage != 0 && r.s.lastImage >= q.stamp-int64(params.Seconds(p.StaleCameraTimeout))
	switch {
	case r.cfg.Transport.Clock().Simulated() && q.stamp == 0:
		return msgs.AnswerErrorEmptyWindow, "Simulated time has not started: no /clock message has come; publish it (stllm bag play --clock), or restart with use_sim_time false."
	case images == 0:
		return msgs.AnswerErrorEmptyWindow, r.misfit(fmt.Sprintf("No image has come yet on %s or its /compressed topic; start the camera or remap the topic.", camera), camera, r.ends.compressedTopic)
	case r.clocksDiffer() && (!fresh || lookedBack && q.msg.Header.Stamp.UnixNano() <= 0):
		return msgs.AnswerErrorStaleCamera, "Images come, but " + r.lag() + "."
	case lookedBack:
		return msgs.AnswerErrorEmptyWindow, fmt.Sprintf("The question is about a moment %.1f s before the newest image, which the window does not hold any more; window_duration is %g s.", float64(r.s.lastImage-q.stamp)/1e9, p.WindowDuration)
	case r.s.lastImage == 0:
		return msgs.AnswerErrorStaleCamera, fmt.Sprintf("Time went back, and no image has come since; check %s.", camera)
	case !fresh:
		return msgs.AnswerErrorStaleCamera, fmt.Sprintf("The camera has stopped: the newest image is %.1f s older than the question, stale_camera_timeout is %g s; check %s.", float64(q.stamp-r.s.lastImage)/1e9, p.StaleCameraTimeout, camera)
	case r.s.cameras.latest == nil:
		return msgs.AnswerErrorNoCameraInfo, r.misfit(fmt.Sprintf("Images come, but no camera_info on %s; publish it there or remap ~camera_info.", r.ends.infoTopic), r.ends.infoTopic)
	case r.s.cameras.latest.err != nil:
		return msgs.AnswerErrorNoCameraInfo, "The camera_info cannot be used: " + r.s.cameras.latest.err.Error()
	}
	last := r.s.lastDrop
	switch last.Cause {
	case CauseTFTimeout, CauseTFPast, CauseBadPose:
		return msgs.AnswerErrorTfUnavailable, fmt.Sprintf("Images come, but not their poses in %q (%s): %s", p.FixedFrame, age, last.Detail)
	case CauseNoCameraInfo:
		return msgs.AnswerErrorNoCameraInfo, "Images come, but their camera_info came too late: " + last.Detail
	case CauseInfoMismatch:
		return msgs.AnswerErrorNoCameraInfo, "Images come, but do not fit their camera_info: " + last.Detail
	}
	if r.s.cleared && (last.Cause == "" || last.Cause == CauseCleared) {
		return msgs.AnswerErrorEmptyWindow, fmt.Sprintf("The window was cleared, and no frame has entered it since; %d images wait for their poses or for the encoder.", len(r.s.waiting)+len(r.s.encodeQueue)+r.s.encoding)
	}
	if n := len(r.s.waiting); n > 0 {
		return msgs.AnswerErrorTfUnavailable, fmt.Sprintf("%d images wait for their poses in %q (%s): %s", n, p.FixedFrame, age, explain(r.s.waiting[n-1].waitErr))
	}
	if last.Cause != "" {
		return msgs.AnswerErrorEmptyWindow, fmt.Sprintf("Images come, but none is in the window (%s); the last one was dropped (%s): %s", age, last.Cause, last.Detail)
	}
	return msgs.AnswerErrorEmptyWindow, fmt.Sprintf("The window is empty at that moment (%s).", age)
}

// clocksDiffer tells whether images are, by their stamps and this node's clock, already stale when they come, or not yet made.
func (r *Robot) clocksDiffer() bool {
	return max(r.s.lastLag, -r.s.lastLag) > int64(params.Seconds(r.s.params.StaleCameraTimeout))
}

func (r *Robot) lag() string {
	where := "behind"
	if r.s.lastLag < 0 {
		where = "ahead of"
	}
	return fmt.Sprintf("their stamps are %.1f s %s this node's clock when they come; play bags with --clock and set use_sim_time, or synchronise the clocks",
		math.Abs(float64(r.s.lastLag)/1e9), where)
}

// misfit is a sentence about topics on which nothing has come, with what is known of publishers there that this node cannot hear.
func (r *Robot) misfit(sentence string, topics ...string) string {
	for _, topic := range topics {
		for _, kind := range []transport.EventKind{transport.EventTypeMismatch, transport.EventIncompatibleQoS} {
			if trouble := r.s.troubles[troubleKey(kind, topic)]; trouble != "" {
				return sentence + " A publisher does not fit: " + trouble
			}
		}
	}
	return sentence
}

// makeAnswers is the worker of answers: one at a time.
func (r *Robot) makeAnswers() {
	for q := range r.askJobs {
		q.result, q.err = q.model.Answer(q.ctx, q.request, func(p stllm.Progress) { r.emit(q, p) })
		r.askDone <- q
	}
}

// stream is what has been told of an answer so far. It is used by the state goroutine and by the answer worker.
type stream struct {
	mu        sync.Mutex
	published uint32 // chunks on the topic
	emitted   uint32 // chunks to the asker
	pending   Chunk  // text that waits for its time on the topic
	held      bool
	last      time.Time
	finished  bool
}

// emit tells of a step of an answer: to the asker at once, on answer_stream at most at stream_rate but for new stages.
func (r *Robot) emit(q *question, p stllm.Progress) {
	s := q.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return
	}
	c := Chunk{Header: r.header(q.stamp), ID: q.msg.ID, Stage: string(p.Stage), Delta: p.Delta, NewTokens: uint32(max(0, p.Tokens))}
	newStage := q.stage != p.Stage
	q.stage = p.Stage
	r.toAsker(q, c)
	interval := r.ends.streamInterval.Load()
	if newStage {
		r.flush(s)
	}
	c.Delta = s.pending.Delta + c.Delta
	s.pending, s.held = c, true
	if newStage || time.Since(s.last) >= time.Duration(interval) {
		r.flush(s)
	}
}

func (r *Robot) toAsker(q *question, c Chunk) {
	if q.options.Emit != nil {
		c.Sequence = q.stream.emitted
		q.stream.emitted++
		q.options.Emit(c)
	}
}

// flush publishes what is held back. The lock is held.
func (r *Robot) flush(s *stream) {
	if !s.held {
		return
	}
	c := s.pending
	c.Sequence = s.published
	s.published++
	s.pending, s.held, s.last = Chunk{}, false, time.Now()
	r.ends.publish(r.ends.answerStream, &c)
}

// finish sends the last chunk; nothing follows it.
func (r *Robot) finish(q *question, a *msgs.Answer) {
	s := q.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return
	}
	s.finished = true
	r.flush(s)
	c := Chunk{Header: a.Header, ID: q.msg.ID, Stage: "done", NewTokens: a.NewTokens, Last: true}
	r.toAsker(q, c)
	s.pending, s.held = c, true
	r.flush(s)
}

// header stamps a message with the moment it is about, in the fixed frame.
func (r *Robot) header(stamp int64) msgs.Header {
	return msgs.Header{Stamp: msgs.TimeFromNanos(stamp), FrameID: r.cfg.Params.FixedFrame} // fixed_frame cannot change
}

// emptyAnswer has what every answer has.
func (r *Robot) emptyAnswer(q *question) *msgs.Answer {
	return &msgs.Answer{Header: r.header(r.cfg.Transport.Clock().Now()), ID: q.msg.ID, Question: q.msg.Text, Task: string(q.task)}
}

// refuse answers a question without the model.
func (r *Robot) refuse(q *question, code uint16, sentence string) {
	a := r.answer(q)
	a.ErrorCode, a.ErrorMessage, a.FinishReason = code, sentence, string(stllm.FinishError)
	switch code {
	case msgs.AnswerErrorCancelled:
		a.FinishReason = string(stllm.FinishCancelled)
	case msgs.AnswerErrorDeadlineExceeded:
		a.FinishReason = string(stllm.FinishDeadline)
	}
	r.deliver(q, a)
}

// answer fills in what the snapshot gives.
func (r *Robot) answer(q *question) *msgs.Answer {
	a := r.emptyAnswer(q)
	if frames := q.outcome.Frames; len(frames) > 0 {
		a.Frames = uint32(len(frames))
		a.WindowStartNs, a.WindowEndNs = frames[0].Stamp, frames[len(frames)-1].Stamp
	}
	if m := q.outcome.Map; m != nil {
		a.MapID, a.MapStampNs = m.ID, m.Stamp
	}
	if q.model != nil {
		a.ModelID = q.model.ID()
	} else if r.s.model != nil {
		a.ModelID = r.s.model.ID()
	}
	return a
}

// answered takes an answer from the worker.
func (r *Robot) answered(q *question) {
	r.s.running = nil
	if q.replied { // the asker was told already
		return
	}
	a := r.answer(q)
	res := q.result
	a.Text, a.FinishReason = strings.ToValidUTF8(res.Text, "\uFFFD"), string(res.Finish)
	a.PromptTokens, a.NewTokens = uint32(max(0, res.PromptTokens)), uint32(max(0, res.NewTokens))
	a.Times = append(a.Times, msgs.StageTime{Stage: string(stllm.StageQueued), Seconds: q.waited.Seconds()})
	for _, t := range res.Timings {
		a.Times = append(a.Times, msgs.StageTime{Stage: string(t.Stage), Seconds: t.Duration.Seconds()})
	}
	r.evidence(q, a)
	switch {
	case q.err != nil && q.ctx.Err() == nil, q.err == nil && res.Finish == stllm.FinishError:
		r.modelFailed(q, a)
	case q.err != nil, res.Finish == stllm.FinishCancelled, res.Finish == stllm.FinishDeadline:
		cause := context.Cause(q.ctx)
		if cause == nil && res.Finish == stllm.FinishDeadline {
			cause = errDeadline
		}
		a.ErrorCode, a.ErrorMessage = endCode(cause, time.Since(q.asked))
		a.FinishReason = string(stllm.FinishCancelled)
		if a.ErrorCode == msgs.AnswerErrorDeadlineExceeded {
			a.FinishReason = string(stllm.FinishDeadline)
		}
	}
	r.interpret(q, a)
	r.deliver(q, a)
}

func (r *Robot) modelFailed(q *question, a *msgs.Answer) {
	a.FinishReason = string(stllm.FinishError)
	var wrong *stllm.QuestionError
	switch {
	case errors.As(q.err, &wrong) && wrong.TooLong:
		a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorQuestionTooLong, "The question is too long: "+wrong.Reason+"."
	case wrong != nil:
		a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorQuestionInvalid, wrong.Error()
	case q.err != nil:
		a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorModelFailed, "The model failed: "+q.err.Error()
	default:
		a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorModelFailed, "The model failed without saying why."
	}
}

// evidence copies the model's attention, strongest first.
func (r *Robot) evidence(q *question, a *msgs.Answer) {
	e := q.result.Evidence
	if e == nil {
		return
	}
	for _, f := range e.Frames {
		if f.Index >= 0 && f.Index < len(q.outcome.Frames) {
			a.FrameEvidence = append(a.FrameEvidence, msgs.FrameEvidence{StampNs: q.outcome.Frames[f.Index].Stamp, Weight: f.Weight})
		}
	}
	for _, p := range e.Regions {
		a.RegionEvidence = append(a.RegionEvidence, msgs.RegionEvidence{Position: msgs.Point{X: p.X, Y: p.Y, Z: p.Z}, Radius: p.Radius, Weight: p.Weight})
	}
	slices.SortStableFunc(a.FrameEvidence, func(x, y msgs.FrameEvidence) int { return cmp.Compare(y.Weight, x.Weight) })
	slices.SortStableFunc(a.RegionEvidence, func(x, y msgs.RegionEvidence) int { return cmp.Compare(y.Weight, x.Weight) })
}

// interpret adds the short form, and the steps of a plan.
func (r *Robot) interpret(q *question, a *msgs.Answer) {
	if a.Text == "" {
		if q.task == stllm.TaskPlanning && a.ErrorCode == msgs.AnswerErrorNone {
			a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorNotAPlan, "The answer is empty: there is no plan."
		}
		return
	}
	if r.cfg.Labels != nil {
		a.Label = r.cfg.Labels.Label(q.task, q.msg.Text, a.Text)
	}
	if q.task != stllm.TaskPlanning {
		return
	}
	a.Plan = r.cfg.Plans.ParsePlan(a.Text)
	readable := slices.ContainsFunc(a.Plan, func(s msgs.PlanStep) bool { return s.Parsed })
	if !readable && a.ErrorCode == msgs.AnswerErrorNone {
		a.ErrorCode, a.ErrorMessage = msgs.AnswerErrorNotAPlan, "No step of the answer could be read as a plan; its text is given as it is."
	}
}

// deliver gives an answer to whoever waits for it.
func (r *Robot) deliver(q *question, a *msgs.Answer) {
	r.s.stats.add(q, a)
	if q.unwake != nil {
		q.unwake()
	}
	r.finish(q, a)
	r.ends.publish(r.ends.answer, a)
	log := func(l zerolog.Level) *zerolog.Event {
		if q.options.Told {
			l = zerolog.DebugLevel
		}
		return r.log.WithLevel(l).Str("id", a.ID)
	}
	text := a.Text
	if a.ErrorCode != msgs.AnswerErrorNone {
		text = "[" + ErrorName(a.ErrorCode) + "] " + a.ErrorMessage
		log(zerolog.WarnLevel).Str("error", ErrorName(a.ErrorCode)).Msg(a.ErrorMessage)
	} else {
		log(zerolog.InfoLevel).Str("question", a.Question).Str("answer", a.Text).Uint32("frames", a.Frames).Str("model", a.ModelID).Msg("answered")
	}
	r.ends.publish(r.ends.answerText, &msgs.String{Data: text})
	o := q.outcome
	o.Answer = a
	if len(o.Frames) > 0 {
		r.publishWindow(&o)
	}
	if q.reply != nil {
		q.reply <- &o
	}
	q.cancel(nil)
	if q.stop != nil {
		q.stop()
	}
}

// unparsed is the parser that reads nothing: each line is a step that could not be read.
type unparsed struct{}

func (unparsed) ParsePlan(text string) []msgs.PlanStep {
	var steps []msgs.PlanStep
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			steps = append(steps, msgs.PlanStep{Text: line})
		}
	}
	return steps
}

// ErrorName is the name of an error code without its prefix, for example "NO_MAP".
func ErrorName(code uint16) string {
	names := [...]string{"NONE", "NO_MAP", "EMPTY_WINDOW", "STALE_CAMERA", "NO_CAMERA_INFO", "TF_UNAVAILABLE", "QUEUE_FULL", "DEADLINE_EXCEEDED",
		"CANCELLED", "QUESTION_EMPTY", "QUESTION_TOO_LONG", "QUESTION_INVALID", "MODEL_NOT_READY", "MODEL_FAILED", "TIME_JUMP", "NOT_A_PLAN",
		"SHUTTING_DOWN", "MAP_UNUSABLE"}
	if int(code) < len(names) {
		return names[code]
	}
	return fmt.Sprintf("CODE_%d", code)
}
