package robot

import (
	"context"
	"fmt"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/transport"
)

// loop owns the state. Each turn first does all that can be done without waiting (step), then waits for the next thing.
func (r *Robot) loop() {
	defer close(r.done)
	period := func(hz float64) time.Duration {
		if hz <= 0 || r.cfg.Elapsed != nil { // replay has no use for a stream of status
			return time.Duration(1 << 62)
		}
		return params.Seconds(1 / hz)
	}
	diagnostics := time.NewTicker(period(r.s.params.DiagnosticsRate))
	defer diagnostics.Stop()
	markers := time.NewTicker(period(r.s.params.MarkersRate))
	defer markers.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	events := r.cfg.Transport.Events()
	for {
		r.step()
		timer.Reset(r.nextExpiry())
		select {
		case <-r.ctx.Done():
			r.shutDown()
			return
		case <-r.intake.wake:
		case <-timer.C:
		case <-r.chWake:
		case j := <-r.cfg.Transport.Clock().Jumps():
			r.jump(j)
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			r.event(e)
		case job := <-r.frameDone:
			r.frameEncoded(job)
		case job := <-r.mapDone:
			r.mapEncoded(job)
		case q := <-r.askDone:
			r.answered(q)
		case q := <-r.chAsk:
			r.takeInputs() // what came before the question counts
			r.ask(q)
		case c := <-r.chClear:
			r.takeInputs()
			c <- r.clearWindow(CauseCleared)
		case req := <-r.chParams:
			req.reply <- r.changeParameters(req.values)
		case req := <-r.chModel:
			r.setModel(req)
		case req := <-r.chActive:
			r.setActive(req)
		case c := <-r.chQuiet:
			r.s.quiet = append(r.s.quiet, c)
		case c := <-r.chSettle:
			r.s.settlers = append(r.s.settlers, c)
		case c := <-r.chStatus:
			c <- r.status()
		case <-diagnostics.C:
			r.publishDiagnostics()
		case <-markers.C:
			if r.s.dirty {
				r.publishWindow(nil)
			}
		}
	}
}

// step does what can be done now.
func (r *Robot) step() {
	for {
		r.takeInputs()
		r.expireFrames()
		r.advanceMap()
		r.feedEncoder()
		// In a lossless run images wait in the intake while the encoder is busy; feeding it may have made room.
		if r.intake.empty() || r.imagesHeld() {
			break
		}
	}
	r.advanceQuestions()
	if len(r.s.settlers) > 0 && r.idle() {
		for _, c := range r.s.settlers {
			c <- struct{}{}
		}
		r.s.settlers = nil
	}
	if len(r.s.quiet) > 0 && r.s.encoding == 0 && r.s.maps.working_ == nil && r.s.running == nil {
		for _, c := range r.s.quiet {
			c <- struct{}{}
		}
		r.s.quiet = nil
	}
}

// idle tells whether nothing is in the works but what waits for the outside (transforms) or is a question.
func (r *Robot) idle() bool {
	return r.intake.empty() && r.s.encoding == 0 && len(r.s.encodeQueue) == 0 && !r.s.maps.working()
}

// imagesHeld tells whether images have to stay in the intake.
func (r *Robot) imagesHeld() bool { return r.cfg.Lossless && len(r.s.encodeQueue) > 0 }

// takeInputs works through the intake. Jumps of the clock go first: messages that came after one belong to the new time.
func (r *Robot) takeInputs() {
	for {
		select {
		case j := <-r.cfg.Transport.Clock().Jumps():
			r.jump(j)
		default:
		}
		in, ok := r.intake.pop(r.imagesHeld())
		if !ok {
			break
		}
		if r.cfg.Elapsed != nil && in.elapsed > r.s.now {
			r.s.now = in.elapsed
			r.expireFrames()
			r.expireMap()
		}
		switch in.kind {
		case kindImage:
			r.image(in)
		case kindCameraInfo:
			r.cameraInfo(in.msg.(*msgs.CameraInfo))
		case kindTF, kindTFStatic:
			r.transforms(in)
		case kindMap:
			r.mapMessage(in)
		case kindDepth:
			r.depthImage(in)
		case kindQuestion:
			r.topicQuestion(in)
		}
	}
	evicted := r.intake.takeEvicted()
	if n := evicted[kindImage]; n > 0 {
		r.s.images.add(n)
		r.s.drops[CauseQueueFull] += n
	}
	for k, n := range evicted {
		if n > 0 && kind(k) != kindImage {
			r.s.events[transport.EventLost] += n
			r.warn(fmt.Sprintf("intake %d", k), fmt.Sprintf("%d messages were dropped because the node did not keep up (%s)", n, kindNames[k]))
		}
	}
}

