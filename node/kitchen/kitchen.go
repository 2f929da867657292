// Package kitchen makes synthetic kitchens: furnished rooms with a robot that drives through them, as bags with images, TF
// and a map. It makes the demo's input, and questions whose right answers are known.
package kitchen

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/render"
)

// Options of a kitchen. Zero values are defaults.
type Options struct {
	Seed    uint64
	Seconds float64 // length of the drive, 2 to 60, default 12
	Rate    float64 // pictures a second, 1 to 60, default 10
	Width   int     // pixels, default 640
	Height  int     // pixels, default 480
	FX      float64 // focal length at this width, pixels, default 585/640 of the width
}

func (o Options) withDefaults() (Options, error) {
	set := func(v *float64, standard, lo, hi float64, name string) error {
		if *v == 0 {
			*v = standard
		}
		if !(*v >= lo && *v <= hi) {
			return fmt.Errorf("kitchen: %s is %g, expected %g to %g", name, *v, lo, hi)
		}
		return nil
	}
	if o.Width == 0 {
		o.Width, o.Height = 640, 480
	}
	if err := set(&o.Seconds, 12, 2, 60, "seconds"); err != nil {
		return o, err
	}
	if err := set(&o.Rate, 10, 1, 60, "rate"); err != nil {
		return o, err
	}
	if o.FX == 0 {
		o.FX = 585.0 / 640 * float64(o.Width)
	}
	return o, o.camera().Validate()
}

func (o Options) camera() render.Camera {
	return render.Camera{Width: o.Width, Height: o.Height, FX: o.FX, FY: o.FX, CX: float64(o.Width) / 2, CY: float64(o.Height) / 2}
}

// Box is a piece of furniture: its ground centre, size and turn in the map frame, metres and radians.
type Box struct {
	Name   string  `json:"name"`
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
	Z      float64 `json:"z"` // of the bottom
	Width  float64 `json:"width"`
	Depth  float64 `json:"depth"`
	Height float64 `json:"height"`
	Yaw    float64 `json:"yaw"`
	color  [3]uint8
}

// Kitchen is a room and a drive through it.
type Kitchen struct {
	Options Options
	Width   float64 // of the room along x, metres
	Depth   float64 // along y
	Boxes   []Box
	path    []waypoint
}

// waypoint is the robot's base at a time.
type waypoint struct{ t, x, y, yaw float64 }

// kind is a category of furniture with its range of sizes.
type kind struct {
	name                 string
	width, depth, height [2]float64
	bottom               float64
	color                [3]uint8
}

// kinds stand along the walls.
var kinds = []kind{
	{"fridge", [2]float64{0.58, 0.75}, [2]float64{0.6, 0.7}, [2]float64{1.6, 1.95}, 0, [3]uint8{226, 228, 230}},
	{"sink", [2]float64{0.7, 1.1}, [2]float64{0.58, 0.62}, [2]float64{0.86, 0.92}, 0, [3]uint8{150, 168, 180}},
	{"hob", [2]float64{0.58, 0.7}, [2]float64{0.58, 0.62}, [2]float64{0.86, 0.92}, 0, [3]uint8{52, 52, 58}},
	{"dishwasher", [2]float64{0.58, 0.62}, [2]float64{0.58, 0.62}, [2]float64{0.82, 0.88}, 0, [3]uint8{196, 200, 204}},
	{"cupboard", [2]float64{0.7, 1.2}, [2]float64{0.35, 0.5}, [2]float64{1.7, 2.0}, 0, [3]uint8{146, 98, 58}},
	{"counter", [2]float64{0.9, 1.5}, [2]float64{0.58, 0.64}, [2]float64{0.86, 0.92}, 0, [3]uint8{198, 172, 132}},
	{"washing machine", [2]float64{0.58, 0.62}, [2]float64{0.56, 0.62}, [2]float64{0.83, 0.86}, 0, [3]uint8{240, 240, 244}},
	{"bin", [2]float64{0.28, 0.38}, [2]float64{0.28, 0.36}, [2]float64{0.5, 0.7}, 0, [3]uint8{62, 112, 84}},
	{"shelf", [2]float64{0.7, 1.0}, [2]float64{0.28, 0.34}, [2]float64{1.4, 1.8}, 0, [3]uint8{172, 120, 72}},
	{"radiator", [2]float64{0.7, 1.1}, [2]float64{0.1, 0.14}, [2]float64{0.55, 0.65}, 0.12, [3]uint8{236, 234, 226}},
}

