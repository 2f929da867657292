// Package quiz asks questions about a walk through a furnished room and knows the right answers: REA's five types, in two
// groups. Questions of the group "now" need the map and the camera's place; those of the group "video" cannot be answered
// without having seen the pictures, or at least where the camera was.
//
// Labels come by rule from true geometry in metres. Which question is asked is chosen by its label first, so that no label is
// favoured; what is left for a guesser that sees the words alone is measured by the package's tests.
package quiz

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// Groups of questions.
const (
	Now   = "now"
	Video = "video"
)

// World is what happened, in the map frame, metres and seconds from the start.
type World struct {
	Duration float64
	Things   []Thing
	Items    []Item
	Events   []Event
	Frames   []float64                          // times of the pictures
	Camera   func(t float64) geometry.Transform // optical frame to map
	Absent   []string                           // categories of furniture that exist elsewhere
	Kinds    []string                           // all kinds of items
}

// Thing is a piece of furniture; Place is the middle of its box.
type Thing struct {
	Category string
	Place    r3.Vec
	Opens    bool   // has a door
	Switch   string // what one turns on at it ("tap", "hob"), empty for nothing
	Holds    bool   // small items can lie on it
}

// Item is a small thing with the stretches of time it lay somewhere (Thing −1: carried) and how much of each picture it
// filled (a share of the pixels).
type Item struct {
	Kind  string
	Stays []Stay
	Seen  []float32 // by frame
}

// Stay is a stretch in which an item lies on a thing.
type Stay struct {
	From, To float64
	Thing    int
	Place    r3.Vec
}

// Event is an action with its place. Seen says that the pictures show it.
type Event struct {
	Verb, Object, Target string
	Thing, Item          int
	Start, Stop          float64
	Seen                 bool
}

// Step is the event as a step of a plan.
func (e Event) Step() msgs.PlanStep {
	return msgs.PlanStep{Verb: e.Verb, Object: e.Object, Target: e.Target}
}

// Thresholds of the labels, metres and degrees. REA's own have no metric meaning (they are in units of a reconstruction).
type Thresholds struct {
	Main  float64 // direction: an axis counts from here on; default 1.0
	Side  float64 // direction: the other axis joins from here on; default 0.7
	Same  float64 // which is nearer: about the same up to this difference; default 0.3
	Trend float64 // closer or further: about the same up to this change; default 0.4
	Ahead float64 // plans: no turn within this bearing, degrees; default 30
	Turn  float64 // plans: turn around from this bearing on, degrees; default 150
	One   float64 // plans: one step up to this distance; default 1.1
	Two   float64 // plans: two steps up to this distance, four beyond; default 2.1
}

// Options choose what is asked. Zero values are defaults.
type Options struct {
	Count      int       // questions, 1 to 1000, default 12
	At         []float64 // moments at which questions are asked; default: Windows moments
	Windows    int       // number of moments, 1 to 32, default 4
	Span       float64   // seconds that the answerer remembers, 4 to 120, default 30
	Frames     int       // pictures of a window that the answerer sees at least, 4 to 64, default 12
	Margin     float64   // metres by which a label must hold when places are off; 0 asks borderline cases too; up to 0.5
	Abstention float64   // share of questions about what is not there; default 0.1, negative for none
	Forms      int       // wordings of answers, 1 to 3; default 3
	Thresholds Thresholds
}

// WithDefaults fills in what is not set and names the field that is out of its range.
func (o Options) WithDefaults() (Options, error) {
	var err error
	num := func(v *float64, standard, lo, hi float64, name string) {
		if *v == 0 {
			*v = standard
		}
		if !(*v >= lo && *v <= hi) && err == nil {
			err = fmt.Errorf("questions: %s is %g, expected %g to %g", name, *v, lo, hi)
		}
	}
	count := func(v *int, standard, lo, hi int, name string) {
		f := float64(*v)
		num(&f, float64(standard), float64(lo), float64(hi), name)
		*v = int(f)
	}
	count(&o.Count, 12, 1, 1000, "count")
	count(&o.Windows, 4, 1, 32, "windows")
	count(&o.Frames, 12, 4, 64, "frames")
	count(&o.Forms, label.Forms, 1, label.Forms, "answer forms")
	num(&o.Span, 30, 4, 120, "span")
	if o.Abstention < 0 {
		o.Abstention = 0
	} else {
		num(&o.Abstention, 0.1, 0, 1, "abstention")
	}
	if !(o.Margin >= 0 && o.Margin <= 0.5) {
		err = fmt.Errorf("questions: margin is %g, expected 0 to 0.5 m", o.Margin)
	}
	t := &o.Thresholds
	num(&t.Main, label.MainAxis, 0.1, 10, "main threshold")
	num(&t.Side, label.SideAxis, 0.1, 10, "side threshold")
	num(&t.Same, 0.3, 0.01, 5, "same threshold")
	num(&t.Trend, 0.4, 0.01, 5, "trend threshold")
	num(&t.Ahead, 30, 1, 89, "ahead threshold")
	num(&t.Turn, 150, 91, 179, "turn threshold")
	num(&t.One, 1.1, 0.1, 10, "one-step threshold")
	num(&t.Two, 2.1, t.One, 20, "two-step threshold")
	return o, err
}

