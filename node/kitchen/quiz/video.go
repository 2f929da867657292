package quiz

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

// Shares of a picture, between which nothing is asked: what fills less was hardly there to see.
const (
	plain  = 0.0012 // about 19 × 19 pixels of 640 × 480
	hidden = 0.0002
)

var askFind = []string{
	"Where did I last see the %s?",
	"Where is my %s?",
	"Help me find the %s.",
	"I am looking for the %s, where is it?",
	"What is the %s on, and in which direction is it?",
	"Where was the %s put?",
	"Where did I leave the %s, and where is that from here?",
}

// shown is how long the pictures show an item between two times, and the first and last of those moments.
func (a *asker) shown(it Item, from, to float64) (seconds float64, span [2]float64) {
	step := 0.1
	if len(a.w.Frames) > 1 {
		step = a.w.Frames[1] - a.w.Frames[0]
	}
	for i, t := range a.w.Frames {
		if t >= from && t <= to && it.Seen[i] >= plain {
			if seconds == 0 {
				span[0] = t
			}
			seconds += step
			span[1] = t
		}
	}
	return seconds, span
}

// spacing is the time between two pictures of a window as an answerer with few frames sees it.
func (a *asker) spacing(at float64) float64 {
	w := a.window(at)
	return (w[1] - w[0]) / float64(a.o.Frames-1)
}

func (a *asker) find(at float64) []candidate {
	var out []candidate
	th := a.o.Thresholds
	for j, it := range a.w.Items {
		s := it.at(at)
		if s.Thing < 0 || a.busy(j, at) {
			continue
		}
		// Seen where it lies now, for so long that one of few pictures must show it.
		long, span := a.shown(it, max(s.From-1, a.window(at)[0]), at)
		if long < 1.1*a.spacing(at)+0.3 {
			continue
		}
		x, z := a.ego(at, s.Place)
		if !a.firm(x, z, th.Direction) {
			continue
		}
		c := candidate{q: Question{At: at, Moment: at, Task: stllm.TaskFindItem, Group: Video, About: it.Kind, Targets: []r3.Vec{s.Place},
			Evidence: span, Text: a.word(askFind, it.Kind), Label: label.Label{Object: a.w.Things[s.Thing].Category, Direction: th.Direction(x, z)}}}
		out = append(out, c)
		if s.From > 0 {
			out = append(out, c, c, c) // what was moved is asked for more often
		}
	}
	return out
}

// busy tells whether a hand is just at an item.
func (a *asker) busy(item int, at float64) bool {
	return slices.ContainsFunc(a.w.Events, func(e Event) bool { return e.Item == item && e.Start <= at && at <= e.Stop })
}

func (it Item) at(t float64) Stay {
	for _, s := range it.Stays {
		if t < s.To {
			return s
		}
	}
	return it.Stays[len(it.Stays)-1]
}

// unseen asks for items that no picture of the window shows.
func (a *asker) unseen(at float64) []candidate {
	var out []candidate
	w := a.window(at)
	for _, kind := range a.w.Kinds {
		seen := false
		for _, it := range a.w.Items {
			for i, t := range a.w.Frames {
				seen = seen || it.Kind == kind && t >= w[0] && t <= w[1] && it.Seen[i] > hidden
			}
		}
		if !seen {
			out = append(out, candidate{q: Question{At: at, Moment: at, Task: stllm.TaskFindItem, Group: Video, About: kind,
				Text: a.word(askFind, kind), Label: label.Label{Unseen: true}}})
		}
	}
	return out
}

var askTrend = []string{
	"Did I get closer to the %s or further from it?",
	"Since the start of the video, have I moved closer to the %s or away from it?",
	"Am I closer to the %s than at the beginning?",
	"Over the video, does the person get nearer to the %s?",
	"How has my distance to the %s changed since the beginning?",
	"Comparing start and end, am I nearer to the %s or farther away?",
}

