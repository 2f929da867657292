package rays

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/parallel"
)

// Ego returns the transform from the fixed frame to the current camera's own level frame: origin at the camera's centre,
// x to its right, y ahead (its viewing direction projected on the ground), z up. current is the optical frame's pose in the
// fixed frame (z forward, x right, y down). up is the fixed frame's upward direction, (0, 0, 1) for a robot.
//
// A camera that looks straight down has the upper edge of its picture ahead; one that looks straight up, the lower edge.
func Ego(current geometry.Transform, up r3.Vec) (geometry.Transform, error) {
	if !current.Finite() {
		return geometry.Transform{}, fmt.Errorf("ego frame: pose has a component that is not finite: %v", current)
	}
	if n := r3.Norm(up); !(n > 1e-9) || math.IsInf(n, 0) {
		return geometry.Transform{}, fmt.Errorf("ego frame: up is %v, expected a direction", up)
	}
	up = r3.Unit(up)
	ahead := level(current.Rotate(r3.Vec{Z: 1}), up)
	if r3.Norm(ahead) < 1e-3 {
		top := r3.Vec{Y: -1}
		if r3.Dot(current.Rotate(r3.Vec{Z: 1}), up) > 0 {
			top = r3.Vec{Y: 1}
		}
		ahead = level(current.Rotate(top), up)
	}
	ahead = r3.Unit(ahead)
	right := r3.Cross(ahead, up)
	t, err := geometry.FromMatrix([16]float64{
		right.X, right.Y, right.Z, 0,
		ahead.X, ahead.Y, ahead.Z, 0,
		up.X, up.Y, up.Z, 0,
		0, 0, 0, 1,
	})
	if err != nil {
		return geometry.Transform{}, fmt.Errorf("ego frame: %w", err)
	}
	t.Translation = r3.Scale(-1, t.Rotate(current.Translation))
	return t, nil
}

// level takes the upward part out of a direction.
func level(v, up r3.Vec) r3.Vec { return r3.Sub(v, r3.Scale(r3.Dot(v, up), up)) }

// Encoding is the robot profile's encoding of places about the current camera. A row is
// [direction, sin, cos] at the direction frequencies and, with Positions, [x, y, z, range, sin, cos] at the position
// frequencies; all in the ego frame, metres.
type Encoding struct {
	directions *Fourier
	positions  *Fourier // nil: directions only
}

// EncodingOptions choose an [Encoding].
type EncodingOptions struct {
	Directions []float64 // frequencies in 1/unit vector; default 2^0 … 2^5
	Positions  []float64 // frequencies in 1/m; default 2^-1 … 2^4
	// DirectionsOnly leaves the places out: an ablation.
	DirectionsOnly bool
}

// NewEncoding builds an encoding.
func NewEncoding(o EncodingOptions) (*Encoding, error) {
	if o.Directions == nil {
		o.Directions = Octaves(0, 6)
	}
	if o.Positions == nil {
		o.Positions = Octaves(-1, 6)
	}
	for name, list := range map[string][]float64{"direction": o.Directions, "position": o.Positions} {
		for i, f := range list {
			if !(f > 0) || math.IsInf(f, 0) {
				return nil, fmt.Errorf("robot encoding: %s frequency %d is %v, expected a positive number", name, i, f)
			}
		}
	}
	e := &Encoding{directions: NewFourier(o.Directions)}
	if !o.DirectionsOnly {
		e.positions = NewFourier(o.Positions)
	}
	return e, nil
}

// Width is the number of columns of a row: 91 by default.
func (e *Encoding) Width() int {
	w := e.directions.Width(3)
	if e.positions != nil {
		w += e.positions.Width(4)
	}
	return w
}

// Places encodes places of the fixed frame (three coordinates each, metres) as seen in the ego frame: [N][Width]. The
// direction is the one from the ego origin to the place; a place at the origin itself has the direction 0.
func (e *Encoding) Places(xyz []float64, ego geometry.Transform) ([]float32, error) {
	return e.rows(xyz, nil, ego)
}

// PlacesAlong is [Encoding.Places] with directions of their own (unit vectors of the fixed frame, three numbers each): for
// the camera's own place, which is seen along its viewing direction.
func (e *Encoding) PlacesAlong(xyz, directions []float64, ego geometry.Transform) ([]float32, error) {
	if len(xyz)%3 != 0 || len(directions) != len(xyz) {
		return nil, fmt.Errorf("robot encoding: %d coordinates and %d of directions, expected three per place each", len(xyz), len(directions))
	}
	return e.rows(xyz, directions, ego)
}

// PositionWidth is the number of columns of [Encoding.Positions].
func (e *Encoding) PositionWidth() int {
	if e.positions == nil {
		return 0
	}
	return e.positions.Width(4)
}

