// Package report makes report.html of evaluations: scores with intervals beside the ablated runs and the published figures,
// bars, confusion matrices and an error browser. The page is one file without scripts, opens from disk and prints.
package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/judge"
	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/wholefile"
)

// Evaluation is a results folder of eval.Run with what belongs to it.
type Evaluation struct {
	Dir    string
	Name   string  // default: the answerer's id
	Judges []Judge // verdicts on its whole run
}

// Judge is what a language model said of an evaluation's answers.
type Judge struct {
	Name    string
	Results map[string]judge.Result // by item id
}

// Options of a report.
type Options struct {
	Title       string
	Evaluations []Evaluation
	MaxItems    int   // in the error browser of each evaluation, wrong ones first; default 60, negative: none
	MaxPictures int64 // bytes of pictures in the page; default 24 MiB
}

//go:embed report.html.tmpl
var page string

// Write makes the page and replaces the file at path.
func Write(path string, o Options) error {
	b, err := Render(o)
	if err != nil {
		return err
	}
	if err := wholefile.Write(path, b); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Render makes the page. The same folders give the same bytes.
func Render(o Options) ([]byte, error) {
	if len(o.Evaluations) == 0 {
		return nil, errors.New("report: no evaluation is given")
	}
	if o.Title == "" {
		o.Title = "Evaluation"
	}
	if o.MaxItems == 0 {
		o.MaxItems = 60
	}
	if o.MaxPictures == 0 {
		o.MaxPictures = 24 << 20
	}
	v := view{Title: o.Title, Tasks: tasks()}
	room := o.MaxPictures
	var bars []barGroup
	for i, e := range o.Evaluations {
		res, err := eval.Load(e.Dir)
		if err != nil {
			return nil, fmt.Errorf("report: %w", err)
		}
		if e.Name == "" {
			e.Name = res.Settings.Answerer
		}
		v.add(i, e, res)
		bars = append(bars, barsOf(i, e.Name, res)...)
		v.Browsers = append(v.Browsers, browse(e, res, o.MaxItems, &room))
	}
	v.Bars = drawBars(bars)
	v.Published = published()
	v.publishedText()
	t, err := template.New("report").Funcs(template.FuncMap{"percent": percent, "task": taskName}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// view is what the template shows.
type view struct {
	Title     string
	Tasks     []stllm.Task
	Groups    []string
	Sets      []set
	Labels    []labelRow
	Judged    []judgedRow
	Published []judged
	Text      []textRow
	Missing   []string
	Bars      template.HTML
	Matrices  []matrix
	Browsers  []browser
}

// set describes one evaluation.
type set struct {
	Name, Source string
	Items        int
	Seed         uint64
	Limit        int
	Task         stllm.Task
	Failed       []failures
	Incomplete   []string
}

type failures struct {
	Run  eval.Ablation
	List []eval.Failure
}

// cell is a share with its interval.
type cell struct {
	OK bool
	metrics.Interval
}

type labelRow struct {
	Name     string
	Run      eval.Ablation
	Whole    bool
	First    bool
	Guess    string // not a run but a guesser, which it describes
	Abstains cell   // of items whose right answer is that the thing is not there, those that say so
	Falsely  cell   // of the others
	Overall  cell
	Groups   []cell
	Tasks    []cell
	Labelled int
	NoLabel  int
	Failed   int
}

type judgedRow struct {
	Name, Judge string
	Overall     cell
	Tasks       []cell
	Judged      int
	Items       int
}

type textRow struct {
	Name, Form string
	Run        eval.Ablation
	Published  bool
	First      bool
	Cells      []figure
}

// figure is a metric times 100, with its interval where it has one.
type figure struct{ Value, Interval string }

// textColumns are the metrics in the order of the table.
func textColumns() []string {
	return []string{"bleu1", "bleu2", "bleu3", "bleu4", "cider_d", "cider", "rouge_l", "meteor", "sensim"}
}

func tasks() []stllm.Task {
	return []stllm.Task{stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning}
}

func taskName(t stllm.Task) string {
	switch t {
	case stllm.TaskDirection:
		return "direction"
	case stllm.TaskDistance:
		return "distance"
	case stllm.TaskFindItem:
		return "find item"
	case stllm.TaskAffordance:
		return "affordance"
	case stllm.TaskPlanning:
		return "planning"
	case stllm.TaskFree:
		return "free"
	}
	return string(t)
}

func percent(x float64) string { return fmt.Sprintf("%.1f", 100*x) }

func (v *view) add(i int, e Evaluation, res *eval.Result) {
	s := set{Name: e.Name, Source: res.Settings.Source, Items: res.Settings.Items, Seed: res.Settings.Seed, Limit: res.Settings.Limit, Task: res.Settings.Task}
	if v.Groups == nil {
		v.Groups = []string{"now", "video"}
	}
	first := true
	for _, run := range eval.Ablations() {
		r := res.Scores.Runs[run]
		if r == nil {
			if n, ok := res.Scores.Incomplete[run]; ok {
				s.Incomplete = append(s.Incomplete, fmt.Sprintf("%s: %d of %d answers", run, n, s.Items))
			}
			continue
		}
		row := labelRow{Name: e.Name, Run: run, Whole: run == eval.None, First: first, Labelled: r.Labelled, NoLabel: r.NoLabel, Failed: len(r.Failed)}
		v.shares(&row, r.Intervals)
		if ab := r.Abstention; ab != nil {
			row.Abstains, row.Falsely = cell{true, ab.Accuracy}, cell{ab.False.N > 0, ab.False}
		}
		v.Labels = append(v.Labels, row)
		v.text(e.Name, run, r, first)
		if len(r.Failed) > 0 {
			s.Failed = append(s.Failed, failures{run, r.Failed})
		}
		if run == eval.None {
			matrices := slices.Clone(r.Confusion)
			slices.SortStableFunc(matrices, func(a, b eval.Confusion) int { return slices.Index(v.Tasks, a.Task) - slices.Index(v.Tasks, b.Task) })
			for _, c := range matrices {
				v.Matrices = append(v.Matrices, matrixOf(e.Name, c))
			}
		}
		first = false
	}
	for _, g := range []struct{ key, name string }{{eval.Words, "guess: words"}, {eval.Majority, "guess: frequent"}} {
		if acc := res.Scores.Guessers[g.key]; acc != nil {
			row := labelRow{Name: e.Name, Guess: g.name}
			v.shares(&row, acc.Intervals)
			v.Labels = append(v.Labels, row)
		}
	}
	v.Sets = append(v.Sets, s)
	for _, j := range e.Judges {
		v.Judged = append(v.Judged, judgedBy(e, j, res))
	}
}

// shares fills a row of the table of labels.
func (v *view) shares(row *labelRow, in eval.Intervals) {
	if in.LabelAccuracy != nil {
		row.Overall = cell{true, *in.LabelAccuracy}
	}
	for _, g := range v.Groups {
		c, ok := in.Groups[g]
		row.Groups = append(row.Groups, cell{ok, c})
	}
	for _, t := range v.Tasks {
		c, ok := in.Tasks[t]
		row.Tasks = append(row.Tasks, cell{ok, c})
	}
}

// text adds the rows of the text metrics, times 100 as papers print them.
func (v *view) text(name string, run eval.Ablation, r *eval.RunScores, first bool) {
	if r.Metrics.Scores == nil || r.Metrics.Items == 0 {
		return
	}
	for _, m := range r.Metrics.Missing {
		if !slices.Contains(v.Missing, m) {
			v.Missing = append(v.Missing, m)
		}
	}
	for _, form := range []struct {
		name string
		f    metrics.Figures
	}{{"raw", r.Metrics.Raw}, {"ptb", r.Metrics.PTB}} {
		row := textRow{Name: name, Run: run, Form: form.name, First: first && form.name == "raw"}
		f := form.f
		for _, x := range []float64{f.BLEU1, f.BLEU2, f.BLEU3, f.BLEU4, f.CIDErD, f.CIDEr, f.ROUGEL} {
			row.Cells = append(row.Cells, optional(&x))
		}
		row.Cells = append(row.Cells, optional(f.METEOR))
		if form.name == "raw" {
			row.Cells = append(row.Cells, optional(r.Metrics.SenSim))
			for name, at := range map[string]int{"cider_d": 4, "rouge_l": 6, "sensim": 8} {
				if in, ok := r.Intervals.Metrics[name]; ok {
					row.Cells[at].Interval = fmt.Sprintf("%.1f–%.1f", 100*in.Low, 100*in.High)
				}
			}
		} else {
			row.Cells = append(row.Cells, figure{})
		}
		v.Text = append(v.Text, row)
	}
}

func optional(x *float64) figure {
	if x == nil {
		return figure{Value: "–"}
	}
	return figure{Value: fmt.Sprintf("%.2f", 100**x)}
}

// publishedText adds the published rows to the table of text metrics.
func (v *view) publishedText() {
	if len(v.Text) == 0 {
		return
	}
	for _, p := range v.Published {
		if p.Text == nil {
			continue
		}
		row := textRow{Name: p.Name, Published: true, First: true, Form: "raw"}
		for _, c := range textColumns() {
			s := ""
			if x, ok := p.Text[c]; ok {
				s = fmt.Sprintf("%.2f", x)
			}
			row.Cells = append(row.Cells, figure{Value: s})
		}
		v.Text = append(v.Text, row)
	}
}

// judgedBy counts verdicts on the whole run; items that the judge did not see are not counted, but their number is shown.
func judgedBy(e Evaluation, j Judge, res *eval.Result) judgedRow {
	row := judgedRow{Name: e.Name, Judge: j.Name}
	var all []float64
	byTask := map[stllm.Task][]float64{}
	for _, p := range res.Predictions {
		if p.Run != eval.None {
			continue
		}
		row.Items++
		r, ok := j.Results[p.ID]
		if !ok {
			continue
		}
		row.Judged++
		x := 0.0
		if r.Verdict == judge.Correct {
			x = 1
		}
		all, byTask[p.Task] = append(all, x), append(byTask[p.Task], x)
	}
	if len(all) > 0 {
		row.Overall = cell{true, metrics.Bootstrap(all, res.Settings.Seed)}
	}
	for _, t := range tasks() {
		c := cell{OK: len(byTask[t]) > 0}
		if c.OK {
			c.Interval = metrics.Bootstrap(byTask[t], res.Settings.Seed)
		}
		row.Tasks = append(row.Tasks, c)
	}
	return row
}

// readPicture returns a picture below an evaluation's folder, nothing where it is not there.
func readPicture(dir, name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("picture %q lies outside of the results folder", name)
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func shorten(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}
