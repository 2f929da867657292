package picture

import (
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm"
)

// Mark chooses the boxes that are drawn for a question, and how: what the question names or is about is Asked, what the
// answer names is Answered, of furniture the rest is drawn faintly, and of small things it is left out. at is the question's
// moment, ns: boxes of other times are left out. Names are found as whole words, long ones first, so that a "dining table"
// is no "table". Of several things of one name the answer means that in the direction that it tells, as seen from the end of
// in's path, or of several there the one that it looked at most, by in's regions; they are Vague where that leaves more than one.
func Mark(in Input, boxes []Box, at int64, answer, about string) []Box {
	var names []string
	for _, b := range boxes {
		if b.Name != "" && !slices.Contains(names, b.Name) {
			names = append(names, b.Name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return len(b) - len(a) })
	asked, answered := named(in.Question, names), named(answer, names)
	var out []Box
	alike := map[string][]int{} // what the answer names, by name
	for _, b := range boxes {
		if !b.StandsAt(at) {
			continue
		}
		b.Asked = b.Asked || asked[b.Name] || about != "" && strings.EqualFold(b.Name, about)
		if b.Answered = b.Answered || answered[b.Name]; b.Answered {
			alike[b.Name] = append(alike[b.Name], len(out))
		}
		out = append(out, b)
	}
	for _, all := range alike {
		meant := all
		if len(all) > 1 {
			meant = in.meant(answer, out, all)
		}
		for _, i := range all {
			out[i].Answered = slices.Contains(meant, i)
			out[i].Vague = out[i].Answered && len(meant) > 1
		}
	}
	return slices.DeleteFunc(out, func(b Box) bool { return b.Small && !b.Asked && !b.Answered })
}

// onPlace is how far from a thing a place may be that belongs to it, metres.
const onPlace = 0.3

// meant are those of some boxes of one name that an answer can mean.
func (in *Input) meant(answer string, boxes []Box, all []int) []int {
	told := label.Reader{}.Label(stllm.TaskDirection, in.Question, answer)
	if told == "" || len(in.Path) == 0 {
		return all
	}
	ego, err := rays.Ego(in.Path[len(in.Path)-1], r3.Vec{Z: 1})
	if err != nil {
		return all
	}
	there := slices.DeleteFunc(slices.Clone(all), func(i int) bool {
		return !slices.ContainsFunc(boxes[i].grid(), func(p r3.Vec) bool {
			p = ego.Apply(p)
			return label.Direction(p.X, p.Y, label.MainAxis, label.SideAxis) == told
		})
	})
	if len(there) == 0 {
		return all
	}
	looked := func(i int) (sum float64) {
		for _, g := range in.Regions {
			if boxes[i].Distance(g.X, g.Y) <= onPlace {
				sum += g.Weight
			}
		}
		return sum
	}
	most := 0.0
	for _, i := range there {
		most = max(most, looked(i))
	}
	return slices.DeleteFunc(there, func(i int) bool { return looked(i) < most })
}

// grid are places all over a box, its edge included.
func (b Box) grid() []r3.Vec {
	const n = 4
	var out []r3.Vec
	sin, cos := math.Sincos(b.Yaw)
	for i := range n + 1 {
		for j := range n + 1 {
			u, v := (float64(i)/n-0.5)*b.Width, (float64(j)/n-0.5)*b.Depth
			out = append(out, r3.Vec{X: b.X + u*cos - v*sin, Y: b.Y + u*sin + v*cos})
		}
	}
	return out
}

// Distance is how far a place of the ground is from the box, metres; 0 within.
func (b Box) Distance(x, y float64) float64 {
	sin, cos := math.Sincos(b.Yaw)
	u, v := (x-b.X)*cos+(y-b.Y)*sin, (y-b.Y)*cos-(x-b.X)*sin
	return math.Hypot(max(0, math.Abs(u)-b.Width/2), max(0, math.Abs(v)-b.Depth/2))
}

// named finds the names that a text holds.
func named(text string, names []string) map[string]bool {
	text = " " + strings.Join(words(text), " ") + " "
	found := map[string]bool{}
	for _, n := range names {
		w := strings.Join(words(n), " ")
		if w == "" {
			continue
		}
		for _, form := range []string{" " + w + " ", " " + w + "s "} {
			if strings.Contains(text, form) {
				found[n] = true
				text = strings.ReplaceAll(text, form, " | ")
			}
		}
	}
	return found
}

func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r < 0x80 })
}
