package eval

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/scene"
)

// reaRate is the number of frames a second by which EPIC's frame files are numbered.
const reaRate = 60

// sharedScenes is how many maps, bags or kitchens are kept for the items that follow.
const sharedScenes = 3

// reaSource reads a list of REA items.
type reaSource struct {
	path   string
	roots  rea.Roots
	frames int
	maps   *cache[string, *scene.Cloud]
}

// REA is the source of a list of REA items. frames is the number of frames that are taken of each clip as the released readers
// do it, 32 as published; 0 takes all.
func REA(path string, roots rea.Roots, frames int) Source {
	return &reaSource{path, roots, frames, newCache[string, *scene.Cloud](sharedScenes)}
}

func (s *reaSource) Name() string { return s.path }

// Items gives the good items in order and then the broken ones; a list that breaks off counts as one broken item more.
func (s *reaSource) Items(context.Context) ([]Item, error) {
	items, broken, err := rea.Read(s.path)
	if err != nil && len(items)+len(broken) == 0 {
		return nil, err
	}
	var out []Item
	for _, it := range items {
		out = append(out, Item{
			ID: it.ID, Task: it.Task(), Group: it.Metadata.Group, Question: it.Question(), Choices: it.Metadata.Choices, Reference: it.Answer(),
			Label: it.Metadata.Label, About: it.Metadata.About, File: s.path,
			Open: func(context.Context) (*Clip, error) { return s.open(it) },
		})
	}
	for _, b := range broken {
		out = append(out, Item{ID: b.ID, File: s.path, Err: b})
	}
	if err != nil {
		out = append(out, Item{ID: "(rest of the list)", File: s.path, Err: err})
	}
	return out, nil
}

func (s *reaSource) open(it rea.Item) (*Clip, error) {
	files, err := it.Open(s.roots, s.frames)
	if err != nil {
		return nil, err
	}
	c := &Clip{}
	if c.Map, err = s.maps.get(files.Map, func() (*scene.Cloud, error) {
		cloud, _, err := scene.ReadFile(files.Map)
		return cloud, err
	}); err != nil {
		return nil, fmt.Errorf("pointcloud: %w", err)
	}
	read := map[string]*imaging.RGB{} // short clips have frames more than once
	for i, f := range files.Frames {
		p := read[f.Image]
		if p == nil {
			if p, err = readPicture(f.Image); err != nil {
				return nil, fmt.Errorf("video: %w", err)
			}
			read[f.Image] = p
		}
		c.Frames = append(c.Frames, Frame{Name: f.Name, Stamp: stampOf(f.Name, i), Picture: p, Pose: f.Pose, K: files.K, Width: p.Width, Height: p.Height})
	}
	return c, nil
}

// maxPicture bounds a picture file.
const maxPicture = 64 << 20

func readPicture(path string) (*imaging.RGB, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPicture {
		return nil, fmt.Errorf("%s has %d bytes, expected a picture", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := imaging.DecodeBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// stampOf reads the time off a frame's name (frame_0000000113, from 1, 60 a second), ns; other names count as a second each.
func stampOf(name string, index int) int64 {
	digits := name[strings.LastIndexByte(name, '_')+1:]
	if n, err := strconv.ParseInt(digits, 10, 40); err == nil && n >= 1 {
		return (n - 1) * int64(1e9) / reaRate
	}
	return int64(index) * 1e9
}

// errNoQuestions is for bags.
var errNoQuestions = errors.New("it has no questions file")
