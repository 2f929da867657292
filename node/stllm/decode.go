package stllm

import (
	"context"
	"fmt"
	"slices"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/module"
)

// language is a language model that runs: the decoder's session and its table of token embeddings [V,D], whose rows are read
// from the file.
type language struct {
	cfg     module.DecoderConfig
	dtype   graph.DType // of the cache
	session *ort.Session
	copier  func() (*ort.Session, error) // copies a tensor of the cache in a device's memory
	table   *checkpoint.Tensor
	kept    *kept
}

func (n *Network) language() *language {
	return &language{n.decoderCfg, n.dtype, n.decoder, n.cacheCopier, n.table, &n.kept}
}

// cacheCopier is a session that copies one tensor of the cache; it is made when it is first asked for, which beams do.
func (n *Network) cacheCopier() (*ort.Session, error) {
	n.copying.Do(func() {
		n.copier, n.copyErr = n.session("copy", func(b *module.Builder) error {
			c := n.decoderCfg
			past := b.G.Input("from", b.DType, graph.D(1), graph.D(c.NumKeyValueHeads), graph.N("room"), graph.D(c.HeadDim))
			b.G.Output("to", past)
			return nil
		})
	})
	return n.copier, n.copyErr
}

// kept are keys and values of the tokens that prompts begin with (the system turn), from the last answer: the next one need
// not compute them. At most one prefix is kept.
type kept struct {
	prefix []int32
	cache  map[string][]byte // by tensor [KV, len(prefix), d]
}

// embed looks up rows of the embedding table, [len(ids)·D].
func (l *language) embed(ids []int32) ([]float32, error) {
	d := l.cfg.HiddenSize
	out := make([]float32, d*len(ids))
	for i, id := range ids {
		if err := l.table.Float32Rows(int64(id), 1, out[i*d:(i+1)*d]); err != nil {
			return nil, fmt.Errorf("embedding of token %d: %w", id, err)
		}
	}
	return out, nil
}

// decode is the language model at work on one answer: a cache of keys and values for each live sequence. It implements
// generate.Model.
type decode struct {
	l     *language
	room  int // positions that a cache holds
	total int // positions in use, the same for every sequence
	chunk int // positions of a prompt that are run at a time
	live  []ort.Values
	spare []ort.Values
	rows  [][]float32
}

func (n *Network) newDecode(sequences, room int) (*decode, error) {
	return n.language().newDecode(sequences, room)
}

func (l *language) newDecode(sequences, room int) (*decode, error) {
	d := &decode{l: l, room: room, chunk: prefillChunk}
	// Beams are copied before their parents are dropped, so twice as many caches are needed.
	if sequences > 1 {
		sequences *= 2
	}
	for range sequences {
		c, err := l.newCache(room)
		if err != nil {
			d.close()
			return nil, err
		}
		d.spare = append(d.spare, c)
	}
	return d, nil
}

func cacheNames(layers int) (past, present []string) {
	for i := range layers {
		for _, kind := range []string{"key", "value"} {
			past = append(past, fmt.Sprintf("past_%s.%d", kind, i))
			present = append(present, fmt.Sprintf("present_%s.%d", kind, i))
		}
	}
	return past, present
}

func (l *language) newCache(room int) (ort.Values, error) {
	c := ort.Values{}
	past, _ := cacheNames(l.cfg.NumHiddenLayers)
	for _, name := range past {
		t, err := l.session.Blank(l.dtype, 1, l.cfg.NumKeyValueHeads, room, l.cfg.HeadDim)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("key/value cache of %d positions: %w", room, err)
		}
		c[name] = t
	}
	return c, nil
}

func (d *decode) close() {
	for _, list := range [][]ort.Values{d.live, d.spare} {
		for _, c := range list {
			c.Close()
		}
	}
}

func (d *decode) take() (ort.Values, error) {
	if len(d.spare) == 0 {
		return nil, fmt.Errorf("decode: more sequences than caches")
	}
	c := d.spare[len(d.spare)-1]
	d.spare = d.spare[:len(d.spare)-1]
	return c, nil
}

// prefillChunk is how many positions of a prompt are run at a time: enough for the matrix products to be efficient, few
// enough that the attention scores (heads × chunk × positions) of a long prompt stay small.
const prefillChunk = 1024

// prefill runs the prompt and returns the logits of its last position. prefix are the tokens that it begins with; those that
// an earlier answer has left are not run again, and cached says how many they were. The prefix is a run of its own in
// either case, so that both give the same bytes.
func (d *decode) prefill(ctx context.Context, embeds []float32, prefix []int32) (logits []float32, cached int, err error) {
	c, err := d.take()
	if err != nil {
		return nil, 0, err
	}
	d.live = []ort.Values{c}
	width := d.l.cfg.HiddenSize
	length := len(embeds) / width
	prefix = prefix[:min(len(prefix), max(0, length-1))] // the last position is always run: its logits are wanted
	at := 0
	if len(prefix) > 0 && slices.Equal(d.l.kept.prefix, prefix) {
		if err := d.restore(c); err != nil {
			return nil, 0, err
		}
		at, cached = len(prefix), len(prefix)
	}
	for at < length {
		end := min(at+d.chunk, length)
		if at < len(prefix) {
			end = min(end, len(prefix))
		}
		if logits, err = d.step(ctx, c, embeds[at*width:end*width], at); err != nil {
			return nil, cached, err
		}
		if at = end; at == len(prefix) {
			if err := d.keep(c, prefix); err != nil {
				return nil, cached, err
			}
		}
	}
	return logits, cached, nil
}