// Generate makes a kitchen from its seed: the same options give the same kitchen.
func Generate(o Options) (*Kitchen, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(o.Seed, 0x6b69746368656e))
	between := func(v [2]float64) float64 { return v[0] + r.Float64()*(v[1]-v[0]) }
	k := &Kitchen{Options: o, Width: between([2]float64{4.4, 5.6}), Depth: between([2]float64{3.8, 4.8})}
	order := r.Perm(len(kinds))
	// Walls in turn, from corner to corner, with gaps between what stands there.
	wall, along := 0, 0.75
	for _, i := range order {
		c := kinds[i]
		w, d, h := between(c.width), between(c.depth), between(c.height)
		along += between([2]float64{0.05, 0.5})
		for wall < 4 && along+w > k.wallLength(wall)-0.7 {
			wall, along = wall+1, 0.75+between([2]float64{0, 0.4})
		}
		if wall == 4 {
			break
		}
		x, y, yaw := k.onWall(wall, along+w/2, d/2)
		k.Boxes = append(k.Boxes, Box{Name: c.name, X: x, Y: y, Z: c.bottom, Width: w, Depth: d, Height: h, Yaw: yaw, color: tint(r, c.color)})
		along += w
	}
	k.Boxes = append(k.Boxes, Box{Name: "table", X: k.Width / 2, Y: k.Depth / 2, Width: between([2]float64{0.8, 1.1}), Depth: between([2]float64{0.6, 0.75}),
		Height: between([2]float64{0.7, 0.76}), Yaw: between([2]float64{-0.2, 0.2}), color: tint(r, [3]uint8{160, 110, 64})})
	k.drive(r)
	return k, nil
}

func tint(r *rand.Rand, c [3]uint8) [3]uint8 {
	f := 0.88 + 0.2*r.Float64()
	for i := range c {
		c[i] = uint8(min(255, float64(c[i])*f))
	}
	return c
}

func (k *Kitchen) wallLength(wall int) float64 {
	if wall%2 == 0 {
		return k.Width
	}
	return k.Depth
}

// onWall gives the place of something whose back stands on a wall: south, east, north, west.
func (k *Kitchen) onWall(wall int, along, off float64) (x, y, yaw float64) {
	switch wall {
	case 0:
		return along, off, 0
	case 1:
		return k.Width - off, along, math.Pi / 2
	case 2:
		return k.Width - along, k.Depth - off, math.Pi
	}
	return off, k.Depth - along, -math.Pi / 2
}

// drive goes round the table, looking mostly where it goes and now and then at the walls.
func (k *Kitchen) drive(r *rand.Rand) {
	phase, turns := 2*math.Pi*r.Float64(), 0.75+0.5*r.Float64()
	way := 1.0
	if r.IntN(2) == 0 {
		way = -1
	}
	look := 2 * math.Pi * r.Float64()
	rx, ry := k.Width/2-1.25, k.Depth/2-1.15
	for t := -0.2; t < k.Options.Seconds+0.2; t += 1.0 / 30 {
		a := phase + way*2*math.Pi*turns*t/k.Options.Seconds
		sin, cos := math.Sincos(a)
		heading := math.Atan2(way*ry*cos, -way*rx*sin)
		k.path = append(k.path, waypoint{t, k.Width/2 + rx*cos, k.Depth/2 + ry*sin, heading - way*0.5 + 0.7*math.Sin(2*math.Pi*t/5+look)})
	}
}

// Base is the robot's place in the map at a time from the start, seconds.
func (k *Kitchen) Base(t float64) geometry.Transform {
	i := 1
	for i < len(k.path)-1 && k.path[i].t < t {
		i++
	}
	a, b := k.path[i-1], k.path[i]
	f := (t - a.t) / (b.t - a.t)
	turn := math.Remainder(b.yaw-a.yaw, 2*math.Pi)
	return planar(a.x+f*(b.x-a.x), a.y+f*(b.y-a.y), a.yaw+f*turn)
}

func planar(x, y, yaw float64) geometry.Transform {
	return geometry.Transform{Translation: r3.Vec{X: x, Y: y}, Rotation: quat.Number{Real: math.Cos(yaw / 2), Kmag: math.Sin(yaw / 2)}}
}

// The camera on the robot: 1.45 m up, tilted 14° down.
const (
	cameraHeight = 1.45
	cameraAhead  = 0.12
	cameraTilt   = 14 * math.Pi / 180
)

// CameraLink is camera_link in base_link (x ahead, y left, z up).
func CameraLink() geometry.Transform {
	return geometry.Transform{Translation: r3.Vec{X: cameraAhead, Z: cameraHeight}, Rotation: quat.Number{Real: math.Cos(cameraTilt / 2), Jmag: math.Sin(cameraTilt / 2)}}
}

// OpticalLink is the optical frame in camera_link: z ahead, x right, y down (REP-103).
func OpticalLink() geometry.Transform {
	return geometry.Transform{Rotation: quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5}}
}

// Camera is the optical frame in the map at a time.
func (k *Kitchen) Camera(t float64) geometry.Transform {
	return k.Base(t).Mul(CameraLink()).Mul(OpticalLink())
}
