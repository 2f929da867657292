package rea

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/label"
)

// Scene is what questions are generated from, in the map frame.
type Scene struct {
	Poses   []Posed // of all pictures, in order of time
	Objects []Object
	Items   []Movable
	Actions []Action // in order of time
}

// Posed is a picture's moment.
type Posed struct {
	Stamp int64 // ns
	Pose  geometry.Transform
}

// Object is something that stays in its place.
type Object struct {
	Name  string
	Place r3.Vec // middle of its box
}

// Movable is a small thing with the stretches of time it lay somewhere.
type Movable struct {
	Name  string
	Stays []Stay
	// Seen are the stamps of the pictures that show it.
	Seen []int64
}

// Stay is a stretch in which an item lies on an object; To is 0 where it goes on.
type Stay struct {
	From, To int64
	On       string
	Place    r3.Vec
}

// Action is something that was done. Moments of a scene without actions are actions with a text alone.
type Action struct {
	Text                 string // "take the mug from the table"
	Verb, Object, Target string
	Start, Stop          int64
}

// sceneText is a scene.json: what stllm kitchen writes, or boxes annotated by hand.
type sceneText struct {
	Boxes []struct {
		Name                               string
		X, Y, Z, Width, Depth, Height, Yaw float64
	}
	Items []struct {
		Kind   string
		Seen   []float64
		Places []struct {
			From int64 `json:"from_ns"`
			To   int64 `json:"to_ns"`
			On   string
			At   *[3]float64
		}
	}
	Events []struct {
		Verb, Object, Target string
		Start                int64 `json:"start_ns"`
		Stop                 int64 `json:"stop_ns"`
	}
	Cameras []struct {
		Stamp   int64       `json:"stamp_ns"`
		Optical [16]float64 `json:"optical_in_map"`
	}
}

// minSeen is the share of a picture that an item has to fill to count as seen.
const minSeen = 0.0005

// ReadScene reads a scene.json. One without cameras gets its poses from elsewhere.
func ReadScene(path string) (*Scene, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("scene: %w", err)
	}
	s, err := parseScene(data)
	if err != nil {
		return nil, fmt.Errorf("scene %s: %w", path, err)
	}
	return s, nil
}

func parseScene(data []byte) (*Scene, error) {
	var t sceneText
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	s := &Scene{}
	for i, b := range t.Boxes {
		p := r3.Vec{X: b.X, Y: b.Y, Z: b.Z + b.Height/2}
		if b.Name == "" || !finite(p) {
			return nil, fmt.Errorf("box %d: name %q at %v, expected a name and a place", i, b.Name, p)
		}
		s.Objects = append(s.Objects, Object{b.Name, p})
	}
	for i, it := range t.Items {
		m := Movable{Name: it.Kind}
		if it.Kind == "" {
			return nil, fmt.Errorf("item %d has no kind", i)
		}
		for _, p := range it.Places {
			if p.At == nil {
				continue // carried
			}
			m.Stays = append(m.Stays, Stay{p.From, p.To, p.On, r3.Vec{X: p.At[0], Y: p.At[1], Z: p.At[2]}})
		}
		for j, share := range it.Seen {
			if share >= minSeen && j < len(t.Cameras) {
				m.Seen = append(m.Seen, t.Cameras[j].Stamp)
			}
		}
		s.Items = append(s.Items, m)
	}
	for i, e := range t.Events {
		if e.Stop < e.Start {
			return nil, fmt.Errorf("event %d ends before it starts", i)
		}
		s.Actions = append(s.Actions, Action{label.Narrate(msgs.PlanStep{Verb: e.Verb, Object: e.Object, Target: e.Target}), e.Verb, e.Object, e.Target, e.Start, e.Stop})
	}
	for i, c := range t.Cameras {
		pose, err := geometry.FromMatrix(c.Optical)
		if err != nil {
			return nil, fmt.Errorf("camera %d: %w", i, err)
		}
		s.Poses = append(s.Poses, Posed{c.Stamp, pose})
	}
	slices.SortStableFunc(s.Actions, func(a, b Action) int { return int(min(1, max(-1, a.Start-b.Start))) })
	return s, nil
}

func finite(p r3.Vec) bool {
	return !math.IsNaN(p.X+p.Y+p.Z) && !math.IsInf(p.X, 0) && !math.IsInf(p.Y, 0) && !math.IsInf(p.Z, 0)
}

// at is the pose of the picture nearest to a moment.
func (s *Scene) at(stamp int64) Posed {
	best := s.Poses[0]
	for _, p := range s.Poses {
		if max(p.Stamp-stamp, stamp-p.Stamp) < max(best.Stamp-stamp, stamp-best.Stamp) {
			best = p
		}
	}
	return best
}

// single are the objects whose name no other one has, anchors of questions.
func (s *Scene) single() []Object {
	count := map[string]int{}
	for _, o := range s.Objects {
		count[o.Name]++
	}
	var out []Object
	for _, o := range s.Objects {
		if count[o.Name] == 1 {
			out = append(out, o)
		}
	}
	return out
}

// moments cuts the video of a scene where nothing is done into stretches with names of their own.
func (s *Scene) moments() []Action {
	first, last := s.Poses[0].Stamp, s.Poses[len(s.Poses)-1].Stamp
	const parts = 8
	var out []Action
	for i := range int64(parts) {
		a := Action{Start: first + (last-first)*i/parts, Stop: first + (last-first)*(i+1)/parts}
		a.Text = fmt.Sprintf("second %d", int64(math.Round(float64((a.Start+a.Stop)/2-first)/1e9)))
		if n := len(out); n == 0 || out[n-1].Text != a.Text {
			out = append(out, a)
		}
	}
	return out
}