// Question is a question with its right answer.
type Question struct {
	ID     string
	At     float64
	Task   stllm.Task
	Group  string
	Kind   string // direction, nearer, affordance, route, find, trend, then, then nearer, next
	Text   string
	Answer string
	Label  label.Label
	// About is the noun asked about, Window the time that the answerer may have seen.
	About  string
	Window [2]float64
	// Targets are the places (map frame) that decide the answer, the thing asked about first; none for what is not there.
	Targets []r3.Vec
	// Moment is the time of the pose that the answer refers to: At, or the middle of the action asked about.
	Moment float64
	// Distances are the horizontal distances of the first target at the window's start and at its end, metres.
	Distances [2]float64
	// Evidence is a stretch of time in which the pictures show what has to be seen; zero where none has to.
	Evidence [2]float64
}

// candidate is a question that could be asked.
type candidate struct {
	q     Question
	other string
	past  bool
	cell  string // trend: where the thing lies at the end
}

type asker struct {
	w  *World
	o  Options
	r  *rand.Rand
	at []float64
	// named counts the things of a category: only a single one can be asked about.
	named map[string]int
	used  map[string]bool
}

// Make asks questions. The same world, options and generator state give the same questions. A world about which nothing of
// some kind can be asked gets more of the other kinds.
func Make(w *World, r *rand.Rand, o Options) ([]Question, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	a := &asker{w: w, o: o, r: r, named: map[string]int{}, used: map[string]bool{}}
	for _, t := range w.Things {
		a.named[t.Category]++
	}
	a.moments()
	pool := map[string][]candidate{}
	for _, at := range a.at {
		pool["direction"] = append(pool["direction"], a.direction(at)...)
		pool["nearer"] = append(pool["nearer"], a.nearer(at)...)
		pool["affordance"] = append(pool["affordance"], a.affordance(at)...)
		pool["route"] = append(pool["route"], a.route(at)...)
		pool["find"] = append(pool["find"], a.find(at)...)
		pool["trend"] = append(pool["trend"], a.trend(at)...)
		pool["then"] = append(pool["then"], a.then(at)...)
		pool["then nearer"] = append(pool["then nearer"], a.thenNearer(at)...)
		pool["next"] = append(pool["next"], a.next(at)...)
		pool["absent"] = append(pool["absent"], a.absent(at)...)
		pool["unseen"] = append(pool["unseen"], a.unseen(at)...)
	}
	pool["trend"] = a.paired(pool["trend"])
	kinds := []string{"direction", "find", "nearer", "trend", "affordance", "then", "route", "next", "find", "then nearer"}
	turn := r.IntN(len(kinds))
	var out []Question
	for misses := 0; len(out) < o.Count && misses < 4*len(kinds); turn++ {
		kind := kinds[turn%len(kinds)]
		if r.Float64() < o.Abstention {
			// As many of each task's questions: items are one task of several.
			if kind = "absent"; r.Float64() < 0.3 {
				kind = "unseen"
			}
		}
		q, ok := a.choose(kind, pool[kind])
		if !ok {
			misses++
			continue
		}
		misses = 0
		q.ID = fmt.Sprintf("q%02d", len(out)+1)
		out = append(out, q)
	}
	return out, nil
}

// moments draws the times at which questions are asked: spread over the walk, the last one at its end.
func (a *asker) moments() {
	if len(a.o.At) > 0 {
		for _, t := range a.o.At {
			a.at = append(a.at, a.picture(t))
		}
		return
	}
	end := a.w.Frames[len(a.w.Frames)-1]
	first := min(5, end*0.6)
	for i := range a.o.Windows {
		lo := first + (end-first)*float64(i)/float64(a.o.Windows)
		hi := first + (end-first)*float64(i+1)/float64(a.o.Windows)
		a.at = append(a.at, a.picture(lo+(hi-lo)*a.r.Float64()))
	}
	a.at[len(a.at)-1] = end
}

// picture is the time of the last picture that has come at t.
func (a *asker) picture(t float64) float64 {
	at := a.w.Frames[0]
	for _, f := range a.w.Frames {
		if f <= t {
			at = f
		}
	}
	return at
}

func (a *asker) window(at float64) [2]float64 { return [2]float64{max(0, at-a.o.Span), at} }

