package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/stllm/gguf"
	"github.com/stllm/stllm/node/stllm/language"
)

// chatFlags are the flags of `stllm chat`.
type chatFlags struct {
	file, system string
	prompts      []string
	raw          bool
	opt          language.Options
	decoding     generate.Options
}

func (a *app) chatCommand() *cobra.Command {
	f := chatFlags{decoding: generate.Defaults()}
	cmd := &cobra.Command{
		Use:   "chat --llm FILE.gguf",
		Short: "Talk to a text-only language model from a GGUF file (llama and qwen2 architectures)",
		Long: `chat answers --prompt, or the lines of the standard input one after another, as one conversation. Weights in F32, F16, BF16,
Q8_0, Q4_0 and Q4_1 are read; Q8_0, Q4_0 and Q4_1 are multiplied as they are, without another rounding of the weights.

stllm setup --llm fetches a small model to try it with.`,
		Args: exactly(0, "none; give the text with --prompt or on the standard input"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.chat(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.file, "llm", "", "GGUF file")
	fl.StringArrayVar(&f.prompts, "prompt", nil, "what to say; may be given several times (default: lines of the standard input)")
	fl.StringVar(&f.system, "system", "", "system turn (default: the model's own)")
	fl.BoolVar(&f.raw, "raw", false, "continue each text as it is, without the model's chat template")
	fl.IntVar(&f.decoding.MaxNewTokens, "max-tokens", 256, "longest answer in tokens")
	fl.Float64Var(&f.decoding.Temperature, "temperature", 0, "0: always the likeliest token; above: sampling, the less certain the higher")
	fl.Float64Var(&f.decoding.TopP, "top-p", 1, "sample from the likeliest tokens that make up this share")
	fl.IntVar(&f.decoding.TopK, "top-k", 0, "sample from this many likeliest tokens; 0: all")
	fl.Float64Var(&f.decoding.RepetitionPenalty, "repetition-penalty", 1, "above 1 makes tokens that were said before less likely")
	fl.Uint64Var(&f.decoding.Seed, "seed", 0, "of sampling: the same seed gives the same answer")
	fl.IntVar(&f.opt.Context, "context", 0, fmt.Sprintf("longest conversation in tokens; 0: the model's own, at most %d", language.DefaultContext))
	fl.StringVar(&f.opt.Device, "device", "cpu", "cpu, cuda or cuda:N")
	fl.IntVar(&f.opt.Threads, "threads", 0, "CPU threads; 0: all cores")
	fl.BoolVar(&f.opt.Spin, "spin", true, "threads spin between the operators of a token: faster decoding; they sleep when nothing is said")
	fl.BoolVar(&f.opt.Int4, "int4", false, "quantise weights that are stored as floats to 4 bits")
	fl.BoolVar(&f.opt.Expand, "expand", false, "multiply by float32 where the file stores codes: slower, without rounding activations to 8 bits")
	return cmd
}

func (a *app) chat(ctx context.Context, f chatFlags) error {
	if f.file == "" {
		return usageError{errors.New("--llm is needed: a GGUF file (`stllm setup --llm` fetches a small one)")}
	}
	if f.decoding.DoSample = f.decoding.Temperature > 0; !f.decoding.DoSample {
		if f.decoding.Temperature < 0 {
			return usageError{fmt.Errorf("--temperature is %v, expected 0 or more", f.decoding.Temperature)}
		}
		f.decoding.Temperature = 1
	}
	if err := f.decoding.Validate(); err != nil {
		return usageError{err}
	}
	env, err := ort.OpenDefault()
	if err != nil {
		return err
	}
	l, err := language.Open(ctx, env, f.file, f.opt)
	if err != nil {
		return err
	}
	defer l.Close()
	if l.TemplateErr != nil && !f.raw {
		return fmt.Errorf("%s: %w; --raw continues a text without one", f.file, l.TemplateErr)
	}
	a.logQuantised(l.Quantised())
	a.log.Debug().Str("model", l.Name).Str("file", f.file).Msg("model loaded")
	c := conversation{app: a, l: l, flags: f}
	if f.system != "" {
		c.turns = []gguf.Message{{Role: "system", Content: f.system}}
	}
	for _, text := range f.prompts {
		if err := c.say(ctx, text); err != nil {
			return err
		}
	}
	if len(f.prompts) > 0 {
		return nil
	}
	return c.listen(ctx, a.in)
}

// conversation is the turns so far.
type conversation struct {
	*app
	l     *language.Language
	flags chatFlags
	turns []gguf.Message
}

// maxLine bounds a line of the standard input.
const maxLine = 1 << 20

func (c *conversation) listen(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for {
		if c.terminal() {
			fmt.Fprint(c.err, "> ")
		}
		if !lines.Scan() {
			if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
				return fmt.Errorf("standard input: a line is longer than %d bytes; an end of line ends each text", maxLine)
			} else if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			return nil
		}
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		if err := c.say(ctx, lines.Text()); err != nil {
			return err
		}
	}
}

// say answers one text and keeps both for the next.
func (c *conversation) say(ctx context.Context, text string) error {
	ids, err := c.prompt(text)
	if err != nil {
		return err
	}
	res, err := c.l.Generate(ctx, ids, c.flags.decoding, func(delta string) { fmt.Fprint(c.out, delta) })
	fmt.Fprintln(c.out)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil // the asker's own wish
		}
		return err
	}
	c.turns = append(c.turns, gguf.Message{Role: "assistant", Content: res.Text})
	c.log.Debug().Int("prompt", res.Prompt).Int("cached", res.Cached).Int("tokens", len(res.Tokens)).Bool("stopped", res.Stopped).
		Dur("prefill_ms", res.Prefill).Dur("decode_ms", res.Decode).Float64("tokens_per_second", float64(len(res.Tokens))/res.Decode.Seconds()).Msg("answer")
	return nil
}

// prompt adds a text to the conversation. Where that is longer than the context, its oldest turns are forgotten.
func (c *conversation) prompt(text string) ([]int32, error) {
	if c.flags.raw {
		return c.l.Raw(text), nil
	}
	c.turns = append(c.turns, gguf.Message{Role: "user", Content: text})
	first := 0 // after the system turn, which stays
	if c.turns[0].Role == "system" {
		first = 1
	}
	for {
		ids, err := c.l.Prompt(c.turns)
		if err != nil {
			return nil, err
		}
		if room := c.l.Context(); len(ids) < room || len(c.turns) < first+3 {
			return ids, nil
		}
		c.turns = append(c.turns[:first:first], c.turns[first+2:]...)
		c.log.Warn().Int("context", c.l.Context()).Msg("the conversation is longer than the context; its oldest turns are forgotten")
	}
}
