// Package judge has language models decide whether answers are right, as REA's evaluation does, without its faults: replies
// are read by whole words, items are matched by id, and a run that was cut off goes on where it was.
package judge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/stllm/stllm/bags/internal/service"
)

// Options of a run.
type Options struct {
	Form       Form
	Lenient    bool          // GPT's published prompt; see [Published]
	Parse      Parser        // default WholeWords
	Workers    int           // requests at a time, default 4
	PerMinute  int           // requests a minute at most; 0: no limit
	Tries      int           // per item, default 4
	FirstPause time.Duration // before the second try, doubled after each; default 2 s
	Timeout    time.Duration // of one request, default 60 s
	Progress   func(done, total int)
}

func (o Options) withDefaults() Options {
	if o.Form == "" {
		o.Form = Published
	}
	if o.Parse == nil {
		o.Parse = WholeWords
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Tries <= 0 {
		o.Tries = 4
	}
	if o.FirstPause <= 0 {
		o.FirstPause = 2 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	return o
}

// Result is one judged item, one line of the results file. Replies holds every reply, invalid ones included.
type Result struct {
	ID      string            `json:"id"`
	Task    string            `json:"task"`
	Judge   string            `json:"judge"`
	Form    Form              `json:"form"`
	Verdict Verdict           `json:"verdict"`
	Error   string            `json:"error,omitempty"`
	Replies []json.RawMessage `json:"replies,omitempty"`
}

// Estimate is what a run will cost at most, by a rule of thumb of four characters a token.
type Estimate struct{ Requests, PromptTokens, NewTokens int }

// EstimateRun counts before anything is sent; items already in done are left out.
func EstimateRun(items []Item, done map[string]Result, o Options) (Estimate, error) {
	var e Estimate
	for _, it := range items {
		if _, ok := done[it.ID]; ok {
			continue
		}
		p, err := prompt(it, o.withDefaults().Form, o.Lenient)
		if err != nil {
			return e, err
		}
		e.Requests++
		e.PromptTokens += len(p)/4 + 1
		e.NewTokens += 3
	}
	return e, nil
}

// Load reads a results file; a last line that was cut off is dropped. A missing file is an empty one.
func Load(path string) (map[string]Result, error) {
	done := map[string]Result{}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, fmt.Errorf("judge results: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for line := 1; ; line++ {
		b, err := r.ReadBytes('\n')
		if err == io.EOF {
			return done, nil // what has no line end was not written whole
		}
		if err != nil {
			return nil, fmt.Errorf("judge results %s: %w", path, err)
		}
		var res Result
		if err := json.Unmarshal(b, &res); err != nil {
			return nil, fmt.Errorf("judge results %s line %d: %w", path, line, err)
		}
		if res.Error == "" { // failed items are tried again
			done[res.ID] = res
		}
	}
}

// Run judges the items that done does not have and hands each result to save, one at a time. It returns all results by id.
// An item whose tries are used up is a result with an error; only ctx and save end the run.
func Run(ctx context.Context, c Client, items []Item, done map[string]Result, o Options, save func(Result) error) (map[string]Result, error) {
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := make(map[string]Result, len(items))
	var todo []Item
	for _, it := range items {
		if _, dup := all[it.ID]; dup {
			return nil, fmt.Errorf("judge: two items have the id %q", it.ID)
		}
		all[it.ID] = Result{}
		if r, ok := done[it.ID]; ok {
			all[it.ID] = r
		} else {
			todo = append(todo, it)
		}
	}
	total := len(items)
	finished := total - len(todo)
	o.Progress(finished, total)
	work, results := make(chan Item), make(chan Result)
	limit := service.NewLimiter(o.PerMinute)
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for it := range work {
				r := one(ctx, c, it, o, limit)
				select {
				case results <- r:
				case <-ctx.Done():
				}
			}
		}()
	}
	go func() {
		defer close(work)
		for _, it := range todo {
			select {
			case work <- it:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		wg.Wait()
		close(results)
	}()
	var saveErr error
	for r := range results {
		if ctx.Err() != nil {
			continue
		}
		if saveErr = save(r); saveErr != nil {
			cancel()
			continue
		}
		all[r.ID] = r
		finished++
		o.Progress(finished, total)
	}
	if saveErr != nil {
		return all, fmt.Errorf("save a judge's result: %w", saveErr)
	}
	return all, ctx.Err()
}

// one asks until a valid verdict comes or the tries are used up.
func one(ctx context.Context, c Client, it Item, o Options, limit *service.Limiter) Result {
	res := Result{ID: it.ID, Task: it.Task, Judge: c.Name(), Form: o.Form, Verdict: Invalid}
	text, err := prompt(it, o.Form, o.Lenient)
	if err != nil {
		res.Error = err.Error()
		return res
	}
	pause := service.Backoff(o.FirstPause)
	for try := 1; ; try++ {
		if err = limit.Wait(ctx); err != nil {
			res.Error = err.Error()
			return res
		}
		reqCtx, cancel := context.WithTimeout(ctx, o.Timeout)
		var reply Reply
		reply, err = c.Ask(reqCtx, text)
		cancel()
		if err == nil {
			res.Replies = append(res.Replies, reply.Raw)
			if res.Verdict = o.Parse(reply.Text); res.Verdict != Invalid {
				return res
			}
		}
		if try >= o.Tries || err != nil && !service.Transient(err) {
			break
		}
		if pause.Wait(ctx, err) != nil {
			break
		}
	}
	if err != nil {
		res.Error = err.Error()
	}
	return res
}

// Rate is correct over correct, wrong and invalid, by task and for all.
func Rate(results map[string]Result) (overall float64, byTask map[string]float64) {
	n, right := map[string]float64{}, map[string]float64{}
	for _, r := range results {
		n[r.Task]++
		if r.Verdict == Correct {
			right[r.Task]++
		}
	}
	byTask = map[string]float64{}
	var sumN, sumRight float64
	for task := range n {
		byTask[task] = right[task] / n[task]
		sumN += n[task]
		sumRight += right[task]
	}
	if sumN > 0 {
		overall = sumRight / sumN
	}
	return overall, byTask
}
