package robot

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/window"
)

type windowFrame = window.Frame

func TestAnswer(t *testing.T) {
	g := newRig(t, &fakeModel{}, func(c *Config) { c.Params.Evidence = true })
	g.drive(10)
	o := g.robot.Ask(g.context(), msgs.Question{ID: "one", Text: "where?"}, Options{})
	a := o.Answer
	if a.ErrorCode != 0 || !strings.HasPrefix(a.Text, "where? 4 frames") || !strings.HasSuffix(a.Text, "50 voxels") {
		t.Fatalf("%+v", a)
	}
	if a.ID != "one" || a.ModelID != "fake" || a.Frames != 4 || a.MapID == "" || a.MapStampNs != t0 || a.FinishReason != "stop" || a.Header.FrameID != "map" {
		t.Errorf("%+v", a)
	}
	if a.WindowStartNs != t0 || a.WindowEndNs != t0+9*second/10 {
		t.Errorf("window %d to %d", a.WindowStartNs-t0, a.WindowEndNs-t0)
	}
	var stamps []int64
	for _, f := range o.Frames {
		stamps = append(stamps, (f.Stamp-t0)*10/second)
		if x := f.Pose.Translation.X; math.Abs(x-float64(f.Stamp-t0)/1e9) > 1e-9 {
			t.Errorf("pose %g of frame at %d", x, f.Stamp-t0)
		}
		if f.Thumb == nil || f.Thumb.Width != 8 || f.Thumb.Height != 6 || f.K[0] != 10 {
			t.Errorf("%+v", f)
		}
	}
	if !slices.Equal(stamps, []int64{0, 3, 6, 9}) || len(o.Seen) != 10 || o.Map == nil || o.Map.Cloud.Len() != 50 {
		t.Errorf("%v of %d", stamps, len(o.Seen))
	}
	if len(a.FrameEvidence) != 2 || a.FrameEvidence[0].Weight != 0.75 || a.FrameEvidence[0].StampNs != o.Frames[1].Stamp || a.RegionEvidence[0].Position.X != 2 {
		t.Errorf("evidence %+v %+v", a.FrameEvidence, a.RegionEvidence)
	}
	if b := g.ask("where?"); b.Text != a.Text {
		t.Errorf("asked again: %q, before %q", b.Text, a.Text)
	}
	g.lock(func() {
		if len(g.answers) != 2 || g.answers[0].Text != a.Text || g.texts[0] != a.Text {
			t.Errorf("published %d answers", len(g.answers))
		}
		if m := g.markers[len(g.markers)-1].Markers; len(m) != 2+maxRegions+1 || len(m[0].Points) != 4*4*4 {
			t.Errorf("%d markers", len(m))
		}
	})
	g.addUp()
}

// The chunks of the topic join to the text, are numbered, and end.
func TestStream(t *testing.T) {
	for _, rate := range []float64{0, 1e-3, 1000} {
		g := newRig(t, &fakeModel{text: "behind you, to the left ü"}, func(c *Config) { c.Params.StreamRate = rate })
		g.drive(3)
		var emitted strings.Builder
		o := g.robot.Ask(g.context(), msgs.Question{Text: "?"}, Options{Emit: func(c Chunk) { emitted.WriteString(c.Delta) }})
		if emitted.String() != o.Answer.Text {
			t.Errorf("emitted %q", emitted.String())
		}
		g.lock(func() {
			text, stages := "", []string{}
			for i, c := range g.chunks {
				text += c.Delta
				if int(c.Sequence) != i || c.Last != (i == len(g.chunks)-1) || c.ID != o.Answer.ID {
					t.Errorf("chunk %d: %+v", i, c)
				}
				if len(stages) == 0 || stages[len(stages)-1] != c.Stage {
					stages = append(stages, c.Stage)
				}
			}
			if text != o.Answer.Text || strings.Join(stages, " ") != "queued align decode done" {
				t.Errorf("rate %g: %q by %v", rate, text, stages)
			}
			if rate == 1e-3 && len(g.chunks) > 6 {
				t.Errorf("%d chunks are not held back", len(g.chunks))
			}
		})
	}
}

