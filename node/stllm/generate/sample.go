package generate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// warper applies temperature, top-k and top-p in the order of transformers and draws from what is left. It keeps its
// buffers, since the vocabulary is large.
type warper struct {
	o     Options
	order []int32
	prob  []float64
}

func newWarper(o Options) *warper { return &warper{o: o} }

// keep returns the candidates in falling order of score with their normalised probabilities.
func (w *warper) keep(scores []float32, least int) ([]int32, []float64) {
	w.order = w.order[:0]
	for i, s := range scores {
		if !math.IsInf(float64(s), -1) {
			w.order = append(w.order, int32(i))
		}
	}
	// Ties go to the smaller id, so that the draw does not depend on the sort.
	slices.SortFunc(w.order, func(a, b int32) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return int(a - b)
	})
	n := len(w.order)
	if k := max(w.o.TopK, least); w.o.TopK > 0 && k < n {
		// Everything that equals the k-th score stays, as in TopKLogitsWarper.
		for n = k; n < len(w.order) && scores[w.order[n]] == scores[w.order[k-1]]; n++ {
		}
	}
	w.prob = w.prob[:0]
	top, sum := float64(scores[w.order[0]]), 0.0
	for _, id := range w.order[:n] {
		p := math.Exp((float64(scores[id]) - top) / w.o.Temperature)
		w.prob = append(w.prob, p)
		sum += p
	}
	if w.o.TopP < 1 {
		cum := 0.0
		for i, p := range w.prob {
			if i >= least && cum >= w.o.TopP*sum {
				n = i
				break
			}
			cum += p
		}
		w.prob = w.prob[:n]
		sum = 0
		for _, p := range w.prob {
			sum += p
		}
	}
	for i := range w.prob {
		w.prob[i] /= sum
	}
	return w.order[:n], w.prob
}

// filter warps a row in place: scores over temperature, −Inf for what top-k and top-p leave out.
func (w *warper) filter(scores []float32, least int) {
	ids, _ := w.keep(scores, least)
	kept := make(map[int32]float32, len(ids))
	for _, id := range ids {
		kept[id] = scores[id]
	}
	for i := range scores {
		scores[i] = float32(math.Inf(-1))
	}
	for id, s := range kept {
		scores[id] = s / float32(w.o.Temperature)
	}
}

func (w *warper) sample(scores []float32, rng *rand.Rand) int32 {
	ids, prob := w.keep(scores, 1)
	return ids[draw(prob, rng)]
}

func draw(prob []float64, rng *rand.Rand) int {
	x := rng.Float64()
	for i, p := range prob {
		if x < p {
			return i
		}
		x -= p
	}
	// Rounding can leave a rest: it belongs to the last candidate.
	return len(prob) - 1
}
