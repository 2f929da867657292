// Package generate turns logits into tokens: greedy and sampled decoding, beam search, repetition penalty and constraints,
// with the meaning that Hugging Face transformers (4.49, generation/utils.py and beam_search.py) gives to the parameters.
package generate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Model continues sequences. It keeps a state (keys and values) for each live sequence.
type Model interface {
	// Next feeds one token to each sequence and returns each one's next logits, [len(tokens)][vocabulary]. Sequence i
	// continues the former sequence parents[i], so sequences can be copied, reordered and dropped; before the first call
	// there is one sequence, number 0. The rows are valid until the next call; the caller may change them.
	Next(ctx context.Context, tokens []int32, parents []int) ([][]float32, error)
}

// Constraint restricts which tokens may come next.
type Constraint interface {
	// Mask sets to −Inf the logits of tokens that may not follow the tokens so far. It leaves at least one token.
	Mask(sofar []int32, logits []float32) error
}

// Options hold the decoding parameters under their Hugging Face names.
type Options struct {
	MaxNewTokens      int     // at least 1
	EOS               []int32 // tokens that end the answer
	DoSample          bool
	NumBeams          int     // 0 or 1: none
	Temperature       float64 // > 0; used when sampling
	TopP              float64 // (0, 1]
	TopK              int     // 0: all
	RepetitionPenalty float64 // over generated tokens; 1: none
	LengthPenalty     float64 // beams: exponent on the length
	Seed              uint64
	Constraint        Constraint // nil: none
}

// Validate names the parameter that is out of range.
func (o Options) Validate() error {
	bad := func(name string, v any, want string) error {
		return fmt.Errorf("decoding parameter %s is %v, expected %s", name, v, want)
	}
	switch {
	case o.MaxNewTokens < 1:
		return bad("max_new_tokens", o.MaxNewTokens, "at least 1")
	case o.NumBeams < 0 || o.NumBeams > 64:
		return bad("num_beams", o.NumBeams, "0 to 64")
	case !(o.Temperature > 0) || math.IsInf(o.Temperature, 1):
		return bad("temperature", o.Temperature, "a number above 0")
	case !(o.TopP > 0 && o.TopP <= 1):
		return bad("top_p", o.TopP, "above 0 and at most 1")
	case o.TopK < 0:
		return bad("top_k", o.TopK, "0 (all) or more")
	case !(o.RepetitionPenalty > 0) || math.IsInf(o.RepetitionPenalty, 1):
		return bad("repetition_penalty", o.RepetitionPenalty, "a number above 0")
	case math.IsNaN(o.LengthPenalty) || math.IsInf(o.LengthPenalty, 0):
		return bad("length_penalty", o.LengthPenalty, "a finite number")
	}
	return nil
}

// Defaults are greedy decoding of up to 256 tokens.
func Defaults() Options {
	return Options{MaxNewTokens: 256, Temperature: 1, TopP: 1, RepetitionPenalty: 1, LengthPenalty: 1}
}

// Reason says why generation ended.
type Reason int

// The reasons.
const (
	Stop   Reason = iota // an end token, which is not part of the tokens
	Length               // MaxNewTokens
)

// Result is a finished sequence.
type Result struct {
	Tokens []int32 // without the end token
	Reason Reason
	EOS    int32   // the end token met, when Reason is Stop
	Score  float64 // beams: sum of log-probabilities over length^penalty
}

// Run decodes from the logits of the last prompt position. emit, which may be nil, is called with each token as soon as it is
// final (with beams: all at the end). When ctx ends, Run returns what it has together with ctx's error.
func Run(ctx context.Context, m Model, first []float32, o Options, emit func(int32)) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if len(first) == 0 {
		return Result{}, errors.New("generate: no logits to start from")
	}
	if emit == nil {
		emit = func(int32) {}
	}
	// Two words of state: PCG needs both, and one seed must be enough for a user.
	rng := rand.New(rand.NewPCG(o.Seed, o.Seed^0x9E3779B97F4A7C15))
	if o.NumBeams > 1 {
		return beams(ctx, m, first, o, rng, emit)
	}
	return single(ctx, m, first, o, rng, emit)
}

func single(ctx context.Context, m Model, logits []float32, o Options, rng *rand.Rand, emit func(int32)) (Result, error) {
	res := Result{Reason: Length}
	parents := []int{0}
	w := newWarper(o)
	for {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if err := prepare(logits, res.Tokens, o); err != nil {
			return res, err
		}
		var token int32
		if o.DoSample {
			token = w.sample(logits, rng)
		} else {
			token = argmax(logits)
		}
		if isEOS(token, o.EOS) {
			res.Reason, res.EOS = Stop, token
			return res, nil
		}
		res.Tokens = append(res.Tokens, token)
		emit(token)
		if len(res.Tokens) >= o.MaxNewTokens {
			return res, nil
		}
		rows, err := m.Next(ctx, []int32{token}, parents)
		if err != nil {
			return res, err
		}
		logits = rows[0]
	}
}

// prepare applies the processors that come before sampling: repetition penalty, then the constraint.
func prepare(logits []float32, sofar []int32, o Options) error {
	penalise(logits, sofar, float32(o.RepetitionPenalty))
	for _, v := range logits {
		if v != v {
			return errors.New("generate: the model gave NaN logits")
		}
	}
	if o.Constraint != nil {
		if err := o.Constraint.Mask(sofar, logits); err != nil {
			return fmt.Errorf("constrain the next token: %w", err)
		}
	}
	return nil
}

// penalise divides positive and multiplies negative logits of tokens that were generated already, each once.
func penalise(logits []float32, sofar []int32, penalty float32) {
	if penalty == 1 {
		return
	}
	seen := make(map[int32]struct{}, len(sofar))
	for _, t := range sofar {
		if _, dup := seen[t]; dup || int(t) >= len(logits) {
			continue
		}
		seen[t] = struct{}{}
		if logits[t] < 0 {
			logits[t] *= penalty
		} else {
			logits[t] /= penalty
		}
	}
}

// argmax takes the first of equal maxima, as torch does on a CPU.
func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

func isEOS(t int32, eos []int32) bool {
	for _, e := range eos {
		if t == e {
			return true
		}
	}
	return false
}
