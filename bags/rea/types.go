package rea

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm"
)

func (g *generator) directionSingle() (out []Generated) {
	for _, p := range g.pairs() {
		a, b := p[0], p[1]
		for _, o := range g.anchors {
			d1, d2 := g.dir(o, a), g.dir(o, b)
			q := Generated{Task: stllm.TaskDirection, Form: "single", About: o.Name, Start: a.Start, Stop: b.Stop, Label: d1 + "; " + d2}
			q.Question = fmt.Sprintf(g.form("Is the hand nearer to the %s another one in `%s` than in `%s`?", "Does the hand that is nearer to the %s change from `%s` to `%s`?"), o.Name, a.Text, b.Text)
			turned := ""
			if d1 == "front" && d2 == "back" || d1 == "back" && d2 == "front" {
				turned = " In between the person has turned around."
			}
			where := fmt.Sprintf("in `%s` the %s is %s (%s); in `%s` it is %s (%s).", a.Text, o.Name, phrase(d1), hand(d1), b.Text, phrase(d2), hand(d2))
			if hand(d1) != hand(d2) {
				q.Answer = "Yes, it differs: " + where + turned
			} else {
				q.Answer = "No, it does not: " + where + turned
			}
			out = append(out, q)
		}
	}
	return out
}

func (g *generator) directionMulti() (out []Generated) {
	for _, a := range g.acts {
		for i, o1 := range g.anchors {
			for _, o2 := range g.anchors[i+1:] {
				d1, d2 := g.dir(o1, a), g.dir(o2, a)
				q := Generated{Task: stllm.TaskDirection, Form: "multi", About: o1.Name, Start: g.s.Poses[0].Stamp, Stop: a.Stop, Label: d1 + "; " + d2}
				q.Question = fmt.Sprintf(g.form("Are the %s and the %s on the same side of the person during `%s`?", "Does the person have the %s and the %s on the same side during `%s`?"), o1.Name, o2.Name, a.Text)
				if d1 == d2 {
					q.Label = d1
					q.Answer = fmt.Sprintf("Yes, both the %s and the %s are %s during `%s`.", o1.Name, o2.Name, phrase(d1), a.Text)
				} else {
					q.Answer = fmt.Sprintf("No, the %s is %s, while the %s is %s during `%s`.", o1.Name, phrase(d1), o2.Name, phrase(d2), a.Text)
				}
				out = append(out, q)
			}
		}
	}
	return out
}

// flat is the distance on the ground plane.
func flat(a, b r3.Vec) float64 { return math.Hypot(a.X-b.X, a.Y-b.Y) }

// change is the label of the distance between two middles: the slope a second.
func (g *generator) change(o Object, a, b Action) string {
	from, to := (a.Start+a.Stop)/2, (b.Start+b.Stop)/2
	var d []float64
	var first, last int64
	for _, p := range g.s.Poses {
		if p.Stamp < from || p.Stamp > to {
			continue
		}
		if d == nil {
			first = p.Stamp
		}
		last = p.Stamp
		d = append(d, flat(p.Pose.Translation, o.Place))
	}
	if len(d) < 2 {
		return ""
	}
	switch k := slope(d) * float64(len(d)-1) / (float64(last-first) / 1e9); {
	case k < -g.o.Rules.Slope:
		return "closer"
	case k > g.o.Rules.Slope:
		return "further"
	}
	return "same"
}

func (g *generator) distanceSingle() (out []Generated) {
	for _, p := range g.pairs() {
		a, b := p[0], p[1]
		for _, o := range g.anchors {
			q := Generated{Task: stllm.TaskDistance, Form: "single", About: o.Name, Start: a.Start, Stop: b.Stop, Label: g.change(o, a, b)}
			q.Question = fmt.Sprintf(g.form("Going from `%[2]s` to `%[3]s`, does the person get nearer to the %[1]s?", "Between `%[2]s` and `%[3]s`, does the person move away from the %[1]s?",
				"Is the person closer to the %[1]s after `%[3]s` than in `%[2]s`?"), o.Name, a.Text, b.Text)
			switch q.Label {
			case "same":
				q.Answer = fmt.Sprintf("The person remains at about the same distance from the %s in both `%s` and `%s`.", o.Name, a.Text, b.Text)
			case "closer":
				q.Answer = fmt.Sprintf("The person gets closer to the %s from `%s` to `%s`.", o.Name, a.Text, b.Text)
			case "further":
				q.Answer = fmt.Sprintf("The person gets further from the %s from `%s` to `%s`.", o.Name, a.Text, b.Text)
			default:
				continue
			}
			out = append(out, q)
		}
	}
	return out
}

