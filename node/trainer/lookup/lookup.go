// Package lookup starts a robot-profile model so that its aligner can look a word up from the first step: the words of the
// classes, the encoders' features and the keys of the cross-attention live in one space, and places in another beside it. It
// changes numbers only; the graph stays the published one.
//
// The features' first half holds classes, one orthonormal direction each, the second half places. A word of a class has its
// direction in the first half, every word has random numbers in the second.
package lookup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/stllm/nano"
	"github.com/stllm/stllm/node/tokenizer"
	"github.com/stllm/stllm/node/trainer/weights"
)

// Start writes the look-up start into a model's weights.
func Start(w *weights.Set, c *config.Config, tok *tokenizer.Tokenizer, s *Space, seed uint64) error {
	if c.RobotConfig == nil {
		return fmt.Errorf("look-up start: config has no robot_config")
	}
	b := starter{w: w, c: c, s: s, r: rand.New(rand.NewPCG(seed, 0x73746172))}
	b.words(tok)
	b.inputs()
	if c.RobotConfig.TextContext > 0 {
		b.context(c.RobotConfig.TextContext)
	}
	every, layers := c.QFormerConfig.CrossAttentionFrequency, c.QFormerConfig.NumHiddenLayers
	first := 0 // the first layer that looks for places
	if layers > 2*every {
		first = every // there are enough to look for what happened before
	}
	for i := range layers {
		layer := fmt.Sprintf("qformer.encoder.layer.%d.", i)
		switch cross := i%every == 0; {
		case cross && i < first:
			b.use(layer)
		case cross:
			b.cross(layer + "crossattention.")
		case i > first:
			b.gather(layer + "attention.")
		}
	}
	b.encoders()
	b.decoder()
	return b.err
}

type starter struct {
	w   *weights.Set
	c   *config.Config
	s   *Space
	r   *rand.Rand
	err error
}

// matrix is a tensor [rows, cols] set to zero.
func (b *starter) matrix(name string, rows, cols int) func(i, j int) *float32 {
	data := b.zero(name, rows, cols)
	return func(i, j int) *float32 { return &data[i*cols+j] }
}

func (b *starter) zero(name string, shape ...int) []float32 {
	data := b.need(name, shape...)
	clear(data)
	return data
}

// need is a tensor's data; where there is none of that shape the start fails, and goes on with one that nobody sees.
func (b *starter) need(name string, shape ...int) []float32 {
	t, err := b.w.Need(name, shape...)
	if err == nil {
		return t.Data
	}
	b.fail(err)
	n := 1
	for _, d := range shape {
		n *= d
	}
	return make([]float32, n)
}

// length is that of a class word's direction behind the input LayerNorm: half of a token's variance.
func (b *starter) length() float64 { return math.Sqrt(float64(b.c.QFormerConfig.HiddenSize) / 2) }

func (b *starter) fail(err error) {
	if b.err == nil {
		b.err = fmt.Errorf("look-up start: %w", err)
	}
}

func (b *starter) noise(std float64) float32 { return float32(std * b.r.NormFloat64()) }

// mark is what the first number of a word's second half is for the words of classes; it is nothing for all others. What a
// look-up brings back covers the first half and the places, so the mark stays readable behind it.
const mark = 0.6

// words gives every token random numbers in the second half, and tokens that name a class its direction in the first.
func (b *starter) words(tok *tokenizer.Tokenizer) {
	half, width := b.s.Half, b.s.Width
	at := b.matrix("model.embed_tokens.weight", b.c.VocabSize, width)
	for id := range b.c.VocabSize {
		for j := half; j < width; j++ {
			*at(id, j) = b.noise(1 / math.Sqrt(float64(half)))
		}
		for j := range marks {
			*at(id, half+j) = 0
		}
	}
	for k, class := range kitchen.Classes() {
		word := nano.ClassWord(class)
		forms := []string{" " + word, word, " " + word + "s", strings.ToUpper(word[:1]) + word[1:], " " + strings.ToUpper(word[:1]) + word[1:]}
		if class == "sink" {
			forms = append(forms, " tap", " taps") // what one turns on at it
		}
		for n, form := range forms {
			ids := tok.Encode(form)
			if len(ids) != 1 {
				if n == 0 && b.err == nil {
					b.err = fmt.Errorf("look-up start: the tokenizer splits %q", form)
				}
				continue
			}
			for i, v := range b.s.Direction[k] {
				*at(int(ids[0]), i) = v
			}
			*at(int(ids[0]), half) = mark
		}
	}
	for _, verb := range actions() {
		for _, form := range []string{" " + verb, verb, strings.ToUpper(verb[:1]) + verb[1:]} {
			if ids := tok.Encode(form); len(ids) == 1 {
				*at(int(ids[0]), half+actionDim) = mark
			}
		}
	}
}

