// Package params is the node's parameter set: every number that a user may tune, with unit, default, range and meaning in
// one table. The commented launch/stllm.yaml, the help text, the README table and the ROS 2 parameter services all come
// from that table.
package params

import (
	"fmt"
	"math"
	"time"
)

// Parameters holds one value for each descriptor. Fields are named as the parameters; see [Descriptors] for units and
// ranges. The zero value is not valid, use [Default].
type Parameters struct {
	// Inputs and frames of reference.
	FixedFrame, ImageTopic, ImageTransport, CameraInfoTopic, MapTopic, DepthTopic, DepthTransport, ExtrinsicsFile string
	UseSimTime                                                                                                    bool

	// From images to the window. Times in seconds.
	TFTimeout, TFCache, DepthTolerance, DepthTimeout, MinFrameInterval, WindowDuration, StaleCameraTimeout float64
	WindowMaxFrames, WindowMaxMB, Frames, ImageQueue, TFQueue                                              int64

	// The map.
	MapMaxPoints int64

	// Questions. Times in seconds.
	QuestionQueue, MaxQuestionTokens, MaxQuestionBytes, ActionQueue int64
	QuestionDeadline, ActionResultTimeout                           float64

	// Text generation, with Hugging Face names.
	MaxNewTokens, NumBeams, TopK, Seed                  int64
	DoSample                                            bool
	Temperature, TopP, RepetitionPenalty, LengthPenalty float64

	// Outputs. Rates in Hz.
	Evidence                                 bool
	StreamRate, DiagnosticsRate, MarkersRate float64

	// The model and the process.
	Model, Device, DType string
	Threads              int64
	Autostart            bool

	// Qualities of service, with ROS 2 names.
	QoSImageReliability, QoSCameraInfoReliability, QoSTFReliability, QoSMapReliability, QoSQuestionReliability  string
	QoSTFStaticDurability, QoSMapDurability, QoSAnswerDurability, QoSMarkersDurability, QoSWindowPathDurability string
	QoSImageDepth, QoSCameraInfoDepth, QoSTFDepth, QoSTFStaticDepth, QoSQuestionDepth, QoSAnswerDepth           int64
}

// Default returns the set with every parameter at its default.
func Default() Parameters {
	var p Parameters
	for _, d := range table {
		d.store(&p, d.Default)
	}
	return p
}

// Get returns a value: bool, int64, float64 or string.
func (p *Parameters) Get(name string) (any, error) {
	d, err := find(name)
	if err != nil {
		return nil, err
	}
	return d.load(p), nil
}

// Set changes one value. It takes the parameter's own type, any other integer or float type that holds the same number, or
// text. The error is an *Error that names what was found and what is expected; p is as before then.
func (p *Parameters) Set(name string, value any) error {
	d, err := find(name)
	if err != nil {
		return err
	}
	v, err := d.convert(value)
	if err != nil {
		return err
	}
	d.store(p, v)
	return nil
}

// Change is Set for a running node: it also refuses parameters that are read once at the start.
func (p *Parameters) Change(name string, value any) error {
	return p.ChangeAll(map[string]any{name: value})
}

// ChangeAll changes several values at once or none of them. Values that only fit together may come together.
func (p *Parameters) ChangeAll(values map[string]any) error {
	for name := range values {
		if _, err := find(name); err != nil {
			return err
		}
	}
	next := *p
	for i := range table { // in the table's order, so that the first error is always the same one
		d := &table[i]
		v, ok := values[d.Name]
		if !ok {
			continue
		}
		if err := next.Set(d.Name, v); err != nil {
			return err
		}
		if d.ReadOnly && d.load(&next) != d.load(p) {
			return &Error{Name: d.Name, Found: text(d.load(&next)), Expected: fmt.Sprintf("%s, since it is read once at the start; restart the node to change it", text(d.load(p)))}
		}
	}
	if err := next.Validate(); err != nil {
		return err
	}
	*p = next
	return nil
}

// Validate checks every value against its own range and the values against each other.
func (p *Parameters) Validate() error {
	for _, d := range table {
		if _, err := d.convert(d.load(p)); err != nil {
			return err
		}
	}
	switch {
	case p.MinFrameInterval > p.WindowDuration:
		return &Error{Name: "min_frame_interval", Found: text(p.MinFrameInterval), Expected: fmt.Sprintf("at most window_duration (%s)", text(p.WindowDuration))}
	case p.Frames > p.WindowMaxFrames:
		return &Error{Name: "frames", Found: text(p.Frames), Expected: fmt.Sprintf("at most window_max_frames (%s)", text(p.WindowMaxFrames))}
	case p.TFTimeout > p.TFCache:
		return &Error{Name: "tf_timeout", Found: text(p.TFTimeout), Expected: fmt.Sprintf("at most tf_cache (%s), or transforms are forgotten while a frame waits for them", text(p.TFCache))}
	case p.DoSample && p.Temperature == 0:
		return &Error{Name: "temperature", Found: "0", Expected: "above 0 when do_sample is true; do_sample: false is greedy decoding"}
	}
	return nil
}

// Seconds turns a parameter in seconds into a duration.
func Seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(math.Round(s * float64(time.Second)))
}