// A frame's arrival never waits for an answer.
func TestSlowAnswerDelaysNoFrame(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}), started: make(chan struct{}, 10)}
	g := newRig(t, m, nil)
	g.drive(5)
	done := make(chan *msgs.Answer, 1)
	go func() { done <- g.ask("slow") }()
	<-m.started
	for i := int64(5); i < 30; i++ {
		g.tf(t0 + i*second/10)
		g.graph.SetTime(t0 + i*second/10)
		g.image(t0 + i*second/10)
	}
	g.settle() // while the answer is still being made
	if st := g.status(); st.Frames != 30 || !st.Answering {
		t.Errorf("%d frames, answering %v", st.Frames, st.Answering)
	}
	g.scene(60)
	g.settle()
	m.slowAnswer <- struct{}{}
	a := <-done
	if a.WindowEndNs != t0+4*second/10 || !strings.HasSuffix(a.Text, "50 voxels") {
		t.Errorf("the snapshot has changed: until %d, %q", a.WindowEndNs-t0, a.Text)
	}
	g.addUp()
}

func TestQuestionAboutThePast(t *testing.T) {
	g := newRig(t, &fakeModel{}, nil)
	g.drive(20)
	o := g.robot.Ask(g.context(), msgs.Question{Header: header(t0+second, ""), Text: "?"}, Options{})
	if o.Answer.WindowEndNs != t0+second || o.Stamp != t0+second {
		t.Errorf("%+v", o.Answer)
	}
	o = g.robot.Ask(g.context(), msgs.Question{Header: header(t0+100*second, ""), Text: "?"}, Options{})
	if o.Stamp != t0+19*second/10 {
		t.Errorf("a stamp in the future is now: %d", o.Stamp-t0)
	}
}

