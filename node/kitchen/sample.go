package kitchen

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/kitchen/room"
	"github.com/stllm/stllm/node/scene"
)

// SampleOptions say what a trainer wants of a kitchen. Zero values are defaults.
type SampleOptions struct {
	Kitchen Options // Seed is set by [NewSample]; Width and Height give the view, not the size of the sample's pictures
	// Width and Height of the sample's pictures, 8 to 1024 pixels, default 128 × 96. The view is squeezed into them as a
	// model's preprocessing does, so fx and fy differ where the aspect does.
	Width, Height int
	Supersample   int // samples a pixel in each direction, 1 to 4, default 2
	Frames        int // pictures of a window, 2 to 64, default 16
	Windows       int // windows (moments of asking), 1 to 16, default 3
	Questions     int // questions in all, default 8 a window
	// Vary draws the field of view (56° to 80°), the noise of pictures and map and the share of holes for every seed.
	Vary bool
	// PoseTrans and PoseTurn jitter every frame's pose apart: standard deviations of the shift in metres and of the angle in
	// degrees. What the questions ask stays true to the real poses.
	PoseTrans, PoseTurn float64
}

// SampleFrame is a picture with its dense labels.
type SampleFrame struct {
	Index  int                // in Kitchen.Frames
	Stamp  int64              // ns
	Pose   geometry.Transform // optical frame to map, with jitter
	Camera geometry.Transform // the same, true
	RGB    []uint8            // Height × Width × 3
	Depth  []float32          // Height × Width, metres along the optical axis
	Class  []uint8            // Height × Width, numbers of [Classes]
	Item   []int16            // Height × Width, index of World.Items or -1
	// InUse is Height × Width: of a thing with a door that stands open, a tap that runs or a ring that is lit, or of an item in
	// a hand.
	InUse []bool
}

// Window is one moment of asking.
type Window struct {
	At        float64
	Frames    []int // indices into Sample.Frames, in order of time; the last one is the current frame
	Questions []quiz.Question
}

// Sample is a kitchen as the trainer eats it.
type Sample struct {
	Seed       uint64
	Kitchen    *Kitchen
	View       render.Camera // of the sample's pictures
	Frames     []SampleFrame
	Cloud      *scene.Cloud // the map
	PointClass []uint8      // by point of Cloud, numbers of [Classes]
	Windows    []Window
}

func (o SampleOptions) withDefaults() (SampleOptions, error) {
	var err error
	set := func(v *int, standard, lo, hi int, name string) {
		if *v == 0 {
			*v = standard
		}
		if (*v < lo || *v > hi) && err == nil {
			err = fmt.Errorf("kitchen sample: %s is %d, expected %d to %d", name, *v, lo, hi)
		}
	}
	set(&o.Width, 128, 8, 1024, "width")
	set(&o.Height, 96, 8, 1024, "height")
	set(&o.Supersample, 2, 1, 4, "supersample")
	set(&o.Frames, 16, 2, 64, "frames")
	set(&o.Windows, 3, 1, 16, "windows")
	set(&o.Questions, 8*o.Windows, 1, 1000, "questions")
	if !(o.PoseTrans >= 0 && o.PoseTrans <= 1) || !(o.PoseTurn >= 0 && o.PoseTurn <= 45) {
		err = fmt.Errorf("kitchen sample: pose jitter is %g m and %g°, expected 0 to 1 m and 0 to 45°", o.PoseTrans, o.PoseTurn)
	}
	return o, err
}

// NewSample makes the sample of a seed. It needs no disk; several may be made at once. The same seed and options give the
// same sample, and the kitchen of the same seed as [Generate] where Vary is off.
func NewSample(seed uint64, o SampleOptions) (*Sample, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 0x73616d706c65))
	ko := o.Kitchen
	ko.Seed = seed
	if o.Vary {
		if ko.Width == 0 {
			ko.Width, ko.Height = 640, 480
		}
		view := (56 + 24*r.Float64()) * math.Pi / 180
		ko.FX = float64(ko.Width) / 2 / math.Tan(view/2)
		ko.FY = ko.FX
		ko.ImageNoise = 0.5 + 6*r.Float64()*r.Float64()
		ko.MapNoise = 0.003 + 0.015*r.Float64()
		ko.MapHoles = 0.02 + 0.15*r.Float64()*r.Float64()
	}
	ko.Quiz.Windows, ko.Quiz.Count = o.Windows, o.Questions
	if ko.Quiz.Frames == 0 {
		ko.Quiz.Frames = min(64, max(4, o.Frames))
	}
	k, err := Generate(ko)
	if err != nil {
		return nil, err
	}
	s := &Sample{Seed: seed, Kitchen: k, View: k.Options.Camera().Scaled(o.Width, o.Height)}
	s.Cloud, s.PointClass = k.Cloud()
	byIndex := map[int]int{}
	windows := map[float64]int{}
	for _, q := range k.Questions {
		i, ok := windows[q.At]
		if !ok {
			i = len(s.Windows)
			windows[q.At] = i
			w := Window{At: q.At}
			for _, f := range k.Pick(q.At, o.Frames) {
				if _, ok := byIndex[f]; !ok {
					byIndex[f] = len(s.Frames)
					s.Frames = append(s.Frames, SampleFrame{Index: f})
				}
				w.Frames = append(w.Frames, byIndex[f])
			}
			s.Windows = append(s.Windows, w)
		}
		s.Windows[i].Questions = append(s.Windows[i].Questions, q)
	}
	if len(s.Windows) == 0 {
		return nil, fmt.Errorf("kitchen sample: seed %d gives nothing to ask about", seed)
	}
	s.draw(r, o)
	return s, nil
}