func (g *generator) distanceMulti() (out []Generated) {
	for _, a := range g.acts {
		at := g.s.at((a.Start + a.Stop) / 2).Pose.Translation
		for i, o1 := range g.anchors {
			for _, o2 := range g.anchors[i+1:] {
				if g.r.IntN(2) == 1 {
					o1, o2 = o2, o1
				}
				q := Generated{Task: stllm.TaskDistance, Form: "multi", About: o1.Name, Start: g.s.Poses[0].Stamp, Stop: a.Stop}
				q.Question = fmt.Sprintf(g.form("Is the person closer to the %s than to the %s during `%s`?", "Is the %s easier to get at for the person than the %s during `%s`?"), o1.Name, o2.Name, a.Text)
				switch d := flat(at, o1.Place) - flat(at, o2.Place); {
				case d < -g.o.Rules.Same:
					q.Label, q.Answer = "first", fmt.Sprintf("Yes, the person is closer to the %s than to the %s.", o1.Name, o2.Name)
				case d > g.o.Rules.Same:
					q.Label, q.Answer = "second", fmt.Sprintf("No, the person is closer to the %s than to the %s.", o2.Name, o1.Name)
				default:
					q.Label, q.Answer = "same", "The person is at a similar distance from both."
				}
				out = append(out, q)
			}
		}
	}
	return out
}

// find asks for items that were seen and lie somewhere at the end, and for objects that are not in view at the end where the
// scene has no items.
func (g *generator) find() (out []Generated) {
	end := g.s.Poses[len(g.s.Poses)-1]
	ask := func(name, on string, place r3.Vec) {
		x, z := local(end.Pose, place)
		d := label.Direction(x, z, g.o.Rules.FindMain, g.o.Rules.FindSide)
		q := Generated{Task: stllm.TaskFindItem, Form: "find", About: name, Start: g.s.Poses[0].Stamp, Stop: end.Stamp, Label: on + ", " + d}
		q.Question = fmt.Sprintf(g.form("Where is the %s, and how does the person get to it?", "Where was the %s left, and how is it reached from here?"), name)
		q.Answer = fmt.Sprintf("The %s lies on the %s, which is now %s, who can %s.", name, on, phrase(d), reach(d))
		out = append(out, q)
		for i, o1 := range g.anchors {
			for _, o2 := range g.anchors[i+1:] {
				d1, d2 := flat(place, o1.Place), flat(place, o2.Place)
				f := Generated{Task: stllm.TaskFindItem, Form: "fetch", About: name, Start: q.Start, Stop: q.Stop}
				f.Question = fmt.Sprintf("Would it be closer to bring the %s to the %s or to the %s?", name, o1.Name, o2.Name)
				switch {
				case d1 < d2-g.o.Rules.Fetch:
					f.Label, f.Answer = "first", fmt.Sprintf("It would be closer to bring the %s to the %s.", name, o1.Name)
				case d2 < d1-g.o.Rules.Fetch:
					f.Label, f.Answer = "second", fmt.Sprintf("It would be closer to bring the %s to the %s.", name, o2.Name)
				default:
					f.Label, f.Answer = "same", fmt.Sprintf("The %s and the %s are about the same distance from the %s.", o1.Name, o2.Name, name)
				}
				out = append(out, f)
			}
		}
	}
	for _, it := range g.items {
		if len(it.Stays) == 0 {
			continue
		}
		last := it.Stays[len(it.Stays)-1]
		seen := false
		for _, at := range it.Seen {
			seen = seen || at >= last.From && at <= end.Stamp
		}
		if seen && (last.To == 0 || last.To > end.Stamp) && last.From <= end.Stamp {
			ask(it.Name, last.On, last.Place)
		}
	}
	return out
}

// reach is how to get to a place.
func reach(d string) string {
	switch d {
	case "front":
		return "walk straight ahead and pick it up"
	case "back":
		return "turn around and pick it up"
	case "here":
		return "just reach out and pick it up"
	}
	side := "right"
	if strings.HasSuffix(d, "left") {
		side = "left"
	}
	if strings.HasPrefix(d, "back") {
		return "turn around over the " + side + " shoulder and pick it up"
	}
	return "turn " + side + " and pick it up"
}

