package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/window"
)

// sink writes the files of a replay. Without a folder it writes nothing.
type sink struct {
	dir   string
	fixed string

	mu                       sync.Mutex // frames and drops come from the robot's goroutine
	frames, dropped, answers *lines
	counts                   map[robot.Cause]int
	entered                  int
	err                      error
}

// lines is a file of JSON lines.
type lines struct {
	f *os.File
	w *bufio.Writer
}

func newLines(path string) (*lines, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &lines{f, bufio.NewWriter(f)}, nil
}

func (l *lines) put(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = l.w.Write(append(data, '\n'))
	return err
}

func (l *lines) close() error { return errors.Join(l.w.Flush(), l.f.Close()) }

func newSink(dir, fixed string) (*sink, error) {
	s := &sink{dir: dir, fixed: fixed, counts: map[robot.Cause]int{}}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		to   **lines
	}{{"frames.jsonl", &s.frames}, {"dropped.jsonl", &s.dropped}, {"answers.jsonl", &s.answers}} {
		l, err := newLines(filepath.Join(dir, part.name))
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		*part.to = l
	}
	return s, nil
}

func (s *sink) note(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *sink) frame(f window.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entered++
	if s.frames == nil {
		return
	}
	measured := 0
	for _, z := range f.Depth {
		if z > 0 {
			measured++
		}
	}
	s.note(s.frames.put(struct {
		Seq        uint64      `json:"seq"`
		Stamp      int64       `json:"stamp_ns"`
		FrameID    string      `json:"frame_id"`
		FixedFrame string      `json:"fixed_frame"`
		Pose       [16]float64 `json:"pose"`
		Width      int         `json:"width"`
		Height     int         `json:"height"`
		K          [9]float64  `json:"K"`
		Depth      int         `json:"depth_patches,omitempty"`
	}{f.Seq, f.Stamp, f.FrameID, s.fixed, f.Pose.Matrix(), f.Width, f.Height, f.K, measured}))
}

func (s *sink) drop(d robot.Drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[d.Cause]++
	if s.dropped == nil {
		return
	}
	s.note(s.dropped.put(struct {
		Seq     uint64      `json:"seq"`
		Stamp   int64       `json:"stamp_ns"`
		FrameID string      `json:"frame_id"`
		Cause   robot.Cause `json:"cause"`
		Detail  string      `json:"detail,omitempty"`
	}{d.Seq, d.Stamp, d.FrameID, d.Cause, d.Detail}))
}

// answerLine is an answer as answers.jsonl has it: nothing in it depends on how fast the replay ran.
type answerLine struct {
	ID           string       `json:"id"`
	Stamp        int64        `json:"stamp_ns"`
	Task         string       `json:"task,omitempty"`
	Question     string       `json:"question"`
	Text         string       `json:"text"`
	Label        string       `json:"label,omitempty"`
	ErrorCode    uint16       `json:"error_code"`
	Error        string       `json:"error,omitempty"`
	Finish       string       `json:"finish_reason"`
	Model        string       `json:"model_id"`
	WindowStart  int64        `json:"window_start_ns"`
	WindowEnd    int64        `json:"window_end_ns"`
	Frames       []uint64     `json:"frames"`
	MapID        string       `json:"map_id"`
	PromptTokens uint32       `json:"prompt_tokens"`
	NewTokens    uint32       `json:"new_tokens"`
	Plan         []stepLine   `json:"plan,omitempty"`
	FrameWeights []frameLine  `json:"frame_evidence,omitempty"`
	Regions      []regionLine `json:"region_evidence,omitempty"`
	Reference    string       `json:"reference,omitempty"`
	RefLabel     string       `json:"reference_label,omitempty"`
	Group        string       `json:"group,omitempty"`
}

// stepLine, frameLine and regionLine are messages with names as the rest of the line has them.
type stepLine struct {
	Text      string `json:"text"`
	Parsed    bool   `json:"parsed"`
	Verb      string `json:"verb,omitempty"`
	Object    string `json:"object,omitempty"`
	Target    string `json:"target,omitempty"`
	Direction string `json:"direction,omitempty"`
}

type frameLine struct {
	Stamp  int64   `json:"stamp_ns"`
	Weight float64 `json:"weight"`
}

type regionLine struct {
	Position [3]float64 `json:"position"` // fixed frame, metres
	Radius   float64    `json:"radius"`   // metres
	Weight   float64    `json:"weight"`
}

