package eval

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/stllm/stllm/bags/metrics"
	"github.com/stllm/stllm/node/stllm"
)

// Names of the files in a results folder.
const (
	RunFile         = "run.json"
	PredictionsFile = "predictions.jsonl"
	ScoresFile      = "scores.json"
	picturesFolder  = "pictures"
)

// Options of an evaluation.
type Options struct {
	Out      string // folder for the results; made where it is not there
	Source   Source
	Answerer Answerer
	Runs     []Ablation // default: the whole run alone
	Limit    int        // items at most, drawn by the seed; 0: all
	Task     stllm.Task // only items of this task; empty: all
	Seed     uint64     // of the draw, of wrong poses and of the intervals
	Workers  int        // items at a time, default 1
	Pictures int        // how many items get a picture (contact sheet and top view) for the report; negative: all
	Scorer   metrics.Scorer
	// Progress, which may be nil, is called after every answer, never twice at once.
	Progress func(Progress)
}

// Progress says how far an evaluation is. An answer is one item in one run.
type Progress struct {
	Done, Total, Failed int
	PerSecond           float64       // answers of this session
	Left                time.Duration // at this rate; 0 while it is not known
}

// Result is what an evaluation came to.
type Result struct {
	Settings    Settings
	Scores      *Scores
	Predictions []Prediction // in order of runs and items
	PerSecond   float64      // answers of this session
}

// Settings are what a results folder belongs to (run.json). Runs may be added later; all else must be the same.
type Settings struct {
	Source   string     `json:"source"`
	Answerer string     `json:"answerer"`
	Seed     uint64     `json:"seed"`
	Limit    int        `json:"limit"`
	Task     stllm.Task `json:"task"`
	Items    int        `json:"items"`
	// Content is the SHA-256 of all items' ids, tasks, questions, references and labels.
	Content string `json:"content"`
}

// job is an item with the runs that it still lacks.
type job struct {
	item *Item
	at   int // index of the item
	runs []Ablation
	draw bool
}

// Run asks what has not been answered yet and scores everything. It ends early only when ctx ends, nothing can be written, or
// the folder holds another evaluation. What failed before is tried again.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	all, err := o.Source.Items(ctx)
	if err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", o.Source.Name(), err)
	}
	inspect(all)
	items := choose(all, o)
	if len(items) == 0 {
		return nil, fmt.Errorf("evaluate %s: none of its %d items is of task %q", o.Source.Name(), len(all), o.Task)
	}
	if err := os.MkdirAll(filepath.Join(o.Out, picturesFolder), 0o755); err != nil {
		return nil, fmt.Errorf("results folder: %w", err)
	}
	set := Settings{o.Source.Name(), o.Answerer.ID(), o.Seed, o.Limit, o.Task, len(items), content(items)}
	if err := claim(filepath.Join(o.Out, RunFile), set); err != nil {
		return nil, err
	}
	path := filepath.Join(o.Out, PredictionsFile)
	before, whole, err := ReadPredictions(path)
	if err != nil {
		return nil, err
	}
	out, err := openLog(path, whole)
	if err != nil {
		return nil, err
	}
	asked := slices.DeleteFunc(slices.Clone(o.Runs), func(a Ablation) bool { return a == Shuffled })
	perSecond, err := o.work(ctx, o.jobs(items, before, asked), len(items)*len(asked), out)
	if err == nil && len(asked) < len(o.Runs) {
		err = shuffleAgain(path, o.Seed, out)
	}
	if err = errors.Join(err, out.close()); err != nil {
		return nil, err
	}
	res, err := Score(ctx, o.Out, o.Scorer)
	if res != nil {
		res.PerSecond = perSecond
	}
	return res, err
}

