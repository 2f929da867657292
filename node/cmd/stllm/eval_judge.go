package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/judge"
	"github.com/stllm/stllm/bags/report"
)

// judgeFlags say which language models judge the answers of the whole run.
type judgeFlags struct {
	who     []string
	url     string
	keyEnv  string
	form    string
	parse   string
	workers int
	rpm     int
	prices  []float64
}

func (f *judgeFlags) add(s *pflag.FlagSet) {
	s.StringArrayVar(&f.who, "judge", nil, "openai:MODEL or gemini:MODEL judges the answers of the whole run; may be repeated")
	s.StringVar(&f.url, "judge-url", "", "base URL of the service (default: the service's own)")
	s.StringVar(&f.keyEnv, "judge-key-env", "", "environment variable that holds the key (default OPENAI_API_KEY or GEMINI_API_KEY); it is never written anywhere")
	s.StringVar(&f.form, "judge-form", "published", "published or strict prompt")
	s.StringVar(&f.parse, "judge-parse", "words", "words: whole words; published: the published test, which takes \"incorrect\" for correct")
	s.IntVar(&f.workers, "judge-workers", 4, "requests at a time")
	s.IntVar(&f.rpm, "judge-rpm", 0, "requests a minute at most; 0: no limit")
	s.Float64SliceVar(&f.prices, "judge-price", nil, "price of a million prompt tokens and of a million new ones, for the estimate: 2.5,10")
}

// judgeRun is one judge with what its results are kept as.
type judgeRun struct {
	client judge.Client
	name   string
	opt    judge.Options
}

// Where the services are by themselves.
const (
	openAIURL = "https://api.openai.com/v1"
	geminiURL = "https://generativelanguage.googleapis.com/v1beta"
)

func (f *judgeFlags) clients() ([]judgeRun, error) {
	var out []judgeRun
	for _, who := range f.who {
		service, model, _ := strings.Cut(who, ":")
		if model == "" {
			return nil, usageError{fmt.Errorf("--judge is %q, expected openai:MODEL or gemini:MODEL", who)}
		}
		r := judgeRun{name: model + " " + f.form, opt: judge.Options{Form: judge.Form(f.form), Workers: f.workers, PerMinute: f.rpm}}
		if r.opt.Form != judge.Published && r.opt.Form != judge.Strict {
			return nil, usageError{fmt.Errorf("--judge-form is %q, expected published or strict", f.form)}
		}
		switch f.parse {
		case "words":
		case "published":
			r.opt.Parse = judge.PublishedParse
			r.name += " (published parser)"
		default:
			return nil, usageError{fmt.Errorf("--judge-parse is %q, expected words or published", f.parse)}
		}
		keyEnv, url := f.keyEnv, f.url
		pick := func(standardKey, standardURL string) {
			if keyEnv == "" {
				keyEnv = standardKey
			}
			if url == "" {
				url = standardURL
			}
		}
		switch service {
		case "openai":
			pick("OPENAI_API_KEY", openAIURL)
			r.client = &judge.OpenAI{Endpoint: url, Model: model, Key: os.Getenv(keyEnv), System: "You are a helpful assistant."}
			r.opt.Lenient = true
		case "gemini":
			pick("GEMINI_API_KEY", geminiURL)
			r.client = &judge.Gemini{Endpoint: url, Model: model, Key: os.Getenv(keyEnv)}
		default:
			return nil, usageError{fmt.Errorf("--judge is %q, expected openai:MODEL or gemini:MODEL", who)}
		}
		if os.Getenv(keyEnv) == "" && f.url == "" {
			return nil, usageError{fmt.Errorf("--judge %s: environment variable %s is empty", who, keyEnv)}
		}
		out = append(out, r)
	}
	return out, nil
}

// judgePrefix begins the names of files with verdicts in a results folder.
const judgePrefix = "judge-"

// judge asks for the verdicts that are not there yet, and keeps every raw reply.
func (a *app) judge(ctx context.Context, e *evalFlags, j judgeRun, res *eval.Result) error {
	path := filepath.Join(e.out, judgePrefix+safeName(j.name)+".jsonl")
	done, err := judge.Load(path)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, t := range judge.Tasks() {
		known[t] = true
	}
	var items []judge.Item
	skipped := 0
	for _, p := range res.Predictions {
		switch {
		case p.Run != eval.None || p.Error != "": // failed items count as wrong without being asked about
		case !known[string(p.Task)]:
			skipped++
		default:
			items = append(items, judge.Item{ID: p.ID, Task: string(p.Task), Question: p.Question, Reference: p.Reference, Prediction: p.Answer})
		}
	}
	if skipped > 0 {
		a.log.Warn().Int("items", skipped).Msg("no judge has criteria for questions without a task")
	}
	cost, err := judge.EstimateRun(items, done, j.opt)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("judge %s: %d requests, about %d prompt and %d new tokens", j.name, cost.Requests, cost.PromptTokens, cost.NewTokens)
	if p := e.judges.prices; len(p) == 2 {
		text += fmt.Sprintf(", about %.2f by --judge-price", (float64(cost.PromptTokens)*p[0]+float64(cost.NewTokens)*p[1])/1e6)
	}
	fmt.Fprintln(a.err, text)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("verdicts: %w", err)
	}
	defer f.Close()
	if err := endOfLines(f); err != nil {
		return fmt.Errorf("verdicts %s: %w", path, err)
	}
	bar := a.progress("judge")
	j.opt.Progress = bar.set
	all, err := judge.Run(ctx, j.client, items, done, j.opt, func(r judge.Result) error {
		r.Judge = j.name
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = f.Write(append(b, '\n'))
		return err
	})
	bar.done()
	if err != nil {
		return err
	}
	rate, _ := judge.Rate(all)
	fmt.Fprintf(a.out, "judge %s: %.4f of %d judged answers are correct\n", j.name, rate, len(all))
	return f.Close()
}

// endOfLines cuts a last line that was not written whole and goes to the end.
func endOfLines(f *os.File) error {
	data, err := os.ReadFile(f.Name())
	if err != nil {
		return err
	}
	whole := int64(strings.LastIndexByte(string(data), '\n') + 1)
	if err := f.Truncate(whole); err != nil {
		return err
	}
	_, err = f.Seek(whole, 0)
	return err
}

func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, s)
}

// judgesIn finds the verdicts that lie in a results folder.
func judgesIn(dir string) ([]report.Judge, error) {
	files, err := filepath.Glob(filepath.Join(dir, judgePrefix+"*.jsonl"))
	if err != nil {
		return nil, err
	}
	var out []report.Judge
	for _, path := range files {
		results, err := judge.Load(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), judgePrefix), ".jsonl")
		for _, r := range results {
			name = r.Judge
			break
		}
		out = append(out, report.Judge{Name: name, Results: results})
	}
	return out, nil
}
