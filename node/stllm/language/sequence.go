package language

import (
	"context"
	"fmt"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/ort"
)

// sequence is one conversation in the decoder: its tokens, and their keys and values. It implements generate.Model for a
// single sequence, without allocating while it decodes.
type sequence struct {
	l     *Language
	table *checkpoint.Tensor // token embeddings, read a row at a time
	ids   []int32            // whose keys and values are in the cache
	room  int                // positions that the cache holds

	cache ort.Values // by the name of the input
	one   step       // a run of one token, and what it reads and writes
	bound binding

	past, present []string
	rows          [][]float32
}

// step are the inputs and the output of a run over some positions.
type step struct {
	embeds  []float32 // [S·D]
	lastKey []int32
	total   []int32
	place   []int64
	logits  []float32
	values  ort.Values // views of these
}

// roomStep is how many positions a cache grows by.
const roomStep = 256

// prefillChunk bounds the positions of one run, and so the memory for a long prompt.
const prefillChunk = 512

func newSequence(l *Language) (*sequence, error) {
	s := &sequence{l: l}
	for i := range l.Config.NumHiddenLayers {
		for _, kind := range []string{"key", "value"} {
			s.past = append(s.past, fmt.Sprintf("past_%s.%d", kind, i))
			s.present = append(s.present, fmt.Sprintf("present_%s.%d", kind, i))
		}
	}
	var ok bool
	if s.table, ok = l.Tensor("model.embed_tokens.weight"); !ok {
		return nil, fmt.Errorf("weight model.embed_tokens.weight is missing")
	}
	var err error
	s.one, err = s.newStep(1)
	return s, err
}

func (s *sequence) newStep(n int) (step, error) {
	c := s.l.Config
	x := step{embeds: make([]float32, n*c.HiddenSize), lastKey: []int32{0}, total: []int32{0}, logits: make([]float32, c.VocabSize), values: ort.Values{}}
	var err error
	put := func(name string, t *ort.Tensor, e error) {
		if x.values[name] = t; e != nil && err == nil {
			err = e
		}
	}
	t, e := ort.New(x.embeds, 1, n, c.HiddenSize)
	put("inputs_embeds", t, e)
	t, e = ort.New(x.lastKey, 1)
	put("last_key", t, e)
	t, e = ort.New(x.total, 1)
	put("total", t, e)
	t, e = ort.New(x.logits, 1, c.VocabSize)
	put("logits", t, e)
	if c.RotaryInGraph() {
		x.place = make([]int64, n)
		t, e = ort.New(x.place, n)
		put("place", t, e)
	}
	if err != nil {
		x.values.Close()
	}
	return x, err
}

func (s *sequence) close() {
	s.drop()
	s.one.values.Close()
}

// drop frees the cache.
func (s *sequence) drop() {
	s.cache.Close()
	s.cache, s.bound, s.ids, s.room = nil, binding{}, s.ids[:0], 0
}

// reserve makes the cache large enough; a new one is empty.
func (s *sequence) reserve(positions int) error {
	if positions <= s.room {
		return nil
	}
	s.drop()
	c := s.l.Config
	room := min((positions+roomStep-1)/roomStep*roomStep, max(positions, s.l.opt.Context))
	s.cache = ort.Values{}
	for _, name := range s.past {
		t, err := ort.Zeros[float32](1, c.NumKeyValueHeads, room, c.HeadDim)
		if err != nil {
			s.drop()
			return fmt.Errorf("key/value cache of %d positions: %w", room, err)
		}
		s.cache[name] = t
	}
	s.room, s.bound = room, s.bind(s.one)
	return nil
}

// prefill makes a prompt's keys and values, except those that the last conversation left in place, and returns the logits of
// its last position. The cache has room for the given positions.
func (s *sequence) prefill(ctx context.Context, prompt []int32, positions int) (logits []float32, cached int, err error) {
	if positions > s.room {
		s.drop()
	}
	// The last position is always run: its logits are wanted.
	for cached < min(len(s.ids), len(prompt)-1) && s.ids[cached] == prompt[cached] {
		cached++
	}
	s.ids = s.ids[:cached]
	logits, err = s.feed(ctx, prompt[cached:], positions)
	return logits, cached, err
}

// feed runs tokens at the end of the sequence and returns the logits after the last.
func (s *sequence) feed(ctx context.Context, tokens []int32, positions int) (logits []float32, err error) {
	if err := s.reserve(positions); err != nil {
		return nil, err
	}
	for len(tokens) > 0 {
		ids := tokens[:min(prefillChunk, len(tokens))]
		x, b := s.one, s.bound
		if len(ids) > 1 {
			if x, err = s.newStep(len(ids)); err != nil {
				return nil, err
			}
			defer x.values.Close()
			b = s.bind(x)
		}
		if err := s.run(ctx, x, b, ids); err != nil {
			return nil, err
		}
		logits, tokens = x.logits, tokens[len(ids):]
	}
	return logits, nil
}

// binding is what a run reads and writes.
type binding struct{ in, into ort.Values }

// bind joins a step's tensors with the cache.
func (s *sequence) bind(x step) binding {
	b := binding{ort.Values{}, ort.Values{"logits": x.values["logits"]}}
	for name, t := range x.values {
		if name != "logits" {
			b.in[name] = t
		}
	}
	for i, name := range s.past {
		b.in[name], b.into[s.present[i]] = s.cache[name], s.cache[name]
	}
	return b
}

// run feeds tokens at the end of the sequence.
func (s *sequence) run(ctx context.Context, x step, b binding, ids []int32) error {
	at, d := len(s.ids), s.l.Config.HiddenSize
	if at+len(ids) > s.room {
		return fmt.Errorf("decode: position %d is beyond the cache's %d", at+len(ids), s.room)
	}
	for i, id := range ids {
		if err := s.table.Float32Rows(int64(id), 1, x.embeds[i*d:(i+1)*d]); err != nil {
			return fmt.Errorf("embedding of token %d: %w", id, err)
		}
		if x.place != nil {
			x.place[i] = int64(at + i)
		}
	}
	x.lastKey[0], x.total[0] = int32(at+len(ids)-1), int32(at+len(ids))
	if _, err := s.l.session.Run(ctx, b.in, b.into); err != nil {
		return err
	}
	s.ids = append(s.ids, ids...)
	return nil
}

// Next feeds one token; see generate.Model.
func (s *sequence) Next(ctx context.Context, tokens []int32, parents []int) ([][]float32, error) {
	if len(tokens) != 1 || parents[0] != 0 {
		return nil, fmt.Errorf("decode: %d sequences, expected one", len(tokens))
	}
	logits, err := s.feed(ctx, tokens, s.room)
	if err != nil {
		return nil, err
	}
	s.rows = append(s.rows[:0], logits)
	return s.rows, nil
}