func (a *asker) trend(at float64) []candidate {
	var out []candidate
	w := a.window(at)
	a.single(func(_ int, t Thing) {
		d0, d1 := a.distance(w[0], t.Place), a.distance(at, t.Place)
		change := d1 - d0
		if math.Abs(math.Abs(change)-a.o.Thresholds.Trend) < 2*a.o.Margin {
			return
		}
		l := "same"
		switch {
		case change < -a.o.Thresholds.Trend:
			l = "closer"
		case change > a.o.Thresholds.Trend:
			l = "further"
		}
		x, z := a.ego(at, t.Place)
		quarter := int(math.Floor((math.Atan2(x, z)+math.Pi/4)/(math.Pi/2))+4) % 4
		out = append(out, candidate{cell: fmt.Sprint(quarter, int(d1/0.8)), q: Question{At: at, Moment: at, Task: stllm.TaskDistance, Group: Video, About: t.Category,
			Targets: []r3.Vec{t.Place}, Distances: [2]float64{d0, d1}, Text: a.word(askTrend, t.Category), Label: label.Label{Change: l}}})
	})
	return out
}

// paired keeps as many "closer" as "further" questions wherever the thing lies at the end (quarter and distance), so that the
// last pose alone gives nothing away.
func (a *asker) paired(from []candidate) []candidate {
	type side struct{ closer, further []candidate }
	cells := map[string]*side{}
	var order []string
	var out []candidate
	for _, c := range from {
		if c.q.Label.Change == "same" {
			out = append(out, c)
			continue
		}
		s := cells[c.cell]
		if s == nil {
			s = &side{}
			cells[c.cell] = s
			order = append(order, c.cell)
		}
		if c.q.Label.Change == "closer" {
			s.closer = append(s.closer, c)
		} else {
			s.further = append(s.further, c)
		}
	}
	for _, name := range order {
		s := cells[name]
		n := min(len(s.closer), len(s.further))
		for _, half := range [][]candidate{s.closer, s.further} {
			for _, i := range a.r.Perm(len(half))[:n] {
				out = append(out, half[i])
			}
		}
	}
	return out
}

// named events are those that one can speak of: shown, over, and the only ones of their name in the window.
func (a *asker) spoken(at float64) []Event {
	var out []Event
	w := a.window(at)
	for _, e := range a.w.Events {
		if e.Start < w[0] || e.Stop > at || !e.Seen {
			continue
		}
		same := 0
		for _, f := range a.w.Events {
			if f.Verb == e.Verb && f.Object == e.Object && f.Start < at {
				same++
			}
		}
		if same == 1 {
			out = append(out, e)
		}
	}
	return out
}

// pastOf writes an event as something that the person did: "opened the fridge".
func pastOf(e Event) string {
	switch e.Verb {
	case "put":
		return "put down the " + e.Object
	case "take":
		return "picked up the " + e.Object
	case "open":
		return "opened the " + e.Object
	case "close":
		return "closed the " + e.Object
	}
	return strings.Replace(e.Verb, "turn", "turned", 1) + " the " + e.Object
}

// passiveOf writes it as something that was done: "the fridge was opened".
func passiveOf(e Event) string {
	done := map[string]string{"put": "put down", "take": "picked up", "open": "opened", "close": "closed", "turn on": "turned on", "turn off": "turned off"}
	return "the " + e.Object + " was " + done[e.Verb]
}

var (
	askThen = []string{
		"When I %[2]s, where was the %[1]s?",
		"Where was the %[1]s when I %[2]s?",
		"In which direction was the %[1]s from me while I %[2]s?",
		"At the moment when I %[2]s, on which side was the %[1]s?",
	}
	askThenPassive = []string{
		"When %[2]s, where was the %[1]s relative to the person?",
		"Where was the %[1]s from the person at the moment %[2]s?",
	}
	askThenNearer = []string{
		"When I %[3]s, which was nearer, the %[1]s or the %[2]s?",
		"Was I closer to the %[1]s or to the %[2]s when I %[3]s?",
		"While I %[3]s, was the %[1]s or the %[2]s nearer to me?",
	}
	askThenNearerPassive = []string{
		"When %[3]s, which was closer to the person, the %[1]s or the %[2]s?",
		"Was the person nearer to the %[1]s or to the %[2]s when %[3]s?",
	}
)

