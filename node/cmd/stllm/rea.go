package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/stllm"
)

func (a *app) reaCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rea", Short: "REA items (Reasoning about Environments and Actions): from bags, to bags, and new ones"}
	cmd.AddCommand(a.reaExportCommand(), a.reaImportCommand(), a.reaGenerateCommand())
	return group(cmd)
}

func (a *app) reaExportCommand() *cobra.Command {
	var rf robotFlags
	var out string
	var frames int
	var set itemFlags
	cmd := &cobra.Command{
		Use:   "export (BAG | FOLDER | kitchens:FIRST..LAST) --out DIR",
		Short: "Write a bag and its questions as REA items: frames, poses, intrinsics, point cloud and items.json",
		Long: "export drives the node's robot by the bag and writes, for each question, the frames that the model would see. A folder\n" +
			"of bags makes one list, and so do made kitchens, named by their seeds.",
		Args: exactly(1, "one bag, a folder of bags, or kitchens:FIRST..LAST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("--out is needed: a folder for the items")}
			}
			return a.reaExport(cmd.Context(), args[0], &set, out, frames, &rf)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "folder for the items")
	f.StringVar(&set.questions, "questions", "", "questions file (default: NAME.questions.yaml beside the bag)")
	f.IntVar(&frames, "frames", 32, "frames of a clip, taken at even steps")
	set.addKitchens(f)
	rf.add(f)
	cobra.CheckErr(f.MarkHidden("evidence")) // items have answers, and nothing is asked
	return cmd
}

func (a *app) reaExport(ctx context.Context, from string, set *itemFlags, out string, frames int, rf *robotFlags) error {
	p, err := rf.parameters()
	if err != nil {
		return err
	}
	p.Frames = int64(frames)
	if err := p.Validate(); err != nil {
		return usageError{err}
	}
	src, err := set.one(a, from, itemSources{params: p, frames: frames})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	bar := a.progress("items")
	list, failed, err := eval.Export(ctx, src, out, bar.set)
	bar.done()
	for _, f := range failed {
		a.log.Error().Str("item", f.ID).Msg(f.Error)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, list)
	if len(failed) > 0 {
		return fmt.Errorf("%d items were left out", len(failed))
	}
	return nil
}

func (a *app) reaImportCommand() *cobra.Command {
	var out string
	var frames int
	var set itemFlags
	cmd := &cobra.Command{
		Use:   "import ITEMS.json --out DIR",
		Short: "Make bags of REA items, one for every scene, with questions files beside them",
		Args:  exactly(1, "one list of REA items"),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("--out is needed: a folder for the bags")}
			}
			items, broken, listErr := rea.Read(args[0])
			if len(items) == 0 && listErr != nil {
				return listErr
			}
			made, more, err := rea.Import(items, set.rootsBeside(args[0]), frames, out, args[0])
			for _, b := range append(broken, more...) {
				a.log.Error().Msg(b.Error())
			}
			if err != nil {
				return err
			}
			longest := 0.0
			for _, m := range made {
				fmt.Fprintf(a.out, "%s: %d items\n", m.Bag, m.Items)
				longest = max(longest, m.Longest)
			}
			if longest > 30 {
				fmt.Fprintf(a.out, "The longest clip has %.0f s: replay and eval need -p window_duration=%.0f to see all of it.\n", longest, math.Ceil(min(longest+1, rea.Pause-1)))
			}
			if n := len(broken) + len(more); n > 0 || listErr != nil {
				return errors.Join(listErr, fmt.Errorf("%d items were left out", n))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "folder for the bags")
	f.IntVar(&frames, "frames", 0, "frames of a clip, taken as the released readers do; 0: all")
	set.addRoots(f)
	return cmd
}

// generateFlags say what is asked about a scene.
type generateFlags struct {
	robot             robotFlags
	scene, out, rules string
	tasks             []string
	o                 rea.GenerateOptions
	frames            int
}

