package trainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/trainer/record"
	"github.com/stllm/stllm/node/trainer/weights"
)

func hasPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// scenes encodes the kitchens once; the last two stages share them.
func (t *Trainer) scenes(ctx context.Context) error {
	if t.train != nil {
		return nil
	}
	var err error
	if t.test, err = t.encodeAll(ctx, t.recipe.heldOut()); err != nil {
		return err
	}
	t.train, err = t.encodeAll(ctx, t.recipe.seeds())
	return err
}

// heads makes the regression head where there is none yet.
func (t *Trainer) heads() {
	r := rand.New(rand.NewPCG(t.recipe.Seed, 0x68656164))
	d := t.cfg.QFormerConfig.HiddenSize
	for _, h := range []struct {
		name          string
		rows, columns int
	}{{headPlaces, targets, headLatents * d}, {headClass, len(t.space.Direction), d}, {headUnseen, 1, d}, {headFrames, frameTargets, d}, {headSteps, stepFacts, d}, {headStepsEarly, stepFacts, d}} {
		if _, err := t.w.Get(h.name); err == nil {
			continue
		}
		data := make([]float32, h.rows*h.columns)
		for i := range data {
			data[i] = 0.02 * float32(r.NormFloat64())
		}
		t.w.Put(&weights.Tensor{Name: h.name, Shape: []int{h.rows, h.columns}, Data: data})
	}
}

func (t *Trainer) alignStage(ctx context.Context) (*stage, error) {
	return t.questionStage(ctx, false, newAdamW(Group{Rate: 1}))
}

func (t *Trainer) jointStage(ctx context.Context) (*stage, error) {
	return t.questionStage(ctx, true, newAdamW(Group{Prefixes: decoderPrefixes(), Rate: 1}, Group{Rate: 1}))
}

// questionStage trains on questions: the aligner alone, or with the decoder.
func (t *Trainer) questionStage(ctx context.Context, decoder bool, opt *AdamW) (*stage, error) {
	if err := t.scenes(ctx); err != nil {
		return nil, err
	}
	t.heads()
	p, err := t.answerProgram(t.env, decoder, true, t.recipe.Freeze)
	if err != nil {
		return nil, err
	}
	return &stage{
		program: p, seen: t.recipe.Questions, opt: opt,
		make: func(_ int, r *rand.Rand) (Batch, error) {
			w, err := t.drawWindow(r)
			if err != nil {
				return nil, err
			}
			b, _, err := t.batch(w, r)
			if !decoder {
				for _, name := range []string{"head", "middle", "tail", "order", "place", "causal", "at", "label"} {
					delete(b, name)
				}
			}
			return b, err
		},
		measure: func(ctx context.Context) (map[string]float64, error) { return t.measureAnswers(ctx, decoder) },
	}, nil
}

// drawWindow draws a window, some of its questions and the modalities.
func (t *Trainer) drawWindow(r *rand.Rand) (windowBatch, error) {
	w := windowBatch{voxels: t.recipe.Voxels}
	for range 100 {
		w.scene = t.train[r.IntN(len(t.train))]
		w.window = &w.scene.Windows[r.IntN(len(w.scene.Windows))]
		if len(w.window.Questions) > 0 {
			break
		}
	}
	n := len(w.window.Questions)
	if n == 0 {
		return w, fmt.Errorf("no window with questions among %d kitchens", len(t.train))
	}
	// A batch is as long as its longest question: short ones and long ones go apart.
	order := r.Perm(n)
	long := t.long(w.window.Questions[order[0]])
	if r.Float64() < longShare {
		long = long || slices.ContainsFunc(w.window.Questions, t.long)
	}
	for _, i := range order {
		if q := w.window.Questions[i]; t.long(q) == long && len(w.questions) < t.recipe.Questions {
			w.questions = append(w.questions, q)
		}
	}
	switch x := r.Float64(); {
	case x < t.recipe.NoVideo:
		w.mode = noVideo
	case x < t.recipe.NoVideo+t.recipe.NoPoints:
		w.mode = noPoints
	}
	return w, nil
}

// longQuestion is the number of tokens from which on a question counts as long.
const longQuestion = 24

// longShare is the share of batches that are made of long questions wherever there are any, beside those that come by chance:
// what was done last is asked by them alone, and it is the hardest to learn.
const longShare = 0.35

func (t *Trainer) long(q record.Question) bool { return len(t.tok.Encode(q.Text)) >= longQuestion }

// measureAnswers is the share of answers on held-out kitchens in which every token is right (greedy decoding would say
// exactly them), by group and kind, and without the decoder the mean error of the first place in metres.
func (t *Trainer) measureAnswers(ctx context.Context, decoder bool) (map[string]float64, error) {
	p, err := t.answerProgram(t.env, decoder, false, nil)
	if err != nil {
		return nil, err
	}
	defer p.close()
	type count struct{ sum, n float64 }
	tally := map[string]*count{}
	add := func(name string, v float64) {
		if tally[name] == nil {
			tally[name] = &count{}
		}
		tally[name].sum += v
		tally[name].n++
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range t.test {
		for i := range s.Windows {
			w := windowBatch{scene: s, window: &s.Windows[i], questions: s.Windows[i].Questions}
			if len(w.questions) == 0 {
				continue
			}
			b, a, err := t.batch(w, r)
			if err != nil {
				return nil, err
			}
			known := Batch{}
			for name, f := range b {
				if p.takes(name) {
					known[name] = f
				}
			}
			_, shown, err := p.run(ctx, known)
			if err != nil {
				return nil, err
			}
			t.tally(w, b, a, shown, add)
		}
	}
	out := map[string]float64{}
	for name, c := range tally {
		out[name] = c.sum / c.n
	}
	return out, nil
}

// tally counts one window's results.
func (t *Trainer) tally(w windowBatch, b Batch, a answers, shown map[string][]float32, add func(string, float64)) {
	places, target, weight := shown["places"], b["target"].Float32s, b["target_weight"].Float32s
	for j, sign := range b["fact"].Float32s {
		if sign != 0 {
			right := 0.0
			if shown["steps"][j]*sign > 0 {
				right = 1
			}
			add([stepFacts]string{"right words of steps", "right words of latest", "right words of next"}[j%stepFacts], right)
		}
	}
	at, vocab := 0, t.cfg.VocabSize
	for i, q := range w.questions {
		if k := i * targets; weight[k] > 0 {
			dx, dy := float64(places[k]-target[k])*unit, float64(places[k+1]-target[k+1])*unit
			add("metres "+q.Kind, math.Hypot(dx, dy))
		}
		logits := shown["logits"]
		if logits == nil {
			continue
		}
		right := 1.0
		for j := range a.count[i] {
			if int32(largest(logits[(at+j)*vocab:(at+j+1)*vocab])) != a.ids[at+j] {
				right = 0
			}
		}
		at += a.count[i]
		add("right "+q.Kind, right)
		add("right "+q.Group+" group", right)
		if q.Label == "unseen" {
			add("right abstention", right)
		}
	}
}
