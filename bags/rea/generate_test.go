package rea

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// looking is an optical frame (z ahead, y down) at a place, which looks along an angle from the map's x axis.
func looking(x, y, angle float64) geometry.Transform {
	level := geometry.Transform{Rotation: quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5}}
	turn := geometry.Transform{Translation: r3.Vec{X: x, Y: y, Z: 1.5}, Rotation: quat.Number{Real: math.Cos(angle / 2), Kmag: math.Sin(angle / 2)}}
	return turn.Mul(level)
}

// walk is a scene in which one walks along x for 10 s and turns by half a turn.
func walk() *Scene {
	s := &Scene{}
	for i := range 101 {
		f := float64(i) / 100
		s.Poses = append(s.Poses, Posed{1e9 + int64(i)*1e8, looking(4*f, 0, math.Pi*f)})
	}
	for _, o := range []struct {
		name string
		x, y float64
	}{{"fridge", 6, 0}, {"sink", -2, 3}, {"hob", 2, -3}, {"oven", 5, 4}, {"chair", 1, 1}, {"chair", 3, 1}} {
		s.Objects = append(s.Objects, Object{o.name, r3.Vec{X: o.x, Y: o.y, Z: 0.5}})
	}
	s.Actions = []Action{{"open the fridge", "open", "fridge", "", 1e9, 2e9}, {"take the mug from the hob", "take", "mug", "hob", 4e9, 5e9},
		{"put the mug on the oven", "put", "mug", "oven", 8e9, 9e9}, {"turn on the sink", "turn on", "sink", "", 10e9, 11e9}}
	s.Items = []Movable{{"mug", []Stay{{0, 4e9, "hob", r3.Vec{X: 2, Y: -3, Z: 1}}, {9e9, 0, "oven", r3.Vec{X: 5, Y: 4, Z: 1}}}, []int64{10e9}},
		{"cup", []Stay{{0, 0, "sink", r3.Vec{X: -2, Y: 3}}}, nil}} // never seen
	return s
}

func TestSlopeAndLocal(t *testing.T) {
	if s := slope([]float64{1, 3, 5, 7}); math.Abs(s-2) > 1e-12 || slope([]float64{4}) != 0 {
		t.Errorf("slope %g", s)
	}
	x, z := local(looking(1, 1, math.Pi/2), r3.Vec{X: 1, Y: 4})
	if math.Abs(x) > 1e-9 || math.Abs(z-3) > 1e-9 {
		t.Errorf("(%g, %g), expected straight ahead", x, z)
	}
}