// actions are words that say of the thing beside them that somebody did something with it.
func actions() []string { return []string{"opened", "closed", "picked", "put", "turned", "taken"} }

// Numbers of a word's second half with a meaning: mark comes first, then whether the word is an action, then whether one
// stands near it, and whether its thing was seen in use (see use).
const (
	actionDim  = 1
	handledDim = 2
	usedDim    = 3
	marks      = 4
)

// Where the second half keeps the places that are gathered, apart from a token's own: of what is asked for, and of what was
// handled.
const (
	askedDim   = 8
	eventDim   = 32
	mostPlaces = eventDim - askedDim
)

// context lets every word know whether an action stands up to three words before it ("picked up the mug") or two behind it
// ("the mug was picked up").
func (b *starter) context(around int) {
	half, d := b.s.Half, b.c.HiddenSize
	at := b.matrix("text_context_projection.weight", b.c.QFormerConfig.HiddenSize, 2*around*d)
	block := 0
	for offset := -around; offset <= around; offset++ {
		if offset == 0 {
			continue
		}
		if offset >= -3 && offset <= 2 {
			*at(half+handledDim, block*d+half+actionDim) = 1
		}
		block++
	}
}

// inputs lets text and pictures into the sequence as they are, and codes places beside them.
func (b *starter) inputs() {
	d, h, e, half := b.c.HiddenSize, b.c.QFormerConfig.HiddenSize, b.c.PcdFeatureDim, b.s.Half
	for _, name := range []string{"text_embed_to_qformer_projection", "img_encoder_to_qformer_projection"} {
		at := b.matrix(name+".weight", h, d)
		for i := range d {
			*at(i, i) = 1
		}
	}
	// The code of a place: raw metres, direction, age and origin in rows of their own, random mixtures in the rest.
	columns := b.c.PointColumns()
	code := make([][]float32, half)
	for i := range code {
		code[i] = make([]float32, columns)
		for j := range code[i] {
			code[i][j] = b.noise(math.Sqrt(2 / float64(columns)))
		}
	}
	raw := b.raw()
	for i, j := range raw[:min(len(raw), half)] {
		clear(code[i])
		code[i][j] = 1
	}
	points := b.matrix("pcd_ray_encoder.pcd_ray_projection_to_qformer.weight", e, columns)
	images := b.matrix("img_ray_encoder.img_ray_projection_to_qformer.weight", h, b.c.ImageColumns())
	for i := range half {
		for j := range columns {
			*points(half+i, j) = code[i][j]
			*images(h-half+i, j) = code[i][j]
		}
	}
	if b.c.RobotConfig.EmptyMemory {
		// The empty token answers to every word as a thing does of which one cannot tell whether it is there.
		at := b.matrix("memory_empty.weight", 1, e)
		for _, u := range b.s.Direction {
			for i, v := range u {
				*at(0, i) += -Shift / Scale * v
			}
		}
	}
}

// raw lists the columns of an encoded place that have rows of their own in the code: the age first, then direction, place,
// place from the first camera, the age's waves and the origin.
func (b *starter) raw() []int {
	o, columns := b.c.RobotConfig, b.c.PointColumns()
	age := columns - 1 - 2*o.TimeOctaves.Count - 1
	out := []int{age, 0, 1, 2}
	if o.PositionOctaves.Count > 0 {
		split, positions := 3*(1+2*o.DirectionOctaves.Count), 4*(1+2*o.PositionOctaves.Count)
		for ; split < age; split += positions {
			out = append(out, split, split+1, split+2, split+3)
		}
	}
	for j := age + 1; j < columns; j++ {
		out = append(out, j)
	}
	return out
}

// recency is how much more a place seen now is worth to the head that prefers new places than one seen ten seconds ago, as
// a difference of scores.
const recency = 3

// sharpness of the heads' look-up: a score is the logit of the word's class times it. Heads beyond repeat the last.
var sharpness = []float64{1, 2, 1}