var kindNames = [kinds]string{"images", "camera_info", "/tf", "/tf_static", "map_points", "depth images", "questions", "ticks"}

// now is the clock of waits.
func (r *Robot) now() time.Duration {
	if r.cfg.Elapsed != nil {
		return r.s.now
	}
	return time.Since(r.start)
}

// nextExpiry is how long nothing happens by itself.
func (r *Robot) nextExpiry() time.Duration {
	d := time.Hour
	if r.cfg.Elapsed == nil {
		for _, job := range r.s.waiting {
			d = min(d, job.expiry()-r.now())
		}
		if m := r.s.maps.waiting; m != nil {
			d = min(d, m.deadline-r.now())
		}
	}
	if q := r.s.running; q != nil && q.ctx.Err() != nil && !q.replied {
		d = min(d, grace-time.Since(q.ended))
	}
	return max(d, 0) + time.Millisecond
}

// warn logs a message at most once a second for each key.
func (r *Robot) warn(key, message string) {
	if held, ok := r.s.repeats.allow(key); ok {
		e := r.log.Warn()
		if held > 0 {
			e = e.Uint64("repeated", held)
		}
		e.Msg(message)
	}
}

// maxTroubles bounds what /diagnostics goes on telling.
const maxTroubles = 64

func troubleKey(kind transport.EventKind, topic string) string { return string(kind) + " " + topic }

// event takes note of trouble on the wire.
func (r *Robot) event(e transport.Event) {
	r.s.events[e.Kind] += max(1, e.Count)
	r.s.lastEvent = e.Message
	if key := troubleKey(e.Kind, e.Topic); len(r.s.troubles) < maxTroubles || r.s.troubles[key] != "" {
		r.s.troubles[key] = e.Message
	}
	r.warn("event "+string(e.Kind)+e.Topic, e.Message)
}

// guardTime is how long after a step back messages of before it may still come: on a busy machine they were seen more than a second
// late, and one such transform made the buffer refuse the new ones as too old.
const guardTime = 10 * time.Second

// jump answers a discontinuity of the clock. After a step back everything known is of a future that has not happened yet:
// transforms, frames and waiting questions go. A question that is being answered has its own snapshot and goes on.
func (r *Robot) jump(j transport.Jump) {
	if j.To >= j.From {
		r.log.Warn().Float64("seconds", float64(j.To-j.From)/1e9).Msg("time jumped forward")
		return
	}
	now := r.cfg.Transport.Clock().Now()
	// Of what is still to be taken in, intrinsics, static transforms and maps hold for the new time as well.
	old := r.intake.dropIf(func(in input) bool {
		return (in.kind == kindImage || in.kind == kindTF || in.kind == kindQuestion || in.kind == kindDepth) && in.received > now
	})
	for _, in := range old {
		switch in.kind {
		case kindImage:
			r.s.images.add(1)
			r.drop(newFrameJob(in), CauseTimeJump, "the clock went back before it was taken in")
		case kindTF:
			r.s.tfRejected["from before a time jump"]++
		case kindQuestion:
			r.topicQuestion(in) // into the queue, which is cleared below
		case kindDepth:
			r.s.depth.images++
			r.s.depth.refused[depthJump]++
		}
	}
	r.s.depth.forget()
	r.s.tf.Clear(true) // static transforms hold for all times, and a latched publisher does not send them again
	frames := r.clearWindow(CauseTimeJump)
	r.s.cameras.forgetStamps()
	r.s.lastImage, r.s.lastLag = 0, 0
	r.s.guardUntil = r.now() + guardTime
	questions := len(r.s.queue)
	for _, q := range r.s.queue {
		r.refuse(q, msgs.AnswerErrorTimeJump, fmt.Sprintf("Time went back by %.3f s while the question waited; ask again.", float64(j.From-j.To)/1e9))
	}
	r.s.queue = nil
	r.log.Warn().Float64("seconds", float64(j.From-j.To)/1e9).Int("frames", frames).Int("questions", questions).
		Msg("time went back (a bag that loops?): transforms, window and waiting questions are cleared")
}

