package trainer

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/room"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/points/network"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/trainer/lookup"
	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/trainer/weights"
)

// floor is the logit below which a class is as absent as can be, and floorWeight the weight of what is below, squared.
const (
	floor       = -10
	floorWeight = 0.01
)

// presence is the loss of dense labels: features [n, D] against sign [n, directions], 1 where a class is there and -1 where it
// is not, with a weight each (0: nobody knows). It is the mean over weighted entries of -log σ(sign·logit), and of a penalty on
// logits below floor: they say no more, and what is free to fall to -30 disturbs every other product with the feature.
func presence(g *graph.Graph, features *graph.Value, s *lookup.Space, directions [][]float32, sign, weight *graph.Value) *graph.Value {
	n := len(directions)
	half := g.Slice(features, len(features.Shape)-1, 0, int64(s.Half))
	logits := g.Shift(g.Scale(g.MatMul(half, g.Floats(graph.Float32, s.Matrix(directions), s.Half, n)), lookup.Scale), lookup.Shift)
	likely := g.Log(g.Shift(g.Sigmoid(g.Mul(logits, sign)), 1e-9))
	low := g.Relu(g.Shift(g.Neg(logits), floor))
	loss := g.Mul(g.Sub(g.Scale(g.Mul(low, low), floorWeight), likely), weight)
	for range loss.Shape {
		loss = g.Sum(loss, 0, false)
	}
	return loss
}

// denseLabels turns shares of so many columns, the classes first, into signs and weights: a class is there from a share of
// least on, and absent at none. Weights are divided by the number of places; those of items, and of what comes behind the
// classes, are larger.
func denseLabels(shares []uint8, columns int, least uint8, items float32) (sign, weight []float32) {
	classes := len(kitchen.Classes())
	first, last := itemClasses()
	n := len(shares) / columns
	sign, weight = make([]float32, len(shares)), make([]float32, len(shares))
	for i, v := range shares {
		w := float32(1) / float32(n)
		c := i % columns
		rare := c >= first && c < last || c >= classes
		if rare {
			w *= items
		}
		switch {
		case v == 0:
			sign[i], weight[i] = -1, w
		case v >= least:
			sign[i], weight[i] = 1, w
			if c < first || rare {
				weight[i] *= 3 // these fill few places
			}
		default:
			sign[i] = 1
		}
	}
	return sign, weight
}

// itemClasses is the range of the small movable things among the classes.
func itemClasses() (first, last int) {
	first = len(room.Categories())
	return first, first + len(room.ItemKinds())
}

// trainable are the operators of a point encoder that is trained.
type trainable struct {
	network.ONNX
	stats map[string][2]*graph.Value // by BatchNorm: mean and variance of the batch [1, c]
}

// Parameter is a weight as an input of the graph.
func (t trainable) Parameter(name string, shape ...int) *graph.Value {
	return t.Graph.Input(layout.PointEncoder+name, graph.Float32, graph.S(shape...)...)
}

// BatchNorm normalises by the statistics of the batch, which it keeps to be averaged.
func (t trainable) BatchNorm(x *graph.Value, name string, channels int) *graph.Value {
	g := t.Graph
	mean := g.Mean(x, 0, true)
	centred := g.Sub(x, mean)
	variance := g.Mean(g.Mul(centred, centred), 0, true)
	t.stats[layout.PointEncoder+name] = [2]*graph.Value{mean, variance}
	unit := g.Mul(centred, g.Reciprocal(g.Sqrt(g.Shift(variance, 1e-5))))
	return g.Add(g.Mul(unit, t.Parameter(name+".weight", channels)), t.Parameter(name+".bias", channels))
}

// pointProgram trains the sparse U-Net on the classes of voxels.
func pointProgram(env *ort.Environment, c *config.Config, w *weights.Set, s *lookup.Space, o ort.Options) (*program, error) {
	g := graph.New("train points")
	m := layout.Mink(c)
	ops := trainable{network.ONNX{Graph: g}, map[string][2]*graph.Value{}}
	out, _, err := network.AddMink[*graph.Value](ops, m, nil, m.Inputs(g))
	if err != nil {
		return nil, err
	}
	n := graph.D(len(s.Direction))
	loss := presence(g, out, s, s.Direction, g.Input("sign", graph.Float32, out.Shape[0], n), g.Input("weight", graph.Float32, out.Shape[0], n))
	show := map[string]*graph.Value{"encoded": out}
	for name, st := range ops.stats {
		show[name+".running_mean"], show[name+".running_var"] = st[0], st[1]
	}
	return newProgram(env, g, w, loss, show, o)
}

// momentum is the share of a batch in the running statistics of BatchNorm.
const momentum = 0.02

// remember averages the statistics that a run has shown.
func remember(w *weights.Set, shown map[string][]float32) error {
	for name, v := range shown {
		if !strings.HasSuffix(name, ".running_mean") && !strings.HasSuffix(name, ".running_var") {
			continue
		}
		t, err := w.Get(name)
		if err != nil {
			return err
		}
		for i := range t.Data {
			t.Data[i] += momentum * (v[i] - t.Data[i])
		}
	}
	return nil
}

// pointBatch is one map with its labels.
func pointBatch(c *config.Config, m *record.Map) (Batch, error) {
	mink := layout.Mink(c)
	tables, err := points.NewTables(m.Coords, mink.Levels())
	if err != nil {
		return nil, err
	}
	feeds, err := mink.Feeds(tables, m.Stats)
	if err != nil {
		return nil, err
	}
	b := Batch{}
	for _, f := range feeds {
		shape := make([]int, len(f.Shape))
		for i, d := range f.Shape {
			shape[i] = int(d)
		}
		b[f.Name] = Feed{Shape: shape, Float32s: f.Float32s, Int32s: f.Int32s}
	}
	return b, nil
}

