package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/picture"
)

func (a *app) demoCommand() *cobra.Command {
	var out string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a kitchen, replay it, ask, show the answers and the pictures",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			bag := filepath.Join(out, "kitchen.bag")
			if err := a.makeKitchen(cmd.Context(), kitchen.Options{Seed: seed}, bag); err != nil {
				return err
			}
			qs, err := replay.ReadQuestions(beside(bag, ".questions.yaml"))
			if err != nil {
				return err
			}
			boxes, err := picture.ReadBoxes(beside(bag, ".scene.json"))
			if err != nil {
				return err
			}
			results := filepath.Join(out, "answers")
			m, rf := modelFlags{dir: "nano"}, robotFlags{evidence: true}
			m.opt.Device = "cpu"
			res, err := a.replay(cmd.Context(), &m, &rf, replay.Options{Bags: []string{bag}, Questions: qs, Out: results, Boxes: boxes})
			if err != nil {
				return err
			}
			a.printAnswers(res)
			right, asked := marks(res)
			fmt.Fprintf(a.out, "\n%d of %d answers are right (%s, a kitchen that it was not trained on); %d of %d images entered the window with a pose.\n"+
				"What the robot knew and where the answers looked:\n", right, asked, res.Status.ModelID, res.Status.Frames, res.Images)
			for _, q := range qs {
				fmt.Fprintf(a.out, "  %s\n", filepath.Join(results, "window-"+q.ID+".png"))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", ".demo", "folder for the bag and the results")
	cmd.Flags().Uint64Var(&seed, "seed", 7, "kitchen")
	return cmd
}
