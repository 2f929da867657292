package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/robot"
)

func (a *app) askCommand() *cobra.Command {
	var m modelFlags
	var rf robotFlags
	var at float64
	var task, file string
	cmd := &cobra.Command{
		Use:   "ask BAG \"question\"",
		Short: "Ask one question about a bag; the answer is streamed to the terminal",
		Long: "ask plays a bag up to the question's moment, asks, and streams the answer to the terminal. With --evidence it says below the\n" +
			"answer which frames and places of the map that leaned on; --picture draws them, as replay does.",
		Args: exactly(2, "a bag and a question"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := replay.Question{ID: "ask", Text: args[1], Task: task, At: &at}
			if !cmd.Flags().Changed("at") {
				q.At, q.End = nil, true
			}
			if err := q.Validate(); err != nil { // before a bag is read and a model loaded
				return usageError{fmt.Errorf("question: %w", err)}
			}
			boxes, err := picture.ReadBoxes(beside(args[0], ".scene.json"))
			if err != nil {
				return err
			}
			rf.evidence = rf.evidence || file != ""
			res, err := a.replay(cmd.Context(), &m, &rf, replay.Options{Bags: args[:1], Questions: []replay.Question{q}, Brief: true,
				Emit: func(_ replay.Question, c robot.Chunk) {
					fmt.Fprint(a.out, printable(c.Delta))
					if c.Last { // the log may follow at once
						fmt.Fprintln(a.out)
					}
				}})
			if err != nil {
				return err
			}
			out := res.Answers[0].Outcome
			ans := out.Answer
			if err := writeEvidence(a.out, out, boxes); err != nil {
				return err
			}
			if file != "" {
				png, err := picture.Window(replay.Picture(res.Answers[0], boxes))
				if err != nil {
					return err
				}
				if err := os.WriteFile(file, png, 0o644); err != nil {
					return fmt.Errorf("picture: %w", err)
				}
			}
			if ans.ErrorCode != msgs.AnswerErrorNone {
				return fmt.Errorf("no answer (%s): %s", robot.ErrorName(ans.ErrorCode), ans.ErrorMessage)
			}
			told := a.log.Info()
			if n := withDepth(out); n > 0 {
				told = told.Int("with_depth", n)
			}
			told.Str("model", ans.ModelID).Uint32("frames", ans.Frames).Uint32("prompt_tokens", ans.PromptTokens).Uint32("new_tokens", ans.NewTokens).
				Str("finish", ans.FinishReason).Msg("answered")
			return nil
		},
	}
	f := cmd.Flags()
	f.Float64Var(&at, "at", 0, "moment of the question, seconds from the bag's start (default: its end)")
	f.StringVar(&task, "task", "", "relative_direction, relative_distance, find_my_item, furniture_affordance or action_planning")
	f.StringVar(&file, "picture", "", "write a picture (PNG) of what the answer was made from; switches --evidence on")
	m.add(f)
	rf.add(f)
	return cmd
}

// withDepth counts the frames of an answer that a depth camera has measured.
func withDepth(o *robot.Outcome) (n int) {
	for _, f := range o.Frames {
		if f.Depth != nil {
			n++
		}
	}
	return n
}

// near is how far from a place a thing may be to name it, metres.
const near = 0.3

// writeEvidence lists the frames and places that an answer leaned on, strongest first; places with the thing that stands
// there, where boxes say so. Nothing is written where there is no evidence.
func writeEvidence(to io.Writer, o *robot.Outcome, boxes []picture.Box) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	for _, e := range o.Answer.FrameEvidence {
		fmt.Fprintf(w, "leaned on\tframe\t%+.1f s\t%.0f %%\n", float64(e.StampNs-o.Stamp)/1e9, 100*e.Weight)
	}
	for _, e := range o.Answer.RegionEvidence {
		p := e.Position
		fmt.Fprintf(w, "leaned on\tplace\t%.2f %.2f %.2f m ± %.2f\t%.0f %%", p.X, p.Y, p.Z, e.Radius, 100*e.Weight)
		if name := thingAt(boxes, p.X, p.Y, o.Stamp); name != "" {
			fmt.Fprintf(w, "\t%s", name)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// thingAt names the box that a place of the ground plane lies in, or else the nearest one that is near; "" where none is.
func thingAt(boxes []picture.Box, x, y float64, at int64) string {
	best, name := near, ""
	for _, b := range boxes {
		if !b.StandsAt(at) {
			continue
		}
		d := b.Distance(x, y)
		if b.Small { // what stands on furniture is named where it is meant
			d += near / 2
		}
		if d < best {
			best, name = d, b.Name
		}
	}
	return name
}