// Every error code of an answer, and a word of its sentence.
func TestErrors(t *testing.T) {
	type set = func(*Config)
	past := t0 - 100*second
	for _, c := range []struct {
		name   string
		code   uint16
		word   string
		model  *fakeModel
		change set
		drive  func(*rig)
		q      msgs.Question
		plan   bool
	}{
		{name: "no image", code: msgs.AnswerErrorEmptyWindow, word: "/cam/image_raw", drive: func(g *rig) {}},
		{name: "no map", code: msgs.AnswerErrorNoMap, word: "/stllm/map_points", drive: func(g *rig) { g.info(); g.tf(t0); g.image(t0) }},
		{name: "no camera_info", code: msgs.AnswerErrorNoCameraInfo, word: "/cam/camera_info", drive: func(g *rig) { g.scene(9); g.tf(t0); g.image(t0) }},
		{name: "uncalibrated", code: msgs.AnswerErrorNoCameraInfo, word: "K[0]", drive: func(g *rig) {
			g.publish("/cam/camera_info", &msgs.CameraInfo{Header: header(t0, "cam"), Width: 16, Height: 12})
			g.tf(t0)
			g.image(t0)
		}},
		{name: "info of another camera", code: msgs.AnswerErrorNoCameraInfo, word: "fit", drive: func(g *rig) {
			g.publish("/cam/camera_info", &msgs.CameraInfo{Header: header(t0, "cam"), Width: 640, Height: 400, K: [9]float64{500, 0, 320, 0, 500, 200, 0, 0, 1}})
			g.tf(t0)
			g.image(t0)
		}},
		{name: "no transform yet", code: msgs.AnswerErrorTfUnavailable, word: "wait", drive: func(g *rig) { g.info(); g.scene(9); g.image(t0) }},
		{name: "older than the transforms", code: msgs.AnswerErrorTfUnavailable, word: "oldest", drive: func(g *rig) {
			g.info()
			g.scene(9)
			g.tf(t0 + second)
			g.tf(t0 + 2*second)
			g.image(t0)
		}},
		{name: "camera stopped", code: msgs.AnswerErrorStaleCamera, word: "stale_camera_timeout", drive: func(g *rig) { g.drive(3); g.graph.SetTime(t0 + 20*second) }},
		{name: "before the window", code: msgs.AnswerErrorEmptyWindow, word: "before", drive: func(g *rig) { g.drive(3) }, q: msgs.Question{Header: header(past, ""), Text: "?"}},
		{name: "map without points", code: msgs.AnswerErrorMapUnusable, word: "no points", drive: func(g *rig) { g.drive2(); g.scene(0) }},
		{name: "map cut short", code: msgs.AnswerErrorMapUnusable, word: "bytes", drive: func(g *rig) {
			g.drive2()
			m := cloud("map", 9, 0)
			m.Data = m.Data[:20]
			g.publish("/stllm/map_points", m)
		}},
		{name: "map in no frame", code: msgs.AnswerErrorMapUnusable, word: "frame_id", drive: func(g *rig) { g.drive2(); g.publish("/stllm/map_points", cloud("", 9, 0)) }},
		{name: "map in an unknown frame", code: msgs.AnswerErrorTfUnavailable, word: "elsewhere", drive: func(g *rig) { g.drive2(); g.publish("/stllm/map_points", cloud("elsewhere", 9, 0)) }},
		{name: "map encoder fails", code: msgs.AnswerErrorMapUnusable, word: "too odd", model: &fakeModel{mapErr: errors.New("too odd")}, drive: func(g *rig) { g.drive(3) }},
		{name: "frame encoder fails", code: msgs.AnswerErrorEmptyWindow, word: "broken", model: &fakeModel{encodeErr: errors.New("broken")}, drive: func(g *rig) { g.drive(3) }},
		{name: "empty question", code: msgs.AnswerErrorQuestionEmpty, word: "no text", drive: func(g *rig) {}, q: msgs.Question{Text: " \n\t"}},
		{name: "too many bytes", code: msgs.AnswerErrorQuestionTooLong, word: "8193 bytes", drive: func(g *rig) {}, q: msgs.Question{Text: strings.Repeat("a", 8193)}},
		{name: "too many tokens", code: msgs.AnswerErrorQuestionTooLong, word: "300 tokens", model: &fakeModel{answerErr: &stllm.QuestionError{TooLong: true, Reason: "it has 300 tokens"}}, drive: func(g *rig) { g.drive(3) }},
		{name: "not UTF-8", code: msgs.AnswerErrorQuestionInvalid, word: "UTF-8", drive: func(g *rig) {}, q: msgs.Question{Text: "a\xff"}},
		{name: "unknown task", code: msgs.AnswerErrorQuestionInvalid, word: `"poetry"`, drive: func(g *rig) {}, q: msgs.Question{Text: "?", Task: "poetry"}},
		{name: "bad deadline", code: msgs.AnswerErrorQuestionInvalid, word: "deadline", drive: func(g *rig) {}, q: msgs.Question{Text: "?", Deadline: math.NaN()}},
		{name: "empty choice", code: msgs.AnswerErrorQuestionInvalid, word: "Choice 2", drive: func(g *rig) {}, q: msgs.Question{Text: "?", Choices: []string{"a", ""}}},
		{name: "model fails", code: msgs.AnswerErrorModelFailed, word: "out of memory", model: &fakeModel{answerErr: errors.New("out of memory")}, drive: func(g *rig) { g.drive(3) }},
		{name: "deadline", code: msgs.AnswerErrorDeadlineExceeded, word: "deadline", model: &fakeModel{slowAnswer: make(chan struct{})}, drive: func(g *rig) { g.drive(3) }, q: msgs.Question{Text: "?", Deadline: 0.01}},
		{name: "deadline, model deaf", code: msgs.AnswerErrorDeadlineExceeded, word: "deadline", model: &fakeModel{slowAnswer: make(chan struct{}), deaf: true}, drive: func(g *rig) { g.drive(3); g.t.Cleanup(func() { close(g.model.slowAnswer) }) }, q: msgs.Question{Text: "?", Deadline: 0.01}},
		{name: "inactive", code: msgs.AnswerErrorModelNotReady, word: "activate", drive: func(g *rig) { _ = g.robot.SetActive(g.context(), false) }},
		{name: "no plan", code: msgs.AnswerErrorNotAPlan, word: "plan", drive: func(g *rig) { g.drive(3) }, plan: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.model == nil {
				c.model = &fakeModel{}
			}
			g := newRig(t, c.model, c.change)
			c.drive(g)
			g.settle()
			if c.q.Text == "" {
				c.q.Text = "where?"
			}
			a := g.robot.Ask(g.context(), c.q, Options{Plan: c.plan}).Answer
			if a.ErrorCode != c.code || !strings.Contains(a.ErrorMessage, c.word) {
				t.Errorf("%s: %q, expected %s with %q", ErrorName(a.ErrorCode), a.ErrorMessage, ErrorName(c.code), c.word)
			}
			if a.ErrorCode == msgs.AnswerErrorDeadlineExceeded && a.FinishReason != "deadline" {
				t.Errorf("finish reason %q", a.FinishReason)
			}
			g.addUp()
		})
	}
}

// drive2 sends two good frames but no map.
func (g *rig) drive2() {
	g.info()
	for i := range int64(2) {
		g.tf(t0 + i*second/10)
		g.image(t0 + i*second/10)
	}
}