// Pick chooses frames for a question as the node does: all that lie within the remembered span before the moment, of which n
// are taken at even steps (linspace, cut to whole numbers).
func (k *Kitchen) Pick(at float64, n int) []int {
	first, last := len(k.Frames), -1
	for i, f := range k.Frames {
		if f.Time <= at+1e-6 && f.Time >= at-k.Options.Quiz.Span-1e-6 {
			first, last = min(first, i), i
		}
	}
	if last < 0 {
		return nil
	}
	count := last - first + 1
	if count <= n {
		n = count
	}
	out := make([]int, n)
	for i := range out {
		out[i] = first
		if n > 1 {
			out[i] += int(float64(i) * float64(count-1) / float64(n-1))
		}
	}
	return out
}

// draw renders the frames and their labels.
func (s *Sample) draw(r *rand.Rand, o SampleOptions) {
	k := s.Kitchen
	class := k.classes()
	noise := newGrain(s.Seed, k.Options.ImageNoise)
	var pic render.Picture
	for i := range s.Frames {
		f := &s.Frames[i]
		src := k.Frames[f.Index]
		f.Stamp, f.Camera = src.Stamp, src.Camera
		f.Pose = f.Camera.Mul(jitter(r, o.PoseTrans, o.PoseTurn)).Normalized()
		k.draw.Draw(render.View{Camera: s.View, Pose: k.tour.Camera(src.Time)}, k.scene(src.Time, true), o.Supersample, &pic)
		f.RGB = append([]uint8(nil), pic.RGB...)
		// The noise of a full picture is averaged when it is made small.
		noise.spoil(f.Index, f.RGB)
		f.Depth = append([]float32(nil), pic.Depth...)
		f.Class, f.Item, f.InUse = make([]uint8, len(pic.ID)), make([]int16, len(pic.ID)), make([]bool, len(pic.ID))
		used := make([]bool, len(k.room.Things))
		for j := range used {
			used[j] = k.tour.InUse(j, src.Time)
		}
		handled := make([]bool, len(k.tour.Items))
		for j := range handled {
			handled[j] = k.tour.Handled(j, src.Time)
		}
		for j, id := range pic.ID {
			f.Class[j], f.Item[j] = class(id), -1
			if id >= room.FirstItem {
				f.Item[j] = id - room.FirstItem
				f.InUse[j] = handled[f.Item[j]]
			} else if id >= room.FirstThing {
				f.InUse[j] = used[id-room.FirstThing]
			}
		}
	}
}

func jitter(r *rand.Rand, trans, turn float64) geometry.Transform {
	s, a := trans/math.Sqrt(3), turn*math.Pi/180/math.Sqrt(3)
	t := geometry.Transform{
		Translation: r3.Vec{X: s * r.NormFloat64(), Y: s * r.NormFloat64(), Z: s * r.NormFloat64()},
		Rotation:    quat.Number{Real: 1, Imag: a / 2 * r.NormFloat64(), Jmag: a / 2 * r.NormFloat64(), Kmag: a / 2 * r.NormFloat64()},
	}
	return t.Normalized()
}

// Local gives a place of the map as seen from a frame: metres to the right, up and ahead, gravity-aligned, from the camera's
// centre. It is what direction labels are read from.
func Local(camera geometry.Transform, p r3.Vec) [3]float64 {
	right, ahead := quiz.Ego(camera, p)
	return [3]float64{right, p.Z - camera.Translation.Z, ahead}
}

// Patches counts, for each of nx × ny equal patches of a frame (row-major), the pixels of each class, and gives the mean
// distance along the patch's rays in metres.
func (s *Sample) Patches(frame, nx, ny int) (counts [][]uint16, distance []float32, err error) {
	w, h := s.View.Width, s.View.Height
	if frame < 0 || frame >= len(s.Frames) || nx < 1 || ny < 1 || w%nx != 0 || h%ny != 0 {
		return nil, nil, fmt.Errorf("patches: %d × %d of frame %d do not fit %d pictures of %d × %d", nx, ny, frame, len(s.Frames), w, h)
	}
	f := &s.Frames[frame]
	n := len(Classes())
	counts, distance = make([][]uint16, nx*ny), make([]float32, nx*ny)
	for i := range counts {
		counts[i] = make([]uint16, n)
	}
	pw, ph := w/nx, h/ny
	for y := range h {
		for x := range w {
			p := y/ph*nx + x/pw
			i := y*w + x
			counts[p][f.Class[i]]++
			u, v := (float64(x)+0.5-s.View.CX)/s.View.FX, (float64(y)+0.5-s.View.CY)/s.View.FY
			distance[p] += f.Depth[i] * float32(math.Sqrt(1+u*u+v*v)) / float32(pw*ph)
		}
	}
	return counts, distance, nil
}
