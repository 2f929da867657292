package stllm

import (
	"context"
	"fmt"
	"math"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/points/network"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm/module"
)

// frameFeatures are the features of one frame: pooled [P, LLM], and with a patch memory all of them [g², LLM].
type frameFeatures struct{ pooled, patches []float32 }

func (f *frameFeatures) Bytes() int { return 4 * (len(f.pooled) + len(f.patches)) }

// mapFeatures are the features of one map, with the places that they stand for.
type mapFeatures struct {
	features []float32 // [N, D]
	coords   []int32   // [N, 3] voxel indices
	size     float64   // metres
	min      [3]int64

	// Of the robot profile: where the voxels' points lie in the middle [N, 3], metres, and the rays' end.
	centroids []float64
	caster    *rays.Caster
}

func (m *mapFeatures) Bytes() int  { return 4*len(m.features) + 4*len(m.coords) }
func (m *mapFeatures) Voxels() int { return len(m.coords) / 3 }

// place is the centre of a voxel in the fixed frame, metres.
func (m *mapFeatures) place(i int) (x, y, z float64) {
	at := func(axis int) float64 { return (float64(int64(m.coords[3*i+axis])+m.min[axis]) + 0.5) * m.size }
	return at(0), at(1), at(2)
}

// EncodeFrame resizes as Pillow does, normalises and runs the vision tower, the projector and the pool.
func (n *Network) EncodeFrame(ctx context.Context, img *imaging.RGB) (FrameFeatures, error) {
	pixels, err := n.pixels(img)
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	defer pixels.Close()
	out, err := n.vision.Run(ctx, ort.Values{"pixels": pixels}, nil)
	if err != nil {
		return nil, fmt.Errorf("encode a frame: %w", err)
	}
	defer out.Close()
	var f frameFeatures
	for name, to := range map[string]*[]float32{"pooled": &f.pooled, "patches": &f.patches} {
		if out[name] == nil {
			continue // a model without a patch memory
		}
		values, err := out[name].Floats()
		if err != nil {
			return nil, fmt.Errorf("encode a frame: %s: %w", name, err)
		}
		*to = append([]float32(nil), values...)
	}
	return &f, nil
}

// pixels is a picture as the vision tower takes it [1,3,S,S].
func (n *Network) pixels(img *imaging.RGB) (*ort.Tensor, error) {
	size := n.cfg.VisionConfig.ImageSize
	small, err := img.Resize(size, size)
	if err != nil {
		return nil, &InputError{err}
	}
	return ort.New(normalise(small), 1, 3, size, size)
}

// normalise is SigLIP's image processor after the resize: u8·(1/255) rounded to float32, minus 0.5, over 0.5; channels first.
func normalise(p *imaging.RGB) []float32 {
	var table [256]float32
	for v := range table {
		table[v] = (float32(float64(v)*(1.0/255)) - 0.5) / 0.5
	}
	area := p.Width * p.Height
	out := make([]float32, 3*area)
	for i := range area {
		for c := range 3 {
			out[c*area+i] = table[p.Pix[3*i+c]]
		}
	}
	return out
}

// pointSession runs the config's point encoder.
func (n *Network) pointSession() (*ort.Session, error) {
	return n.session("points", func(b *module.Builder) error {
		weights := network.Stored{From: b.Find, Prefixes: []string{layout.PointEncoder, "module."}}
		var out *graph.Value
		var err error
		switch n.cfg.PointEncoderConfig.Type {
		case config.MinkUNet:
			m := layout.Mink(n.cfg)
			out, _, err = network.AddMink(network.ONNX{Graph: b.G, Own: b.Panels}, m, weights, m.Inputs(b.G))
		case config.MaskedTransformer:
			t := layout.Transformer(n.cfg)
			out, _, err = network.AddTransformer(network.ONNX{Graph: b.G}, t, weights, t.Inputs(b.G))
		default:
			err = fmt.Errorf("config field point_encoder_config.type is %q", n.cfg.PointEncoderConfig.Type)
		}
		if err != nil {
			return fmt.Errorf("point encoder: %w", err)
		}
		b.G.OutputAs("out", out)
		return nil
	})
}

// EncodeMap runs the voxeliser and the point encoder.
func (n *Network) EncodeMap(ctx context.Context, cloud *scene.Cloud) (MapFeatures, error) {
	m, err := n.encodeMap(cloud, func(feeds []network.Feed, places int) ([]float32, error) { return n.runPoints(ctx, feeds, places) })
	if err != nil {
		return nil, err
	}
	return m, nil
}

// encodeMap is a map whose features come from run, which may have them from an earlier time.
func (n *Network) encodeMap(cloud *scene.Cloud, run func(feeds []network.Feed, places int) ([]float32, error)) (*mapFeatures, error) {
	m, feeds, err := n.mapInputs(cloud)
	if err != nil {
		return nil, fmt.Errorf("encode the map: %w", &InputError{err})
	}
	if m.features, err = run(feeds, m.Voxels()); err != nil {
		return nil, fmt.Errorf("encode the map: %w", err)
	}
	if got, want := len(m.features), m.Voxels()*n.cfg.PcdFeatureDim; got != want {
		return nil, fmt.Errorf("encode the map: %d numbers for %d places of %d features", got, m.Voxels(), n.cfg.PcdFeatureDim)
	}
	return m, nil
}