// told draws the active or the passive wording of a question about an event.
func (a *asker) told(active, passive []string, e Event, nouns ...any) string {
	if a.r.Float64() < 0.65 {
		return a.word(active, append(nouns, pastOf(e))...)
	}
	return a.word(passive, append(nouns, passiveOf(e))...)
}

func (a *asker) then(at float64) []candidate {
	var out []candidate
	th := a.o.Thresholds
	for _, e := range a.spoken(at) {
		mid := (e.Start + e.Stop) / 2
		a.single(func(i int, t Thing) {
			x, z := a.ego(mid, t.Place)
			// What is handled itself is always ahead: asking for it would give the answer away.
			if i == e.Thing || !a.firm(x, z, th.Direction) {
				return
			}
			out = append(out, candidate{past: true, q: Question{At: at, Moment: mid, Task: stllm.TaskDirection, Group: Video, About: t.Category,
				Targets: []r3.Vec{t.Place}, Evidence: [2]float64{e.Start, e.Stop},
				Text: a.told(askThen, askThenPassive, e, t.Category), Label: label.Label{Direction: th.Direction(x, z)}}})
		})
	}
	return out
}

func (a *asker) thenNearer(at float64) []candidate {
	var out []candidate
	for _, e := range a.spoken(at) {
		for _, c := range a.compare(at, (e.Start+e.Stop)/2, Video, func(p, q string) string { return a.told(askThenNearer, askThenNearerPassive, e, p, q) }) {
			handled := a.w.Things[e.Thing].Category
			if c.q.About == handled || c.other == handled {
				continue
			}
			c.q.Evidence = [2]float64{e.Start, e.Stop}
			out = append(out, c)
		}
	}
	return out
}

var askNext = []string{
	"I go through these steps round and round: %s. What comes next and how do I get there?",
	"My round has these steps, begun anywhere: %s. Going by the video, what do I do next, and how do I get to that place?",
	"I carry out these steps over and over, in this order: %s. Which one is next and where do I go for it?",
	"Steps of my round: %s. What was done last, what comes next and how do I get there?",
}

// planned is a step that may come next, and where it is done.
type planned struct {
	step  msgs.PlanStep
	thing int
	place r3.Vec
}

// ahead are steps that were not done yet, worded as what was done: nothing but the video tells them apart.
func (a *asker) ahead(at float64) []planned {
	var out []planned
	handled := map[int]bool{}
	for _, e := range a.w.Events {
		if e.Item < 0 && e.Start < at {
			handled[e.Thing] = true
		}
	}
	var surfaces []int
	a.single(func(i int, t Thing) {
		switch {
		case t.Opens && !handled[i]:
			out = append(out, planned{msgs.PlanStep{Verb: "open", Object: t.Category}, i, t.Place})
		case t.Switch != "" && !handled[i]:
			out = append(out, planned{msgs.PlanStep{Verb: "turn on", Object: t.Switch}, i, t.Place})
		case t.Holds:
			surfaces = append(surfaces, i)
		}
	})
	for j, it := range a.w.Items {
		s := it.at(at)
		moved := slices.ContainsFunc(a.w.Events, func(e Event) bool { return e.Item == j && e.Start < at })
		if s.Thing < 0 || moved || a.busy(j, at) || a.named[a.w.Things[s.Thing].Category] != 1 {
			continue
		}
		if long, _ := a.shown(it, a.window(at)[0], at); long < 1.1*a.spacing(at)+0.3 {
			continue
		}
		out = append(out, planned{msgs.PlanStep{Verb: "take", Object: it.Kind, Target: a.w.Things[s.Thing].Category}, s.Thing, a.w.Things[s.Thing].Place})
		if len(surfaces) > 0 {
			if i := surfaces[a.r.IntN(len(surfaces))]; i != s.Thing {
				out = append(out, planned{msgs.PlanStep{Verb: "put", Object: it.Kind, Target: a.w.Things[i].Category}, i, a.w.Things[i].Place})
			}
		}
	}
	return out
}