func (o *Options) validate() error {
	switch {
	case o.Out == "":
		return errors.New("evaluate: no folder for the results is given")
	case o.Source == nil:
		return errors.New("evaluate: no items are given")
	case o.Answerer == nil:
		return errors.New("evaluate: no answerer is given")
	case o.Limit < 0:
		return fmt.Errorf("evaluate: limit is %d, expected a number of items, or 0 for all", o.Limit)
	case o.Workers < 0 || o.Workers > 1024:
		return fmt.Errorf("evaluate: workers is %d, expected 1 to 1024", o.Workers)
	}
	if len(o.Runs) == 0 {
		o.Runs = []Ablation{None}
	}
	for i, r := range o.Runs {
		if !slices.Contains(Ablations(), r) || slices.Contains(o.Runs[:i], r) {
			return fmt.Errorf("evaluate: run %q is unknown or named twice", r)
		}
	}
	if slices.Contains(o.Runs, Shuffled) && !slices.Contains(o.Runs, None) {
		return errors.New("evaluate: run shuffled hands out the answers of the whole run: ask for none as well")
	}
	o.Workers = max(o.Workers, 1)
	return nil
}

// choose takes the items of a task and draws from them where there is a limit; their order stays. Broken items belong to
// every task: what they would have been is not known for sure.
func choose(all []Item, o Options) []Item {
	var items []Item
	for _, it := range all {
		if o.Task == "" || it.Task == o.Task || it.Err != nil && it.Task == "" {
			items = append(items, it)
		}
	}
	if o.Limit == 0 || o.Limit >= len(items) {
		return items
	}
	drawn := rand.New(rand.NewPCG(o.Seed, uint64(len(items)))).Perm(len(items))[:o.Limit]
	slices.Sort(drawn)
	out := make([]Item, len(drawn))
	for i, n := range drawn {
		out[i] = items[n]
	}
	return out
}

func content(items []Item) string {
	h := sha256.New()
	for _, it := range items {
		for _, s := range []string{it.ID, string(it.Task), it.Group, it.Question, it.Reference, it.Label} {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// claim makes the results folder that of these settings, or refuses where it is another's.
func claim(path string, set Settings) error {
	old, err := readSettings(path)
	if errors.Is(err, os.ErrNotExist) {
		return writeJSON(path, set)
	}
	if err != nil {
		return err
	}
	var differ []string
	a, b := reflect.ValueOf(*old), reflect.ValueOf(set)
	for i := range a.NumField() {
		if !a.Field(i).Equal(b.Field(i)) {
			differ = append(differ, fmt.Sprintf("%s %v, now %v", strings.ToLower(a.Type().Field(i).Name), a.Field(i), b.Field(i)))
		}
	}
	if differ != nil {
		return fmt.Errorf("results folder %s belongs to another evaluation (%s): give another folder, or remove this one", filepath.Dir(path), strings.Join(differ, "; "))
	}
	return nil
}

func readSettings(path string) (*Settings, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("results folder: %w", err)
	}
	var s Settings
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("results folder: %s: %w", path, err)
	}
	return &s, nil
}

// jobs are the items that lack an answer in some run.
func (o *Options) jobs(items []Item, before []Prediction, runs []Ablation) []job {
	have := map[key]bool{}
	for _, p := range before {
		have[key{p.Run, p.ID}] = p.Error == ""
	}
	var out []job
	for i := range items {
		j := job{item: &items[i], at: i, draw: o.Pictures < 0 || i < o.Pictures}
		for _, r := range runs {
			if !have[key{r, items[i].ID}] {
				j.runs = append(j.runs, r)
			}
		}
		if j.runs != nil {
			out = append(out, j)
		}
	}
	return out
}

// work answers all jobs and writes down every answer as it comes.
func (o *Options) work(ctx context.Context, jobs []job, total int, out *log) (perSecond float64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	left := 0
	for _, j := range jobs {
		left += len(j.runs)
	}
	p := Progress{Done: total - left, Total: total}
	started := time.Now()
	fresh := 0
	var mu sync.Mutex
	done := func(pred Prediction) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.add(pred); err != nil {
			cancel(err)
			return
		}
		fresh++
		p.Done++
		if pred.Error != "" {
			p.Failed++
		}
		if s := time.Since(started).Seconds(); s > 0 {
			p.PerSecond = float64(fresh) / s
			p.Left = time.Duration(float64(p.Total-p.Done) / p.PerSecond * float64(time.Second))
		}
		if o.Progress != nil {
			o.Progress(p)
		}
	}
	if o.Progress != nil {
		o.Progress(p)
	}
	queue := make(chan job)
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for j := range queue {
				o.item(ctx, j, done, cancel)
			}
		})
	}