// label adds the dense labels of places to a batch: shares of so many columns.
func (b Batch) label(shares []uint8, columns int, least uint8, items float32, lead ...int) {
	sign, weight := denseLabels(shares, columns, least, items)
	shape := append(lead, columns)
	b["sign"], b["weight"] = Feed{Shape: shape, Float32s: sign}, Feed{Shape: shape, Float32s: weight}
}

// spoil jitters the colours of a map, so that no encoder relies on exact ones.
func spoil(stats []float32, r *rand.Rand) []float32 {
	out := append([]float32(nil), stats...)
	var gain, shift [3]float32
	for k := range 3 {
		gain[k], shift[k] = 1+0.08*float32(r.NormFloat64()), 0.06*float32(r.NormFloat64())
	}
	for i := 0; i < len(out); i += points.StatFeatures {
		for k := range 3 {
			out[i+k] = out[i+k]*gain[k] + shift[k]
		}
	}
	return out
}

// builder is a graph builder whose weights under the prefixes are parameters.
func builder(name string, w *weights.Set, train ...string) *module.Builder {
	return &module.Builder{G: graph.New(name), Find: w, DType: graph.Float32, Decompose: true, Train: func(weight string) bool {
		for _, p := range train {
			if strings.HasPrefix(weight, p) {
				return true
			}
		}
		return false
	}}
}

// visionPrefixes are the parts that the vision stage trains.
func visionPrefixes() []string { return []string{layout.Vision, "model.mm_projector."} }

// visionProgram trains the vision tower and the projector on the classes of patches.
func visionProgram(env *ort.Environment, c *config.Config, w *weights.Set, s *lookup.Space, o ort.Options) (*program, error) {
	b := builder("train vision", w, visionPrefixes()...)
	x := projected(b, c)
	g, v := b.G, c.VisionConfig
	patches := graph.D(v.Grid() * v.Grid())
	seen := s.Seen()
	n := graph.D(len(seen))
	if err := g.Err(); err != nil {
		return nil, err
	}
	loss := presence(g, x, s, seen, g.Input("sign", graph.Float32, x.Shape[0], patches, n), g.Input("weight", graph.Float32, x.Shape[0], patches, n))
	return newProgram(env, g, w, loss, map[string]*graph.Value{"encoded": x}, o)
}

func projected(b *module.Builder, c *config.Config) *graph.Value {
	v := c.VisionConfig
	pixels := b.G.Input("pixels", graph.Float32, graph.N("frames"), graph.D(v.NumChannels), graph.D(v.ImageSize), graph.D(v.ImageSize))
	return b.Projector(b.Vision(pixels, v, layout.Vision), c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
}

// pixels are pictures as the vision tower takes them: RGB bytes to -1…1, channels first.
func pixels(frames []*record.Frame, edge int, r *rand.Rand) Feed {
	area := edge * edge
	out := make([]float32, 3*area*len(frames))
	for k, f := range frames {
		gain, shift := float32(1), [3]float32{}
		if r != nil {
			gain = 1 + 0.1*float32(r.NormFloat64())
			for c := range shift {
				shift[c] = 0.05 * float32(r.NormFloat64())
			}
		}
		to := out[3*area*k:]
		for i := range area {
			for c := range 3 {
				to[c*area+i] = (float32(f.RGB[3*i+c])/127.5-1)*gain + shift[c]
			}
		}
	}
	return Feed{Shape: []int{len(frames), 3, edge, edge}, Float32s: out}
}

// visionBatch is a number of pictures with their labels.
func visionBatch(c *config.Config, s *lookup.Space, frames []*record.Frame, r *rand.Rand) (Batch, error) {
	v := c.VisionConfig
	if len(frames) == 0 || len(frames[0].RGB) != 3*v.ImageSize*v.ImageSize {
		return nil, fmt.Errorf("pictures of %d bytes, expected %d × %d", len(frames[0].RGB), v.ImageSize, v.ImageSize)
	}
	b := Batch{"pixels": pixels(frames, v.ImageSize, r)}
	var shares []uint8
	n := len(kitchen.Classes())
	for _, f := range frames {
		for p := range f.InUse {
			shares = appendSeen(shares, f, p, s.UsedClass)
		}
	}
	b.label(shares, n+len(s.Used), least, 2, len(frames), v.Grid()*v.Grid())
	return b, nil
}

// least is the share of a patch, of 255, from which on it shows something.
const least = 7

// Shares of a patch that are in use, of 255: as good as nothing, and enough to know what it looks like.
const (
	hardlyUsed  = 24
	clearlyUsed = 60
)

// appendSeen appends how much of a patch shows each class, then for each usable one how much shows it in use: 0 for none, 1
// where nobody can tell, since the labels know how much is in use and not of what. The columns are those of [lookup.Space.Seen].
func appendSeen(to []uint8, f *record.Frame, p int, usable []int) []uint8 {
	n := len(f.Share) / len(f.InUse)
	share, used := f.Share[p*n:(p+1)*n], f.InUse[p]
	to = append(to, share...)
	all := 0
	for _, k := range usable {
		all += int(share[k])
	}
	for _, k := range usable {
		most := min(int(share[k]), int(used))
		sure := min(most, int(used)-(all-int(share[k])))
		switch {
		case most < hardlyUsed:
			to = append(to, 0)
		case sure < clearlyUsed:
			to = append(to, 1)
		default:
			to = append(to, uint8(sure))
		}
	}
	return to
}
