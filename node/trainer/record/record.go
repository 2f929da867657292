// Package record is what the trainer eats: a synthetic kitchen reduced to the pictures, voxels, dense labels and questions
// that the networks see. A record is a function of its seed and its shape, so a data folder can always be made again.
package record

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/rays"
)

// Format counts the changes of what a record holds beside its shape: 2 knows what is in use, 3 which items are
// in a hand.
const Format = 4

// Shape says what a record holds; records of different shapes do not mix.
type Shape struct {
	Format    int     // [Format]
	Edge      int     // pictures are Edge × Edge pixels, as the vision tower takes them
	Grid      int     // dense labels of pictures: Grid × Grid patches
	Voxel     float64 // metres
	Frames    int     // of a window
	Windows   int     // moments of asking in a kitchen
	Questions int     // of a kitchen
	// PoseTrans and PoseTurn are the standard deviations of the poses' jitter, metres and degrees.
	PoseTrans, PoseTurn float64
	Margin              float64 // metres by which labels hold; see quiz.Options
}

// Validate names the field that does not fit.
func (s Shape) Validate() error {
	if s.Format != Format {
		return fmt.Errorf("record shape: format is %d, expected %d", s.Format, Format)
	}
	for _, f := range []struct {
		name      string
		value, lo float64
	}{{"edge", float64(s.Edge), 16}, {"grid", float64(s.Grid), 1}, {"voxel", s.Voxel, 0.01}, {"frames", float64(s.Frames), 2},
		{"windows", float64(s.Windows), 1}, {"questions", float64(s.Questions), 1}} {
		if !(f.value >= f.lo) {
			return fmt.Errorf("record shape: %s is %v, expected at least %v", f.name, f.value, f.lo)
		}
	}
	if s.Edge%s.Grid != 0 {
		return fmt.Errorf("record shape: edge %d is not a multiple of grid %d", s.Edge, s.Grid)
	}
	return nil
}

// Frame is a picture with its pose and the share of each class in each patch.
type Frame struct {
	Stamp int64              // ns
	Pose  geometry.Transform // optical frame to map, with jitter
	RGB   []uint8            // Edge × Edge × 3
	Share []uint8            // Grid² × classes: pixels of the class in the patch, 255 for all
	InUse []uint8            // Grid²: pixels of things in use, see [kitchen.SampleFrame]
}

// Map is the voxelised cloud with the share of each class in each voxel.
type Map struct {
	Size      float64 // metres
	Min       [3]int64
	Coords    []int32   // N × 3
	Stats     []float32 // N × points.StatFeatures
	Centroids []float64 // N × 3, metres
	Share     []uint8   // N × classes: points of the class in the voxel, 255 for all
}

// Len is the number of voxels.
func (m *Map) Len() int { return len(m.Coords) / 3 }

// Question is a question with the answer to learn and the places behind it.
type Question struct {
	Task, Group, Kind   string
	Text, Answer, Label string
	About               string
	Targets             []r3.Vec // map frame, metres; none for what is not there
	Moment              geometry.Transform
	Distances           [2]float64 // of the first target at the window's start and end, metres
}

// Window is a moment of asking.
type Window struct {
	Frames    []int // in Record.Frames, in order of time
	Questions []Question
}

// Record is one kitchen.
type Record struct {
	Seed    uint64
	K       [9]float64 // of the squeezed pictures, pixels
	Frames  []Frame
	Map     Map
	Windows []Window
}

// Make makes the record of a seed.
func Make(seed uint64, s Shape) (*Record, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	sample, err := kitchen.NewSample(seed, kitchen.SampleOptions{
		Kitchen: kitchen.Options{Quiz: quiz.Options{Forms: 1, Margin: s.Margin}},
		Width:   s.Edge, Height: s.Edge, Frames: s.Frames, Windows: s.Windows, Questions: s.Questions, Vary: true,
		PoseTrans: s.PoseTrans, PoseTurn: s.PoseTurn,
	})
	if err != nil {
		return nil, err
	}
	r := &Record{Seed: seed}
	v := sample.View
	r.K = [9]float64{v.FX, 0, v.CX, 0, v.FY, v.CY, 0, 0, 1}
	classes := len(kitchen.Classes())
	for i := range sample.Frames {
		f := &sample.Frames[i]
		counts, _, err := sample.Patches(i, s.Grid, s.Grid)
		if err != nil {
			return nil, err
		}
		area := (s.Edge / s.Grid) * (s.Edge / s.Grid)
		share := make([]uint8, 0, len(counts)*classes)
		for _, patch := range counts {
			for _, n := range patch {
				share = append(share, part(int(n), area))
			}
		}
		r.Frames = append(r.Frames, Frame{Stamp: f.Stamp, Pose: f.Pose, RGB: f.RGB, Share: share, InUse: used(f.InUse, s)})
	}
	if r.Map, err = voxels(sample, s.Voxel, classes); err != nil {
		return nil, fmt.Errorf("record of seed %d: %w", seed, err)
	}
	for _, w := range sample.Windows {
		out := Window{Frames: w.Frames}
		for _, q := range w.Questions {
			out.Questions = append(out.Questions, Question{
				Task: string(q.Task), Group: q.Group, Kind: q.Kind, Text: q.Text, Answer: q.Answer, Label: q.Label.String(), About: q.About,
				Targets: q.Targets, Moment: sample.Kitchen.Camera(q.Moment), Distances: q.Distances,
			})
		}
		r.Windows = append(r.Windows, out)
	}
	return r, nil
}

// used is the share of pixels that are in use in each patch.
func used(pixels []bool, s Shape) []uint8 {
	counts, size := make([]int, s.Grid*s.Grid), s.Edge/s.Grid
	for i, in := range pixels {
		if in {
			counts[i/s.Edge/size*s.Grid+i%s.Edge/size]++
		}
	}
	out := make([]uint8, len(counts))
	for i, n := range counts {
		out[i] = part(n, size*size)
	}
	return out
}

// part is n of all as a byte; something is never nothing.
func part(n, all int) uint8 {
	if n == 0 {
		return 0
	}
	return uint8(max(1, math.Round(255*float64(n)/float64(all))))
}

func voxels(sample *kitchen.Sample, size float64, classes int) (Map, error) {
	v, err := points.Voxelize(sample.Cloud.XYZ, size)
	if err != nil {
		return Map{}, err
	}
	m := Map{Size: v.Size, Min: v.Min, Coords: v.Coords}
	if m.Stats, m.Centroids, err = v.Stats(sample.Cloud.XYZ, sample.Cloud.RGB); err != nil {
		return Map{}, err
	}
	counts, all := make([]int, v.Len()*classes), make([]int, v.Len())
	for i, voxel := range v.VoxelOfPoint {
		counts[int(voxel)*classes+int(sample.PointClass[i])]++
		all[voxel]++
	}
	m.Share = make([]uint8, len(counts))
	for i, n := range counts {
		m.Share[i] = part(n, all[i/classes])
	}
	return m, nil
}

// Voxels gives the map's grid to code that casts rays into it.
func (m *Map) Voxels() *points.Voxels {
	return &points.Voxels{Size: m.Size, Min: m.Min, Coords: m.Coords, PointOfVoxel: make([]int32, m.Len())}
}

// Views are the cameras of a window.
func (r *Record) Views(w *Window, edge int) []rays.View {
	views := make([]rays.View, len(w.Frames))
	for i, f := range w.Frames {
		views[i] = rays.View{Pose: r.Frames[f].Pose, K: r.K, Width: edge, Height: edge}
	}
	return views
}