// runPoints gives the point encoder's features of so many places [N·D]. They are written where they stay: what ONNX Runtime
// allocates would be there a second time, and keep the memory of a run from being given back with it.
func (n *Network) runPoints(ctx context.Context, feeds []network.Feed, places int) ([]float32, error) {
	in := ort.Values{}
	defer in.Close()
	var err error
	for _, f := range feeds {
		if in[f.Name], err = tensorOf(f); err != nil {
			return nil, fmt.Errorf("input %s: %w", f.Name, err)
		}
	}
	features := make([]float32, places*n.cfg.PcdFeatureDim)
	out, err := ort.New(features, places, n.cfg.PcdFeatureDim)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if _, err := n.points.Run(ctx, in, ort.Values{"out": out}); err != nil {
		return nil, err
	}
	return features, nil
}

func tensorOf(f network.Feed) (*ort.Tensor, error) {
	shape := make([]int, len(f.Shape))
	for i, d := range f.Shape {
		shape[i] = int(d)
	}
	switch {
	case f.Float32s != nil:
		return ort.New(f.Float32s, shape...)
	case f.Int32s != nil:
		return ort.New(f.Int32s, shape...)
	}
	return ort.New(f.Uint8s, shape...)
}

func (n *Network) mapInputs(cloud *scene.Cloud) (*mapFeatures, []network.Feed, error) {
	if cloud.Len() == 0 {
		return nil, nil, fmt.Errorf("the cloud has no points")
	}
	if n.cfg.PointEncoderConfig.Type == config.MaskedTransformer {
		return n.tokenInputs(cloud)
	}
	v, err := points.Voxelize(cloud.XYZ, n.cfg.VoxelSize)
	if err != nil {
		return nil, nil, err
	}
	// The training pipeline rounds colours to bfloat16; so do checkpoints that came out of it.
	m := &mapFeatures{coords: v.Coords, size: v.Size, min: v.Min}
	features, err := v.ColorsBF16(cloud.RGB)
	if n.cfg.Profile == config.Robot {
		features, err = v.ColorsF32(cloud.RGB)
	}
	if o := n.cfg.RobotConfig; o != nil && err == nil {
		var stats []float32
		if stats, m.centroids, err = v.Stats(cloud.XYZ, cloud.RGB); err == nil {
			m.caster, err = rays.NewCaster(v, m.centroids, rays.CastOptions{Near: o.Near, Far: o.Far, Miss: o.Miss})
		}
		if o.VoxelFeatures == config.StatFeatures {
			features = stats
		}
	}
	if err != nil {
		return nil, nil, err
	}
	mink := layout.Mink(n.cfg)
	tables, err := points.NewTables(v.Coords, mink.Levels())
	if err != nil {
		return nil, nil, err
	}
	feeds, err := mink.Feeds(tables, features)
	return m, feeds, err
}

// tokenInputs prepares the masked transformer: a fixed number of points with colour, normal and height above the floor.
func (n *Network) tokenInputs(cloud *scene.Cloud) (*mapFeatures, []network.Feed, error) {
	c := n.cfg.PointEncoderConfig
	pick, err := points.Sample(cloud.Len(), c.Points, 0)
	if err != nil {
		return nil, nil, err
	}
	xyz := make([]float32, 0, 3*len(pick))
	rgb := make([]uint8, 0, 3*len(pick))
	var middle [3]float64
	for _, i := range pick {
		for a := range 3 {
			xyz = append(xyz, float32(cloud.XYZ[3*int(i)+a]))
			rgb = append(rgb, cloud.RGB[3*int(i)+a])
			middle[a] += cloud.XYZ[3*int(i)+a] / float64(len(pick))
		}
	}
	normals, err := points.Normals(xyz, xyz, 0.1, middle)
	if err != nil {
		return nil, nil, err
	}
	features, err := points.ColorNormalHeight(xyz, rgb, normals, points.Floor(xyz))
	if err != nil {
		return nil, nil, err
	}
	t := layout.Transformer(n.cfg)
	shape := t.Sets(c.Tokens, c.Kept)
	shape.Radius, shape.Radius2 = float32(c.Radius), float32(c.Radius2)
	sets, err := points.NewSets(xyz, features, t.Features, shape)
	if err != nil {
		return nil, nil, err
	}
	feeds, err := t.Feeds(sets)
	if err != nil {
		return nil, nil, err
	}
	m := &mapFeatures{size: n.cfg.VoxelSize}
	if o := n.cfg.RobotConfig; o != nil {
		v, err := points.Voxelize(cloud.XYZ, n.cfg.VoxelSize)
		if err != nil {
			return nil, nil, err
		}
		if m.caster, err = rays.NewCaster(v, nil, rays.CastOptions{Near: o.Near, Far: o.Far, Miss: o.Miss}); err != nil {
			return nil, nil, err
		}
		for _, x := range sets.KeptXYZ {
			m.centroids = append(m.centroids, float64(x))
		}
	}
	// Tokens stand at points; the published ray code wants voxel indices, so they get those of the voxels that they lie in.
	cells := make([]int64, len(sets.KeptXYZ))
	for i, v := range sets.KeptXYZ {
		cells[i] = int64(math.Floor(float64(v) / n.cfg.VoxelSize))
		if a := i % 3; i < 3 || cells[i] < m.min[a] {
			m.min[a] = cells[i]
		}
	}
	for i, v := range cells {
		m.coords = append(m.coords, int32(v-m.min[i%3]))
	}
	return m, feeds, nil
}
