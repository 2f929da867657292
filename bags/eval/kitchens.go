package eval

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/stllm"
)

// KitchenOptions say which synthetic kitchens are asked about.
type KitchenOptions struct {
	Seed    uint64            // of the first kitchen
	Count   int               // kitchens, default 10
	Frames  int               // frames that an answerer sees of a window, default 32
	Depth   stllm.DepthUse    // what it wants of measured depth, where Kitchen has a depth camera
	Kitchen kitchen.Options   // of each; its seed is not used
	Changed string            // what of Kitchen is unusual, in words: part of the source's name
	Params  params.Parameters // of the robot; the zero value is params.Default()
	Ahead   int               // kitchens that are made while another is asked about, default 1; each holds some 150 MB
	Temp    string            // folder for the bag of a kitchen while it is replayed; default: the system's
	Log     zerolog.Logger    // of the robot
}

// kitchens is the source of synthetic kitchens. Each goes through the whole node: it is written as a bag, which drives the
// robot of the live node, and what the robot would have given to its model is what an item shows. The bag is then removed.
type kitchens struct {
	o     KitchenOptions
	clips *cache[uint64, map[string]captured]
}

// Kitchens is the source of Count kitchens with the seeds from Seed on.
func Kitchens(o KitchenOptions) (Source, error) {
	if o.Count == 0 {
		o.Count = 10
	}
	if o.Frames == 0 {
		o.Frames = 32
	}
	if o.Ahead == 0 {
		o.Ahead = 1
	}
	if o.Params.FixedFrame == "" {
		o.Params = params.Default()
	}
	switch {
	case o.Count < 0 || o.Count > 1e6:
		return nil, fmt.Errorf("kitchens: count is %d, expected 1 to 1000000", o.Count)
	case o.Frames < 1:
		return nil, fmt.Errorf("kitchens: frames is %d, expected at least 1", o.Frames)
	case o.Ahead < 0 || o.Ahead > 64:
		return nil, fmt.Errorf("kitchens: ahead is %d, expected 1 to 64", o.Ahead)
	}
	return &kitchens{o, newCache[uint64, map[string]captured](o.Ahead + 2)}, nil
}

func (s *kitchens) Name() string {
	name := fmt.Sprintf("kitchens %d to %d", s.o.Seed, s.o.Seed+uint64(s.o.Count)-1)
	if s.o.Changed != "" {
		name += " (" + s.o.Changed + ")"
	}
	return name
}

func (s *kitchens) generate(seed uint64) (*kitchen.Kitchen, error) {
	o := s.o.Kitchen
	o.Seed = seed
	return kitchen.Generate(o)
}

// Items furnishes every kitchen and asks; nothing is painted yet.
func (s *kitchens) Items(ctx context.Context) ([]Item, error) {
	byKitchen := make([][]Item, s.o.Count)
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range next {
				byKitchen[n] = s.items(s.o.Seed + uint64(n))
			}
		})
	}
	for n := 0; n < s.o.Count && ctx.Err() == nil; n++ {
		next <- n
	}
	close(next)
	wg.Wait()
	var out []Item
	for _, list := range byKitchen {
		out = append(out, list...)
	}
	return out, ctx.Err()
}

func (s *kitchens) items(seed uint64) (out []Item) {
	file := fmt.Sprintf("kitchen %d", seed)
	k, err := s.generate(seed)
	if err != nil {
		return []Item{{ID: fmt.Sprintf("k%d", seed), File: s.Name(), Err: fmt.Errorf("%s: %w", file, err)}}
	}
	for _, q := range k.Questions {
		out = append(out, Item{
			ID: fmt.Sprintf("k%d/%s", seed, q.ID), Task: q.Task, Group: q.Group, Question: q.Text, Reference: q.Answer,
			Label: q.Label.String(), About: q.About, File: file,
			Open: func(ctx context.Context) (*Clip, error) { return s.open(ctx, seed, q.ID) },
		})
	}
	return out
}

// open waits for the item's kitchen and has the ones that come next made meanwhile.
func (s *kitchens) open(ctx context.Context, seed uint64, id string) (*Clip, error) {
	for n := range uint64(s.o.Ahead) {
		if later := seed + n + 1; later < s.o.Seed+uint64(s.o.Count) {
			go func() { _, _ = s.made(ctx, later) }() // whoever asks for it gets the error
		}
	}
	all, err := s.made(ctx, seed)
	if err != nil {
		return nil, err
	}
	return all[id].get(fmt.Sprintf("kitchen %d", seed))
}

func (s *kitchens) made(ctx context.Context, seed uint64) (map[string]captured, error) {
	return s.clips.get(seed, func() (map[string]captured, error) { return s.make(ctx, seed) })
}

// make writes a kitchen's bag, replays it and removes it.
func (s *kitchens) make(ctx context.Context, seed uint64) (map[string]captured, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k, err := s.generate(seed)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.o.Temp, "stllm-kitchen-*")
	if err != nil {
		return nil, fmt.Errorf("folder for the bag: %w", err)
	}
	defer os.RemoveAll(dir)
	bag := filepath.Join(dir, fmt.Sprintf("k%d.bag", seed))
	if err := kitchen.Write(ctx, k, bag, nil); err != nil {
		return nil, err
	}
	stem := strings.TrimSuffix(bag, ".bag")
	list, err := replay.ReadQuestions(stem + ".questions.yaml")
	if err != nil {
		return nil, err
	}
	boxes, err := picture.ReadBoxes(stem + ".scene.json")
	if err != nil {
		return nil, err
	}
	return replayed(ctx, bag, list, BagOptions{Params: s.o.Params, Frames: s.o.Frames, Depth: s.o.Depth, Boxes: func(string) []picture.Box { return boxes }, Log: s.o.Log})
}
