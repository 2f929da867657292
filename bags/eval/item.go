// Package eval asks a model the questions of REA items, of bags and of synthetic kitchens and scores the answers: exact labels
// with confusion matrices, the published text metrics, and ablated runs beside the whole one. A run that was killed goes on
// where it was and comes to the same scores.
//
//	src, err := eval.REA("val.json", rea.RootsBeside("val.json"), 32)
//	…
//	res, err := eval.Run(ctx, eval.Options{Out: "out", Source: src, Answerer: a, Runs: []eval.Ablation{eval.None, eval.Blind}})
package eval

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// Item is one question with its right answer.
type Item struct {
	ID        string // unique in a source
	Task      stllm.Task
	Group     string // "now", "video" or empty
	Question  string
	Choices   []string // when not empty, the answer is one of these
	Reference string
	Label     string // of the right answer, as node/label writes it; empty: read from Reference
	About     string // the noun asked about, where known
	File      string // where it comes from, for messages

	// Err is what makes the item unusable, nil for a good one. Such an item counts as failed.
	Err error
	// Open gets what the item shows. It may be called again, from several goroutines at once.
	Open func(ctx context.Context) (*Clip, error)
}

// Clip is what an item shows.
type Clip struct {
	Frames  []Frame // in order of time
	Map     *scene.Cloud
	Seconds float64              // length of the video that the frames are from; 0: from the first to the last
	Boxes   []picture.Box        // for people, where known
	Path    []geometry.Transform // of the camera, for people; nil: that of Frames
}

// Frame is a posed picture.
type Frame struct {
	Name    string
	Stamp   int64              // ns
	Picture *imaging.RGB       // nil: withheld by an ablation
	Pose    geometry.Transform // optical frame to the map's frame
	K       [9]float64         // of the picture with this width and height
	Width   int
	Height  int
	Depth   []float32 // measured, as [stllm.Frame] has it; nil: none
}

// Source is a set of items.
type Source interface {
	// Name says what it is, for reports.
	Name() string
	// Items lists all of them, always in the same order. Broken ones are among them with Err set. An error is for a source
	// that gives no items at all.
	Items(ctx context.Context) ([]Item, error)
}

// List is a source that is in memory.
type List struct {
	Title string
	All   []Item
}

// Name returns the title.
func (l List) Name() string { return l.Title }

// Items returns the list.
func (l List) Items(context.Context) ([]Item, error) { return l.All, nil }

// Several joins sources; ids get the source's number in front where they would clash.
type Several []Source

// Name lists the sources.
func (s Several) Name() string {
	var names []string
	for _, one := range s {
		names = append(names, one.Name())
	}
	return strings.Join(names, ", ")
}

// Items lists those of all sources in order.
func (s Several) Items(ctx context.Context) ([]Item, error) {
	var out []Item
	of := map[string]int{}
	for n, one := range s {
		items, err := one.Items(ctx)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			if first, used := of[it.ID]; used && first != n {
				it.ID = fmt.Sprintf("%d/%s", n, it.ID)
			} else {
				of[it.ID] = n
			}
			out = append(out, it)
		}
	}
	return out, nil
}

// check finds what is wrong with an item that its source took for good.
func (it *Item) check() error {
	for _, text := range []struct{ name, value string }{{"id", it.ID}, {"question", it.Question}, {"reference", it.Reference}, {"label", it.Label}} {
		if !utf8.ValidString(text.value) {
			return fmt.Errorf("%s is not valid UTF-8", text.name)
		}
	}
	switch {
	case strings.TrimSpace(it.Question) == "":
		return errors.New("the question is empty")
	case strings.TrimSpace(it.Reference) == "" && it.Label == "":
		return errors.New("it has neither a reference answer nor a label")
	case it.Open == nil:
		return errors.New("it has nothing to look at")
	}
	switch it.Task {
	case stllm.TaskFree, stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning:
		return nil
	}
	return fmt.Errorf("task is %q, expected one of relative_direction, relative_distance, find_my_item, furniture_affordance, action_planning or none", it.Task)
}

// truth is the label of the right answer, "" where it has none.
func (it *Item) truth() string {
	if it.Label != "" {
		return it.Label
	}
	return labelOf(it.Task, it.Question, it.Reference)
}

// labelOf reads an answer in the wording of the robot's questions or, where it says more than one of their labels, in REA's.
func labelOf(task stllm.Task, question, text string) string {
	if rea.HasOptions(task, question) {
		return rea.Label(task, question, text)
	}
	if l := (label.Reader{}).Label(task, question, text); l != "" {
		return l
	}
	return rea.Label(task, question, text)
}

// inspect sets Err of every item that cannot be used: broken ones, and those whose id came before.
func inspect(items []Item) {
	first := map[string]int{}
	for i := range items {
		it := &items[i]
		if it.ID == "" {
			it.ID = fmt.Sprintf("#%d", i)
		}
		if n, dup := first[it.ID]; dup {
			if it.Err == nil {
				it.Err = fmt.Errorf("item %s of %s: its id stands at #%d already", it.ID, it.File, n)
			}
			it.ID = fmt.Sprintf("%s (#%d)", it.ID, i) // so that both can be told apart in the results
		}
		first[it.ID] = i
		if it.Err == nil {
			if err := it.check(); err != nil {
				it.Err = fmt.Errorf("item %s of %s: %w", strings.ToValidUTF8(it.ID, "?"), it.File, err)
			}
		}
		it.ID = strings.ToValidUTF8(it.ID, "?")
	}
}