// affordance asks which of up to four objects is used next, after the actions before; the truth is the object that the next
// action touches.
func (g *generator) affordance() (out []Generated) {
	byName := map[string]Object{}
	for _, o := range g.anchors {
		byName[o.Name] = o
	}
	actions := g.s.Actions[:min(len(g.s.Actions), 10*maxActions)]
	for i, a := range actions {
		truth, ok := byName[a.Target]
		if !ok {
			truth, ok = byName[a.Object]
		}
		if !ok || i == 0 || len(g.anchors) < 2 {
			continue
		}
		before := g.s.Actions[max(0, i-10):i]
		options := []Object{truth}
		for _, n := range g.r.Perm(len(g.anchors)) {
			if o := g.anchors[n]; o.Name != truth.Name && len(options) < 4 {
				options = append(options, o)
			}
		}
		g.r.Shuffle(len(options), func(i, j int) { options[i], options[j] = options[j], options[i] })
		var list []string
		q := Generated{Task: stllm.TaskAffordance, Form: "options", About: truth.Name, Start: before[0].Start, Stop: a.Start}
		for n, o := range options {
			list = append(list, fmt.Sprintf("%c. %s", 'A'+n, o.Name))
			if o.Name == truth.Name {
				q.Label = fmt.Sprint(n) // no letter is favoured
			}
		}
		q.Question = g.form("Given what the person did and where they moved, which will most likely be used next?", "Which of these is the person most likely to use next, after the actions so far?",
			"Judging by the past actions and the movement, what will be used next?") + "\n" + strings.Join(list, ", ")
		why := "it is " + phrase(g.dir(truth, before[len(before)-1]))
		if g.change(truth, before[len(before)-1], a) == "closer" {
			why += ", who moves towards it"
		}
		q.Answer = fmt.Sprintf("The %s will most likely be used next: after `%s` %s.", truth.Name, before[len(before)-1].Text, why)
		out = append(out, q)
	}
	return out
}

// plans asks for the next step of a task and the way there, and for the way to an object.
func (g *generator) plans() (out []Generated) {
	start := g.s.Poses[0].Stamp
	for i := 0; i+1 < min(len(g.s.Actions), 10*maxActions); i++ {
		a, next := g.s.Actions[i], g.s.Actions[i+1]
		name := next.Target
		if name == "" {
			name = next.Object
		}
		way, ok := g.way(name, g.s.at(a.Stop))
		if !ok {
			continue
		}
		var tasks []string
		for _, t := range g.s.Actions[:min(len(g.s.Actions), i+3)] {
			tasks = append(tasks, t.Text)
		}
		l := label.Label{Done: &msgs.PlanStep{Verb: a.Verb, Object: a.Object, Target: a.Target},
			Steps: append([]msgs.PlanStep{{Verb: next.Verb, Object: next.Object, Target: next.Target}}, way...)}
		out = append(out, Generated{Task: stllm.TaskPlanning, Form: "next", About: name, Start: start, Stop: a.Stop, Label: l.String(),
			Question: "The task goes: " + strings.Join(tasks, ", ") + ". What comes next and how do I get there?", Answer: l.Say(stllm.TaskPlanning, name, "", 0, false)})
	}
	for _, a := range g.acts {
		for _, o := range g.anchors {
			way, _ := g.way(o.Name, g.s.at(a.Stop))
			l := label.Label{Steps: way}
			out = append(out, Generated{Task: stllm.TaskPlanning, Form: "way", About: o.Name, Start: start, Stop: a.Stop, Label: label.Label{Steps: way[:len(way)-1]}.String() + way[len(way)-1].Object,
				Question: fmt.Sprintf("`%s` is over now. How does the person get to the %s?", a.Text, o.Name), Answer: l.Say(stllm.TaskPlanning, o.Name, "", 0, false)})
		}
	}
	return out
}

// way is a turn, where one is needed, and a walk in steps of 0.7 units, counted in words up to a limit.
func (g *generator) way(name string, from Posed) ([]msgs.PlanStep, bool) {
	for _, o := range g.anchors {
		if o.Name != name {
			continue
		}
		x, z := local(from.Pose, o.Place)
		var out []msgs.PlanStep
		switch b := math.Atan2(x, z) * 180 / math.Pi; {
		case math.Abs(b) > 150:
			out = append(out, msgs.PlanStep{Verb: "turn", Direction: "around"})
		case b > 30:
			out = append(out, msgs.PlanStep{Verb: "turn", Direction: "right"})
		case b < -30:
			out = append(out, msgs.PlanStep{Verb: "turn", Direction: "left"})
		}
		steps := "four steps"
		switch d := flat(from.Pose.Translation, o.Place); {
		case d < 1.1:
			steps = "one step"
		case d < 2.1:
			steps = "two steps"
		}
		return append(out, msgs.PlanStep{Verb: "walk", Object: steps, Target: name}), true
	}
	return nil, false
}