// The lengths of the lists, and the most steps in them that were done.
const (
	shortestRound = 4
	longestRound  = 6
	mostDone      = 3
)

// next lists the steps of a round of which some were done, and asks for the one after. Nothing in the list itself tells how far
// it was done: a round is told from anywhere (a walk has few actions: of a plan told from its beginning the first step would
// mostly be the one), no thing stands in it twice (what was put down was taken before), and verbs ahead are as frequent as
// among what was done.
func (a *asker) next(at float64) []candidate {
	var out []candidate
	done := a.eachOnce(at)
	for k := 1; k <= min(mostDone, len(done)); k++ {
		for range 4 {
			past := done[len(done)-k:]
			future, ok := a.plan(at, past, shortestRound+a.r.IntN(longestRound-shortestRound+1)-k)
			if !ok {
				continue
			}
			var list []string
			for _, e := range past {
				list = append(list, label.Narrate(e.Step()))
			}
			for _, p := range future {
				list = append(list, label.Narrate(p.step))
			}
			begin := a.r.IntN(len(list))
			list = slices.Concat(list[begin:], list[:begin])
			first := future[0]
			x, z := a.ego(at, first.place)
			if !a.firm(x, z, func(x, z float64) string { return label.Label{Steps: a.o.Thresholds.way(x, z)}.String() }) {
				continue
			}
			last := past[k-1]
			step := last.Step()
			way := a.o.Thresholds.way(x, z)
			shape := label.Label{Steps: way}.String()
			way[len(way)-1].Target = a.w.Things[first.thing].Category
			steps := append([]msgs.PlanStep{first.step}, way...)
			out = append(out, candidate{cell: fmt.Sprint(k, " ", shape), q: Question{At: at, Moment: at, Task: stllm.TaskPlanning, Group: Video, About: a.w.Things[first.thing].Category,
				Targets: []r3.Vec{first.place}, Evidence: [2]float64{last.Start, last.Stop},
				Text: a.word(askNext, strings.Join(list, ", ")), Label: label.Label{Done: &step, Steps: steps}}})
		}
	}
	return out
}

// eachOnce are events that can be steps of a task, one for each thing: of what was taken and put down, one of the two. What is
// ahead speaks of single things only, and so do they.
func (a *asker) eachOnce(at float64) []Event {
	steps := slices.DeleteFunc(a.spoken(at), func(e Event) bool {
		return e.Verb == "close" || e.Verb == "turn off" || a.named[a.w.Things[e.Thing].Category] != 1
	})
	kept := map[string]string{} // the verb, by thing
	for _, e := range steps {
		if kept[e.Object] != "" {
			continue
		}
		var verbs []string
		for _, f := range steps {
			if f.Object == e.Object {
				verbs = append(verbs, f.Verb)
			}
		}
		kept[e.Object] = verbs[0]
		if len(verbs) > 1 {
			kept[e.Object] = verbs[a.r.IntN(len(verbs))]
		}
	}
	return slices.DeleteFunc(steps, func(e Event) bool { return e.Verb != kept[e.Object] })
}

// stepVerbs are drawn from for steps ahead: each about as often as it is the verb of the step done last.
var stepVerbs = []string{"take", "take", "take", "put", "put", "put", "open", "open", "open", "turn on"}

// plan draws n steps ahead, no thing twice.
func (a *asker) plan(at float64, past []Event, n int) ([]planned, bool) {
	all := a.ahead(at)
	a.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	used := map[string]bool{}
	for _, e := range past {
		used[e.Object] = true
	}
	var out []planned
	for tries := 0; len(out) < n && tries < 8*n; tries++ {
		verb := stepVerbs[a.r.IntN(len(stepVerbs))]
		i := slices.IndexFunc(all, func(p planned) bool { return p.step.Verb == verb && !used[p.step.Object] })
		if i >= 0 {
			used[all[i].step.Object] = true
			out = append(out, all[i])
		}
	}
	a.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) // what is rare runs out first
	return out, len(out) == n
}