func TestModelComesLate(t *testing.T) {
	g := newRig(t, nil, nil)
	g.drive(2)
	if a := g.ask("?"); a.ErrorCode != msgs.AnswerErrorModelNotReady || !strings.Contains(a.ErrorMessage, "loaded") {
		t.Errorf("%+v", a)
	}
	if err := g.robot.SetModel(g.context(), nil, errors.New("no such folder")); err != nil {
		t.Fatal(err)
	}
	if a := g.ask("?"); a.ErrorCode != msgs.AnswerErrorModelNotReady || !strings.Contains(a.ErrorMessage, "no such folder") {
		t.Errorf("%+v", a)
	}
	g.model = &fakeModel{}
	if err := g.robot.SetModel(g.context(), g.model, nil); err != nil {
		t.Fatal(err)
	}
	g.tf(t0 + second)
	g.graph.SetTime(t0 + second)
	g.image(t0 + second)
	if a := g.ask("?"); a.ErrorCode != 0 || a.Frames != 1 { // the latched map from before is there
		t.Errorf("%+v", a)
	}
	other := &fakeModel{}
	if err := g.robot.SetModel(g.context(), other, nil); err != nil {
		t.Fatal(err)
	}
	g.image(t0 + second)
	if a := g.ask("?"); a.ErrorCode != 0 || other.maps.Load() != 1 || other.encoded.Load() != 1 {
		t.Errorf("another model: %+v", a)
	}
	if st := g.status(); st.Drops[CauseModelNotReady] != 2 {
		t.Errorf("%v", st.Drops)
	}
	g.addUp()
}

func TestQueue(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}, 100), started: make(chan struct{}, 100)}
	g := newRig(t, m, func(c *Config) { c.Params.QuestionQueue = 3 })
	g.drive(3)
	for _, text := range []string{"a", "b", "c", "d", "e", "f"} {
		g.publish("/stllm/question", &msgs.Question{ID: text, Text: text})
		if text == "a" {
			<-m.started
		}
	}
	g.until("two refusals", func() bool { return len(g.answers) == 2 })
	for range 4 {
		m.slowAnswer <- struct{}{}
	}
	g.until("four answers", func() bool { return len(g.answers) == 6 })
	var order []string
	for _, a := range g.answers {
		order = append(order, a.ID+" "+ErrorName(a.ErrorCode))
	}
	if got := strings.Join(order, ", "); got != "e QUEUE_FULL, f QUEUE_FULL, a NONE, b NONE, c NONE, d NONE" {
		t.Error(got)
	}
	m.slowAnswer <- struct{}{}
	g.publish("/stllm/question_text", &msgs.String{Data: "in words"})
	g.until("an answer in words", func() bool { return len(g.texts) == 7 && strings.HasPrefix(g.texts[6], "in words 3 frames") })
}

func TestCancel(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}), started: make(chan struct{}, 10)}
	g := newRig(t, m, nil)
	g.drive(3)
	ctx, cancel := context.WithCancel(context.Background())
	running, waiting := make(chan *msgs.Answer, 1), make(chan *msgs.Answer, 1)
	go func() { running <- g.robot.Ask(ctx, msgs.Question{Text: "a"}, Options{}).Answer }()
	<-m.started
	go func() { waiting <- g.robot.Ask(ctx, msgs.Question{Text: "b"}, Options{}).Answer }()
	for g.status().Queued == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if a := <-running; a.ErrorCode != msgs.AnswerErrorCancelled || a.Text != "so far" || a.FinishReason != "cancelled" {
		t.Errorf("%+v", a)
	}
	if a := <-waiting; a.ErrorCode != msgs.AnswerErrorCancelled || a.Text != "" {
		t.Errorf("%+v", a)
	}
	if a := g.robot.Ask(ctx, msgs.Question{Text: "c"}, Options{}).Answer; a.ErrorCode != msgs.AnswerErrorCancelled {
		t.Errorf("taken back before it was asked: %+v", a)
	}
}

func TestShutDown(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}), started: make(chan struct{}, 10)}
	g := newRig(t, m, nil)
	g.drive(3)
	answers := make(chan *msgs.Answer, 3)
	for range 2 {
		go func() { answers <- g.robot.Ask(context.Background(), msgs.Question{Text: "a"}, Options{}).Answer }()
	}
	<-m.started
	for g.status().Queued == 0 {
		time.Sleep(time.Millisecond)
	}
	g.image(t0 + second) // waits for its transform
	g.robot.Close()
	answers <- g.robot.Ask(context.Background(), msgs.Question{Text: "late"}, Options{}).Answer
	for range 3 {
		if a := <-answers; a.ErrorCode != msgs.AnswerErrorShuttingDown {
			t.Errorf("%s %q", ErrorName(a.ErrorCode), a.ErrorMessage)
		}
	}
	if len(g.frames)+len(g.drops) != 4 || g.drops[0].Cause != CauseShuttingDown {
		t.Errorf("%v %+v", g.frames, g.drops)
	}
	if _, err := g.robot.Status(context.Background()); err == nil {
		t.Error("a closed robot has a status")
	}
	if g.robot.Close() != nil {
		t.Error("closing twice")
	}
}

