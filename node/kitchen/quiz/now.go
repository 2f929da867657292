package quiz

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// single calls visit for every thing whose name is unique.
func (a *asker) single(visit func(i int, t Thing)) {
	for i, t := range a.w.Things {
		if a.named[t.Category] == 1 {
			visit(i, t)
		}
	}
}

func (a *asker) direction(at float64) []candidate {
	var out []candidate
	th := a.o.Thresholds
	a.single(func(_ int, t Thing) {
		x, z := a.ego(at, t.Place)
		if !a.firm(x, z, th.Direction) {
			return
		}
		out = append(out, candidate{q: Question{At: at, Moment: at, Task: stllm.TaskDirection, Group: Now, About: t.Category, Targets: []r3.Vec{t.Place},
			Text: a.word(askDirection, t.Category), Label: label.Label{Direction: th.Direction(x, z)}}})
	})
	return out
}

var askDirection = []string{
	"Where is the %s relative to me now?",
	"In which direction is the %s from where I stand?",
	"Which way is the %s?",
	"Where do I find the %s from here?",
	"On which side of me is the %s right now?",
	"Looking the way I look now, where is the %s?",
	"At the end of the video, where is the %s relative to the person?",
	"Point me to the %s.",
}

func (a *asker) nearer(at float64) []candidate {
	return a.compare(at, at, Now, func(p, q string) string { return a.word(askNearer, p, q) })
}

var askNearer = []string{
	"Which is nearer to me now, the %s or the %s?",
	"Am I closer to the %s or to the %s?",
	"Is the %s or the %s nearer?",
	"Of the %s and the %s, which one is closer to me?",
	"Which would I reach sooner from here, the %s or the %s?",
	"At the end of the video, is the person nearer to the %s or to the %s?",
}

// compare pairs things whose distances at a moment differ clearly, or hardly.
func (a *asker) compare(at, moment float64, group string, text func(p, q string) string) []candidate {
	var out []candidate
	th := a.o.Thresholds
	a.single(func(i int, s Thing) {
		a.single(func(j int, t Thing) {
			if i == j || a.r.Float64() > 0.3 {
				return
			}
			d := a.distance(moment, s.Place) - a.distance(moment, t.Place)
			if math.Abs(math.Abs(d)-th.Same) < 2*a.o.Margin {
				return
			}
			l := label.Label{Object: s.Category}
			first := s.Place
			second := t.Place
			switch {
			case math.Abs(d) < th.Same:
				l = label.Label{Change: "same"}
			case d > 0:
				l.Object, first, second = t.Category, t.Place, s.Place
			}
			out = append(out, candidate{other: t.Category, past: group == Video, q: Question{At: at, Moment: moment, Task: stllm.TaskDistance, Group: group,
				About: s.Category, Targets: []r3.Vec{first, second}, Text: text(s.Category, t.Category), Label: l}})
		})
	})
	// The form "closer to the X than to the Y" needs the loser's name as other.
	for i := range out {
		c := &out[i]
		if c.q.Label.Object == c.other {
			c.other = c.q.About
		}
	}
	return out
}

// need is something that a person wants to do and the furniture for it.
type need struct {
	text string
	use  []string
}

var needs = []need{
	{"heat my soup", []string{"microwave", "hob"}}, {"bake a cake", []string{"oven"}}, {"fry an egg", []string{"hob"}},
	{"make a hot drink", []string{"kettle", "coffee machine"}}, {"brew some coffee", []string{"coffee machine"}}, {"boil water for tea", []string{"kettle"}},
	{"sit down", []string{"chair", "sofa", "stool", "bench"}}, {"take a nap", []string{"sofa"}},
	{"wash my hands", []string{"sink"}}, {"clean the dirty dishes", []string{"dishwasher"}}, {"rinse the lettuce", []string{"sink"}},
	{"wash my clothes", []string{"washing machine"}}, {"toast some bread", []string{"toaster"}}, {"make a smoothie", []string{"blender"}},
	{"throw this away", []string{"bin"}}, {"keep the milk cold", []string{"fridge"}}, {"get some ice", []string{"fridge"}},
	{"get more light", []string{"lamp"}}, {"water the flowers", []string{"plant"}}, {"watch the news", []string{"tv"}},
	{"warm my hands", []string{"radiator"}}, {"eat dinner with friends", []string{"table"}}, {"let the plates dry", []string{"dish rack"}},
	{"get a slice of bread", []string{"bread box"}}, {"put the books away", []string{"shelf"}}, {"fetch the broom", []string{"cupboard"}},
	{"get a glass from above the worktop", []string{"cabinet"}}, {"chop the onions", []string{"island", "counter"}},
}

