package rea

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// GenerateOptions choose what is asked. Zero values are defaults.
type GenerateOptions struct {
	Count int          // questions, 1 to 10000, default 20
	Seed  uint64       // the same scene, options and seed give the same questions
	Tasks []stllm.Task // default: all five
	Rules Rules
}

// Generated is a question with its right answer.
type Generated struct {
	Task             stllm.Task
	Form             string // single, multi, find, fetch, options, next, way
	Question, Answer string
	Label            string // what is balanced: directions, the nearer one, the change, the letter, the way
	About            string
	Start, Stop      int64 // of the video that is asked about, ns; the question is asked at its end
}

// generator holds a scene while it is asked about.
type generator struct {
	s       *Scene
	o       GenerateOptions
	r       *rand.Rand
	anchors []Object
	acts    []Action
	items   []Movable
}

// What of a scene is asked about at most.
const maxAnchors, maxActions, maxItems = 24, 32, 32

// evenly takes at most n of a list at even steps.
func evenly[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	out := make([]T, n)
	for i := range out {
		out[i] = list[i*(len(list)-1)/(n-1)]
	}
	return out
}

// Generate asks the five types of REA about a scene: the published label rules and answer shapes, without the published
// generator's faults (names that belong to other things, poses of other frames, lost cases). Within a type a label is drawn
// first and then one of the questions that have it, so no label is favoured. Types that a scene gives nothing for are left
// out; there are fewer questions than asked for where it gives no more.
func Generate(s *Scene, o GenerateOptions) ([]Generated, error) {
	if o.Count == 0 {
		o.Count = 20
	}
	if o.Count < 1 || o.Count > 10000 {
		return nil, fmt.Errorf("generate: count is %d, expected 1 to 10000", o.Count)
	}
	var err error
	if o.Rules, err = o.Rules.withDefaults(); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	if len(s.Poses) < 2 {
		return nil, fmt.Errorf("generate: the scene has %d poses, expected at least 2", len(s.Poses))
	}
	all := []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning}
	if len(o.Tasks) == 0 {
		o.Tasks = all
	}
	g := &generator{s: s, o: o, r: rand.New(rand.NewPCG(o.Seed, 0x726561)), anchors: s.single(), acts: s.Actions}
	if len(g.anchors) == 0 {
		return nil, errors.New("generate: no object has a name of its own")
	}
	if len(g.acts) < 2 {
		g.acts = s.moments()
	}
	// Pairs of pairs are asked about: what a large scene has more of is left out evenly.
	g.r.Shuffle(len(g.anchors), func(i, j int) { g.anchors[i], g.anchors[j] = g.anchors[j], g.anchors[i] })
	g.anchors = g.anchors[:min(len(g.anchors), maxAnchors)]
	g.acts = evenly(g.acts, maxActions)
	g.items = evenly(s.Items, maxItems)
	pools := map[stllm.Task][]Generated{}
	for _, t := range o.Tasks {
		if !slices.Contains(all, t) {
			return nil, fmt.Errorf("generate: task %q is none of REA's", t)
		}
	}
	pools[stllm.TaskDirection] = append(g.directionSingle(), g.directionMulti()...)
	pools[stllm.TaskDistance] = append(g.distanceSingle(), g.distanceMulti()...)
	pools[stllm.TaskFindItem] = g.find()
	pools[stllm.TaskAffordance] = g.affordance()
	pools[stllm.TaskPlanning] = g.plans()
	used := map[string]bool{}
	var out []Generated
	for misses, turn := 0, 0; len(out) < o.Count && misses < len(o.Tasks); turn++ {
		q, ok := g.draw(pools[o.Tasks[turn%len(o.Tasks)]], used)
		if !ok {
			misses++
			continue
		}
		misses = 0
		out = append(out, q)
	}
	if len(out) == 0 {
		return nil, errors.New("generate: the scene gives nothing to ask about")
	}
	return out, nil
}

// draw picks a form, a label and a question that was not asked yet.
func (g *generator) draw(pool []Generated, used map[string]bool) (Generated, bool) {
	free := slices.DeleteFunc(slices.Clone(pool), func(q Generated) bool { return used[q.Question] })
	if len(free) == 0 {
		return Generated{}, false
	}
	for _, part := range []func(Generated) string{func(q Generated) string { return q.Form }, func(q Generated) string { return q.Label }} {
		var names []string
		for _, q := range free {
			if !slices.Contains(names, part(q)) {
				names = append(names, part(q))
			}
		}
		name := names[g.r.IntN(len(names))]
		free = slices.DeleteFunc(free, func(q Generated) bool { return part(q) != name })
	}
	q := free[g.r.IntN(len(free))]
	used[q.Question] = true
	return q, true
}

func (g *generator) form(forms ...string) string { return forms[g.r.IntN(len(forms))] }

// pairs are the actions in order: the first of the earlier half, the second of the later one.
func (g *generator) pairs() (out [][2]Action) {
	half := (len(g.acts) + 1) / 2
	for i, a := range g.acts[:half] {
		for _, b := range g.acts[max(half, i+1):] {
			if a.Text != b.Text {
				out = append(out, [2]Action{a, b})
			}
		}
	}
	return out
}

// dir is where an object is during an action, at its middle.
func (g *generator) dir(o Object, a Action) string {
	x, z := local(g.s.at((a.Start+a.Stop)/2).Pose, o.Place)
	return label.Direction(x, z, g.o.Rules.Main, g.o.Rules.Side)
}
