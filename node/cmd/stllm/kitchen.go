package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/node/kitchen"
)

// kitchenFlags are those of how a kitchen is recorded, for all commands that make some; prefix stands before each name.
type kitchenFlags struct {
	kitchen.Options
	set    *pflag.FlagSet
	prefix string
}

func (k *kitchenFlags) add(f *pflag.FlagSet, prefix string) {
	k.set, k.prefix = f, prefix
	f.Float64Var(&k.Rate, prefix+"rate", 10, "pictures a second, 1 to 60")
	f.IntVar(&k.Width, prefix+"width", 640, "picture width, pixels")
	f.IntVar(&k.Height, prefix+"height", 480, "picture height, pixels")
	f.Float64Var(&k.FX, prefix+"fx", 0, "focal length, pixels; 0: a view of 70°")
	f.IntVar(&k.Quiz.Count, prefix+"questions", 12, "questions about a kitchen, 1 to 1000")
	f.Float64Var(&k.Quiz.Margin, prefix+"margin", 0, "ask only what stays true when places are off by this, 0 to 0.5 m; 0: borderline cases too")
	f.Float64Var(&k.ImageNoise, prefix+"image-noise", 2, "noise of the pictures, standard deviation of 0 to 255, up to 64")
	f.Float64Var(&k.PoseTrans, prefix+"pose-noise", 0, "error of the published pose, standard deviation, 0 to 1 m")
	f.Float64Var(&k.PoseTurn, prefix+"pose-noise-deg", 0, "the same in degrees, 0 to 45")
	f.Float64Var(&k.MapNoise, prefix+"map-noise", 0.006, "noise of the map's points, standard deviation, 0 to 0.2 m")
	f.Float64Var(&k.MapHoles, prefix+"map-holes", 0.05, "share of the map that is missing, 0 to 0.9")
	f.Float64Var(&k.MapEdge, prefix+"map-edge", 0.03, "distance between the map's points, 0.01 to 0.1 m")
	f.BoolVar(&k.Depth, prefix+"depth", false, "with a depth camera, registered to the colour camera, with noise and holes ("+kitchen.DepthTopic+", 16UC1)")
	f.StringVar(&k.MissingTF, prefix+"missing-tf", "", "leave TF out: gap (2 s in the middle), odom (no map→odom) or static (no camera link)")
}

// options are what the flags say. In the library 0 means the default; on the command line it means none, and is refused where
// none makes no kitchen.
func (k *kitchenFlags) options() (kitchen.Options, error) {
	o := k.Options
	for _, name := range []string{"rate", "width", "height", "questions", "moments", "map-edge"} {
		if k.set == nil || !k.set.Changed(k.prefix+name) {
			continue
		}
		if v, err := strconv.ParseFloat(k.set.Lookup(k.prefix+name).Value.String(), 64); err != nil || !(v > 0) {
			return o, usageError{fmt.Errorf("--%s%s is %s, expected more than 0", k.prefix, name, k.set.Lookup(k.prefix+name).Value)}
		}
	}
	for name, v := range map[string]*float64{"image-noise": &o.ImageNoise, "map-noise": &o.MapNoise, "map-holes": &o.MapHoles} {
		if *v == 0 && k.set != nil && k.set.Changed(k.prefix+name) {
			*v = -1
		}
	}
	return o, nil
}

// changed lists the flags that were given: kitchens of other flags are other kitchens.
func (k *kitchenFlags) changed() string {
	if k.set == nil {
		return ""
	}
	var out []string
	k.set.Visit(func(f *pflag.Flag) {
		if name, ok := strings.CutPrefix(f.Name, k.prefix); ok {
			out = append(out, name+" "+f.Value.String())
		}
	})
	return strings.Join(out, ", ")
}

func (a *app) kitchenCommand() *cobra.Command {
	var o kitchenFlags
	cmd := &cobra.Command{
		Use:   "kitchen OUT.bag|OUT.mcap",
		Short: "Make a synthetic kitchen: a bag with images, TF and map, its scene and questions with answers",
		Args:  exactly(1, "one file name ending in .bag or .mcap"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := kitchen.CheckName(args[0]); err != nil {
				return usageError{err}
			}
			made, err := o.options()
			if err != nil {
				return err
			}
			return a.makeKitchen(cmd.Context(), made, args[0])
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same bytes")
	f.Float64Var(&o.Seconds, "seconds", 0, "length of the walk, 2 to 30 s, give or take a few (what is begun is done to its end); 0: drawn from 10 to 28")
	f.StringVar(&o.Layout, "layout", "", "one-wall, L, U, galley or island; empty: drawn")
	f.IntVar(&o.Items, "items", 0, "small items, 1 to 14; 0: drawn from 6 to 10")
	f.BoolVar(&o.Quiet, "quiet", false, "nothing is done on the walk")
	o.add(f, "")
	return cmd
}

func (a *app) makeKitchen(ctx context.Context, o kitchen.Options, path string) error {
	k, err := kitchen.Generate(o)
	if err != nil {
		return err
	}
	bar := a.progress("kitchen")
	defer bar.done()
	if err := kitchen.Write(ctx, k, path, bar.set); err != nil {
		return err
	}
	bar.done()
	if asked := k.Options.Quiz.Count; len(k.Questions) < asked {
		a.log.Warn().Msgf("%d questions were asked for; this kitchen and walk give %d that differ", asked, len(k.Questions))
	}
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

// clear takes the bar away until it is set again, so that a line can be written.
func (b *bar) clear() {
	if b.b != nil {
		_ = b.b.Clear()
	}
}

// done takes the bar away for good.
func (b *bar) done() {
	if b.b != nil {
		_ = b.b.Finish()
		b.b = nil
	}
}