// A step back of time clears transforms, window and waiting questions.
func TestTimeJump(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}), started: make(chan struct{}, 10)}
	g := newRig(t, m, nil)
	g.drive(5)
	running, waiting := make(chan *msgs.Answer, 1), make(chan *msgs.Answer, 1)
	go func() { running <- g.ask("running") }()
	<-m.started
	go func() { waiting <- g.ask("waiting") }()
	for g.status().Queued == 0 {
		time.Sleep(time.Millisecond)
	}
	g.image(t0 + second) // waits for its transform
	g.graph.SetTime(t0 - 10*second)
	if a := <-waiting; a.ErrorCode != msgs.AnswerErrorTimeJump || !strings.Contains(a.ErrorMessage, "10.4") {
		t.Errorf("%s %q", ErrorName(a.ErrorCode), a.ErrorMessage)
	}
	m.slowAnswer <- struct{}{}
	if a := <-running; a.ErrorCode != 0 || a.Frames != 4 {
		t.Errorf("an answer in the making has its snapshot: %+v", a)
	}
	st := g.status()
	if st.Window.Frames != 0 || st.Drops[CauseTimeJump] != 1 || st.MapID == "" {
		t.Errorf("%+v", st)
	}
	g.tf(t0 + second)         // a straggler from before the jump
	g.tf(t0 - 10*second)      // new
	g.image(t0 - 10*second)   // new
	g.image(t0 + second + 10) // a straggler
	g.settle()
	st = g.status()
	if st.Window.Frames != 1 || st.Drops[CauseTimeJump] != 2 || st.TFRejected["from before a time jump"] != 1 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	g.addUp()
}

func TestClearWindow(t *testing.T) {
	g := newRig(t, &fakeModel{}, nil)
	g.drive(5)
	r, err := g.peer.Call(g.context(), "/stllm/clear_window", &msgs.TriggerRequest{})
	if err != nil || !r.(*msgs.TriggerResponse).Success || r.(*msgs.TriggerResponse).Message != "5 frames forgotten" {
		t.Errorf("%+v %v", r, err)
	}
	if a := g.ask("?"); a.ErrorCode != msgs.AnswerErrorEmptyWindow {
		t.Errorf("%+v", a)
	}
}

// A cleared window is empty whatever had gone wrong before; what goes wrong afterwards is told.
func TestClearWindowAfterTrouble(t *testing.T) {
	g := newRig(t, &fakeModel{}, nil)
	g.info()
	g.scene(50)
	g.tf(t0)
	g.image(t0 - second) // older than the transforms: dropped
	g.image(t0)
	g.settle()
	if a := g.ask("?"); a.ErrorCode != 0 || g.status().Drops[CauseTFPast] != 1 {
		t.Fatalf("%+v %v", a, g.status().Drops)
	}
	ask := func(code uint16, word string) {
		t.Helper()
		if a := g.ask("?"); a.ErrorCode != code || !strings.Contains(a.ErrorMessage, word) {
			t.Errorf("%s: %q, expected %s with %q", ErrorName(a.ErrorCode), a.ErrorMessage, ErrorName(code), word)
		}
	}
	clear := func() {
		t.Helper()
		if n, err := g.robot.ClearWindow(g.context()); err != nil || n != 1 {
			t.Errorf("%d frames forgotten: %v", n, err)
		}
	}
	clear()
	ask(msgs.AnswerErrorEmptyWindow, "cleared")
	g.graph.SetTime(t0 + second/10)
	g.image(t0 + second/10) // waits for its transform, as any frame does for a moment
	ask(msgs.AnswerErrorEmptyWindow, "1 images wait")
	g.tf(t0 + second/10)
	g.settle()
	if a := g.ask("?"); a.ErrorCode != 0 || a.Frames != 1 {
		t.Errorf("%+v", a)
	}
	clear()
	g.image(t0 - second)
	ask(msgs.AnswerErrorTfUnavailable, "oldest")
	g.addUp()
}
