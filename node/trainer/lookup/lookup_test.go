package lookup

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/stllm/placecode"
	"github.com/stllm/stllm/node/tokenizer"
	"github.com/stllm/stllm/node/trainer/weights"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"
)

// started is an untrained model with the look-up start.
type started struct {
	t     *testing.T
	cfg   *config.Config
	tok   *tokenizer.Tokenizer
	w     *weights.Set
	space *Space
	code  *placecode.Code
}

func start(t *testing.T) *started {
	t.Helper()
	orttest.Environment(t)
	dir := filepath.Join(t.TempDir(), "model")
	if err := nano.Init(t.Context(), dir, nano.Options{Config: "nano", Seed: 1}); err != nil {
		t.Fatal(err)
	}
	s := &started{t: t}
	var err error
	if s.cfg, err = config.Load(dir); err != nil {
		t.Fatal(err)
	}
	if s.tok, err = tokenizer.Open(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if s.w, err = weights.Read(dir); err != nil {
		t.Fatal(err)
	}
	if s.space, err = NewSpace(s.cfg, 1); err != nil {
		t.Fatal(err)
	}
	if err := Start(s.w, s.cfg, s.tok, s.space, 1); err != nil {
		t.Fatal(err)
	}
	if s.code, err = placecode.New(s.cfg.RobotConfig); err != nil {
		t.Fatal(err)
	}
	return s
}

// things are classes with their places, as perfect encoders would give them: ten places of the memory each.
type things map[string]r3.Vec

// layers runs the aligner over a question and returns what each layer gives for each token of the text [tokens·D].
// Those listed are in use.
func (s *started) layers(question string, now things, used ...string) [][]float32 {
	t, c := s.t, s.cfg
	t.Helper()
	b := &module.Builder{G: graph.New("look-up"), Find: s.w, DType: graph.Float32, Decompose: true}
	var outs []string
	b.Probe = func(name string, x *graph.Value) {
		if name == module.QFormerLayer(len(outs)) {
			outs = append(outs, "probe "+name)
			b.G.Output("probe "+name, b.G.Identity(x))
		}
	}
	a := module.Aligner{Config: c}
	a.Build(b, a.Inputs(b))
	m, err := b.G.Model()
	if err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewSession(orttest.Environment(t), m, ort.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()

	look := quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5} // along +x
	frames := []placecode.Frame{{Stamp: 0, Pose: geometry.Transform{Translation: r3.Vec{Z: 1.5}, Rotation: look}, K: [9]float64{50, 0, 48, 0, 50, 48, 0, 0, 1}, Width: 96, Height: 96}}
	r := rand.New(rand.NewPCG(1, 2))
	var centroids []float64
	var features []float32
	names := kitchen.Classes()
	for k, name := range names {
		at, ok := now[name]
		if !ok {
			continue
		}
		for range 10 {
			centroids = append(centroids, at.X+0.1*r.NormFloat64(), at.Y+0.1*r.NormFloat64(), at.Z)
			row := make([]float32, c.PcdFeatureDim)
			for j, u := range s.space.Direction {
				for i, v := range u {
					logit := float32(-4)
					if j == k {
						logit = 4
					}
					row[i] += (logit - Shift) / Scale * v
				}
			}
			if u := slices.Index(kitchen.Usable(), name); u >= 0 && slices.Contains(used, name) {
				for i, v := range s.space.Used[u] {
					row[i] += (4 - Shift) / Scale * v
				}
			}
			features = append(features, row...)
		}
	}
	rows, err := s.code.Encode(placecode.Window{Frames: frames, Centroids: centroids})
	if err != nil {
		t.Fatal(err)
	}
	ids := s.tok.Encode(question)
	text := make([]float32, 0, len(ids)*c.HiddenSize)
	table, err := s.w.Get("model.embed_tokens.weight")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		text = append(text, table.Data[int(id)*c.HiddenSize:(int(id)+1)*c.HiddenSize]...)
	}
	in := ort.Values{}
	defer in.Close()
	put := func(name string, v []float32, width int) {
		if len(v) == 0 {
			v = make([]float32, width)
		}
		x, err := ort.New(v, len(v)/width, width)
		if err != nil {
			t.Fatal(err)
		}
		in[name] = x
	}
	put("images", nil, c.ImgEncoderFeatureDim)
	put("image_rays", rows.Cameras, c.ImageColumns())
	put("text", text, c.HiddenSize)
	put("points", features, c.PcdFeatureDim)
	put("point_rays", rows.Voxels, c.PointColumns())
	put("patches", nil, c.HiddenSize)
	put("patch_rays", nil, c.PointColumns())
	out, err := session.Run(t.Context(), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var got [][]float32
	for _, name := range outs {
		v, err := out[name].Floats()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, append([]float32(nil), v[(c.QFormerConfig.NumQueryTokens+len(frames))*c.QFormerConfig.HiddenSize:]...))
	}
	return got
}

