// Package language runs a text-only language model from a GGUF file: prefill and decoding with a key/value cache that stays
// between the turns of a conversation.
package language

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/stllm/gguf"
	"github.com/stllm/stllm/node/stllm/module"
)

// Options of a loaded model.
type Options struct {
	Device    string // "cpu" (default), "cuda", "cuda:1"
	Threads   int    // CPU threads; 0: all cores
	Spin      bool   // threads spin between the operators of a run
	Expand    bool   // multiply by float32 where the file stores codes (slower, and closer to the model before quantisation)
	Int4      bool   // quantise matrices that are stored as floats
	Int4Block int    // 32 (default), 64 or 128
	Context   int    // longest conversation in tokens; 0: what the model was made for, at most DefaultContext
}

// DefaultContext is the longest conversation where Options do not say.
const DefaultContext = 8192

// Language is a loaded model. One conversation runs at a time; its methods are not for several goroutines.
type Language struct {
	*gguf.Model
	opt     Options
	session *ort.Session
	seq     *sequence
	quant   []module.QuantisedMatrix
}

// Open loads a model.
func Open(ctx context.Context, env *ort.Environment, path string, o Options) (*Language, error) {
	m, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load language model: %w", err)
	}
	l := &Language{Model: m, opt: o}
	if err := l.load(ctx, env); err != nil {
		return nil, errors.Join(fmt.Errorf("load language model %s: %w", path, err), l.Close())
	}
	return l, nil
}

func (l *Language) load(ctx context.Context, env *ort.Environment) (err error) {
	if l.opt.Context == 0 {
		l.opt.Context = min(l.Config.MaxPositionEmbeddings, DefaultContext)
	}
	if l.opt.Context < 1 || l.opt.Context > l.Config.MaxPositionEmbeddings {
		return fmt.Errorf("context of %d tokens, expected 1 to the model's %d", l.opt.Context, l.Config.MaxPositionEmbeddings)
	}
	scratch, err := module.NewScratch("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Unlink()) }()
	b := &module.Builder{G: graph.New("decoder"), Find: l.Model, DType: graph.Float32, Scratch: scratch, Expand: l.opt.Expand, Products: !ort.OnCUDA(l.opt.Device)}
	b.CodeProducts, b.Panels = b.Products && ort.CodeProducts(), b.Products && ort.Panels()
	if l.opt.Int4 {
		b.Quant = &module.Quant{Block: l.opt.Int4Block}
		if b.Quant.Block == 0 {
			b.Quant.Block = 32
		}
	}
	o := module.DecoderOptions{Positions: l.opt.Context}
	l.Config.Build(b, l.Config.Inputs(b, o), o)
	if err := ctx.Err(); err != nil {
		return err
	}
	g, err := b.G.Model()
	if err != nil {
		return err
	}
	l.quant = b.Quantised
	if l.session, err = ort.NewSession(env, g, ort.Options{Device: l.opt.Device, Threads: l.opt.Threads, Spin: l.opt.Spin}); err != nil {
		return err
	}
	l.seq, err = newSequence(l)
	return err
}

// Close frees the model.
func (l *Language) Close() error {
	if l.seq != nil {
		l.seq.close()
	}
	return errors.Join(l.session.Close(), l.Model.Close())
}

// Context is the longest conversation in tokens.
func (l *Language) Context() int { return l.opt.Context }

// Quantised lists the matrices that were quantised at load, with their errors.
func (l *Language) Quantised() []module.QuantisedMatrix { return l.quant }

// Result is a finished text.
type Result struct {
	Tokens  []int32
	Text    string
	Stopped bool  // by an end token, rather than by MaxNewTokens or the end of the context
	End     int32 // that token
	Prompt  int   // tokens of the prompt
	Cached  int   // of those, how many the last conversation had computed already
	Prefill time.Duration
	Decode  time.Duration
}

// Generate continues a prompt. emit, which may be nil, is called with every piece of text. When ctx ends, what was said so far
// is returned with ctx's error.
func (l *Language) Generate(ctx context.Context, prompt []int32, o generate.Options, emit func(delta string)) (Result, error) {
	res := Result{Prompt: len(prompt)}
	room := l.opt.Context - len(prompt)
	switch {
	case len(prompt) == 0:
		return res, errors.New("generate: the prompt is empty")
	case room < 1:
		return res, fmt.Errorf("generate: the prompt has %d tokens, the context is %d", len(prompt), l.opt.Context)
	case o.NumBeams > 1:
		return res, fmt.Errorf("generate: %d beams, a text-only model runs one", o.NumBeams)
	}
	if emit == nil {
		emit = func(string) {}
	}
	o.MaxNewTokens = min(o.MaxNewTokens, room)
	o.EOS = l.EOS
	start := time.Now()
	logits, cached, err := l.seq.prefill(ctx, prompt, len(prompt)+o.MaxNewTokens)
	res.Prefill, res.Cached = time.Since(start), cached
	if err != nil {
		return res, err
	}
	start = time.Now()
	stream := l.Tokenizer.Stream(true)
	say := func(delta string) {
		if delta != "" {
			res.Text += delta
			emit(delta)
		}
	}
	out, err := generate.Run(ctx, l.seq, logits, o, func(id int32) { say(stream.Push(id)) })
	say(stream.Flush())
	res.Decode, res.Tokens = time.Since(start), out.Tokens
	res.Stopped, res.End = err == nil && out.Reason == generate.Stop, out.EOS
	return res, err
}

// Reset forgets the conversation, so that nothing of the next prompt is found computed.
func (l *Language) Reset() { l.seq.ids = l.seq.ids[:0] }

// Feed appends tokens to the sequence as they are, without choosing any: it is what a benchmark times.
func (l *Language) Feed(ctx context.Context, tokens []int32) error {
	_, err := l.seq.feed(ctx, tokens, l.opt.Context)
	return err
}

// Logits runs a prompt followed by given tokens, and returns the logits [V] before each of the tokens and after the last:
// len(tokens)+1 rows. It is how two implementations are compared on one text.
func (l *Language) Logits(ctx context.Context, prompt, tokens []int32) ([][]float32, error) {
	first, _, err := l.seq.prefill(ctx, prompt, len(prompt)+len(tokens)+1)
	if err != nil {
		return nil, err
	}
	rows := [][]float32{append([]float32(nil), first...)}
	for _, id := range tokens {
		next, err := l.seq.Next(ctx, []int32{id}, []int{0})
		if err != nil {
			return nil, err
		}
		rows = append(rows, append([]float32(nil), next[0]...))
	}
	return rows, nil
}
