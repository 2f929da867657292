package stllm

import (
	"context"
	"errors"
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/points/network"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm/module"
)

// Frozen are the parts of a model that the published training leaves as they are and that do not depend on the question: the
// vision tower, the point encoder and the ray encodings. Its methods may be called from several goroutines.
type Frozen struct{ n *Network }

// InputError is what is wrong with a picture, a map or poses that were given, as opposed to what went wrong in running.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *InputError) Unwrap() error { return e.Err }

// LoadFrozen opens a model folder and makes the sessions of its frozen parts.
func LoadFrozen(ctx context.Context, env *ort.Environment, dir string, o Options) (*Frozen, error) {
	precision, err := o.precision(ort.RoundedProducts())
	if err != nil {
		return nil, err
	}
	n := &Network{env: env, opt: o, log: o.Log, fourier: rays.NewPublishedFourier(), precision: precision}
	if err = n.open(dir); err == nil {
		n.vision, err = n.session("vision", func(b *module.Builder) error {
			v := n.cfg.VisionConfig
			pixels := b.G.Input("pixels", graph.Float32, graph.D(1), graph.D(v.NumChannels), graph.D(v.ImageSize), graph.D(v.ImageSize))
			output(b, "features", b.Vision(b.G.Cast(pixels, b.DType), v, layout.Vision))
			return nil
		})
	}
	if err == nil {
		n.points, err = n.pointSession()
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, errors.Join(fmt.Errorf("load the frozen parts of %s: %w", dir, err), n.Close())
	}
	return &Frozen{n}, nil
}

// Config is the model's configuration; it must not be changed.
func (f *Frozen) Config() *config.Config { return f.n.cfg }

// Close frees sessions and files.
func (f *Frozen) Close() error {
	if f == nil {
		return nil
	}
	return f.n.Close()
}

// Picture gives the vision tower's features [g²·D], before the projector.
func (f *Frozen) Picture(ctx context.Context, img *imaging.RGB) ([]float32, error) {
	pixels, err := f.n.pixels(img)
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	defer pixels.Close()
	out, err := f.n.vision.Run(ctx, ort.Values{"pixels": pixels}, nil)
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	defer out.Close()
	values, err := out["features"].Floats()
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	return append([]float32(nil), values...), nil
}

// Map gives a map's places and the point encoder's features of them [N·D]. keep, which may be nil, is asked for the features and
// may have them from an earlier call with the same cloud instead of making them.
func (f *Frozen) Map(ctx context.Context, cloud *scene.Cloud, keep func(make func() ([]float32, error)) ([]float32, error)) (MapFeatures, []float32, error) {
	m, err := f.n.encodeMap(cloud, func(feeds []network.Feed, places int) ([]float32, error) {
		run := func() ([]float32, error) { return f.n.runPoints(ctx, feeds, places) }
		if keep == nil {
			return run()
		}
		return keep(run)
	})
	if err != nil {
		return nil, nil, err
	}
	return m, m.features, nil
}

// Rays gives the encoded rays of a window's pooled patches [T·P, columns] and of the map's places [N, columns], as an answer
// has them. Features of the frames are not looked at.
func (f *Frozen) Rays(frames []Frame, m MapFeatures) (images, points []float32, err error) {
	places, ok := m.(*mapFeatures)
	if !ok {
		return nil, nil, fmt.Errorf("rays: map features are a %T, which this model did not make", m)
	}
	if len(frames) == 0 {
		return nil, nil, &InputError{errors.New("rays: there are no frames")}
	}
	out, err := f.n.directions(Request{Frames: frames}, places, onHeap)
	if err != nil {
		return nil, nil, &InputError{err}
	}
	return out.images, out.points, nil
}
