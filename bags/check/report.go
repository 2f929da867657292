package check

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/node/tf"
)

// Options say what the node would be told. Empty topics are guessed.
type Options struct {
	// FixedFrame that poses are for; default "map".
	FixedFrame string
	// Image, CameraInfo, Map and Depth are topics. CameraInfo's default is the
	// camera_info beside the image.
	Image, CameraInfo, Map, Depth string
	// DepthTolerance is by how much the stamps of a picture and its depth
	// image may differ; default 0.03 s.
	DepthTolerance time.Duration
	// TFTimeout is how long a picture waits for its transform in the bag's
	// time; default 0.5 s. TFCache is how long transforms are kept; default 10 s.
	TFTimeout, TFCache time.Duration
	// JSON chooses the form of what Info and Check print.
	JSON bool
}

func (o *Options) defaults() error {
	if o.FixedFrame == "" {
		o.FixedFrame = "map"
	}
	if o.TFTimeout == 0 {
		o.TFTimeout = 500 * time.Millisecond
	}
	if o.TFCache == 0 {
		o.TFCache = tf.DefaultCache
	}
	if o.DepthTolerance == 0 {
		o.DepthTolerance = 30 * time.Millisecond
	}
	if o.TFTimeout < 0 || o.TFCache < 0 || o.DepthTolerance < 0 {
		return fmt.Errorf("TFTimeout is %v, TFCache %v and DepthTolerance %v, none may be negative", o.TFTimeout, o.TFCache, o.DepthTolerance)
	}
	return nil
}

// Severity of a finding.
type Severity string

// The severities. With an Error the node cannot answer from this bag.
const (
	OK      Severity = "ok"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	// Need is "bag", "image", "camera_info", "tf", "depth", "map" or "types".
	Need string `json:"need"`
	// Text is what was found; Remedy, for warnings and errors, what to do.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Report is the result of a check.
type Report struct {
	Summary  *Summary  `json:"summary"`
	Findings []Finding `json:"findings"`
	// Usable says that there is no Error among the findings.
	Usable bool `json:"usable"`
	// Images counts the pictures; Posed those that get a transform.
	Images int64 `json:"images"`
	Posed  int64 `json:"posed"`
	// Chain is the frames from the camera to the fixed frame, or as far up as
	// the bag knows.
	Chain []string `json:"chain,omitempty"`
}

func (r *Report) add(s Severity, need, text, remedy string) {
	r.Findings = append(r.Findings, Finding{s, need, text, remedy})
}

// Examine reads the bag through once and checks it.
func Examine(r bags.Reader, paths []string, opts Options) (*Report, error) {
	if err := opts.defaults(); err != nil {
		return nil, fmt.Errorf("checking a bag: %w", err)
	}
	e := newExam(Summarize(r, paths), opts)
	e.depth.choose(r.Info().Connections, opts)
	it := r.Messages(bags.Filter{Topics: e.topics(), Reuse: true})
	defer it.Close()
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("checking a bag: %w", err)
		}
		e.take(m)
	}
	e.end()
	// Reading may have found damage that opening did not.
	e.report.Summary.Warnings = warnings(r)
	return e.conclude(), nil
}

// Info prints what the bags contain.
func Info(w io.Writer, paths []string, opts Options) error {
	r, err := bags.OpenAll(paths...)
	if err != nil {
		return err
	}
	defer r.Close()
	s := Summarize(r, paths)
	if opts.JSON {
		return printJSON(w, s)
	}
	return s.Print(w)
}

// Check prints what the bags contain and what a node would miss in them. The
// report is returned also where the bag is not usable; the error is for bags
// that cannot be read.
func Check(w io.Writer, paths []string, opts Options) (*Report, error) {
	r, err := bags.OpenAll(paths...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	report, err := Examine(r, paths, opts)
	if err != nil {
		return nil, err
	}
	if opts.JSON {
		return report, printJSON(w, report)
	}
	return report, report.Print(w)
}
