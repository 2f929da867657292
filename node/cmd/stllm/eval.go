package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/report"
	"github.com/stllm/stllm/node/stllm"
)

// evalFlags are the flags of an evaluation.
type evalFlags struct {
	model   modelFlags
	robot   robotFlags
	items   itemFlags
	answers answerFlags
	judges  judgeFlags
	metrics metricFlags

	out, task, ablate        string
	limit, workers, pictures int
	seed                     uint64
	title                    string
	shown                    int
}

func (e *evalFlags) add(f *pflag.FlagSet) {
	f.StringVar(&e.out, "out", "", "folder for the results; a run that was broken off goes on in it")
	f.StringVar(&e.ablate, "ablate", "none", "runs, joined by commas: "+eval.AblationNames())
	f.StringVar(&e.task, "task", "", "only items of this task: relative_direction, relative_distance, find_my_item, furniture_affordance or action_planning")
	f.IntVar(&e.limit, "limit", 0, "items at most, drawn by the seed; 0: all")
	f.Uint64Var(&e.seed, "seed", 1, "of the draw, of wrong poses, of the shuffle and of the intervals")
	f.IntVar(&e.workers, "workers", 1, "items at a time")
	f.IntVar(&e.pictures, "pictures", 60, "items that get a contact sheet and a top view for the report; -1: all")
	f.IntVar(&e.shown, "shown", 60, "items in the report's error browser, failed and wrong ones first")
	f.StringVar(&e.title, "title", "", "title of the report")
	e.items.add(f)
	e.answers.add(f)
	e.metrics.add(f)
	e.judges.add(f)
	e.model.add(f)
	e.robot.add(f)
}

func (a *app) evalCommand() *cobra.Command {
	var e evalFlags
	cmd := &cobra.Command{
		Use:   "eval --items … --model DIR --out DIR",
		Short: "Ask a model the questions of REA items, bags or synthetic kitchens and score the answers",
		Long: "eval drives the live node's robot by every bag (REA items are read as published), asks the model in every run of --ablate\n" +
			"and writes predictions.jsonl, scores.json and report.html. Killed at any point and started again, it goes on where it was\n" +
			"and comes to the same scores.\n\n" +
			"--items takes a REA list (.json), a bag with its questions file beside it (NAME.questions.yaml), a folder of such bags, or\n" +
			"kitchens:FIRST..LAST, synthetic kitchens by their seeds. It may be given more than once.",
		Args: exactly(0, "none (items are given by --items)"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.eval(cmd.Context(), &e) },
	}
	e.add(cmd.Flags())
	cmd.AddCommand(a.evalCompareCommand(), a.evalScoreCommand(), a.evalReportCommand())
	return cmd
}

func (a *app) eval(ctx context.Context, e *evalFlags) error {
	if e.out == "" {
		return usageError{errors.New("--out is needed: a folder for the results")}
	}
	runs, err := eval.ParseAblations(e.ablate)
	if err != nil {
		return usageError{err}
	}
	if err := e.items.check(); err != nil {
		return err
	}
	p, err := e.robot.parameters()
	if err != nil {
		return err
	}
	if e.items.frames > 0 {
		p.Frames = int64(e.items.frames)
		if err := p.Validate(); err != nil {
			return usageError{err}
		}
	}
	judges, err := e.judges.clients()
	if err != nil {
		return err
	}
	answerer, shown, closeModel, err := a.answerer(ctx, e, &p)
	if err != nil {
		return err
	}
	defer closeModel()
	temp := filepath.Join(e.out, ".kitchens")
	if err := os.RemoveAll(temp); err != nil { // what a killed run left
		return fmt.Errorf("results folder: %w", err)
	}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return fmt.Errorf("results folder: %w", err)
	}
	defer os.RemoveAll(temp)
	src, err := e.items.source(a, itemSources{p, shown.frames, shown.depth, e.workers, temp})
	if err != nil {
		return err
	}
	scorer, closeScorer := a.scorer(ctx, &e.metrics)
	defer closeScorer()
	o := eval.Options{Out: e.out, Source: src, Answerer: answerer, Runs: runs, Limit: e.limit, Task: stllm.Task(e.task), Seed: e.seed,
		Workers: e.workers, Pictures: e.pictures, Scorer: scorer}
	bar := a.evalBar()
	o.Progress = bar.set
	started := time.Now()
	res, err := eval.Run(ctx, o)
	bar.done()
	if err != nil {
		return err
	}
	for _, j := range judges {
		if err := a.judge(ctx, e, j, res); err != nil {
			return err
		}
	}
	if err := a.report(e.out, filepath.Join(e.out, "report.html"), e.title, e.shown); err != nil {
		return err
	}
	fmt.Fprint(a.out, res.Scores)
	fmt.Fprintf(a.out, "\n%.2f answers/s in this session of %s; %s\n", res.PerSecond, time.Since(started).Round(time.Second), filepath.Join(e.out, "report.html"))
	if n, ok := answerer.(named); ok {
		fmt.Fprint(a.out, encoded(n.Answerer))
	}
	return nil
}