// keep copies the first positions of a cache for later answers; restore brings them into a new cache. A cache in a device's
// memory is not kept: the system turn is a thirtieth of a prompt there.
func (d *decode) keep(c ort.Values, prefix []int32) error {
	if d.l.session.OnDevice() {
		return nil
	}
	k := kept{prefix: slices.Clone(prefix), cache: map[string][]byte{}}
	n, stride := len(prefix)*d.position(), d.room*d.position()
	for name, t := range c {
		data, err := t.Bytes()
		if err != nil {
			return err
		}
		for h := range d.l.cfg.NumKeyValueHeads {
			k.cache[name] = append(k.cache[name], data[h*stride:h*stride+n]...)
		}
	}
	*d.l.kept = k
	return nil
}

func (d *decode) restore(c ort.Values) error {
	n, stride := len(d.l.kept.prefix)*d.position(), d.room*d.position()
	for name, t := range c {
		data, err := t.Bytes()
		if err != nil {
			return err
		}
		for h := range d.l.cfg.NumKeyValueHeads {
			copy(data[h*stride:h*stride+n], d.l.kept.cache[name][h*n:(h+1)*n])
		}
	}
	d.total = len(d.l.kept.prefix)
	return nil
}

// position is the size in bytes of one head's key or value at one position.
func (d *decode) position() int { return d.l.cfg.HeadDim * d.l.dtype.Size() }

// step feeds embeddings [S·D] at a position into one sequence; the cache is written in place.
func (d *decode) step(ctx context.Context, cache ort.Values, embeds []float32, at int) ([]float32, error) {
	width := d.l.cfg.HiddenSize
	s := len(embeds) / width
	if at+s > d.room {
		return nil, fmt.Errorf("decode: position %d is beyond the cache's %d", at+s, d.room)
	}
	own := ort.Values{}
	defer own.Close()
	var err error
	if own["inputs_embeds"], err = ort.New(embeds, 1, s, width); err != nil {
		return nil, err
	}
	if own["last_key"], err = ort.New([]int32{int32(at + s - 1)}, 1); err != nil {
		return nil, err
	}
	if own["total"], err = ort.New([]int32{int32(at + s)}, 1); err != nil {
		return nil, err
	}
	if d.l.cfg.RotaryInGraph() {
		place := make([]int64, s)
		for i := range place {
			place[i] = int64(at + i)
		}
		if own["place"], err = ort.New(place, s); err != nil {
			return nil, err
		}
	}
	in, into := ort.Values{}, ort.Values{}
	for name, t := range own {
		in[name] = t
	}
	past, present := cacheNames(d.l.cfg.NumHiddenLayers)
	for i, name := range past {
		in[name], into[present[i]] = cache[name], cache[name]
	}
	out, err := d.l.session.Run(ctx, in, into)
	if err != nil {
		return nil, err
	}
	logits := out["logits"]
	defer logits.Close()
	f, err := logits.Floats()
	if err != nil {
		return nil, err
	}
	d.total = at + s
	return append([]float32(nil), f[len(f)-d.l.cfg.VocabSize:]...), nil
}

// Next continues sequences; see generate.Model.
func (d *decode) Next(ctx context.Context, tokens []int32, parents []int) ([][]float32, error) {
	next := make([]ort.Values, len(tokens))
	taken := make([]bool, len(d.live))
	// The first child of a parent goes on in its cache, the others in copies made before anything is written.
	for i, p := range parents {
		if p < 0 || p >= len(d.live) {
			return nil, fmt.Errorf("decode: sequence %d continues sequence %d of %d", i, p, len(d.live))
		}
		if !taken[p] {
			taken[p], next[i] = true, d.live[p]
			continue
		}
		c, err := d.take()
		if err != nil {
			return nil, err
		}
		if err := d.copy(ctx, c, d.live[p]); err != nil {
			return nil, err
		}
		next[i] = c
	}
	for p, c := range d.live {
		if !taken[p] {
			d.spare = append(d.spare, c)
		}
	}
	d.live = next
	at := d.total
	d.rows = d.rows[:0]
	for i, token := range tokens {
		embeds, err := d.l.embed([]int32{token})
		if err != nil {
			return nil, err
		}
		logits, err := d.step(ctx, d.live[i], embeds, at)
		if err != nil {
			return nil, err
		}
		d.rows = append(d.rows, logits)
	}
	return d.rows, nil
}

// copy takes over the used part of a cache: [1,KV,room,d] is filled to total positions in each head. In a device's memory
// all of it is taken.
func (d *decode) copy(ctx context.Context, to, from ort.Values) error {
	if d.l.session.OnDevice() {
		s, err := d.l.copier()
		if err != nil {
			return err
		}
		for name, t := range to {
			if _, err := s.Run(ctx, ort.Values{"from": from[name]}, ort.Values{"to": t}); err != nil {
				return err
			}
		}
		return nil
	}
	stride, used := d.room*d.position(), d.total*d.position()
	for name, t := range to {
		dst, err := t.Bytes()
		if err != nil {
			return err
		}
		src, err := from[name].Bytes()
		if err != nil {
			return err
		}
		for h := range d.l.cfg.NumKeyValueHeads {
			copy(dst[h*stride:h*stride+used], src[h*stride:h*stride+used])
		}
	}
	return nil
}