// choose draws a label first, then one of the candidates with that label; nothing is asked twice.
func (a *asker) choose(kind string, from []candidate) (Question, bool) {
	byLabel := map[string][]int{}
	var labels []string
	for i, c := range from {
		if a.used[c.key()] {
			continue
		}
		l := c.class()
		if byLabel[l] == nil {
			labels = append(labels, l)
		}
		byLabel[l] = append(byLabel[l], i)
	}
	if len(labels) == 0 {
		return Question{}, false
	}
	l := labels[a.r.IntN(len(labels))]
	// "About the same" is a rare answer, also where there is no other.
	if l == "same" && a.r.Float64() < 0.6 {
		if len(labels) == 1 {
			return Question{}, false
		}
		for l == "same" {
			l = labels[a.r.IntN(len(labels))]
		}
	}
	c := from[byLabel[l][a.r.IntN(len(byLabel[l]))]]
	a.used[c.key()] = true
	q := c.q
	q.Window = a.window(q.At)
	q.Kind = kind
	q.Answer = q.Label.Say(q.Task, q.About, c.other, a.r.IntN(a.o.Forms), c.past)
	return q, true
}

// key is the same for questions that differ in wording only.
func (c candidate) key() string {
	return fmt.Sprint(c.q.Task, c.q.Group, c.q.About, c.other, c.q.At, c.q.Moment, c.q.Label)
}

// class is what is balanced: the direction for most, the winner's position for which is nearer, the shape of a plan.
func (c candidate) class() string {
	l := c.q.Label
	switch {
	case l.Unseen:
		return "unseen"
	case l.Change != "":
		return l.Change
	case l.Done != nil:
		return fmt.Sprint(c.cell)
	case l.Steps != nil:
		return label.Label{Steps: l.Steps[:len(l.Steps)-1]}.String()
	case l.Direction != "":
		return l.Direction
	case l.Object == c.q.About:
		return "first"
	}
	return "second"
}

// ego gives a place as seen from the camera at a time: metres to the right, metres ahead; gravity-aligned.
func (a *asker) ego(at float64, p r3.Vec) (right, ahead float64) {
	return Ego(a.w.Camera(at), p)
}

// Ego gives a place of the map as seen from an optical frame: metres to the right and ahead on the ground plane.
func Ego(camera geometry.Transform, p r3.Vec) (right, ahead float64) {
	f := camera.Rotate(r3.Vec{Z: 1})
	if n := math.Hypot(f.X, f.Y); n > 1e-9 {
		f.X, f.Y = f.X/n, f.Y/n
	} else { // straight down or up: ahead is where the picture's top points
		f = r3.Scale(-1, camera.Rotate(r3.Vec{Y: 1}))
	}
	dx, dy := p.X-camera.Translation.X, p.Y-camera.Translation.Y
	return dx*f.Y - dy*f.X, dx*f.X + dy*f.Y
}

// Direction is the label of a place x metres to the right and z metres ahead.
func (t Thresholds) Direction(x, z float64) string { return label.Direction(x, z, t.Main, t.Side) }

// way is turn and walk of a route to a place.
func (t Thresholds) way(x, z float64) []msgs.PlanStep {
	var out []msgs.PlanStep
	bearing := math.Atan2(x, z) * 180 / math.Pi
	switch {
	case math.Abs(bearing) > t.Turn:
		out = append(out, msgs.PlanStep{Verb: "turn", Direction: "around"})
	case bearing > t.Ahead:
		out = append(out, msgs.PlanStep{Verb: "turn", Direction: "right"})
	case bearing < -t.Ahead:
		out = append(out, msgs.PlanStep{Verb: "turn", Direction: "left"})
	}
	steps := "four steps"
	switch d := math.Hypot(x, z); {
	case d < t.One:
		steps = "one step"
	case d < t.Two:
		steps = "two steps"
	}
	return append(out, msgs.PlanStep{Verb: "walk", Object: steps})
}

// firm tells whether a label stays the same when the place is off by the margin in any direction.
func (a *asker) firm(x, z float64, of func(x, z float64) string) bool {
	m := a.o.Margin
	if m == 0 {
		return true
	}
	want := of(x, z)
	for _, d := range [][2]float64{{m, 0}, {-m, 0}, {0, m}, {0, -m}} {
		if of(x+d[0], z+d[1]) != want {
			return false
		}
	}
	return true
}

func (a *asker) distance(at float64, p r3.Vec) float64 {
	x, z := a.ego(at, p)
	return math.Hypot(x, z)
}

// word draws one of several wordings and puts nouns into it.
func (a *asker) word(forms []string, nouns ...any) string {
	return fmt.Sprintf(forms[a.r.IntN(len(forms))], nouns...)
}
