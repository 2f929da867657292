package metrics

import "math"

// The smoothing of pycocoevalcap/bleu/bleu_scorer.py: an exact match scores a little under 1.
const (
	bleuTiny  = 1e-15
	bleuSmall = 1e-9
)

type bleuCounts struct {
	guess, correct [maxN]float64
	length, refLen float64
}

// BLEU returns BLEU-1 to BLEU-4 of the corpus (summed counts, closest reference length) and of each pair.
func BLEU(pairs []Pair) (corpus [maxN]float64, each [][maxN]float64) {
	var total bleuCounts
	for _, p := range pairs {
		c := bleuOf(p)
		each = append(each, c.score())
		for n := range maxN {
			total.guess[n] += c.guess[n]
			total.correct[n] += c.correct[n]
		}
		total.length += c.length
		total.refLen += c.refLen
	}
	return total.score(), each
}

func bleuOf(p Pair) bleuCounts {
	words := fields(p.Hypothesis)
	have := ngrams(words)
	var allowed [maxN]map[string]int
	for n := range allowed {
		allowed[n] = map[string]int{}
	}
	c := bleuCounts{length: float64(len(words))}
	for i, ref := range p.References {
		rw := fields(ref)
		for n, counts := range ngrams(rw) {
			for g, k := range counts {
				allowed[n][g] = max(allowed[n][g], k)
			}
		}
		l := float64(len(rw))
		// The closest length; of two equally close ones the shorter.
		d, best := math.Abs(l-c.length), math.Abs(c.refLen-c.length)
		if i == 0 || d < best || d == best && l < c.refLen {
			c.refLen = l
		}
	}
	for n := range maxN {
		c.guess[n] = math.Max(0, float64(len(words)-n))
		for g, k := range have[n] {
			c.correct[n] += float64(min(k, allowed[n][g]))
		}
	}
	return c
}

func (c bleuCounts) score() (s [maxN]float64) {
	product := 1.0
	brevity := 1.0
	if ratio := (c.length + bleuTiny) / (c.refLen + bleuSmall); ratio < 1 {
		brevity = math.Exp(1 - 1/ratio)
	}
	for n := range maxN {
		product *= (c.correct[n] + bleuTiny) / (c.guess[n] + bleuSmall)
		s[n] = math.Pow(product, 1/float64(n+1)) * brevity
	}
	return s
}
