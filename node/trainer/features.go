package trainer

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/wholefile"
)

// scene is a kitchen behind the encoders: features in half precision, of which only the classes' half is kept (the other is
// empty, see lookup), and what the questions need.
type scene struct {
	Voxels    []uint16 // N × Half
	Centroids []float32
	Object    []bool     // furniture rather than wall or floor
	Patches   [][]uint16 // by frame: patches × Half
	Places    [][]float64
	Frames    []record.Frame // without pictures and labels
	K         [9]float64
	Windows   []record.Window
}

// encodeScene runs the encoders on a record and casts its patches' rays into the map, whatever the config's patch_place: records
// hold no measured depth, so a model that may use it is trained with the map's places, and rays alone need none.
func (t *Trainer) encodeScene(ctx context.Context, e *encoders, rec *record.Record) (*scene, error) {
	s := &scene{K: rec.K, Windows: rec.Windows}
	f, err := e.voxels(ctx, &rec.Map)
	if err != nil {
		return nil, err
	}
	s.Voxels = t.half(f, t.cfg.PcdFeatureDim)
	for _, c := range rec.Map.Centroids {
		s.Centroids = append(s.Centroids, float32(c))
	}
	items, _ := itemClasses()
	n := len(t.space.Direction)
	for i := range rec.Map.Len() {
		furniture := 0
		for _, v := range rec.Map.Share[i*n : i*n+items] {
			furniture += int(v)
		}
		s.Object = append(s.Object, furniture > 64)
	}
	patches, err := e.patches(ctx, rec.Frames)
	if err != nil {
		return nil, err
	}
	for _, p := range patches {
		s.Patches = append(s.Patches, t.half(p, t.cfg.HiddenSize))
	}
	o := t.cfg.RobotConfig
	caster, err := rays.NewCaster(rec.Map.Voxels(), rec.Map.Centroids, rays.CastOptions{Near: o.Near, Far: o.Far, Miss: o.Miss})
	if err != nil {
		return nil, err
	}
	edge := t.cfg.VisionConfig.ImageSize
	grid := rays.Grid{Side: t.cfg.VisionConfig.Grid(), Caster: caster, Options: rays.CastOptions{Near: o.Near, Far: o.Far, Miss: o.Miss}}
	for i := range rec.Frames {
		fr := &rec.Frames[i]
		places, err := grid.Places([]rays.View{{Pose: fr.Pose, K: rec.K, Width: edge, Height: edge}}, nil)
		if err != nil {
			return nil, err
		}
		s.Places = append(s.Places, places)
		s.Frames = append(s.Frames, record.Frame{Stamp: fr.Stamp, Pose: fr.Pose})
	}
	return s, nil
}

// half keeps the classes' half of features in half precision.
func (t *Trainer) half(f []float32, width int) []uint16 {
	h := t.space.Half
	out := make([]uint16, 0, len(f)/width*h)
	for i := 0; i < len(f); i += width {
		for _, v := range f[i : i+h] {
			out = append(out, checkpoint.Float32ToHalf(v))
		}
	}
	return out
}

// widen puts halves of features back among zeros: rows of width numbers.
func (t *Trainer) widen(to []float32, from []uint16, width int) {
	h := t.space.Half
	for i := range len(from) / h {
		row := to[i*width:]
		for j, v := range from[i*h : (i+1)*h] {
			row[j] = checkpoint.HalfToFloat32(v)
		}
	}
}

// encodeAll gives the scenes of seeds, from files where an earlier run has left them.
func (t *Trainer) encodeAll(ctx context.Context, seeds []uint64) ([]*scene, error) {
	dir := filepath.Join(t.opt.Out, "features")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var e *encoders
	out := make([]*scene, len(seeds))
	for i, seed := range seeds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, fmt.Sprintf("%08d.gob", seed))
		s, err := readScene(path)
		if errors.Is(err, os.ErrNotExist) {
			if e == nil {
				if e, err = newEncoders(t.env, t.cfg, t.w, t.runs()); err != nil {
					return nil, err
				}
				defer e.close()
			}
			rec, err := t.store.Get(seed)
			if err != nil {
				return nil, err
			}
			if s, err = t.encodeScene(ctx, e, rec); err != nil {
				return nil, fmt.Errorf("encode kitchen %d: %w", seed, err)
			}
			if err := writeScene(path, s); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w; delete the file to make it again", path, err)
		}
		out[i] = s
		if t.opt.Fill != nil {
			t.opt.Fill(i+1, len(seeds))
		}
	}
	return out, nil
}

func readScene(path string) (*scene, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s scene
	return &s, gob.NewDecoder(bufio.NewReaderSize(f, 1<<20)).Decode(&s)
}

func writeScene(path string, s *scene) error {
	return wholefile.Stream(path, func(w io.Writer) error { return gob.NewEncoder(w).Encode(s) })
}
