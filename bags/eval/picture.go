package eval

import (
	"fmt"
	"hash/fnv"
	"path/filepath"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/wholefile"
)

// picture draws what an answer was made from and returns the file's name below the results folder.
func (o *Options) picture(it *Item, c *Clip, r Reply) (string, error) {
	in := picture.Input{Title: it.ID + ", " + o.Answerer.ID(), Question: it.Question, Answer: r.Text, Path: c.Path, Map: c.Map}
	if c.Map != nil {
		in.MapID = c.Map.ID()
	}
	last := c.Frames[len(c.Frames)-1].Stamp
	for _, f := range c.Frames {
		in.Frames = append(in.Frames, picture.Frame{Picture: f.Picture, Seconds: float64(f.Stamp-last) / 1e9, Pose: f.Pose, K: f.K, Width: f.Width})
	}
	if in.Path == nil {
		in.Path = make([]geometry.Transform, len(c.Frames))
		for i, f := range c.Frames {
			in.Path[i] = f.Pose
		}
	}
	if e := r.Evidence; e != nil {
		for _, f := range e.Frames {
			if f.Index >= 0 && f.Index < len(in.Frames) {
				in.Frames[f.Index].Weight = f.Weight
			}
		}
		for _, g := range e.Regions {
			in.Regions = append(in.Regions, picture.Region{X: g.X, Y: g.Y, Radius: g.Radius, Weight: g.Weight})
		}
	}
	in.Boxes = picture.Mark(in, c.Boxes, last, r.Text, it.About)
	png, err := picture.Window(in)
	if err != nil {
		return "", fmt.Errorf("draw the picture: %w", err)
	}
	h := fnv.New32a() // two ids may look alike as file names
	h.Write([]byte(it.ID))
	stem := fileName(it.ID)
	name := filepath.Join(picturesFolder, fmt.Sprintf("%s-%08x.png", stem[:min(len(stem), 80)], h.Sum32()))
	if err := wholefile.Write(filepath.Join(o.Out, name), png); err != nil {
		return "", fmt.Errorf("write the picture: %w", err)
	}
	return name, nil
}