func (a *app) reaGenerateCommand() *cobra.Command {
	var g generateFlags
	cmd := &cobra.Command{
		Use:   "generate BAG --out DIR",
		Short: "Ask the five types of REA about posed frames, a map and boxes, with the published label rules",
		Long: "generate reads the bag's poses and the boxes of a scene file (what stllm kitchen writes beside its bag, or boxes annotated\n" +
			"by hand: {\"boxes\": [{\"name\", \"x\", \"y\", \"z\", \"width\", \"depth\", \"height\"}], \"events\": [{\"verb\", \"object\", \"target\",\n" +
			"\"start_ns\", \"stop_ns\"}]}, map frame, metres; events are optional) and writes NAME.questions.yaml and REA items.",
		Args: exactly(1, "one bag"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.reaGenerate(cmd.Context(), args[0], &g) },
	}
	f := cmd.Flags()
	f.StringVar(&g.out, "out", "", "folder for questions and items")
	f.StringVar(&g.scene, "scene", "", "scene file (default: NAME.scene.json beside the bag)")
	f.IntVar(&g.o.Count, "count", 20, "questions")
	f.Uint64Var(&g.o.Seed, "seed", 1, "the same seed gives the same questions")
	f.StringSliceVar(&g.tasks, "task", nil, "only these tasks")
	f.StringVar(&g.rules, "rules", "metric", "metric: thresholds for rooms in metres; published: the paper's numbers, in units of its reconstructions")
	f.IntVar(&g.frames, "frames", 32, "frames of an item's clip")
	g.robot.add(f)
	cobra.CheckErr(f.MarkHidden("evidence")) // nothing is asked of a model
	return cmd
}

func (a *app) reaGenerate(ctx context.Context, bag string, g *generateFlags) error {
	switch {
	case g.o.Count < 1:
		return usageError{fmt.Errorf("--count is %d, expected at least 1", g.o.Count)}
	case g.out == "":
		return usageError{errors.New("--out is needed: a folder for questions and items")}
	case g.rules == "metric":
		g.o.Rules = rea.Metric()
	case g.rules != "published":
		return usageError{fmt.Errorf("--rules is %q, expected metric or published", g.rules)}
	}
	for _, t := range g.tasks {
		g.o.Tasks = append(g.o.Tasks, stllm.Task(t))
	}
	if g.scene == "" {
		if g.scene = beside(bag, ".scene.json"); g.scene == "" {
			return usageError{fmt.Errorf("no scene file lies beside %s: --scene names one", bag)}
		}
	}
	s, err := rea.ReadScene(g.scene)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.out, 0o755); err != nil {
		return err
	}
	if len(s.Poses) == 0 {
		if s.Poses, err = a.posesOf(ctx, bag, &g.robot); err != nil {
			return err
		}
	}
	list, err := rea.Generate(s, g.o)
	if err != nil {
		return err
	}
	r, err := bags.Open(bag)
	if err != nil {
		return err
	}
	start := r.Info().First
	if err := r.Close(); err != nil {
		return err
	}
	var questions []replay.Question
	for i, q := range list {
		at := float64(q.Stop-start)/1e9 + 0.2 // by then the last picture has come, and its pose
		questions = append(questions, replay.Question{ID: fmt.Sprintf("g%03d", i+1), At: &at, Text: q.Question, Task: string(q.Task), Answer: q.Answer,
			Metadata: map[string]any{"about": q.About, "form": q.Form}})
	}
	path := filepath.Join(g.out, strings.TrimSuffix(filepath.Base(bag), filepath.Ext(bag))+".questions.yaml")
	if err := rea.WriteQuestions(path, questions); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: %d questions\n", path, len(questions))
	return a.reaExport(ctx, bag, &itemFlags{questions: path}, g.out, g.frames, &g.robot)
}

// posesOf replays a bag and returns the poses of all frames that entered the window.
func (a *app) posesOf(ctx context.Context, bag string, rf *robotFlags) ([]rea.Posed, error) {
	p, err := rf.parameters()
	if err != nil {
		return nil, err
	}
	links, err := extrinsics(&p)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stllm-poses-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := replay.Run(ctx, replay.Options{Bags: []string{bag}, Out: dir, Model: eval.Onlooker{}, Params: p, Links: links, Log: zerolog.Nop()}); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, "frames.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []rea.Posed
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var line struct {
			Stamp int64 `json:"stamp_ns"`
			Pose  [16]float64
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("poses of %s: %w", bag, err)
		}
		pose, err := geometry.FromMatrix(line.Pose)
		if err != nil {
			return nil, fmt.Errorf("poses of %s: %w", bag, err)
		}
		out = append(out, rea.Posed{Stamp: line.Stamp, Pose: pose})
	}
	slices.SortFunc(out, func(x, y rea.Posed) int { return int(min(1, max(-1, x.Stamp-y.Stamp))) })
	if len(out) == 0 {
		return nil, fmt.Errorf("poses of %s: no frame entered the window", bag)
	}
	return out, nil
}
