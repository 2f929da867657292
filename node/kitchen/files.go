package kitchen

import (
	"encoding/json"
	"fmt"
	"math"
	"os"

	"github.com/goccy/go-yaml"
)

// sceneFile is OUT.scene.json: the truth about a kitchen, in the map frame.
type sceneFile struct {
	Seed     uint64         `json:"seed"`
	Layout   string         `json:"layout"`
	Room     [3]float64     `json:"room"`        // width, depth, height, metres
	ToMap    [16]float64    `json:"room_in_map"` // row-major
	Camera   sceneCamera    `json:"camera"`
	Boxes    []Box          `json:"boxes"`
	Items    []sceneItem    `json:"items"`
	Events   []sceneEvent   `json:"events"`
	Pictures []scenePicture `json:"cameras"`
}

type sceneCamera struct {
	Width  int        `json:"width"`
	Height int        `json:"height"`
	K      [9]float64 `json:"K"`
}

type sceneItem struct {
	Kind   string       `json:"kind"`
	Places []scenePlace `json:"places"`
	// Seen is the share of each picture that the item fills.
	Seen []float64 `json:"seen"`
}

type scenePlace struct {
	From int64       `json:"from_ns"`
	To   int64       `json:"to_ns,omitempty"` // absent: to the end
	On   string      `json:"on"`              // furniture; "hand" while it is carried
	At   *[3]float64 `json:"at,omitempty"`
}

type sceneEvent struct {
	Verb   string `json:"verb"`
	Object string `json:"object"`
	Target string `json:"target,omitempty"` // what an item is taken from or put on
	Box    int    `json:"box"`
	Item   int    `json:"item"` // -1 for none
	Start  int64  `json:"start_ns"`
	Stop   int64  `json:"stop_ns"`
	Seen   bool   `json:"in_view"`
}

type scenePicture struct {
	Stamp   int64       `json:"stamp_ns"`
	Optical [16]float64 `json:"optical_in_map"`
}

// askedAfter is the time from the first picture's clock to the bag's, plus what it takes until the picture of a moment has
// come and its pose with it: seconds.
const askedAfter = float64(3e9/tfRate-tfDelay)/1e9 + 0.06

func nanos(t float64) int64 { return start + int64(math.Round(t*1e9)) }

func (k *Kitchen) writeScene(path string) error {
	o := k.Options
	f := sceneFile{Seed: o.Seed, Layout: o.Layout, Room: [3]float64{k.Width, k.Depth, k.Height}, ToMap: k.ToMap.Matrix(), Boxes: k.Boxes,
		Camera: sceneCamera{o.Width, o.Height, o.Camera().K()}, Items: []sceneItem{}, Events: []sceneEvent{}}
	for _, it := range k.World.Items {
		s := sceneItem{Kind: it.Kind}
		for _, st := range it.Stays {
			p := scenePlace{From: nanos(st.From), On: "hand"}
			if !math.IsInf(st.To, 1) {
				p.To = nanos(st.To)
			}
			if st.Thing >= 0 {
				p.On, p.At = k.Boxes[st.Thing].Name, &[3]float64{st.Place.X, st.Place.Y, st.Place.Z}
			}
			s.Places = append(s.Places, p)
		}
		for _, v := range it.Seen {
			s.Seen = append(s.Seen, math.Round(float64(v)*1e5)/1e5)
		}
		f.Items = append(f.Items, s)
	}
	for _, e := range k.World.Events {
		f.Events = append(f.Events, sceneEvent{e.Verb, e.Object, e.Target, e.Thing, e.Item, nanos(e.Start), nanos(e.Stop), e.Seen})
	}
	for _, p := range k.Frames {
		f.Pictures = append(f.Pictures, scenePicture{p.Stamp, p.Camera.Matrix()})
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("scene %s: %w", path, err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// questionEntry is one entry of OUT.questions.yaml, as replay reads it.
type questionEntry struct {
	ID       string        `yaml:"id"`
	At       float64       `yaml:"at"`
	Text     string        `yaml:"text"`
	Task     string        `yaml:"task"`
	Answer   string        `yaml:"answer"`
	Label    string        `yaml:"label"`
	Group    string        `yaml:"group"`
	Metadata yaml.MapSlice `yaml:"metadata"`
}

func (k *Kitchen) writeQuestions(path string) error {
	entries := make([]questionEntry, 0, len(k.Questions))
	round := func(v float64) float64 { return math.Round(v*1000) / 1000 }
	for _, q := range k.Questions {
		meta := yaml.MapSlice{{Key: "kind", Value: q.Kind}, {Key: "about", Value: q.About}, {Key: "abstain", Value: q.Label.Unseen},
			{Key: "window", Value: []float64{round(q.Window[0]), round(q.Window[1])}}, {Key: "moment", Value: round(q.Moment)}}
		if q.Evidence[1] > 0 {
			meta = append(meta, yaml.MapItem{Key: "evidence", Value: []float64{round(q.Evidence[0]), round(q.Evidence[1])}})
		}
		if len(q.Targets) > 0 {
			var at [][]float64
			for _, p := range q.Targets {
				at = append(at, []float64{round(p.X), round(p.Y), round(p.Z)})
			}
			meta = append(meta, yaml.MapItem{Key: "targets", Value: at})
		}
		entries = append(entries, questionEntry{q.ID, round(q.At + askedAfter), q.Text, string(q.Task), q.Answer, q.Label.String(), q.Group, meta})
	}
	data, err := yaml.Marshal(entries)
	if err != nil {
		return fmt.Errorf("questions %s: %w", path, err)
	}
	return os.WriteFile(path, data, 0o644)
}
