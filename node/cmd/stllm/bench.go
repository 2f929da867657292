package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/llamacpp"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/fetch"
	"github.com/stllm/stllm/node/stllm/language"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure speed against named peers in the same run"}
	cmd.AddCommand(a.benchDecodeCommand(), a.benchLoadCommand(), a.benchAnswerCommand())
	return group(cmd)
}

// benchDecode are the settings of `stllm bench decode`.
type benchDecode struct {
	file                            string
	threads, prompt, tokens, rounds int
	spin, exact                     bool
}

func (a *app) benchDecodeCommand() *cobra.Command {
	var b benchDecode
	cmd := &cobra.Command{
		Use:   "decode",
		Short: "Tokens a second of prefill and decoding, against llama.cpp on the same weights",
		Long: `decode runs a GGUF model by ONNX Runtime and by llama.cpp (stllm setup --llm fetches it and a small model), in turns and with
as many threads: once with the weights as float32, once as they are stored. The ratio is ours over llama.cpp's, of medians; on
processors that others use as well, that of each one's fastest tenth says more.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), a) },
	}
	f := cmd.Flags()
	f.StringVar(&b.file, "llm", "", "GGUF file (default: the model of stllm setup --llm)")
	f.IntVar(&b.threads, "threads", 1, "CPU threads of each")
	f.IntVar(&b.prompt, "prompt-tokens", 128, "tokens of the prompt")
	f.IntVar(&b.tokens, "tokens", 48, "tokens decoded after it")
	f.IntVar(&b.rounds, "rounds", 5, "turns of each")
	f.BoolVar(&b.spin, "spin", true, "our threads spin between operators, as llama.cpp's do and as they do by default")
	f.BoolVar(&b.exact, "exact", false, "llama.cpp keeps keys and values as float32, as we do, instead of float16")
	return cmd
}

func (b benchDecode) run(ctx context.Context, a *app) error {
	for _, f := range []struct {
		name  string
		value int
	}{{"threads", b.threads}, {"prompt-tokens", b.prompt}, {"tokens", b.tokens}, {"rounds", b.rounds}} {
		if f.value < 1 {
			return usageError{fmt.Errorf("--%s is %d, expected at least 1", f.name, f.value)}
		}
	}
	if b.file == "" {
		model, err := fetch.SmolLM2()
		if err != nil {
			return err
		}
		b.file = model.Path
	}
	if _, err := os.Stat(b.file); err != nil {
		return fmt.Errorf("%w; run `stllm setup --llm`, or name a file with --llm", err)
	}
	env, err := ort.OpenDefault()
	if err != nil {
		return err
	}
	peer, err := llamacpp.Open()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "stllm-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	expanded := filepath.Join(dir, "float32.gguf")
	if err := peer.Expand(b.file, expanded); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s, threads %d, prompt of %d tokens, %d decoded, medians of %d rounds\n", filepath.Base(b.file), b.threads, b.prompt, b.tokens, b.rounds)
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "weights\tstage\tstllm tok/s\tllama.cpp tok/s\tratio\tof the fastest tenth")
	for _, c := range []struct {
		name, theirs string
		o            language.Options
	}{
		{"float32", expanded, language.Options{Expand: true}},
		{"as stored", b.file, language.Options{}},
	} {
		if err := b.compare(ctx, w, env, peer, c.name, c.theirs, c.o); err != nil {
			return err
		}
	}
	return w.Flush()
}

// speed are seconds of each round's prefill and of every token.
type speed struct{ prefill, token []float64 }

// compare measures one form of the weights in both.
func (b benchDecode) compare(ctx context.Context, w io.Writer, env *ort.Environment, peer *llamacpp.Library, name, theirs string, o language.Options) error {
	o.Threads, o.Spin, o.Context = b.threads, b.spin, b.prompt+b.tokens+1
	l, err := language.Open(ctx, env, b.file, o)
	if err != nil {
		return err
	}
	defer l.Close()
	m, err := peer.Load(theirs, llamacpp.Options{Threads: b.threads, Context: (o.Context + 255) / 256 * 256, Exact: b.exact})
	if err != nil {
		return err
	}
	defer m.Close()
	var us, them speed
	for round := range b.rounds + 1 {
		prompt := b.tokensOf(round, l.Tokenizer.Size())
		ours, err := b.measure(func(tokens []int32, first bool) error {
			if first {
				l.Reset()
			}
			return l.Feed(ctx, tokens)
		}, prompt)
		if err != nil {
			return err
		}
		other, err := b.measure(func(tokens []int32, first bool) error {
			if first {
				m.Reset()
			}
			_, err := m.Eval(tokens)
			return err
		}, prompt)
		if err != nil {
			return err
		}
		if round > 0 { // the first warms both up
			us.add(ours)
			them.add(other)
		}
	}
	for _, s := range []struct {
		stage     string
		tokens    float64
		ours, its []float64
	}{{"prefill", float64(b.prompt), us.prefill, them.prefill}, {"decode", 1, us.token, them.token}} {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%.1f\t%.2f\t%.2f\n", name, s.stage, s.tokens/median(s.ours), s.tokens/median(s.its), median(s.its)/median(s.ours),
			fastest(s.its)/fastest(s.ours))
	}
	return nil
}

func (s *speed) add(o speed) {
	s.prefill = append(s.prefill, o.prefill...)
	s.token = append(s.token, o.token...)
}

// tokensOf are a round's random tokens: both get the same, and no two rounds share a beginning that could be kept.
func (b benchDecode) tokensOf(round, vocabulary int) []int32 {
	r := rand.New(rand.NewPCG(uint64(round), 1))
	out := make([]int32, b.prompt+b.tokens)
	for i := range out {
		out[i] = int32(r.IntN(vocabulary))
	}
	return out
}

func (b benchDecode) measure(feed func(tokens []int32, first bool) error, tokens []int32) (speed, error) {
	var s speed
	start := time.Now()
	if err := feed(tokens[:b.prompt], true); err != nil {
		return s, err
	}
	s.prefill = append(s.prefill, time.Since(start).Seconds())
	for i := range b.tokens {
		start = time.Now()
		if err := feed(tokens[b.prompt+i:b.prompt+i+1], false); err != nil {
			return s, err
		}
		s.token = append(s.token, time.Since(start).Seconds())
	}
	return s, nil
}

// fastest is the time below which a tenth are.
func fastest(seconds []float64) float64 {
	s := slices.Sorted(slices.Values(seconds))
	return s[len(s)/10]
}

func median[T cmp.Ordered](x []T) T {
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}