// cross lets each head ask by class: two heads bring back the place of what they find, the last what else is there.
func (b *starter) cross(p string) {
	a := b.attention(p)
	for head := range a.heads {
		w := b.weight(sharpness[min(head, len(sharpness)-1)])
		for k, u := range b.s.Direction {
			a.pair(a.row(head, k), w, u, u)
		}
		if head == 1 {
			a.recent(a.row(head, len(b.s.Direction))) // of two places the one seen later counts: things move
		}
		for i := range a.half {
			if row := a.row(head, i); head < a.heads-1 {
				*a.value(row, a.half+i) = 1
				*a.out(a.width-a.half+i, row) = 1 / float32(a.heads-1)
			} else {
				*a.value(row, i) = 1
				*a.out(i, row) = 2
			}
		}
	}
}

// pull is how much more than any other token a class word is attended to, as a difference of scores.
const pull = 14

// gather lets every token, and so the latent queries, collect what the words of classes have found: their places and what
// else was there. It stands behind a look-up, in the layers without one.
func (b *starter) gather(p string) {
	h, half := b.c.QFormerConfig.HiddenSize, b.s.Half
	query := b.need(p+"attention.query.bias", h)
	get := func(name string) func(i, j int) *float32 {
		data := b.need(p+name, h, h)
		return func(i, j int) *float32 { return &data[i*h+j] }
	}
	key, value, out := get("attention.key.weight"), get("attention.value.weight"), get("output.dense.weight")
	length := mark * b.length() * 0.8 // of the mark behind the layer before
	w := float32(math.Sqrt(pull * math.Sqrt(float64(half)) / length))
	ask := func(head int, handled float32) {
		query[head*half] = w
		for i := range h {
			*key(head*half, i) = 0
		}
		*key(head*half, half) = w
		*key(head*half, half+handledDim) = handled * w
		for i := range half {
			for j := range h {
				*value(head*half+i, j) = 0
			}
		}
	}
	fetch := func(head, from, to, n int) {
		for i := range n {
			for j := range h {
				*out(to+i, j) = 0
			}
		}
		for i := range n {
			*value(head*half+i, from+i) = 1
			*out(to+i, head*half+i) = 1
		}
	}
	places := min(len(b.raw()), mostPlaces, half-eventDim)
	handled := float32(0)
	if b.c.RobotConfig.TextContext > 0 {
		handled = -0.7 // what was handled is seldom what is asked for
		if b.c.QFormerConfig.NumAttentionHeads > 2 {
			ask(2, 1)
			fetch(2, h-half, half+eventDim, places)
		}
	}
	ask(0, handled)
	fetch(0, h-half, half+askedDim, places)
	ask(1, handled)
	fetch(1, 0, 0, half) // classes
}

// encoders leaves the places' half of the features empty, and of a voxel's what the classes leave over: a map shows nothing in
// use, and training does not come there.
func (b *starter) encoders() {
	for _, name := range b.w.Names("pcd_encoder.") {
		if !strings.HasSuffix(name, "final.kernel") {
			continue
		}
		t, err := b.w.Get(name)
		if err != nil || len(t.Shape) != 2 {
			b.fail(fmt.Errorf("%s has the shape %v, expected two dimensions", name, t.Shape))
			return
		}
		width := t.Shape[1]
		for row := 0; row < len(t.Data); row += width {
			v := b.s.project(t.Data[row : row+b.s.Half])
			clear(t.Data[row : row+width])
			for i, x := range v {
				t.Data[row+i] = 0.1 * x // a small start: logits of some units would take the encoder's first minutes to come down
			}
		}
	}
	out := b.need("model.mm_projector.2.weight", b.c.HiddenSize, b.c.HiddenSize)
	for i := range out {
		out[i] *= 0.1
	}
	clear(out[b.s.Half*b.c.HiddenSize:])
}

// decoder widens the published start, which is made for a model thirty times as wide.
func (b *starter) decoder() {
	std := 0.7 / math.Sqrt(float64(b.c.HiddenSize))
	for _, name := range b.w.Names("model.layers.") {
		t, err := b.w.Get(name)
		if err != nil || len(t.Shape) != 2 {
			continue
		}
		s := std
		if strings.Contains(name, "o_proj") || strings.Contains(name, "down_proj") {
			s /= math.Sqrt(2 * float64(b.c.NumHiddenLayers))
		}
		for i := range t.Data {
			t.Data[i] = b.noise(s)
		}
	}
}
