package generate

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
)

// hypothesis is a finished beam.
type hypothesis struct {
	tokens []int32
	eos    int32
	ended  bool
	score  float64
}

// candidate is a possible continuation of a beam.
type candidate struct {
	beam  int
	token int32
	score float32 // sum of log-probabilities, in float32 as the reference keeps it
}

// beams is beam search (with DoSample: beam sampling) as BeamSearchScorer does it with early_stopping false: it ends when
// the worst of NumBeams finished hypotheses is at least as good as the best running beam could be at the present length.
func beams(ctx context.Context, m Model, first []float32, o Options, rng *rand.Rand, emit func(int32)) (Result, error) {
	n := o.NumBeams
	live := [][]int32{nil}
	scores := []float32{0}
	rows := [][]float32{first}
	var done []hypothesis
	w := newWarper(o)
	for length := 1; ; length++ {
		if err := ctx.Err(); err != nil {
			return best(done, live, scores, o), err
		}
		cands, err := expand(rows, live, scores, o, w, rng)
		if err != nil {
			return Result{}, err
		}
		var next []candidate
		for rank, c := range cands {
			if !isEOS(c.token, o.EOS) {
				if next = append(next, c); len(next) == n {
					break
				}
				continue
			}
			if rank < n { // an end among the worse half does not finish a hypothesis
				done = insert(done, hypothesis{live[c.beam], c.token, true, normalise(c.score, length, o)}, n)
			}
		}
		tokens, parents := make([]int32, len(next)), make([]int, len(next))
		grown := make([][]int32, len(next))
		scores = scores[:0]
		for i, c := range next {
			tokens[i], parents[i] = c.token, c.beam
			grown[i] = append(slices.Clip(live[c.beam]), c.token)
			scores = append(scores, c.score)
		}
		live = grown
		finished := len(done) >= n && done[len(done)-1].score >= normalise(cands[0].score, length, o)
		if finished || length >= o.MaxNewTokens || len(next) == 0 {
			if finished {
				live = nil
			}
			res := best(done, live, scores, o)
			for _, t := range res.Tokens {
				emit(t)
			}
			return res, nil
		}
		if rows, err = m.Next(ctx, tokens, parents); err != nil {
			return best(done, live, scores, o), err
		}
	}
}

// expand returns the best (or drawn) continuations over all beams in falling order.
func expand(rows [][]float32, live [][]int32, scores []float32, o Options, w *warper, rng *rand.Rand) ([]candidate, error) {
	want := o.NumBeams * max(2, 1+len(o.EOS))
	var cands []candidate
	var all []float32
	vocab := len(rows[0])
	for b, row := range rows {
		logSoftmax(row)
		if err := prepare(row, live[b], o); err != nil {
			return nil, err
		}
		if o.DoSample {
			w.filter(row, 1+len(o.EOS))
		}
		for i := range row {
			row[i] += scores[b]
		}
		if o.DoSample {
			all = append(all, row...)
			continue
		}
		for t, s := range row {
			if math.IsInf(float64(s), -1) {
				continue
			}
			if len(cands) == want && s <= cands[want-1].score {
				continue
			}
			at, _ := slices.BinarySearchFunc(cands, s, func(c candidate, s float32) int {
				if c.score >= s {
					return -1
				}
				return 1
			})
			cands = slices.Insert(cands, at, candidate{b, int32(t), s})
			if len(cands) > want {
				cands = cands[:want]
			}
		}
	}
	if o.DoSample {
		cands = drawn(all, vocab, want, rng)
	}
	return cands, nil
}

// drawn draws without replacement from the joint distribution of all beams, whose rows are warped already.
func drawn(all []float32, vocab, want int, rng *rand.Rand) []candidate {
	ids, prob := newWarper(Options{Temperature: 1, TopP: 1}).keep(all, 1)
	var cands []candidate
	for len(cands) < want && len(ids) > 0 {
		i := draw(prob, rng)
		id, p := ids[i], prob[i]
		cands = append(cands, candidate{int(id) / vocab, id % int32(vocab), all[id]})
		ids, prob = slices.Delete(ids, i, i+1), slices.Delete(prob, i, i+1)
		for j := range prob {
			prob[j] /= 1 - p
		}
	}
	slices.SortStableFunc(cands, func(a, b candidate) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return 0
	})
	return cands
}

// insert keeps the n best hypotheses in falling order.
func insert(done []hypothesis, h hypothesis, n int) []hypothesis {
	at, _ := slices.BinarySearchFunc(done, h.score, func(d hypothesis, s float64) int {
		if d.score >= s {
			return -1
		}
		return 1
	})
	done = slices.Insert(done, at, h)
	return done[:min(len(done), n)]
}

func best(done []hypothesis, live [][]int32, scores []float32, o Options) Result {
	for i, tokens := range live {
		if len(tokens) > 0 {
			done = insert(done, hypothesis{tokens: tokens, score: normalise(scores[i], len(tokens), o)}, o.NumBeams)
		}
	}
	if len(done) == 0 {
		return Result{Reason: Length}
	}
	h := done[0]
	res := Result{Tokens: h.tokens, Score: h.score, Reason: Length}
	if h.ended {
		res.Reason, res.EOS = Stop, h.eos
	}
	return res
}

func normalise(sum float32, length int, o Options) float64 {
	return float64(sum) / math.Pow(float64(length), o.LengthPenalty)
}

func logSoftmax(x []float32) {
	top := x[argmax(x)]
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v - top))
	}
	lse := float32(math.Log(sum)) + top
	for i := range x {
		x[i] -= lse
	}
}