feed:
	for _, j := range jobs {
		select {
		case queue <- j:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()
	return p.PerSecond, context.Cause(ctx)
}

// full tells whether a disk has no room: what fails then says nothing about an item, and all that follow would fail as well.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// item answers one item in all runs that it lacks. It is opened once for them. stop ends the evaluation.
func (o *Options) item(ctx context.Context, j job, done func(Prediction), stop context.CancelCauseFunc) {
	it := j.item
	var clip *Clip
	broken := it.Err
	if broken == nil {
		var err error
		if clip, err = it.Open(ctx); err == nil {
			err = clip.check()
		}
		if err != nil {
			broken = fmt.Errorf("item %s of %s: %w", it.ID, it.File, err)
		}
	}
	for _, run := range j.runs {
		started := time.Now()
		p := Prediction{Run: run, ID: it.ID, Index: j.at, Task: it.Task, Group: it.Group, About: it.About, Question: strings.ToValidUTF8(it.Question, "?"),
			Reference: strings.ToValidUTF8(it.Reference, "?"), Label: it.truth()}
		err := broken
		if err == nil {
			seen := run.apply(clip, it.ID, o.Seed)
			var r Reply
			r, err = o.Answerer.Answer(ctx, Query{it.ID, it.Task, it.Question, it.Choices, run, seen})
			switch {
			case err != nil:
			case !utf8.ValidString(r.Text):
				err = errors.New("the answer is not valid UTF-8")
			case strings.TrimSpace(r.Text) == "":
				err = errors.New("the answer is empty")
			default:
				p.Answer, p.Evidence = r.Text, r.Evidence
				p.Said = labelOf(it.Task, it.Question, r.Text)
			}
			if err != nil {
				err = fmt.Errorf("item %s of %s: %w", it.ID, it.File, err)
			}
			if err == nil && run == None && j.draw {
				p.Picture, err = o.picture(it, clip, r)
			}
		}
		if full(err) {
			stop(fmt.Errorf("%w: make room and run the same command again, it goes on from here", err))
		}
		if ctx.Err() != nil {
			return // it was not the item's fault
		}
		if err != nil {
			p.Error = strings.ToValidUTF8(err.Error(), "?")
			p.Answer, p.Said, p.Evidence = "", "", nil
		}
		p.Seconds = time.Since(started).Seconds()
		done(p)
	}
}

// check finds what is wrong with a clip before an answerer sees it.
func (c *Clip) check() error {
	if len(c.Frames) == 0 {
		return errors.New("it has no frames")
	}
	for _, f := range c.Frames {
		if f.Picture == nil || len(f.Picture.Pix) != 3*f.Picture.Width*f.Picture.Height || len(f.Picture.Pix) == 0 {
			return fmt.Errorf("frame %s has no picture", f.Name)
		}
		if !f.Pose.Finite() {
			return fmt.Errorf("frame %s: its pose is not finite", f.Name)
		}
		if !(f.K[0] > 0 && f.K[4] > 0) || f.Width <= 0 || f.Height <= 0 {
			return fmt.Errorf("frame %s: intrinsics %v of a picture of %d × %d pixels make no sense", f.Name, f.K, f.Width, f.Height)
		}
	}
	if c.Map == nil || c.Map.Len() == 0 {
		return errors.New("its map has no points")
	}
	return nil
}
