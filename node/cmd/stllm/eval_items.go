package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/stllm"
)

// itemFlags say what is asked about.
type itemFlags struct {
	items     []string
	questions string
	roots     rea.Roots
	kitchen   kitchenFlags
	frames    int
}

func (f *itemFlags) add(s *pflag.FlagSet) {
	s.StringArrayVar(&f.items, "items", nil, "REA list (.json), bag, folder of bags, or kitchens:FIRST..LAST; may be repeated")
	s.StringVar(&f.questions, "questions", "", "questions file of the bag (default: NAME.questions.yaml beside it)")
	s.IntVar(&f.frames, "frames", 0, "frames of a window; 0: as many as the model wants (32 for an endpoint)")
	f.addRoots(s)
	f.addKitchens(s)
}

func (f *itemFlags) addKitchens(s *pflag.FlagSet) {
	f.kitchen.add(s, "kitchen-")
	s.IntVar(&f.kitchen.Quiz.Windows, "kitchen-moments", 4, "moments at which they are asked, 1 to 32")
}

func (f *itemFlags) addRoots(s *pflag.FlagSet) {
	s.StringVar(&f.roots.Videos, "rea-videos", "", "folder that REA items' video paths are relative to (default: that of the list)")
	s.StringVar(&f.roots.PointClouds, "rea-points", "", "folder that their point clouds' paths are relative to (default: that of the list)")
	s.StringVar(&f.roots.C2Ws, "rea-poses", "", "folder that their camera poses' paths are relative to (default: that of the list)")
	s.StringVar(&f.roots.K, "rea-intrinsics", "", "folder that REA items' intrinsics' paths are relative to (default: that of the list)")
}

// rootsBeside are the folders that were given, and that of the list for the others.
func (f *itemFlags) rootsBeside(list string) rea.Roots {
	roots := rea.RootsBeside(list)
	for _, r := range []struct{ to, from *string }{{&roots.Videos, &f.roots.Videos}, {&roots.PointClouds, &f.roots.PointClouds},
		{&roots.C2Ws, &f.roots.C2Ws}, {&roots.K, &f.roots.K}} {
		if *r.from != "" {
			*r.to = *r.from
		}
	}
	return roots
}

// itemSources is what sources of items need beside their flags.
type itemSources struct {
	params params.Parameters
	frames int // of a window
	depth  stllm.DepthUse
	ahead  int    // kitchens that are made ahead
	temp   string // folder for their bags; empty: the system's
}

// check refuses what --items cannot mean, before a model is loaded for it.
func (f *itemFlags) check() error {
	if len(f.items) == 0 {
		return usageError{errors.New("--items is needed: a REA list, a bag, a folder of bags, or kitchens:FIRST..LAST")}
	}
	for _, spec := range f.items {
		if seeds, ok := strings.CutPrefix(spec, "kitchens:"); ok {
			if _, _, err := seedRange(seeds); err != nil {
				return usageError{fmt.Errorf("%s: %w", spec, err)}
			}
			continue
		}
		if _, err := os.Stat(listFile(spec)); err != nil {
			err = fmt.Errorf("--items: %w; expected a REA list (.json), a bag, a folder of bags, or kitchens:FIRST..LAST", err)
			if kind, _, ok := strings.Cut(spec, ":"); ok && !strings.ContainsRune(kind, filepath.Separator) {
				return usageError{err} // of a kind that there is not
			}
			return err
		}
	}
	return nil
}

// listFile is the file that --items names; train calls lists rea:FILE.json.
func listFile(spec string) string {
	if list, ok := strings.CutPrefix(spec, "rea:"); ok && filepath.Ext(list) == ".json" {
		return list
	}
	return spec
}

// source joins what --items names, which check has found good.
func (f *itemFlags) source(a *app, in itemSources) (eval.Source, error) {
	var all eval.Several
	for _, spec := range f.items {
		one, err := f.one(a, spec, in)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// one opens one source: kitchens:FIRST..LAST, a REA list (.json), a bag or a folder of bags.
func (f *itemFlags) one(a *app, spec string, in itemSources) (eval.Source, error) {
	quiet := zerolog.Nop() // the robot would tell of every answer of the one that only looks
	if a.verbose {
		quiet = a.log
	}
	if seeds, ok := strings.CutPrefix(spec, "kitchens:"); ok {
		first, last, err := seedRange(seeds)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", spec, err)}
		}
		o, err := f.kitchen.options()
		if err != nil {
			return nil, err
		}
		return eval.Kitchens(eval.KitchenOptions{Seed: first, Count: int(last-first) + 1, Frames: in.frames, Depth: in.depth, Kitchen: o, Changed: f.kitchen.changed(),
			Params: in.params, Ahead: max(1, in.ahead), Temp: in.temp, Log: quiet})
	}
	if spec = listFile(spec); filepath.Ext(spec) == ".json" {
		return eval.REA(spec, f.rootsBeside(spec), in.frames), nil
	}
	links, err := extrinsics(&in.params)
	if err != nil {
		return nil, err
	}
	return eval.Bags(spec, eval.BagOptions{Questions: f.questions, Params: in.params, Links: links, Frames: in.frames, Depth: in.depth, Log: quiet, Boxes: func(bag string) []picture.Box {
		boxes, err := picture.ReadBoxes(beside(bag, ".scene.json"))
		if err != nil {
			a.log.Warn().Err(err).Msg("boxes are not drawn")
		}
		return boxes
	}})
}

// seedRange reads "7" or "1000..1099".
func seedRange(s string) (first, last uint64, err error) {
	a, b, ranged := strings.Cut(s, "..")
	if first, err = strconv.ParseUint(a, 10, 63); err != nil {
		return 0, 0, fmt.Errorf("%q is no seed, expected a number or FIRST..LAST", a)
	}
	if !ranged {
		return first, first, nil
	}
	if last, err = strconv.ParseUint(b, 10, 63); err != nil || last < first || last-first >= 1e6 {
		return 0, 0, fmt.Errorf("%q is no range of seeds, expected FIRST..LAST with at most a million kitchens", s)
	}
	return first, last, nil
}
