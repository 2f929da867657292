package report

import (
	"fmt"
	"html"
	"html/template"
	"strings"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/stllm"
)

// barGroup is one run's bars.
type barGroup struct {
	Set     int // which evaluation
	Name    string
	Run     eval.Ablation
	Overall *metrics.Interval
	Tasks   map[stllm.Task]metrics.Interval
	// Majority is what always saying the most frequent label of each task would score.
	Majority map[stllm.Task]float64
}

func barsOf(set int, name string, res *eval.Result) []barGroup {
	var out []barGroup
	for _, run := range eval.Ablations() {
		r := res.Scores.Runs[run]
		if r == nil || r.Intervals.LabelAccuracy == nil {
			continue
		}
		g := barGroup{set, name, run, r.Intervals.LabelAccuracy, r.Intervals.Tasks, map[stllm.Task]float64{}}
		for _, c := range r.Confusion {
			g.Majority[c.Task] = majority(c)
		}
		out = append(out, g)
	}
	return out
}

func majority(c eval.Confusion) float64 {
	best, all := 0, 0
	for _, row := range c.Counts {
		n := 0
		for _, x := range row {
			n += x
		}
		best = max(best, n)
		all += n
	}
	return float64(best) / float64(max(all, 1))
}

// colours are Okabe and Ito's, in the order of runs.
func colour(r eval.Ablation) string {
	switch r {
	case eval.None:
		return "#0072b2"
	case eval.Blind:
		return "#999999"
	case eval.NoPoints:
		return "#e69f00"
	case eval.NoVideo:
		return "#56b4e9"
	case eval.Still:
		return "#009e73"
	case eval.ShuffledFrames:
		return "#d55e00"
	case eval.Shuffled:
		return "#f0e442"
	}
	return "#cc79a7"
}

// opacity tells evaluations apart: later ones are paler.
func opacity(set int) float64 { return 1 / (1 + 0.8*float64(set)) }

// drawBars draws label accuracy by task as an SVG: a bar for every run with its interval, and a line at the score of the most
// frequent label.
func drawBars(groups []barGroup) template.HTML {
	type column struct {
		title string
		of    func(barGroup) (metrics.Interval, bool)
		task  stllm.Task
	}
	columns := []column{{"all", func(g barGroup) (metrics.Interval, bool) { return *g.Overall, true }, ""}}
	for _, t := range tasks() {
		for _, g := range groups {
			if _, ok := g.Tasks[t]; ok {
				columns = append(columns, column{taskName(t), func(g barGroup) (metrics.Interval, bool) { in, ok := g.Tasks[t]; return in, ok }, t})
				break
			}
		}
	}
	if len(groups) == 0 {
		return ""
	}
	const height, top, left = 220.0, 14.0, 42.0
	bar := min(26.0, max(8, 900/float64(len(columns))/(float64(len(groups))+1)))
	wide := bar*float64(len(groups)) + 22
	total := left + wide*float64(len(columns)) + 10
	y := func(share float64) float64 { return top + height*(1-share) }
	legendTop := top + height + 40
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="Label accuracy by task and run" style="max-width:%.0fpx">`, max(total, 520),
		legendTop+18*float64(len(groups)+1), max(total, 520))
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%.0f %%</text>`,
			left, y(share), total-10, y(share), left-5, y(share)+4, 100*share)
	}
	for i, c := range columns {
		x := left + 11 + wide*float64(i)
		for j, g := range groups {
			in, ok := c.of(g)
			if !ok {
				continue
			}
			at := x + bar*float64(j)
			fmt.Fprintf(&b, `<g><title>%s, %s, %s: %.1f %% [%.1f, %.1f] of %d</title><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" fill-opacity="%.2f"/>`,
				html.EscapeString(g.Name), g.Run, c.title, 100*in.Mean, 100*in.Low, 100*in.High, in.N, at+1, y(in.Mean), bar-2, height*in.Mean, colour(g.Run), opacity(g.Set))
			mid := at + bar/2
			fmt.Fprintf(&b, `<path d="M%.1f %.1fV%.1fM%.1f %.1fh6M%.1f %.1fh6" stroke="#222" fill="none"/></g>`, mid, y(in.High), y(in.Low), mid-3, y(in.High), mid-3, y(in.Low))
		}
		if m, ok := groups[0].Majority[c.task]; ok && c.task != "" {
			fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000" stroke-dasharray="4 3"/>`, x-4, y(m), x+wide-18, y(m))
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x+(wide-22)/2, top+height+17, c.title)
	}
	for j, g := range groups {
		at := legendTop + 18*float64(j)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="12" height="12" fill="%s" fill-opacity="%.2f"/><text x="%.1f" y="%.1f">%s, %s</text>`,
			left, at, colour(g.Run), opacity(g.Set), left+18, at+10.5, html.EscapeString(shorten(g.Name, 60)), g.Run)
	}
	at := legendTop + 18*float64(len(groups)) + 6
	fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000" stroke-dasharray="4 3"/><text x="%.1f" y="%.1f">always the most frequent label of the task</text></svg>`,
		left, at, left+12, at, left+18, at+4)
	return template.HTML(b.String())
}