// lineOf is an answer's line.
func lineOf(a Answered) answerLine {
	ans := a.Outcome.Answer
	l := answerLine{
		ID: a.Question.ID, Stamp: a.Outcome.Stamp, Task: a.Question.Task, Question: a.Question.Text, Text: ans.Text, Label: ans.Label,
		ErrorCode: ans.ErrorCode, Error: ans.ErrorMessage, Finish: ans.FinishReason, Model: ans.ModelID, WindowStart: ans.WindowStartNs,
		WindowEnd: ans.WindowEndNs, Frames: []uint64{}, MapID: ans.MapID, PromptTokens: ans.PromptTokens, NewTokens: ans.NewTokens,
		Reference: a.Question.Answer, RefLabel: a.Question.Label, Group: a.Question.Group,
	}
	for _, f := range a.Outcome.Frames {
		l.Frames = append(l.Frames, f.Seq)
	}
	for _, p := range ans.Plan {
		l.Plan = append(l.Plan, stepLine{p.Text, p.Parsed, p.Verb, p.Object, p.Target, p.Direction})
	}
	for _, e := range ans.FrameEvidence {
		l.FrameWeights = append(l.FrameWeights, frameLine{e.StampNs, e.Weight})
	}
	for _, e := range ans.RegionEvidence {
		l.Regions = append(l.Regions, regionLine{[3]float64{e.Position.X, e.Position.Y, e.Position.Z}, e.Radius, e.Weight})
	}
	return l
}

func (s *sink) answer(a Answered, boxes []picture.Box) error {
	if s.answers == nil {
		return nil
	}
	l := lineOf(a)
	s.mu.Lock()
	err := s.answers.put(l)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	png, err := picture.Window(Picture(a, boxes))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "window-"+a.Question.ID+".png"), png, 0o644)
}

// Picture is what the picture of an answer shows.
func Picture(a Answered, boxes []picture.Box) picture.Input {
	ans := a.Outcome.Answer
	text := ans.Text
	if ans.ErrorCode != msgs.AnswerErrorNone {
		text = "No answer: " + ans.ErrorMessage
	}
	in := picture.Input{Title: a.Question.ID + " · " + ans.ModelID, Question: a.Question.Text, Answer: text}
	if a.Question.Answer != "" {
		in.Title += " · reference: " + a.Question.Answer
	}
	weights := map[int64]float64{}
	for _, e := range ans.FrameEvidence {
		weights[e.StampNs] = e.Weight
	}
	for _, f := range a.Outcome.Frames {
		in.Frames = append(in.Frames, picture.Frame{Picture: f.Thumb, Seconds: float64(f.Stamp-a.Outcome.Stamp) / 1e9, Pose: f.Pose, K: f.K, Width: f.Width, Weight: weights[f.Stamp]})
	}
	for _, f := range a.Outcome.Seen {
		in.Path = append(in.Path, f.Pose)
	}
	if m := a.Outcome.Map; m != nil {
		in.Map, in.MapID = m.Cloud, m.ID
	}
	for _, r := range ans.RegionEvidence {
		in.Regions = append(in.Regions, picture.Region{X: r.Position.X, Y: r.Position.Y, Radius: r.Radius, Weight: r.Weight})
	}
	about, _ := a.Question.Metadata["about"].(string)
	in.Boxes = picture.Mark(in, boxes, a.Outcome.Stamp, ans.Text, about)
	return in
}

func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	for _, l := range []*lines{s.frames, s.dropped, s.answers} {
		if l != nil {
			err = errors.Join(err, l.close())
		}
	}
	return err
}

// summary writes summary.json, and checks that no image is missing: every one entered the window or was dropped for a cause.
func (s *sink) summary(r *Result, o Options) error {
	dropped := 0
	for _, n := range s.counts {
		dropped += n
	}
	if s.entered+dropped != r.Images {
		return fmt.Errorf("%d images entered the window and %d were dropped, the bag has %d on %s", s.entered, dropped, r.Images, r.Topics.Image)
	}
	if s.dir == "" {
		return nil
	}
	type times map[string]float64
	took := map[string]times{}
	failed := 0
	for _, a := range r.Answers {
		t := times{}
		for _, st := range a.Outcome.Answer.Times {
			t[st.Stage] = st.Seconds
		}
		took[a.Question.ID] = t
		if a.Outcome.Answer.ErrorCode != msgs.AnswerErrorNone {
			failed++
		}
	}
	warnings := []string{}
	for _, w := range r.Warnings {
		warnings = append(warnings, w.String())
	}
	topics := map[string]string{"image": r.Topics.Image, "camera_info": r.Topics.CameraInfo, "map": r.Topics.Map}
	if r.Topics.Depth != "" {
		topics["depth"] = r.Topics.Depth
	}
	data, err := json.MarshalIndent(map[string]any{
		"bags": o.Bags, "topics": topics,
		"images": r.Images, "frames": s.entered, "frames_with_depth": r.Status.Depth.Frames, "frames_without_depth": r.Status.Depth.Lacking, "dropped": dropped, "dropped_by_cause": s.counts, "skipped_messages": r.Skipped,
		"map":                  map[string]any{"id": r.Status.MapID, "points": r.Status.MapPoints, "received": r.Status.MapReceived, "voxels": r.Status.MapVoxels, "encode_seconds": r.Status.MapTime.Seconds()},
		"encode_frame_seconds": r.Status.FrameTime.Seconds(), // mean; frames are encoded as they come, before any answer
		"model":                r.Status.ModelID, "questions": len(r.Answers), "answers_with_error": failed, "seconds_by_stage": took, "warnings": warnings,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "summary.json"), append(data, '\n'), 0o644)
}