// Positions is the second part of [Encoding.Places] alone, [x, y, z, range, sin, cos] in a level frame: [N][PositionWidth].
func (e *Encoding) Positions(xyz []float64, ego geometry.Transform) ([]float32, error) {
	return each(xyz, ego, e.PositionWidth(), func(_ int, p r3.Vec, row []float32) { e.position(row, p) })
}

// position encodes a place of the ego frame, where positions are wanted.
func (e *Encoding) position(row []float32, p r3.Vec) {
	if e.positions != nil {
		e.positions.encode(row, []float32{float32(p.X), float32(p.Y), float32(p.Z), float32(r3.Norm(p))})
	}
}

func (e *Encoding) rows(xyz, directions []float64, ego geometry.Transform) ([]float32, error) {
	split := e.directions.Width(3)
	return each(xyz, ego, e.Width(), func(i int, p r3.Vec, row []float32) {
		d := r3.Vec{}
		if directions != nil {
			d = ego.Rotate(r3.Vec{X: directions[3*i], Y: directions[3*i+1], Z: directions[3*i+2]})
		} else if distance := r3.Norm(p); distance > 1e-9 {
			d = r3.Scale(1/distance, p)
		}
		e.directions.encode(row[:split], []float32{float32(d.X), float32(d.Y), float32(d.Z)})
		e.position(row[split:], p)
	})
}

// each encodes every place, brought into the ego frame, into a row of its own, on all processors.
func each(xyz []float64, ego geometry.Transform, width int, encode func(i int, p r3.Vec, row []float32)) ([]float32, error) {
	if len(xyz)%3 != 0 {
		return nil, fmt.Errorf("robot encoding: %d coordinates, expected three per place", len(xyz))
	}
	for i, v := range xyz {
		if v-v != 0 {
			return nil, fmt.Errorf("robot encoding: coordinate %c of place %d is %v, expected a finite number", "xyz"[i%3], i/3, v)
		}
	}
	n := len(xyz) / 3
	out := make([]float32, n*width)
	parallel.Ranges(n, 256, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			encode(i, ego.Apply(r3.Vec{X: xyz[3*i], Y: xyz[3*i+1], Z: xyz[3*i+2]}), out[i*width:(i+1)*width])
		}
	})
	return out, nil
}

// Cameras encodes each frame's camera: its place along its viewing direction, [T][Width].
func (e *Encoding) Cameras(poses []geometry.Transform, ego geometry.Transform) ([]float32, error) {
	xyz, directions := make([]float64, 0, 3*len(poses)), make([]float64, 0, 3*len(poses))
	for _, p := range poses {
		d := p.Rotate(r3.Vec{Z: 1})
		xyz = append(xyz, p.Translation.X, p.Translation.Y, p.Translation.Z)
		directions = append(directions, d.X, d.Y, d.Z)
	}
	return e.PlacesAlong(xyz, directions, ego)
}

// View is one frame's camera: its pose (optical frame to fixed frame) and the intrinsics of its picture, in pixels.
type View struct {
	Pose          geometry.Transform
	K             [9]float64 // row-major
	Width, Height int
}

// PatchDirections returns the unit directions, in the optical frame, of the rays through the centres of a grid×grid
// partition of the picture, row by row: grid·grid·3 numbers. The picture is stretched to a square before it is cut into
// patches, so patches have the picture's own aspect.
func (v View) PatchDirections(grid int) ([]float64, error) {
	if grid < 1 || grid > 4096 || v.Width < 1 || v.Height < 1 {
		return nil, fmt.Errorf("patch rays: picture of %d×%d pixels and grid of %d, expected positive sizes", v.Width, v.Height, grid)
	}
	if !(v.K[0] > 0) || !(v.K[4] > 0) || math.IsInf(v.K[0]+v.K[4], 0) || !(math.Abs(v.K[2])+math.Abs(v.K[5]) < math.MaxFloat64) {
		return nil, fmt.Errorf("patch rays: K has fx %v, fy %v, cx %v, cy %v, expected positive focal lengths and finite numbers", v.K[0], v.K[4], v.K[2], v.K[5])
	}
	out := make([]float64, 0, 3*grid*grid)
	for a := range grid {
		y := ((float64(a)+0.5)*float64(v.Height)/float64(grid) - v.K[5]) / v.K[4]
		for b := range grid {
			x := ((float64(b)+0.5)*float64(v.Width)/float64(grid) - v.K[2]) / v.K[0]
			n := 1 / math.Sqrt(x*x+y*y+1)
			out = append(out, x*n, y*n, n)
		}
	}
	return out, nil
}
