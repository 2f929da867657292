// Package placecode encodes where voxels, image patches and cameras are about the current camera: the robot profile's place
// of the published ray encodings. The node and the trainer share it, so that a network sees the same numbers in both.
package placecode

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/rays"
)

// Code encodes places. A row is the direction and position of a place (see [rays.Encoding]), its frame's age in tenths of
// seconds with sines and cosines, and 1 for what comes from a picture; a voxel has no age and a 0.
type Code struct {
	options *config.RobotOptions
	place   *rays.Encoding
	times   []float64 // rad/s
}

// New prepares the encodings of a config.
func New(o *config.RobotOptions) (*Code, error) {
	if o == nil {
		return nil, errors.New("place code: config has no robot_config")
	}
	octaves := func(x config.Octaves) []float64 { return rays.Octaves(x.First, x.Count) }
	place, err := rays.NewEncoding(rays.EncodingOptions{
		Directions: octaves(o.DirectionOctaves), Positions: octaves(o.PositionOctaves), DirectionsOnly: o.PositionOctaves.Count == 0,
	})
	if err != nil {
		return nil, err
	}
	c := &Code{options: o, place: place, times: octaves(o.TimeOctaves)}
	if got := c.Width(); got != o.Columns() {
		return nil, fmt.Errorf("place code: %d columns, the config counts %d", got, o.Columns())
	}
	return c, nil
}

// Width is the number of columns of a row.
func (c *Code) Width() int { return c.place.Width() + 1 + 2*len(c.times) + 1 }

// Frame is one frame of a window.
type Frame struct {
	Stamp         int64              // ns
	Pose          geometry.Transform // optical frame to map
	K             [9]float64         // of a picture of Width × Height pixels
	Width, Height int
}

// Window is what is encoded together; the last frame is the current one.
type Window struct {
	Frames    []Frame
	Centroids []float64    // of the voxels, map frame, metres, three each
	Caster    *rays.Caster // nil: there is no map, and patches lie at the distance of a miss
	Grid      int          // patches along a side; 0: no patches
	// PatchPlaces are the patches' places where they are known already: map frame, metres, three each, frame by frame.
	PatchPlaces []float64
}

// Rows are encodings, Width columns each.
type Rows struct {
	Voxels  []float32
	Patches []float32 // frame by frame, Grid² each
	Cameras []float32 // one a frame
}

// Encode encodes a window in the level frame of its last camera.
func (c *Code) Encode(w Window) (Rows, error) {
	var out Rows
	if len(w.Frames) == 0 {
		return out, errors.New("place code: no frames")
	}
	now := w.Frames[len(w.Frames)-1]
	ego, err := rays.Ego(now.Pose, r3.Vec{Z: 1})
	if err != nil {
		return out, err
	}
	voxels, err := c.place.Places(w.Centroids, ego)
	if err != nil {
		return out, err
	}
	out.Voxels = c.complete(voxels, nil)
	poses := make([]geometry.Transform, len(w.Frames))
	views := make([]rays.View, len(w.Frames))
	ages := make([]float64, len(w.Frames))
	for i, f := range w.Frames {
		poses[i] = f.Pose
		views[i] = rays.View{Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height}
		ages[i] = float64(now.Stamp-f.Stamp) / 1e9
	}
	cameras, err := c.place.Cameras(poses, ego)
	if err != nil {
		return out, err
	}
	out.Cameras = c.complete(cameras, ages)
	if w.Grid == 0 {
		return out, nil
	}
	places := w.PatchPlaces
	if places == nil {
		if places, err = c.patches(w, views); err != nil {
			return out, err
		}
	}
	rows, err := c.place.Places(places, ego)
	if err != nil {
		return out, err
	}
	out.Patches = c.complete(rows, ages)
	return out, nil
}

func (c *Code) patches(w Window, views []rays.View) ([]float64, error) {
	if w.Caster != nil {
		places, _, err := w.Caster.PatchPlaces(views, w.Grid)
		return places, err
	}
	var places []float64
	for _, v := range views {
		directions, err := v.PatchDirections(w.Grid)
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(directions); i += 3 {
			d := r3.Scale(c.options.Miss, r3.Vec{X: directions[i], Y: directions[i+1], Z: directions[i+2]})
			p := v.Pose.Apply(d)
			places = append(places, p.X, p.Y, p.Z)
		}
	}
	return places, nil
}

// complete adds age and origin to encoded places; ages (seconds) belong to equal shares of the rows.
func (c *Code) complete(rows []float32, ages []float64) []float32 {
	in, width := c.place.Width(), c.Width()
	n := len(rows) / in
	out := make([]float32, n*width)
	for i := range n {
		row := out[i*width : (i+1)*width]
		copy(row, rows[i*in:(i+1)*in])
		if ages == nil {
			continue
		}
		age := ages[i*len(ages)/n]
		tail := row[in:]
		tail[0] = float32(age / 10)
		for k, f := range c.times {
			tail[1+k] = float32(math.Sin(f * age))
			tail[1+len(c.times)+k] = float32(math.Cos(f * age))
		}
		tail[len(tail)-1] = 1
	}
	return out
}