// clearWindow forgets frames, those in the works included.
func (r *Robot) clearWindow(cause Cause) int {
	n := r.s.window.Clear()
	r.s.epoch++
	r.s.lastDrop, r.s.cleared = Drop{}, cause == CauseCleared // what went wrong before does not explain an empty window now
	for _, job := range r.s.waiting {
		r.drop(job, cause, "")
	}
	for _, job := range r.s.encodeQueue {
		r.drop(job, cause, "")
		r.s.encoded++ // no longer waited for
	}
	r.s.waiting, r.s.encodeQueue, r.s.recent = nil, nil, nil
	r.s.dirty = true
	return n
}

func (r *Robot) setModel(req modelReq) {
	r.s.model, r.s.modelErr = req.model, req.err
	r.s.depth.forget()
	r.s.depth.use, r.s.depth.source = r.depthUse(req.model), -1 // subscriptions may be made anew
	r.clearWindow(CauseModelNotReady)
	r.s.maps.reset()
	if req.model != nil {
		r.log.Info().Str("model", req.model.ID()).Msg("model is ready")
	} else if req.err != nil {
		r.log.Debug().Err(req.err).Msg("there is no model") // who tried to load it tells
	}
	req.done <- struct{}{}
}

func (r *Robot) changeParameters(values map[string]any) paramsReply {
	if values == nil {
		return paramsReply{r.s.params, nil}
	}
	next := r.s.params
	if err := next.ChangeAll(values); err != nil {
		return paramsReply{r.s.params, err}
	}
	if err := r.s.window.SetLimits(windowLimits(&next)); err != nil {
		return paramsReply{r.s.params, err}
	}
	r.s.params = next
	r.intake.setLimit(kindImage, int(next.ImageQueue))
	r.setStreamRate(next.StreamRate)
	for name, v := range values {
		r.log.Info().Str("parameter", name).Interface("value", v).Msg("changed")
	}
	return paramsReply{next, nil}
}

// shutDown answers what waits and ends the workers.
func (r *Robot) shutDown() {
	const sentence = "The node is shutting down."
	for _, in := range r.intake.close() {
		switch in.kind {
		case kindImage:
			r.s.images.add(1)
			r.drop(newFrameJob(in), CauseShuttingDown, "")
		case kindQuestion:
			r.topicQuestion(in) // into the queue, which is answered below
		}
	}
	r.clearWindow(CauseShuttingDown)
	for _, q := range r.s.queue {
		r.refuse(q, msgs.AnswerErrorShuttingDown, sentence)
	}
	r.s.queue = nil
	if q := r.s.running; q != nil {
		q.cancel(errShutdown)
	}
	close(r.frameJobs)
	close(r.mapJobs)
	close(r.askJobs)
	finished := make(chan struct{})
	go func() {
		r.work.Wait()
		close(finished)
	}()
	for open := true; open; { // workers may still have results to give
		select {
		case job := <-r.frameDone:
			r.frameEncoded(job)
		case job := <-r.mapDone:
			r.mapEncoded(job)
		case q := <-r.askDone:
			r.answered(q)
		case q := <-r.chAsk:
			r.refuse(q, msgs.AnswerErrorShuttingDown, sentence)
		case <-finished:
			open = false
		}
	}
	for drained := false; !drained; {
		select {
		case job := <-r.frameDone:
			r.frameEncoded(job)
		case q := <-r.askDone:
			r.answered(q)
		default:
			drained = true
		}
	}
	for _, c := range append(r.s.settlers, r.s.quiet...) {
		c <- struct{}{}
	}
	r.ends.close()
}

// wakeAtEnd gives the state goroutine a turn when ctx ends.
func (r *Robot) wakeAtEnd(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		select {
		case r.chWake <- struct{}{}:
		default:
		}
	})
}
