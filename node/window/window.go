// Package window is the rolling window of posed frames: what the robot has seen lately. It is bounded by time, by number
// and by memory, and gives out immutable snapshots. A Window belongs to one goroutine.
package window

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/stllm"
)

// Frame is a posed and encoded frame. Nothing in it changes once it is in a window.
type Frame struct {
	Seq      uint64             // number of the image since the start, dropped ones counted
	Stamp    int64              // ns, the transport's clock
	FrameID  string             // optical frame
	Pose     geometry.Transform // optical frame to the fixed frame, metres
	K        [9]float64         // of the rectified picture, pixels, row-major
	Width    int                // of the rectified picture, pixels
	Height   int
	Features stllm.FrameFeatures
	Depth    []float32    // measured for the model's patches, metres along the optical axis, 0 for none; nil: no depth belongs to it
	Thumb    *imaging.RGB // small picture for people; nil when not kept
}

// bytes is what a frame weighs.
func (f *Frame) bytes() int {
	n := 256 + 4*len(f.Depth)
	if f.Features != nil {
		n += f.Features.Bytes()
	}
	if f.Thumb != nil {
		n += len(f.Thumb.Pix)
	}
	return n
}

// Limits bound a window.
type Limits struct {
	Duration time.Duration // from the newest frame back
	Frames   int
	Bytes    int
}

// Validate names the limit that is wrong.
func (l Limits) Validate() error {
	switch {
	case l.Duration <= 0:
		return fmt.Errorf("window duration is %v, expected more than 0", l.Duration)
	case l.Frames < 1:
		return fmt.Errorf("window frames are %d, expected at least 1", l.Frames)
	case l.Bytes < 1:
		return fmt.Errorf("window bytes are %d, expected at least 1", l.Bytes)
	}
	return nil
}

// Window holds frames in order of their stamps, which all differ.
type Window struct {
	limits  Limits
	frames  []Frame
	bytes   int
	added   uint64
	evicted uint64
}

// New makes an empty window.
func New(l Limits) (*Window, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return &Window{limits: l}, nil
}

// SetLimits changes the bounds; frames beyond them go at once.
func (w *Window) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	w.limits = l
	w.evict()
	return nil
}

// Has tells whether a frame of that stamp is in the window.
func (w *Window) Has(stamp int64) bool {
	_, found := w.find(stamp)
	return found
}

func (w *Window) find(stamp int64) (int, bool) {
	return slices.BinarySearchFunc(w.frames, stamp, func(f Frame, s int64) int { return cmp.Compare(f.Stamp, s) })
}

// Add takes a frame in, at its place in time, and drops what is then beyond the limits: the oldest frames, perhaps the new
// one itself. It reports false, and changes nothing, for a stamp that is there already.
func (w *Window) Add(f Frame) bool {
	i, found := w.find(f.Stamp)
	if found {
		return false
	}
	w.frames = slices.Insert(w.frames, i, f)
	w.bytes += f.bytes()
	w.added++
	w.evict()
	return true
}

func (w *Window) evict() {
	n := 0
	for n < len(w.frames)-1 && (w.frames[n].Stamp < w.frames[len(w.frames)-1].Stamp-int64(w.limits.Duration) ||
		len(w.frames)-n > w.limits.Frames || w.bytes > w.limits.Bytes) {
		w.bytes -= w.frames[n].bytes()
		n++
	}
	if n == 0 {
		return
	}
	w.evicted += uint64(n)
	clear(w.frames[:n]) // let go of the features
	w.frames = w.frames[n:]
	if cap(w.frames) > 4*len(w.frames)+64 {
		w.frames = slices.Clip(slices.Clone(w.frames))
	}
}

// Clear forgets all frames and returns how many there were.
func (w *Window) Clear() int {
	n := len(w.frames)
	w.frames, w.bytes = nil, 0
	return n
}

// Len is the number of frames.
func (w *Window) Len() int { return len(w.frames) }

// Newest returns the newest frame at or before a stamp.
func (w *Window) Newest(stamp int64) (Frame, bool) {
	i, found := w.find(stamp)
	if found {
		return w.frames[i], true
	}
	if i == 0 {
		return Frame{}, false
	}
	return w.frames[i-1], true
}

// Snapshot copies the frames from stamp − duration to stamp, both inclusive: everything that a question about that moment
// may see. Frames that the window has dropped meanwhile are not in it.
func (w *Window) Snapshot(stamp int64) []Frame {
	from, _ := w.find(stamp - int64(w.limits.Duration))
	to, found := w.find(stamp)
	if found {
		to++
	}
	if from >= to {
		return nil
	}
	return slices.Clone(w.frames[from:to])
}

// Pick chooses n frames spread evenly from the first to the last, or all where there are no more than n. It is NumPy's
// linspace(0, len−1, n, dtype=int), as the model was trained.
func Pick(frames []Frame, n int) []Frame {
	if n <= 0 || len(frames) == 0 {
		return nil
	}
	if len(frames) <= n {
		return slices.Clone(frames)
	}
	picked := make([]Frame, 0, n)
	for _, i := range Indices(len(frames), n) {
		picked = append(picked, frames[i])
	}
	return picked
}

// Indices is linspace(0, total−1, n, dtype=int): float64 steps, truncated.
func Indices(total, n int) []int {
	if total <= 0 || n <= 0 {
		return nil
	}
	indices := make([]int, n)
	if n == 1 {
		return indices
	}
	step := float64(total-1) / float64(n-1)
	for i := range indices {
		indices[i] = int(float64(i) * step)
	}
	indices[n-1] = total - 1 // NumPy sets the end point itself
	return indices
}

// Stats describe a window.
type Stats struct {
	Frames         int
	Bytes          int
	First, Last    int64 // stamps, ns; 0 when empty
	Added, Evicted uint64
}

// Span is the time between the first and the last frame.
func (s Stats) Span() time.Duration { return time.Duration(s.Last - s.First) }

// Stats describes the window now.
func (w *Window) Stats() Stats {
	s := Stats{Frames: len(w.frames), Bytes: w.bytes, Added: w.added, Evicted: w.evicted}
	if n := len(w.frames); n > 0 {
		s.First, s.Last = w.frames[0].Stamp, w.frames[n-1].Stamp
	}
	return s
}