var askAffordance = []string{
	"Where can I %s?",
	"I want to %s. What should I use?",
	"What do I use to %s, and where is it?",
	"I would like to %s, where should I go?",
	"Which piece of furniture helps me to %s?",
	"What will I most likely use next if I want to %s?",
}

// wanted are the nearest fitting things for every need.
func (a *asker) wanted(at float64, visit func(n need, t Thing)) {
	for _, n := range needs {
		best, second := -1, math.Inf(1)
		bestD := math.Inf(1)
		for i, t := range a.w.Things {
			for _, u := range n.use {
				if t.Category != u {
					continue
				}
				if d := a.distance(at, t.Place); d < bestD {
					best, bestD, second = i, d, bestD
				} else {
					second = min(second, d)
				}
			}
		}
		if best >= 0 && second-bestD > a.o.Thresholds.Same {
			visit(n, a.w.Things[best])
		}
	}
}

func (a *asker) affordance(at float64) []candidate {
	var out []candidate
	th := a.o.Thresholds
	a.wanted(at, func(n need, t Thing) {
		x, z := a.ego(at, t.Place)
		if !a.firm(x, z, th.Direction) {
			return
		}
		out = append(out, candidate{q: Question{At: at, Moment: at, Task: stllm.TaskAffordance, Group: Now, About: t.Category, Targets: []r3.Vec{t.Place},
			Text: a.word(askAffordance, n.text), Label: label.Label{Object: t.Category, Direction: th.Direction(x, z)}}})
	})
	return out
}

// deed is the verb for what one does at a thing.
func deed(category string) string {
	switch category {
	case "fridge", "oven", "dishwasher", "washing machine", "cupboard", "cabinet", "microwave", "bin", "bread box":
		return "open"
	case "chair", "stool", "sofa", "bench":
		return "sit on"
	case "shelf", "plant", "radiator", "tv":
		return "reach"
	}
	return "use"
}

var askRoute = []string{
	"How do I get to the %s?",
	"Guide me to the %s.",
	"Tell me the way to the %s.",
	"I want to go to the %s, what do I do?",
	"What are the steps to reach the %s from here?",
	"Plan my way to the %s.",
}

func (a *asker) route(at float64) []candidate {
	var out []candidate
	a.single(func(_ int, t Thing) {
		x, z := a.ego(at, t.Place)
		way := func(x, z float64) string { return label.Label{Steps: a.o.Thresholds.way(x, z)}.String() }
		if !a.firm(x, z, way) {
			return
		}
		steps := append(a.o.Thresholds.way(x, z), msgs.PlanStep{Verb: deed(t.Category), Object: t.Category})
		out = append(out, candidate{q: Question{At: at, Moment: at, Task: stllm.TaskPlanning, Group: Now, About: t.Category, Targets: []r3.Vec{t.Place},
			Text: a.word(askRoute, t.Category), Label: label.Label{Steps: steps}}})
	})
	return out
}

// absent asks about furniture that the room does not have.
func (a *asker) absent(at float64) []candidate {
	var out []candidate
	none := label.Label{Unseen: true}
	for _, name := range a.w.Absent {
		q := Question{At: at, Moment: at, Group: Now, About: name, Label: none}
		switch a.r.IntN(3) {
		case 0:
			q.Task, q.Text = stllm.TaskDirection, a.word(askDirection, name)
		case 1:
			q.Task, q.Text = stllm.TaskPlanning, a.word(askRoute, name)
		default:
			q.Task, q.Group, q.Text = stllm.TaskDistance, Video, a.word(askTrend, name)
		}
		out = append(out, candidate{q: q})
	}
	for _, n := range needs {
		if slices.ContainsFunc(n.use, func(u string) bool { return a.named[u] > 0 }) || a.r.IntN(2) == 0 {
			continue
		}
		out = append(out, candidate{q: Question{At: at, Moment: at, Task: stllm.TaskAffordance, Group: Now, About: n.use[0], Text: a.word(askAffordance, n.text), Label: none}})
	}
	return out
}