// word is the place of a class's word in a question.
func (s *started) word(question, word string) int {
	ids := s.tok.Encode(" " + word)
	if len(ids) != 1 {
		s.t.Fatalf("%q is %d tokens", word, len(ids))
	}
	at := slices.Index(s.tok.Encode(question), ids[0])
	if at < 0 {
		s.t.Fatalf("%q is not a word of %q", word, question)
	}
	return at
}

// moved is how far a stretch of a token's state moves when a thing does.
func moved(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i] - b[i])
		sum += d * d
	}
	return math.Sqrt(sum)
}

// Before anything is trained, a word finds its own thing: its state follows that thing when it moves, and no other. The
// place of what is asked for and of what was handled come apart by the words around them.
func TestStart(t *testing.T) {
	s := start(t)
	h, half := s.cfg.QFormerConfig.HiddenSize, s.space.Half
	const question = "Where was the sink when I opened the fridge?"
	base := things{"sink": {X: 2, Y: 1, Z: 1}, "fridge": {X: 1, Y: -2, Z: 1}, "table": {X: 3, Y: 0, Z: 0.7}}
	with := func(name string) things {
		out := things{}
		for k, v := range base {
			out[k] = v
		}
		out[name] = r3.Add(out[name], r3.Vec{X: -1.5, Y: 1})
		return out
	}
	before := s.layers(question, base)
	after := map[string][][]float32{}
	for name := range base {
		after[name] = s.layers(question, with(name))
	}
	// The first two layers look for what is in use.
	look, gather := s.cfg.QFormerConfig.CrossAttentionFrequency, s.cfg.QFormerConfig.CrossAttentionFrequency+1
	part := func(layer []float32, token, from, n int) []float32 { return layer[token*h+from : token*h+from+n] }
	for _, word := range []string{"sink", "fridge"} {
		at := s.word(question, word)
		own := moved(part(before[look], at, h-half, half), part(after[word][look], at, h-half, half))
		for name := range base {
			if other := moved(part(before[look], at, h-half, half), part(after[name][look], at, h-half, half)); name != word && other > 0.3*own {
				t.Errorf("the word %s follows the %s by %.3f, its own thing by %.3f", word, name, other, own)
			}
		}
	}
	// One layer on, every word knows the two places apart.
	at := s.word(question, "was")
	for _, c := range []struct {
		dim         int
		follow, not string
	}{{half + askedDim, "sink", "fridge"}, {half + eventDim, "fridge", "sink"}} {
		own := moved(part(before[gather], at, c.dim, 8), part(after[c.follow][gather], at, c.dim, 8))
		other := moved(part(before[gather], at, c.dim, 8), part(after[c.not][gather], at, c.dim, 8))
		if !(own > 2*other) {
			t.Errorf("numbers %d on follow the %s by %.3f and the %s by %.3f", c.dim, c.follow, own, c.not, other)
		}
	}
}

// Before anything is trained, the word of a thing that was in use says so, and no other word.
func TestStartUse(t *testing.T) {
	s := start(t)
	h := s.cfg.QFormerConfig.HiddenSize
	const question = "The task goes: open the fridge, turn on the hob, put the mug on the table."
	base := things{"hob": {X: 2, Y: 1, Z: 1}, "fridge": {X: 1, Y: -2, Z: 1}, "table": {X: 3, Y: 0, Z: 0.7}, "mug": {X: 3, Y: 0, Z: 0.8}}
	code := func(layer []float32, word string) float64 {
		at, sum := s.word(question, word), 0.0
		for i, v := range s.space.Used[slices.Index(kitchen.Usable(), word)] {
			sum += float64(v * layer[at*h+i])
		}
		return sum
	}
	none := s.layers(question, base)[0]
	for _, used := range []string{"fridge", "hob", "mug"} {
		got := s.layers(question, base, used)[0]
		for _, word := range []string{"fridge", "hob", "mug"} {
			switch v := code(got, word) - code(none, word); {
			case word == used && v < 1:
				t.Errorf("%s in use: its word says it by %.2f, expected more than 1", used, v)
			case word != used && v > 0.4:
				t.Errorf("%s in use: the word %s says it of its own by %.2f, expected less than 0.4", used, word, v)
			}
		}
	}
}
