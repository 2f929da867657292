package eval

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/stllm"
)

// tasksInOrder are the columns of tables.
func tasksInOrder() []stllm.Task {
	return []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning}
}

// String writes the scores for a terminal: per cent, with 95 % intervals for label accuracy.
func (s *Scores) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "label accuracy\tall\tnow\tvideo\tdirection\tdistance\tfind item\taffordance\tplanning\tabstains\tfalsely\tno label\tfailed")
	line := func(name string, a *Accuracy, more string) {
		fmt.Fprintf(w, "%s\t%s", name, within(a.Intervals.LabelAccuracy))
		for _, g := range []string{"now", "video"} {
			in, ok := a.Intervals.Groups[g]
			fmt.Fprintf(w, "\t%s", share(in, ok))
		}
		for _, t := range tasksInOrder() {
			in, ok := a.Intervals.Tasks[t]
			fmt.Fprintf(w, "\t%s", share(in, ok))
		}
		fmt.Fprintln(w, more)
	}
	for _, run := range Ablations() {
		r := s.Runs[run]
		if r == nil {
			continue
		}
		more := "\t\t"
		if a := r.Abstention; a != nil {
			more = fmt.Sprintf("\t%s\t%s", share(a.Accuracy, true), share(a.False, a.False.N > 0))
		}
		line(string(run), &r.Accuracy, more+fmt.Sprintf("\t%d\t%d", r.NoLabel, len(r.Failed)))
	}
	for _, g := range []struct{ key, name string }{{Words, "guess by words"}, {Majority, "guess most frequent"}} {
		if a := s.Guessers[g.key]; a != nil {
			line(g.name, a, "\t\t\t\t")
		}
	}
	_ = w.Flush() // a strings.Builder takes everything
	if s.TooFewToGuess > 0 {
		fmt.Fprintf(&b, "no guessers: they learn from at least %d items with a label, here are %d\n", minGuessed, s.TooFewToGuess)
	}
	fmt.Fprintln(&b)
	fmt.Fprintln(w, "text metrics\tform\tBLEU-1\tBLEU-2\tBLEU-3\tBLEU-4\tCIDEr-D\tCIDEr\tROUGE-L\tMETEOR\tSenSim")
	for _, run := range Ablations() {
		r := s.Runs[run]
		if r == nil || r.Metrics.Scores == nil {
			continue
		}
		for _, form := range []struct {
			name string
			f    metrics.Figures
			sim  *float64
		}{{"raw (REA)", r.Metrics.Raw, r.Metrics.SenSim}, {"PTB (COCO)", r.Metrics.PTB, nil}} {
			f := form.f
			fmt.Fprintf(w, "%s\t%s", run, form.name)
			for _, x := range []*float64{&f.BLEU1, &f.BLEU2, &f.BLEU3, &f.BLEU4, &f.CIDErD, &f.CIDEr, &f.ROUGEL, f.METEOR, form.sim} {
				if x == nil {
					fmt.Fprint(w, "\t–")
				} else {
					fmt.Fprintf(w, "\t%.2f", 100**x)
				}
			}
			fmt.Fprintln(w)
		}
	}
	_ = w.Flush()
	for run, n := range s.Incomplete {
		fmt.Fprintf(&b, "run %s is not complete: %d answers\n", run, n)
	}
	return b.String()
}

func within(in *metrics.Interval) string {
	if in == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f [%.1f, %.1f]", 100*in.Mean, 100*in.Low, 100*in.High)
}

func share(in metrics.Interval, ok bool) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.1f", 100*in.Mean)
}
