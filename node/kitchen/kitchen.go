// Package kitchen makes synthetic kitchens: furnished rooms through which a camera is carried while things happen, as bags
// with images, TF and a map, with questions whose right answers are known, or as samples for the trainer.
//
//	k, err := kitchen.Generate(kitchen.Options{Seed: 7})
//	…
//	err = kitchen.Write(ctx, k, "k.bag", nil)
//
// The same options give the same bytes. Frames: map is z up, metres, turned and moved against the room's walls.
package kitchen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
	"github.com/stllm/stllm/node/kitchen/tour"
)

// Options of a kitchen. Zero values are defaults.
type Options struct {
	Seed    uint64
	Seconds float64 // length of the walk, 2 to 30, default drawn from 10 to 28; it comes out up to a few seconds shorter or longer
	Rate    float64 // pictures a second, 1 to 60, default 10
	Width   int     // of a picture, pixels, default 640
	Height  int     // pixels, default 480
	FX, FY  float64 // focal lengths, pixels, default 460/640 of the width (a view of 70°), and FX
	Layout  string  // one of room.Layouts, default drawn
	Items   int     // small movable items, 1 to 14, default drawn from 6 to 10
	Quiet   bool    // nothing is done on the walk

	ImageNoise float64 // standard deviation of every colour value (0 to 255), 0 to 64, default 2; negative for none
	PoseTrans  float64 // error of the published pose, standard deviation, metres, 0 to 1, default 0
	PoseTurn   float64 // the same in degrees, 0 to 45, default 0
	MapNoise   float64 // standard deviation of the map's points, metres, 0 to 0.2, default 0.006; negative for none
	MapHoles   float64 // share of the map that is missing in patches, 0 to 0.9, default 0.05; negative for none
	MapEdge    float64 // distance between the map's points, metres, 0.01 to 0.1, default 0.03
	Depth      bool    // a depth camera besides, registered to the colour camera
	MissingTF  string  // "" all there, "gap" nothing for 2 s, "odom" no map→odom, "static" no camera link

	Quiz quiz.Options
}

func (o Options) withDefaults(r *rand.Rand) (Options, error) {
	var bad error
	set := func(v *float64, standard, lo, hi float64, name string) {
		if *v == 0 {
			*v = standard
		} else if *v < 0 && lo == 0 {
			*v = 0
		}
		if !(*v >= lo && *v <= hi) && bad == nil {
			bad = fmt.Errorf("kitchen: %s is %g, expected %g to %g", name, *v, lo, hi)
		}
	}
	if o.Width == 0 && o.Height == 0 {
		o.Width, o.Height = 640, 480
	}
	set(&o.Seconds, 10+18*r.Float64(), 2, 30, "seconds")
	set(&o.Rate, 10, 1, 60, "rate")
	set(&o.ImageNoise, 2, 0, 64, "image noise")
	set(&o.PoseTrans, 0, 0, 1, "pose noise")
	set(&o.PoseTurn, 0, 0, 45, "pose noise in degrees")
	set(&o.MapNoise, 0.006, 0, 0.2, "map noise")
	set(&o.MapHoles, 0.05, 0, 0.9, "map holes")
	set(&o.MapEdge, 0.03, 0.01, 0.1, "map edge")
	items := float64(o.Items)
	set(&items, float64(6+r.IntN(5)), 1, float64(len(room.ItemKinds())), "items")
	o.Items = int(items)
	if o.FX == 0 {
		o.FX = 460.0 / 640 * float64(o.Width)
	}
	if o.FY == 0 {
		o.FY = o.FX
	}
	if o.Layout == "" {
		o.Layout = room.Layouts()[r.IntN(len(room.Layouts()))]
	}
	if !slices.Contains([]string{"", "gap", "odom", "static"}, o.MissingTF) {
		bad = fmt.Errorf("kitchen: missing TF is %q, expected gap, odom, static or nothing", o.MissingTF)
	}
	if !slices.Contains(room.Layouts(), o.Layout) {
		bad = fmt.Errorf("kitchen: layout is %q, expected one of %v", o.Layout, room.Layouts())
	}
	if bad != nil {
		return o, bad
	}
	var err error
	if o.Quiz, err = o.Quiz.WithDefaults(); err != nil {
		return o, fmt.Errorf("kitchen: %w", err)
	}
	if err := o.Camera().Validate(); err != nil {
		return o, fmt.Errorf("kitchen: %w", err)
	}
	return o, nil
}

// Camera is the camera of the pictures.
func (o Options) Camera() render.Camera {
	return render.Camera{Width: o.Width, Height: o.Height, FX: o.FX, FY: o.FY, CX: float64(o.Width) / 2, CY: float64(o.Height) / 2}
}

