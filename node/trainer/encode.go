package trainer

import (
	"context"
	"errors"
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/points/network"
	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/trainer/weights"
)

// encoders are the frozen encoders, as the node runs them.
type encoders struct {
	cfg          *config.Config
	point, image *ort.Session
}

func newEncoders(env *ort.Environment, c *config.Config, w *weights.Set, o ort.Options) (*encoders, error) {
	e := &encoders{cfg: c}
	g := graph.New("points")
	m := layout.Mink(c)
	out, _, err := network.AddMink(network.ONNX{Graph: g}, m, network.Stored{From: w, Prefixes: []string{layout.PointEncoder}}, m.Inputs(g))
	if err != nil {
		return nil, err
	}
	g.Output("out", out)
	if e.point, err = open(env, g, o); err != nil {
		return nil, err
	}
	b := builder("vision", w)
	b.Decompose = false
	b.G.Output("out", projected(b, c))
	if e.image, err = open(env, b.G, o); err != nil {
		return nil, errors.Join(err, e.point.Close())
	}
	return e, nil
}

func open(env *ort.Environment, g *graph.Graph, o ort.Options) (*ort.Session, error) {
	m, err := g.Model()
	if err != nil {
		return nil, err
	}
	return ort.NewSession(env, m, o)
}

func (e *encoders) close() error { return errors.Join(e.point.Close(), e.image.Close()) }

func (e *encoders) run(ctx context.Context, s *ort.Session, b Batch) ([]float32, error) {
	in := ort.Values{}
	defer in.Close()
	var err error
	for name, f := range b {
		if in[name], err = f.tensor(); err != nil {
			return nil, fmt.Errorf("input %s: %w", name, err)
		}
	}
	out, err := s.Run(ctx, in, nil)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	v, err := out["out"].Floats()
	return append([]float32(nil), v...), err
}

// voxels gives the features of a map [N, D].
func (e *encoders) voxels(ctx context.Context, m *record.Map) ([]float32, error) {
	b, err := pointBatch(e.cfg, m)
	if err != nil {
		return nil, err
	}
	return e.run(ctx, e.point, b)
}

// patches gives the features of pictures, [patches, D] each.
func (e *encoders) patches(ctx context.Context, frames []record.Frame) ([][]float32, error) {
	v := e.cfg.VisionConfig
	var out [][]float32
	for len(frames) > 0 {
		n := min(16, len(frames))
		list := make([]*record.Frame, n)
		for i := range list {
			list[i] = &frames[i]
		}
		f, err := e.run(ctx, e.image, Batch{"pixels": pixels(list, v.ImageSize, nil)})
		if err != nil {
			return nil, err
		}
		each := len(f) / n
		for i := range n {
			out = append(out, f[i*each:(i+1)*each])
		}
		frames = frames[n:]
	}
	return out, nil
}
