package eval

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/scene"
)

// KitchenOptions say which synthetic kitchens are asked about.
type KitchenOptions struct {
	Seed    uint64          // of the first kitchen
	Count   int             // kitchens, default 10
	Frames  int             // frames that an answerer sees of a window, default 32
	Kitchen kitchen.Options // of each; its seed is not used
}

// kitchens is the source of synthetic kitchens, made as they are needed.
type kitchens struct {
	o    KitchenOptions
	made *cache[uint64, *madeKitchen]
}

// madeKitchen is a kitchen with the pictures that were rendered of it.
type madeKitchen struct {
	*kitchen.Kitchen
	cloud    func() *scene.Cloud
	pictures *cache[int, *imaging.RGB]
	drawing  sync.Mutex // a kitchen has one renderer
}

// Kitchens is the source of Count kitchens with the seeds from Seed on.
func Kitchens(o KitchenOptions) (Source, error) {
	if o.Count == 0 {
		o.Count = 10
	}
	if o.Frames == 0 {
		o.Frames = 32
	}
	switch {
	case o.Count < 0:
		return nil, fmt.Errorf("kitchens: count is %d, expected at least 1", o.Count)
	case o.Frames < 1:
		return nil, fmt.Errorf("kitchens: frames is %d, expected at least 1", o.Frames)
	}
	return &kitchens{o, newCache[uint64, *madeKitchen](sharedScenes)}, nil
}

func (s *kitchens) Name() string {
	return fmt.Sprintf("kitchens %d to %d", s.o.Seed, s.o.Seed+uint64(s.o.Count)-1)
}

func (s *kitchens) Items(ctx context.Context) ([]Item, error) {
	var out []Item
	for n := range s.o.Count {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		seed := s.o.Seed + uint64(n)
		k, err := s.kitchen(seed)
		if err != nil {
			out = append(out, Item{ID: fmt.Sprintf("k%d", seed), File: s.Name(), Err: fmt.Errorf("kitchen %d: %w", seed, err)})
			continue
		}
		for i, q := range k.Questions {
			out = append(out, Item{
				ID: fmt.Sprintf("k%d/%s", seed, q.ID), Task: q.Task, Group: q.Group, Question: q.Text, Reference: q.Answer,
				Label: q.Label.String(), About: q.About, File: fmt.Sprintf("kitchen %d", seed),
				Open: func(context.Context) (*Clip, error) { return s.open(seed, i) },
			})
		}
	}
	return out, nil
}

func (s *kitchens) kitchen(seed uint64) (*madeKitchen, error) {
	return s.made.get(seed, func() (*madeKitchen, error) {
		o := s.o.Kitchen
		o.Seed = seed
		k, err := kitchen.Generate(o)
		if err != nil {
			return nil, err
		}
		cloud := sync.OnceValue(func() *scene.Cloud {
			c, _ := k.Cloud()
			return c
		})
		return &madeKitchen{Kitchen: k, cloud: cloud, pictures: newCache[int, *imaging.RGB](4 * s.o.Frames)}, nil
	})
}

func (s *kitchens) open(seed uint64, question int) (*Clip, error) {
	k, err := s.kitchen(seed)
	if err != nil {
		return nil, err
	}
	q := k.Questions[question]
	c := &Clip{Seconds: q.Window[1] - q.Window[0], Map: k.cloud()}
	picked := k.Pick(q.At, s.o.Frames)
	if len(picked) == 0 {
		return nil, errors.New("no picture lies before the question")
	}
	cam := k.Options.Camera()
	for _, i := range picked {
		f := k.Frames[i]
		p, err := k.pictures.get(i, func() (*imaging.RGB, error) {
			k.drawing.Lock()
			defer k.drawing.Unlock()
			var r render.Picture
			k.Picture(i, &r)
			return &imaging.RGB{Width: cam.Width, Height: cam.Height, Pix: r.RGB}, nil
		})
		if err != nil {
			return nil, err
		}
		c.Frames = append(c.Frames, Frame{Name: fmt.Sprintf("picture_%04d", i), Stamp: f.Stamp, Picture: p, Pose: f.Camera,
			K: cam.K(), Width: cam.Width, Height: cam.Height})
	}
	for _, f := range k.Frames {
		if f.Time >= q.Window[0] && f.Time <= q.Window[1] {
			c.Path = append(c.Path, f.Camera)
		}
	}
	for _, b := range k.Boxes {
		c.Boxes = append(c.Boxes, picture.Box{Name: b.Name, X: b.X, Y: b.Y, Width: b.Width, Depth: b.Depth, Yaw: b.Yaw})
	}
	return c, nil
}
