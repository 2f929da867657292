package picture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/geometry"
)

// Furniture stays; a small thing is a box for every place that it had, none while it was carried.
func TestReadBoxes(t *testing.T) {
	for name, c := range map[string]struct {
		text, fail string
		want       []Box
	}{
		"furniture": {text: `{"boxes": [{"name": "sink", "x": 1, "y": 2, "width": 0.8, "depth": 0.6, "yaw": 0.3, "height": 0.9}]}`,
			want: []Box{{Name: "sink", X: 1, Y: 2, Width: 0.8, Depth: 0.6, Yaw: 0.3}}},
		"moved": {text: `{"items": [{"kind": "plate", "places": [{"from_ns": 1, "to_ns": 5, "on": "sink", "at": [1, 2, 3]}, {"from_ns": 5, "to_ns": 8, "on": "hand"},` +
			` {"from_ns": 8, "on": "table", "at": [4, 5, 6]}]}]}`, want: []Box{{Name: "plate", X: 1, Y: 2, Width: itemSize, Depth: itemSize, Small: true, From: 1, To: 5},
			{Name: "plate", X: 4, Y: 5, Width: itemSize, Depth: itemSize, Small: true, From: 8}}},
		"broken": {text: `{"boxes": 3}`, fail: "scene"},
	} {
		path := filepath.Join(t.TempDir(), "scene.json")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := ReadBoxes(path)
		if !slices.Equal(got, c.want) || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := ReadBoxes(""); got != nil || err != nil {
		t.Errorf("without a file: %+v, %v", got, err)
	}
}

// What the question names is asked, what the answer names is answered, small things come only when they are meant, and
// things that have been moved only where they stand at the moment.
func TestMark(t *testing.T) {
	boxes := []Box{{Name: "sink"}, {Name: "table"}, {Name: "dining table"}, {Name: "counter"}, {Name: "teapot", Small: true},
		{Name: "plate", Small: true, X: 1, To: 50}, {Name: "plate", Small: true, X: 2, From: 80}, {}}
	furniture := []string{"sink", "table", "dining table", "counter", ""}
	for name, c := range map[string]struct {
		at                      int64
		question, answer, about string
		asked, answered, faint  []string
		x                       float64 // of the plate
	}{
		"nothing meant":       {0, "What did I do?", "Nothing.", "", nil, nil, furniture, 0},
		"answered":            {0, "What helps me to rinse the lettuce?", "Use the sink on your left.", "", nil, []string{"sink"}, []string{"table", "dining table", "counter", ""}, 0},
		"asked and answered":  {0, "Where is the Sink?", "The sink is behind you.", "", []string{"sink"}, []string{"sink"}, []string{"table", "dining table", "counter", ""}, 0},
		"item and its holder": {10, "Where is my teapot?", "It is on the counter.", "", []string{"teapot"}, []string{"counter"}, []string{"sink", "table", "dining table", ""}, 0},
		"about":               {0, "Where could I wash my hands?", "", "sink", []string{"sink"}, nil, []string{"table", "dining table", "counter", ""}, 0},
		"longest name":        {0, "How far is the dining table?", "", "", []string{"dining table"}, nil, []string{"sink", "table", "counter", ""}, 0},
		"whole words":         {0, "Are tablets in sinkholes?", "Counters.", "", nil, []string{"counter"}, []string{"sink", "table", "dining table", ""}, 0},
		"before":              {49, "Where is the plate?", "", "", []string{"plate"}, nil, furniture, 1},
		"in the hand":         {50, "Where is the plate?", "", "", nil, nil, furniture, 0},
		"after":               {80, "Where is the plate?", "", "", []string{"plate"}, nil, furniture, 2},
	} {
		var asked, answered, faint []string
		x := 0.0
		for _, b := range Mark(Input{Question: c.question}, boxes, c.at, c.answer, c.about) {
			if b.Asked {
				asked = append(asked, b.Name)
			}
			if b.Answered {
				answered = append(answered, b.Name)
			}
			if !b.Asked && !b.Answered {
				faint = append(faint, b.Name)
			}
			if b.Name == "plate" {
				x = b.X
			}
		}
		if !slices.Equal(asked, c.asked) || !slices.Equal(answered, c.answered) || !slices.Equal(faint, c.faint) || x != c.x {
			t.Errorf("%s: asked %q, answered %q, others %q, plate at %g", name, asked, answered, faint, x)
		}
	}
	if boxes[0].Asked || boxes[0].Answered {
		t.Error("the caller's boxes were changed")
	}
}

// Of several things of one name the answer means that where it says, or the one that it looked at.
func TestMarkOneOfSeveral(t *testing.T) {
	// The camera stands in the origin and looks along x: left is y.
	camera, err := geometry.FromMatrix([16]float64{0, 0, 1, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	boxes := []Box{
		{Name: "counter", X: 3, Width: 0.6, Depth: 2},         // in front
		{Name: "counter", X: -3, Width: 0.6, Depth: 6},        // behind, and reaching to both sides of it
		{Name: "counter", X: -5, Width: 0.6, Depth: 0.6},      // behind the latter
		{Name: "sink", X: 3, Y: 3, Width: 0.6, Depth: 0.6},    // front left
		{Name: "counter", Y: 3, From: 10, Width: 1, Depth: 1}, // not there yet
	}
	for name, c := range map[string]struct {
		answer  string
		path    []geometry.Transform
		regions []Region
		sure    []int
		vague   []int
	}{
		"the only one there":      {"Your mug is on the counter in front of you.", []geometry.Transform{camera}, nil, []int{0}, nil},
		"its end is there":        {"Your mug is on the counter to your back left.", []geometry.Transform{camera}, nil, []int{1}, nil},
		"two are there":           {"Your mug is on the counter behind you.", []geometry.Transform{camera}, nil, nil, []int{1, 2}},
		"two, and it looked":      {"Your mug is on the counter behind you.", []geometry.Transform{camera}, []Region{{X: 3, Weight: 0.9}, {X: -5, Y: 0.4, Weight: 0.2}}, []int{2}, nil},
		"none is there":           {"Your mug is on the counter on your right.", []geometry.Transform{camera}, nil, nil, []int{0, 1, 2}},
		"no direction":            {"Your mug is on the counter.", []geometry.Transform{camera}, nil, nil, []int{0, 1, 2}},
		"no camera":               {"Your mug is on the counter in front of you.", nil, nil, nil, []int{0, 1, 2}},
		"only one has that name":  {"Your mug is on the sink behind you.", []geometry.Transform{camera}, nil, []int{3}, nil},
		"from where it ended now": {"Your mug is on the counter in front of you.", []geometry.Transform{geometry.Identity(), camera}, nil, []int{0}, nil},
	} {
		var sure, vague []int
		for i, b := range Mark(Input{Question: "Where is my mug?", Path: c.path, Regions: c.regions}, boxes, 5, c.answer, "") {
			switch {
			case b.Vague:
				vague = append(vague, i)
			case b.Answered:
				sure = append(sure, i)
			}
		}
		if !slices.Equal(sure, c.sure) || !slices.Equal(vague, c.vague) {
			t.Errorf("%s: %v are meant and %v may be, expected %v and %v", name, sure, vague, c.sure, c.vague)
		}
	}
}