// encoded tells what a model has encoded for its answers.
func encoded(who eval.Answerer) string {
	m, ok := who.(*eval.Model)
	if !ok {
		return ""
	}
	enc := m.Encoding()
	if enc.Frames == 0 || enc.Maps == 0 {
		return ""
	}
	return fmt.Sprintf("encoded on the way: %.1f ms a picture (of %d), %.1f ms a map (of %d)\n",
		1e3*enc.FramesTook.Seconds()/float64(enc.Frames), enc.Frames, 1e3*enc.MapsTook.Seconds()/float64(enc.Maps), enc.Maps)
}

// report writes the page of one results folder.
func (a *app) report(dir, path, title string, shown int) error {
	ev, err := evaluation(dir)
	if err != nil {
		return err
	}
	return report.Write(path, report.Options{Title: title, Evaluations: []report.Evaluation{ev}, MaxItems: shown})
}

// evaluation is a results folder with the verdicts that lie in it.
func evaluation(dir string) (report.Evaluation, error) {
	js, err := judgesIn(dir)
	return report.Evaluation{Dir: dir, Judges: js}, err
}

// evalBar shows how far an evaluation is: a bar on a terminal, a line every now and then elsewhere.
type evalBar struct {
	a    *app
	bar  *progressbar.ProgressBar
	last time.Time
}

func (a *app) evalBar() *evalBar {
	b := &evalBar{a: a, last: time.Now()}
	if a.terminal() {
		b.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(a.err), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
	}
	return b
}

// progressEvery is the pause between lines where there is no terminal.
const progressEvery = 10 * time.Second

func (b *evalBar) set(p eval.Progress) {
	text := fmt.Sprintf("%.1f answers/s", p.PerSecond)
	if p.Left > 0 {
		text += ", " + p.Left.Round(time.Second).String() + " left"
	}
	if p.Failed > 0 {
		text += fmt.Sprintf(", %d failed", p.Failed)
	}
	if b.bar != nil {
		b.bar.ChangeMax(p.Total)
		b.bar.Describe("eval " + text)
		_ = b.bar.Set(p.Done) // a bar that cannot be drawn is no reason to stop
		return
	}
	if now := time.Now(); now.Sub(b.last) >= progressEvery {
		b.last = now
		b.a.log.Info().Msgf("eval: %d of %d answers, %s", p.Done, p.Total, text)
	}
}

func (b *evalBar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

func (a *app) evalCompareCommand() *cobra.Command {
	var run string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Test whether two evaluations of the same items differ: paired, by item",
		Args:  exactly(2, "two results folders"),
		RunE: func(_ *cobra.Command, args []string) error {
			runs, err := eval.ParseAblations(run)
			if err != nil || len(runs) != 1 {
				return usageError{errors.Join(err, fmt.Errorf("--run is %q, expected one run", run))}
			}
			c, err := eval.Compare(args[0], args[1], runs[0], seed)
			if err != nil {
				return err
			}
			fmt.Fprint(a.out, c)
			return nil
		},
	}
	cmd.Flags().StringVar(&run, "run", "none", "run that is compared")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the resampling")
	return cmd
}

func (a *app) evalScoreCommand() *cobra.Command {
	var m metricFlags
	cmd := &cobra.Command{
		Use:   "score DIR",
		Short: "Score the predictions of a results folder again and write scores.json and report.html",
		Args:  exactly(1, "one results folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			scorer, closeScorer := a.scorer(cmd.Context(), &m)
			defer closeScorer()
			res, err := eval.Score(cmd.Context(), args[0], scorer)
			if err != nil {
				return err
			}
			fmt.Fprint(a.out, res.Scores)
			return a.report(args[0], filepath.Join(args[0], "report.html"), "", 60)
		},
	}
	m.add(cmd.Flags())
	return cmd
}

func (a *app) evalReportCommand() *cobra.Command {
	var out, title string
	var shown int
	cmd := &cobra.Command{
		Use:   "report DIR… --out FILE.html",
		Short: "Write one report that sets several evaluations side by side",
		Args:  atLeast(1, "one results folder or more (NAME=DIR names one)"),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("--out is needed: a file for the report")}
			}
			o := report.Options{Title: title, MaxItems: shown}
			for _, arg := range args {
				name, dir, named := strings.Cut(arg, "=")
				if !named {
					name, dir = "", arg
				}
				ev, err := evaluation(dir)
				if err != nil {
					return err
				}
				ev.Name = name
				o.Evaluations = append(o.Evaluations, ev)
			}
			return report.Write(out, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "file for the report")
	f.StringVar(&title, "title", "", "title of the report")
	f.IntVar(&shown, "shown", 60, "items of each evaluation in the error browser")
	return cmd
}
