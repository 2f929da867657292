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

// Code encodes places. A row is the direction and position of a place (see [rays.Encoding]), with start_frame its position as
// seen from the window's first camera, its frame's age in tenths of seconds with sines and cosines, and 1 for what comes from
// a picture; a voxel has no age and a 0.
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
func (c *Code) Width() int { return c.placed() + 1 + 2*len(c.times) + 1 }

// placed is the number of columns before a row's age.
func (c *Code) placed() int {
	if c.options.StartFrame {
		return c.place.Width() + c.place.PositionWidth()
	}
	return c.place.Width()
}

// Frame is one frame of a window.
type Frame struct {
	Stamp         int64              // ns
	Pose          geometry.Transform // optical frame to map
	K             [9]float64         // of a picture of Width × Height pixels
	Width, Height int
	// Depth is what a depth camera has measured for the patches, metres along the optical axis, Grid² numbers row by row, 0 for
	// none; nil: nothing. It counts where the config's patch_place is depth.
	Depth []float32
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
	first, now := w.Frames[0], w.Frames[len(w.Frames)-1]
	egos := make([]geometry.Transform, 2)
	for i, f := range []Frame{now, first} {
		var err error
		if egos[i], err = rays.Ego(f.Pose, r3.Vec{Z: 1}); err != nil {
			return out, err
		}
	}
	voxels, err := c.place.Places(w.Centroids, egos[0])
	if err == nil {
		out.Voxels, err = c.complete(voxels, w.Centroids, egos[1], nil)
	}
	if err != nil {
		return out, err
	}
	poses := make([]geometry.Transform, len(w.Frames))
	views := make([]rays.View, len(w.Frames))
	ages := make([]float64, len(w.Frames))
	var centres []float64
	for i, f := range w.Frames {
		poses[i] = f.Pose
		views[i] = rays.View{Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height}
		ages[i] = float64(now.Stamp-f.Stamp) / 1e9
		centres = append(centres, f.Pose.Translation.X, f.Pose.Translation.Y, f.Pose.Translation.Z)
	}
	cameras, err := c.place.Cameras(poses, egos[0])
	if err == nil {
		out.Cameras, err = c.complete(cameras, centres, egos[1], ages)
	}
	if err != nil || w.Grid == 0 {
		return out, err
	}
	places := w.PatchPlaces
	if places == nil {
		if places, err = c.patches(w, views); err != nil {
			return out, err
		}
	}
	rows, err := c.place.Places(places, egos[0])
	if err == nil {
		out.Patches, err = c.complete(rows, places, egos[1], ages)
	}
	return out, err
}

// patches places all patches as the config wants it.
func (c *Code) patches(w Window, views []rays.View) ([]float64, error) {
	o := c.options
	g := rays.Grid{Side: w.Grid, Caster: w.Caster, Options: rays.CastOptions{Near: o.Near, Far: o.Far, Miss: o.Miss}}
	switch o.Place() {
	case config.RayPlace:
		g.Caster = nil
	case config.DepthPlace:
		depth := make([][]float32, len(w.Frames))
		for i, f := range w.Frames {
			depth[i] = f.Depth
		}
		return g.Places(views, depth)
	}
	return g.Places(views, nil)
}

// complete adds the places xyz as seen from the first camera, age and origin to encoded places; ages (seconds) belong to
// equal shares of the rows.
func (c *Code) complete(rows []float32, xyz []float64, start geometry.Transform, ages []float64) ([]float32, error) {
	var then []float32
	if c.options.StartFrame {
		var err error
		if then, err = c.place.Positions(xyz, start); err != nil {
			return nil, err
		}
	}
	in, more, placed, width := c.place.Width(), c.place.PositionWidth(), c.placed(), c.Width()
	n := len(rows) / in
	out := make([]float32, n*width)
	for i := range n {
		row := out[i*width : (i+1)*width]
		copy(row, rows[i*in:(i+1)*in])
		if then != nil {
			copy(row[in:], then[i*more:(i+1)*more])
		}
		if ages == nil {
			continue
		}
		age := ages[i*len(ages)/n]
		tail := row[placed:]
		tail[0] = float32(age / 10)
		for k, f := range c.times {
			tail[1+k] = float32(math.Sin(f * age))
			tail[1+len(c.times)+k] = float32(math.Cos(f * age))
		}
		tail[len(tail)-1] = 1
	}
	return out, nil
}