// Box is a piece of furniture: its ground centre, size and turn in the map frame, metres and radians. Its front looks along
// −y when the yaw is 0.
type Box struct {
	Name   string  `json:"name"`
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
	Z      float64 `json:"z"` // of the bottom
	Width  float64 `json:"width"`
	Depth  float64 `json:"depth"`
	Height float64 `json:"height"`
	Yaw    float64 `json:"yaw"`
	On     string  `json:"on,omitempty"` // what it stands on, where not on the floor or at the wall
}

// Center is the middle of the box in the map.
func (b Box) Center() r3.Vec { return r3.Vec{X: b.X, Y: b.Y, Z: b.Z + b.Height/2} }

// Frame is one picture's moment.
type Frame struct {
	Stamp  int64              // ns
	Time   float64            // seconds from the first picture
	Camera geometry.Transform // optical frame to map, true
	Seen   []float32          // by item: share of the picture that it fills
}

// Kitchen is a room and a walk through it.
type Kitchen struct {
	Options   Options
	Width     float64 // of the room along its own x, metres
	Depth     float64
	Height    float64
	ToMap     geometry.Transform // room frame to map
	Boxes     []Box
	Frames    []Frame
	Questions []quiz.Question
	World     *quiz.World

	room   *room.Room
	tour   *tour.Tour
	static *render.Mesh
	draw   render.Renderer
	drift  []correction
}

// attempts is how many rooms a seed may try before it is refused.
const attempts = 40

// Generate makes a kitchen from its seed: the same options give the same kitchen. A room without a valid path is drawn again
// in a fixed order; an error tells why the last one failed.
func Generate(o Options) (*Kitchen, error) {
	r := rand.New(rand.NewPCG(o.Seed, 0x6b69746368656e))
	o, err := o.withDefaults(r)
	if err != nil {
		return nil, err
	}
	var last error
	for try := range uint64(attempts) {
		r := rand.New(rand.NewPCG(o.Seed, 0x726f6f6d+try))
		k, err := build(r, o)
		if err == nil {
			return k, nil
		}
		last = err
	}
	return nil, fmt.Errorf("kitchen: seed %d gave no room with a valid path in %d attempts; the last one: %w", o.Seed, attempts, last)
}

func build(r *rand.Rand, o Options) (*Kitchen, error) {
	rm, err := room.New(r, o.Layout)
	if err != nil {
		return nil, err
	}
	t, err := tour.New(r, rm, tour.Options{Duration: o.Seconds, Items: o.Items, Quiet: o.Quiet})
	if err != nil {
		return nil, err
	}
	k := &Kitchen{Options: o, Width: float64(rm.W), Depth: float64(rm.D), Height: float64(rm.H), room: rm, tour: t}
	// The map begins where a robot was switched on, turned against the walls as it then stood.
	yaw := 2 * math.Pi * r.Float64()
	if r.Float64() < 0.3 {
		yaw = float64(r.IntN(4)) * math.Pi / 2
	}
	k.ToMap = planar(0, 0, yaw)
	middle := k.ToMap.Apply(r3.Vec{X: k.Width / 2, Y: k.Depth / 2})
	k.ToMap.Translation = r3.Vec{X: 2*r.Float64() - 1 - middle.X, Y: 2*r.Float64() - 1 - middle.Y}
	for _, th := range rm.Things {
		p := k.mapped(th.Pos)
		b := Box{Name: th.Category, X: p.X, Y: p.Y, Z: p.Z, Width: float64(th.W), Depth: float64(th.D), Height: float64(th.H), Yaw: math.Remainder(th.Yaw+yaw, 2*math.Pi)}
		if th.On >= 0 {
			b.On = rm.Things[th.On].Category
		}
		k.Boxes = append(k.Boxes, b)
	}
	k.corrections(r)
	k.static = rm.Static(t.Moving())
	k.film()
	k.World = k.world()
	if k.Questions, err = quiz.Make(k.World, r, o.Quiz); err != nil {
		return nil, err
	}
	return k, nil
}

func planar(x, y, yaw float64) geometry.Transform {
	return geometry.Transform{Translation: r3.Vec{X: x, Y: y}, Rotation: quat.Number{Real: math.Cos(yaw / 2), Kmag: math.Sin(yaw / 2)}}
}

func (k *Kitchen) mapped(p render.Vec) r3.Vec {
	return k.ToMap.Apply(r3.Vec{X: float64(p[0]), Y: float64(p[1]), Z: float64(p[2])})
}

