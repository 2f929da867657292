package report

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/node/stllm"
)

// browser is the list of an evaluation's items.
type browser struct {
	Name   string
	Items  []browserItem
	Shown  int
	All    int
	NoRoom int // pictures that the page has no room for
}

type browserItem struct {
	ID, Group, State    string
	Task                stllm.Task
	Question, Reference string
	Label               string
	Answers             []browserAnswer
	Verdicts            []verdict
	Evidence, Error     string
	Picture             template.URL
}

type browserAnswer struct {
	Run               eval.Ablation
	Text, Said, State string
}

type verdict struct{ Judge, Verdict string }

// states of an answer, worst first.
const (
	failed  = "failed"
	wrong   = "wrong"
	unknown = "no label to compare"
	correct = "right"
)

func state(p *eval.Prediction) string {
	switch {
	case p.Error != "":
		return failed
	case p.Label == "":
		return unknown
	case p.Right():
		return correct
	}
	return wrong
}

// browse lists the items of the whole run (or the first run there is), failed and wrong ones first.
func browse(e Evaluation, res *eval.Result, most int, room *int64) browser {
	b := browser{Name: e.Name}
	byID := map[string][]*eval.Prediction{}
	var ids []string
	for i := range res.Predictions {
		p := &res.Predictions[i]
		if byID[p.ID] == nil {
			ids = append(ids, p.ID)
		}
		byID[p.ID] = append(byID[p.ID], p)
	}
	b.All = len(ids)
	rank := []string{failed, wrong, unknown, correct}
	slices.SortStableFunc(ids, func(x, y string) int {
		return cmp.Compare(slices.Index(rank, state(byID[x][0])), slices.Index(rank, state(byID[y][0])))
	})
	ids = ids[:min(len(ids), max(most, 0))]
	b.Shown = len(ids)
	for _, id := range ids {
		p := byID[id][0]
		it := browserItem{ID: id, Group: p.Group, State: state(p), Task: p.Task, Question: p.Question, Reference: p.Reference, Label: p.Label, Error: p.Error}
		for _, a := range byID[id] {
			it.Answers = append(it.Answers, browserAnswer{a.Run, a.Answer, a.Said, state(a)})
		}
		for _, j := range e.Judges {
			if r, ok := j.Results[id]; ok {
				it.Verdicts = append(it.Verdicts, verdict{j.Name, string(r.Verdict)})
			}
		}
		it.Evidence = evidence(p.Evidence)
		png, err := readPicture(e.Dir, p.Picture)
		switch {
		case err != nil:
			it.Error = strings.TrimPrefix(it.Error+"; "+err.Error(), "; ")
		case int64(len(png)) > *room:
			b.NoRoom++
		case png != nil:
			*room -= int64(len(png))
			it.Picture = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(png))
		}
		b.Items = append(b.Items, it)
	}
	return b
}

// evidence says in a line where the answer looked most.
func evidence(e *stllm.Evidence) string {
	if e == nil {
		return ""
	}
	var parts []string
	frames := slices.Clone(e.Frames)
	slices.SortStableFunc(frames, func(a, b stllm.FrameEvidence) int { return cmp.Compare(b.Weight, a.Weight) })
	for _, f := range frames[:min(3, len(frames))] {
		parts = append(parts, fmt.Sprintf("frame %d (%.0f %%)", f.Index+1, 100*f.Weight))
	}
	regions := slices.Clone(e.Regions)
	slices.SortStableFunc(regions, func(a, b stllm.RegionEvidence) int { return cmp.Compare(b.Weight, a.Weight) })
	for _, r := range regions[:min(3, len(regions))] {
		parts = append(parts, fmt.Sprintf("map at (%.1f, %.1f, %.1f) m (%.0f %%)", r.X, r.Y, r.Z, 100*r.Weight))
	}
	return strings.Join(parts, ", ")
}