// What is said is true: labels are found again from the geometry.
func TestGenerate(t *testing.T) {
	s := walk()
	list, err := Generate(s, GenerateOptions{Count: 400, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Generate(s, GenerateOptions{Count: 400, Seed: 7})
	if err != nil || !reflect.DeepEqual(list, again) {
		t.Error("the same seed gives other questions")
	}
	other, _ := Generate(s, GenerateOptions{Count: 400, Seed: 8})
	if reflect.DeepEqual(list, other) {
		t.Error("another seed gives the same questions")
	}
	byTask, first, second, seen := map[stllm.Task]int{}, 0, 0, map[string]bool{}
	for _, q := range list {
		byTask[q.Task]++
		if seen[q.Question] || q.Start > q.Stop || strings.Contains(q.Question, "chair") || strings.Contains(q.Question, "cup") {
			t.Errorf("%+v", q)
		}
		seen[q.Question] = true
		l := (label.Reader{}).Label(q.Task, q.Question, q.Answer)
		if l == "" || HasOptions(q.Task, q.Question) {
			l = Label(q.Task, q.Question, q.Answer)
		}
		if l == "" {
			t.Errorf("%q is not read", q.Answer)
		}
		switch q.Form {
		case "single", "multi":
			if q.Task == stllm.TaskDirection {
				want := q.Label
				if a, b, ok := strings.Cut(want, "; "); ok && a == b {
					want = a
				}
				if l != want {
					t.Errorf("%q: read as %q, expected %q", q.Answer, l, want)
				}
			}
		case "find":
			if q.About != "mug" || l != q.Label || !strings.HasPrefix(l, "oven, ") {
				t.Errorf("%q: %q, expected %q", q.Answer, l, q.Label)
			}
		case "options":
			if l != "option: "+q.About {
				t.Errorf("%q: %q", q.Answer, l)
			}
		}
		if q.Task == stllm.TaskDistance && q.Form == "multi" {
			switch q.Label {
			case "first":
				first++
			case "second":
				second++
			}
		}
	}
	if len(byTask) != 5 || first == 0 || second == 0 || first > 3*second || second > 3*first {
		t.Errorf("tasks %v, %d and %d answers", byTask, first, second)
	}
	// One case by hand: at 1.5 s one stands at x = 0.2 and looks along x, 9° to the left: the fridge is ahead, the hob to the right.
	g := &generator{s: s, o: GenerateOptions{Rules: Rules{Main: 1.5, Side: 1.0}}}
	if a, b := g.dir(s.Objects[0], s.Actions[0]), g.dir(s.Objects[2], s.Actions[0]); a != "front" || b != "front-right" && b != "right" {
		t.Errorf("fridge %s, hob %s", a, b)
	}
	if got := g.change(s.Objects[0], s.Actions[0], s.Actions[3]); got != "" && got != "closer" {
		t.Errorf("the fridge gets %s", got)
	}
}

func TestGenerateWithoutActions(t *testing.T) {
	s := walk()
	s.Actions, s.Items = nil, nil
	list, err := Generate(s, GenerateOptions{Count: 60, Seed: 1, Rules: Metric()})
	if err != nil || len(list) != 60 || !strings.Contains(list[0].Question, "second") {
		t.Fatalf("%d questions, %v", len(list), err)
	}
	for _, q := range list {
		if q.Task == stllm.TaskFindItem || q.Task == stllm.TaskAffordance {
			t.Errorf("%+v was asked of a scene without items and actions", q)
		}
	}
	for name, c := range map[string]struct {
		s *Scene
		o GenerateOptions
	}{
		"no poses":   {&Scene{Objects: s.Objects}, GenerateOptions{}},
		"no objects": {&Scene{Poses: s.Poses}, GenerateOptions{}},
		"count":      {s, GenerateOptions{Count: -1}},
		"task":       {s, GenerateOptions{Tasks: []stllm.Task{"weather"}}},
		"rules":      {s, GenerateOptions{Rules: Rules{Main: math.NaN()}}},
		"nothing":    {s, GenerateOptions{Tasks: []stllm.Task{stllm.TaskFindItem}}},
	} {
		if _, err := Generate(c.s, c.o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLabel(t *testing.T) {
	const options = "Which will be used next?\nA. fridge, B. hob, C. sink, D. maker:coffee"
	for _, c := range []struct {
		task             stllm.Task
		question, answer string
		want             string
	}{
		{stllm.TaskDirection, "", "Yes, it differs: in `peel onion` the hob is to the left of the person, so the left hand; in `open drawer` it is to the back-right of the person, so the right hand.", "left; back-right"},
		{stllm.TaskDirection, "", "No, the hob is behind the person, while the sink is to the left forward of the person when `a`", "back; front-left"},
		{stllm.TaskDirection, "", "Yes, both are in front of the person when `a`. They are in front of the person.", "front"},
		{stllm.TaskDirection, "", "The hob is centered of the person.", "here"},
		{stllm.TaskDirection, "", "I do not know.", ""},
		{stllm.TaskAffordance, options, "The sink will be used next, since the person walks towards it.", "option: sink"},
		{stllm.TaskAffordance, options, "C. It is close.", "option: sink"},
		{stllm.TaskAffordance, options, "D", "option: maker:coffee"},
		{stllm.TaskAffordance, options, "The sink or the hob.", ""},
		{stllm.TaskAffordance, options, "Something else.", ""},
		{stllm.TaskFindItem, "", "It would be closer to bring the mug to the hob.", "bring to: hob"},
		{stllm.TaskFindItem, "", "The hob and the sink are about the same distance from the person.", "same"},
		{stllm.TaskDistance, "", "closer", ""},
	} {
		if got := Label(c.task, c.question, c.answer); got != c.want {
			t.Errorf("%q: %q, expected %q", c.answer, got, c.want)
		}
	}
}

func FuzzScene(f *testing.F) {
	f.Add([]byte(`{"boxes": [{"name": "sink", "x": 1}], "events": [{"verb": "open", "object": "sink", "start_ns": 1, "stop_ns": 2}], "items": [{"kind": "mug", "places": [{"at": [1, 2, 3]}]}]}`))
	f.Add([]byte(`{"cameras": [{"stamp_ns": 1, "optical_in_map": [1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]}]}`))
	f.Add([]byte(`{"boxes": [{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseScene(b)
		if err != nil {
			return
		}
		_, _ = Generate(s, GenerateOptions{Count: 5})
	})
}