// Seconds is the length of the walk.
func (k *Kitchen) Seconds() float64 { return k.tour.Duration }

// Camera is the true pose of the optical frame in the map at a time, seconds from the first picture.
func (k *Kitchen) Camera(t float64) geometry.Transform { return k.ToMap.Mul(k.tour.Camera(t)) }

// scene is everything as it is at a time.
func (k *Kitchen) scene(t float64, light bool) []*render.Mesh {
	meshes := append([]*render.Mesh{k.static}, k.tour.Meshes(t, light)...)
	for _, m := range meshes {
		m.Materials = k.room.Materials
	}
	return meshes
}

// film sets the pictures' moments and finds what each shows, on a small id picture with the camera's field of view.
func (k *Kitchen) film() {
	const small = 160
	c := k.Options.Camera().Scaled(small, max(16, small*k.Options.Height/k.Options.Width))
	n := int(math.Floor(k.tour.Duration*k.Options.Rate)) + 1
	var pic render.Picture
	for i := range n {
		stamp := start + int64(math.Round(float64(i)*1e9/k.Options.Rate))
		f := Frame{Stamp: stamp, Time: float64(stamp-start) / 1e9, Seen: make([]float32, len(k.tour.Items))}
		f.Camera = k.Camera(f.Time)
		k.draw.Identify(render.View{Camera: c, Pose: k.tour.Camera(f.Time)}, k.scene(f.Time, false), &pic)
		for _, id := range pic.ID {
			if id >= room.FirstItem {
				f.Seen[id-room.FirstItem] += 1 / float32(len(pic.ID))
			}
		}
		k.Frames = append(k.Frames, f)
	}
}

// world is what questions are asked about.
func (k *Kitchen) world() *quiz.World {
	w := &quiz.World{Duration: k.tour.Duration, Camera: k.Camera, Kinds: room.ItemKinds()}
	have := map[string]bool{}
	for i, b := range k.Boxes {
		th := k.room.Things[i]
		t := quiz.Thing{Category: b.Name, Place: b.Center(), Opens: len(th.Doors) > 0, Holds: len(th.Surfaces) > 0}
		switch {
		case th.Tap != nil:
			t.Switch = "tap"
		case th.Ring != nil:
			t.Switch = "hob"
		}
		w.Things = append(w.Things, t)
		have[b.Name] = true
	}
	for _, c := range room.Categories() {
		if !have[c] {
			w.Absent = append(w.Absent, c)
		}
	}
	for _, f := range k.Frames {
		w.Frames = append(w.Frames, f.Time)
	}
	for i, it := range k.tour.Items {
		item := quiz.Item{Kind: it.Item.Kind}
		for _, s := range it.Stays {
			item.Stays = append(item.Stays, quiz.Stay{From: s.From, To: s.To, Thing: s.Thing, Place: k.mapped(s.Pos.Add(render.Vec{0, 0, it.Item.H / 2}))})
		}
		for _, f := range k.Frames {
			item.Seen = append(item.Seen, f.Seen[i])
		}
		w.Items = append(w.Items, item)
	}
	for _, e := range k.tour.Events {
		q := quiz.Event{Verb: e.Verb, Object: k.tour.Object(e), Thing: e.Thing, Item: e.Item, Start: e.Start, Stop: e.Stop, Seen: k.inView(e)}
		if e.Item >= 0 {
			q.Target = k.room.Things[e.Thing].Category
		}
		w.Events = append(w.Events, q)
	}
	return w
}

// inView tells whether the pictures show an action: what is handled projects well inside the picture at its middle.
func (k *Kitchen) inView(e tour.Event) bool {
	mid := (e.Start + e.Stop) / 2
	var p render.Vec
	th := k.room.Things[e.Thing]
	switch {
	case e.Item >= 0:
		p, _, _ = k.tour.ItemPlace(e.Item, mid)
	case e.Verb == tour.Open || e.Verb == tour.Close:
		p = th.Grip(&th.Doors[e.Door], 0.4)
	default:
		p = th.Point(render.Vec{0, 0, th.H + 0.05})
	}
	q := k.tour.Camera(mid).Inverse().Apply(r3.Vec{X: float64(p[0]), Y: float64(p[1]), Z: float64(p[2])})
	c := k.Options.Camera()
	if q.Z < 0.1 {
		return false
	}
	u, v := (c.FX*q.X/q.Z+c.CX)/float64(c.Width), (c.FY*q.Y/q.Z+c.CY)/float64(c.Height)
	return u > 0.05 && u < 0.95 && v > 0.03 && v < 0.97
}
