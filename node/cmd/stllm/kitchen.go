package main

import (
	"fmt"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/kitchen"
)

func (a *app) kitchenCommand() *cobra.Command {
	var o kitchen.Options
	cmd := &cobra.Command{
		Use:   "kitchen OUT.bag|OUT.mcap",
		Short: "Make a synthetic kitchen: a bag with images, TF and map, its scene and questions with answers",
		Args:  exactly(1, "one file name ending in .bag or .mcap"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// In the library 0 means the default; on the command line it means none.
			for name, v := range map[string]*float64{"image-noise": &o.ImageNoise, "map-noise": &o.MapNoise, "map-holes": &o.MapHoles} {
				if cmd.Flags().Changed(name) && *v == 0 {
					*v = -1
				}
			}
			return a.makeKitchen(o, args[0])
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same bytes")
	f.Float64Var(&o.Seconds, "seconds", 0, "length of the walk, 2 to 30 s; 0: drawn from 10 to 28")
	f.Float64Var(&o.Rate, "rate", 10, "pictures a second, 1 to 60")
	f.IntVar(&o.Width, "width", 640, "picture width, pixels")
	f.IntVar(&o.Height, "height", 480, "picture height, pixels")
	f.Float64Var(&o.FX, "fx", 0, "focal length, pixels; 0: a view of 70°")
	f.StringVar(&o.Layout, "layout", "", "one-wall, L, U, galley or island; empty: drawn")
	f.IntVar(&o.Items, "items", 0, "small items, 1 to 14; 0: drawn from 6 to 10")
	f.BoolVar(&o.Quiet, "quiet", false, "nothing is done on the walk")
	f.IntVar(&o.Quiz.Count, "questions", 12, "number of questions, 1 to 1000")
	f.Float64Var(&o.Quiz.Margin, "margin", 0, "ask only what stays true when places are off by this, 0 to 0.5 m; 0: borderline cases too")
	f.Float64Var(&o.ImageNoise, "image-noise", 2, "noise of the pictures, standard deviation of 0 to 255, up to 64")
	f.Float64Var(&o.PoseTrans, "pose-noise", 0, "error of the published pose, standard deviation, 0 to 1 m")
	f.Float64Var(&o.PoseTurn, "pose-noise-deg", 0, "the same in degrees, 0 to 45")
	f.Float64Var(&o.MapNoise, "map-noise", 0.006, "noise of the map's points, standard deviation, 0 to 0.2 m")
	f.Float64Var(&o.MapHoles, "map-holes", 0.05, "share of the map that is missing, 0 to 0.9")
	f.Float64Var(&o.MapEdge, "map-edge", 0.03, "distance between the map's points, 0.01 to 0.1 m")
	f.StringVar(&o.MissingTF, "missing-tf", "", "leave TF out: gap (2 s in the middle), odom (no map→odom) or static (no camera link)")
	return cmd
}

func (a *app) makeKitchen(o kitchen.Options, path string) error {
	k, err := kitchen.Generate(o)
	if err != nil {
		return err
	}
	bar := a.progress("kitchen")
	if err := kitchen.Write(k, path, bar.set); err != nil {
		return err
	}
	bar.done()
	fmt.Fprintf(a.out, "%s: %.1f × %.1f m, %d pieces of furniture, %.1f s, %d actions, %d questions\n", path, k.Width, k.Depth, len(k.Boxes), k.Seconds(), len(k.World.Events), len(k.Questions))
	return nil
}

// bar is a progress bar on a terminal, and nothing elsewhere.
type bar struct{ b *progressbar.ProgressBar }

func (a *app) progress(what string) *bar {
	if !a.terminal() {
		return &bar{}
	}
	return &bar{progressbar.NewOptions(1, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(a.err),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())}
}

func (b *bar) set(done, total int) {
	if b.b != nil {
		b.b.ChangeMax(total)
		_ = b.b.Set(done) // a bar that cannot be drawn is no reason to stop
	}
}

func (b *bar) done() {
	if b.b != nil {
		_ = b.b.Finish()
	}
}
