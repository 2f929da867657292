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
		RunE: func(_ *cobra.Command, args []string) error {
			return a.makeKitchen(o, args[0])
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same bytes")
	f.Float64Var(&o.Seconds, "seconds", 12, "length of the drive, 2 to 60 s")
	f.Float64Var(&o.Rate, "rate", 10, "pictures a second, 1 to 60")
	f.IntVar(&o.Width, "width", 640, "picture width, pixels")
	f.IntVar(&o.Height, "height", 480, "picture height, pixels")
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
	fmt.Fprintf(a.out, "%s: %.1f × %.1f m, %d pieces of furniture, %.0f s\n", path, k.Width, k.Depth, len(k.Boxes), k.Options.Seconds)
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
