package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/stllm"
)

// robotFlags are the flags of every command that runs a robot.
type robotFlags struct {
	file     string
	set      map[string]string
	evidence bool
}

func (r *robotFlags) add(f *pflag.FlagSet) {
	f.StringVar(&r.file, "params", "", "parameter file (launch/stllm.yaml lists all parameters with units and ranges)")
	f.StringToStringVarP(&r.set, "param", "p", nil, "set a parameter: name=value (or name:=value); may be repeated")
	f.BoolVar(&r.evidence, "evidence", false, "return which frames and places the answer looked at")
}

// parameters puts defaults, file and flags together.
func (r *robotFlags) parameters() (params.Parameters, error) {
	p := params.Default()
	if r.file != "" {
		if err := p.LoadFile(r.file, "/stllm"); err != nil {
			return p, err
		}
	}
	for name, value := range r.set {
		// Who knows ROS writes := here, too.
		if err := p.Set(strings.TrimSuffix(name, ":"), value); err != nil {
			return p, usageError{err}
		}
	}
	p.Evidence = p.Evidence || r.evidence
	return p, p.Validate()
}

func extrinsics(p *params.Parameters) ([]calibration.Link, error) {
	if p.ExtrinsicsFile == "" {
		return nil, nil
	}
	return calibration.ReadExtrinsics(p.ExtrinsicsFile)
}

func (a *app) replayCommand() *cobra.Command {
	var m modelFlags
	var rf robotFlags
	var questions, out, scene string
	var rate float64
	cmd := &cobra.Command{
		Use:   "replay BAG… --questions FILE.yaml --out DIR",
		Short: "Drive the robot by bags and answer questions at their moments",
		Long: "replay runs the same robot as the live node, from bags. The same bags, questions and model give byte-identical\n" +
			"answers.jsonl at any rate. It writes frames.jsonl (every frame that entered the window, with its pose), dropped.jsonl\n" +
			"(every other frame, with the cause), answers.jsonl, summary.json and window-ID.png for each question.\n\n" +
			"A questions file is a list of {id, at: seconds from the bag's start or stamp: seconds since 1970, text, task}.",
		Args: atLeast(1, "one bag or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if questions == "" || out == "" {
				return usageError{errors.New("--questions and --out are needed")}
			}
			qs, err := replay.ReadQuestions(questions)
			if err != nil {
				return err
			}
			if scene == "" {
				scene = beside(args[0], ".scene.json")
			}
			boxes, err := picture.ReadBoxes(scene)
			if err != nil {
				return err
			}
			res, err := a.replay(cmd.Context(), &m, &rf, replay.Options{Bags: args, Questions: qs, Out: out, Rate: rate, Boxes: boxes})
			if err != nil {
				return err
			}
			a.printAnswers(res)
			fmt.Fprintf(a.out, "\n%d of %d images entered the window; answers, poses and pictures are in %s\n", res.Status.Frames, res.Images, out)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&questions, "questions", "", "questions file (YAML)")
	f.StringVar(&out, "out", "", "folder for the results")
	f.Float64Var(&rate, "rate", 0, "times real time; 0: as fast as possible")
	f.StringVar(&scene, "scene", "", "scene.json whose boxes are drawn (default: beside the bag, where there is one)")
	m.add(f)
	rf.add(f)
	return cmd
}

// replay loads the model and runs.
func (a *app) replay(ctx context.Context, m *modelFlags, rf *robotFlags, o replay.Options) (*replay.Result, error) {
	p, err := rf.parameters()
	if err != nil {
		return nil, err
	}
	if o.Links, err = extrinsics(&p); err != nil {
		return nil, err
	}
	n, err := a.load(ctx, m)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	o.Params, o.Model, o.Plans, o.Labels, o.Log = p, n, label.Reader{}, label.Reader{}, a.log
	bar := a.progress("replay")
	if o.Emit == nil {
		o.Progress = bar.set
	}
	defer bar.done()
	res, err := replay.Run(ctx, o)
	if res != nil {
		for _, w := range res.Warnings {
			a.log.Warn().Msg(w.String())
		}
	}
	return res, err
}

func (a *app) printAnswers(res *replay.Result) {
	for _, ans := range res.Answers {
		m := ans.Outcome.Answer
		fmt.Fprintf(a.out, "\n[%s] %s\n", ans.Question.ID, ans.Question.Text)
		if m.ErrorCode != msgs.AnswerErrorNone {
			fmt.Fprintf(a.out, "  no answer (%s): %s\n", robot.ErrorName(m.ErrorCode), m.ErrorMessage)
			continue
		}
		fmt.Fprintf(a.out, "  %s: %s\n", m.ModelID, oneLine(m.Text))
		if ans.Question.Answer != "" {
			fmt.Fprintf(a.out, "  reference: %s\n", ans.Question.Answer)
		}
		if right, known := mark(ans); known {
			fmt.Fprintf(a.out, "  %s\n", map[bool]string{true: "right", false: "wrong: expected " + ans.Question.Label}[right])
		}
	}
}

// mark compares what an answer says with the question's label; known is false where there is no label.
func mark(ans replay.Answered) (right, known bool) {
	if ans.Question.Label == "" {
		return false, false
	}
	said, err := label.Parse(stllm.Task(ans.Question.Task), ans.Outcome.Answer.Text)
	return err == nil && said.String() == ans.Question.Label, true
}

// marks counts the right answers among those with a label.
func marks(res *replay.Result) (right, asked int) {
	for _, ans := range res.Answers {
		if ok, known := mark(ans); known {
			asked++
			if ok {
				right++
			}
		}
	}
	return right, asked
}

// oneLine keeps control characters of a model's text off the terminal.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

func beside(bag, ending string) string {
	path := strings.TrimSuffix(bag, filepath.Ext(bag)) + ending
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// printable keeps what a model says from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7F {
			return '\uFFFD'
		}
		return r
	}, s)
}
