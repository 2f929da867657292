// Package meteor is METEOR 1.5 for English (Denkowski and Lavie 2014) with the settings of pycocoevalcap and REA: modules
// exact, stem, synonym, paraphrase; normalisation with punctuation kept; α 0.85, β 0.2, γ 0.6, δ 0.75; beam 40.
package meteor

import (
	"math"
	"strings"
)

// The parameters of METEOR 1.5's English ranking task.
const (
	alphaP = 0.85
	betaP  = 0.2
	gammaP = 0.6
	deltaP = 0.75
)

// Stats are the sufficient statistics of one pair, or of a corpus when added up.
type Stats struct {
	HypLength, RefLength     float64
	HypFunction, RefFunction float64
	// matched words by module, content and function words apart
	HypContent, RefContent [modules]float64
	HypFunc, RefFunc       [modules]float64
	Chunks                 float64
}

// Add sums statistics; a corpus score comes from the sums, not from a mean of scores.
func (s *Stats) Add(t Stats) {
	s.HypLength += t.HypLength
	s.RefLength += t.RefLength
	s.HypFunction += t.HypFunction
	s.RefFunction += t.RefFunction
	for i := range modules {
		s.HypContent[i] += t.HypContent[i]
		s.RefContent[i] += t.RefContent[i]
		s.HypFunc[i] += t.HypFunc[i]
		s.RefFunc[i] += t.RefFunc[i]
	}
	if !t.identical() {
		s.Chunks += t.Chunks
	}
}

// identical tells that the sentences match as a whole, in which case their one chunk does not count as a fragment.
func (s Stats) identical() bool {
	var hyp, ref float64
	for i := range modules {
		hyp += s.HypContent[i] + s.HypFunc[i]
		ref += s.RefContent[i] + s.RefFunc[i]
	}
	return hyp == s.HypLength && ref == s.RefLength && s.Chunks == 1
}

// Score is METEOR of these statistics; nothing against anything is 0.
func (s Stats) Score() float64 {
	var hypMatch, refMatch, hypWords, refWords float64
	for i, w := range moduleWeights {
		hypMatch += w * (deltaP*s.HypContent[i] + (1-deltaP)*s.HypFunc[i])
		refMatch += w * (deltaP*s.RefContent[i] + (1-deltaP)*s.RefFunc[i])
		hypWords += s.HypContent[i] + s.HypFunc[i]
		refWords += s.RefContent[i] + s.RefFunc[i]
	}
	precision := hypMatch / (deltaP*(s.HypLength-s.HypFunction) + (1-deltaP)*s.HypFunction)
	recall := refMatch / (deltaP*(s.RefLength-s.RefFunction) + (1-deltaP)*s.RefFunction)
	fmean := 1 / ((1-alphaP)/precision + alphaP/recall)
	frag := s.Chunks / ((hypWords + refWords) / 2)
	if s.identical() {
		frag = 0
	}
	score := fmean * (1 - gammaP*math.Pow(frag, betaP))
	if math.IsNaN(score) {
		return 0
	}
	return max(score, 0)
}

// Pair is one hypothesis with its references.
type Pair struct {
	References []string
	Hypothesis string
}

// Prepare reads the paraphrases of all words of these pairs at once, so that scoring any part of them later is quick.
func (r *Resources) Prepare(pairs []Pair) error {
	_, vocabulary := newNormalizer(r.prefixes).all(pairs)
	_, err := r.paraphrases(vocabulary)
	return err
}

// Corpus scores pairs; the paraphrase table is read once for all of them, unless [Resources.Prepare] has done so.
func (r *Resources) Corpus(pairs []Pair) (corpus float64, each []Stats, err error) {
	all, vocabulary := newNormalizer(r.prefixes).all(pairs)
	para, err := r.paraphrases(vocabulary)
	if err != nil {
		return 0, nil, err
	}
	var sum Stats
	for _, s := range all {
		best, bestScore := Stats{}, -1.0
		for _, ref := range s.refs {
			st := r.stats(s.hyp, ref, para)
			if score := st.Score(); score > bestScore {
				best, bestScore = st, score
			}
		}
		each = append(each, best)
		sum.Add(best)
	}
	return sum.Score(), each, nil
}

// split is a pair as words.
type split struct {
	hyp  []string
	refs [][]string
}

// all splits pairs and collects their words.
func (n *normalizer) all(pairs []Pair) ([]split, map[string]bool) {
	out := make([]split, len(pairs))
	vocabulary := map[string]bool{}
	take := func(text string) []string {
		words := n.words(squeeze(text))
		for _, w := range words {
			vocabulary[w] = true
		}
		return words
	}
	for i, p := range pairs {
		out[i].hyp = take(strings.ReplaceAll(squeeze(p.Hypothesis), "|||", ""))
		for _, ref := range p.References {
			// Inside a reference the separator of METEOR's line protocol starts another reference.
			for part := range strings.SplitSeq(ref, "|||") {
				out[i].refs = append(out[i].refs, take(part))
			}
		}
	}
	return out, vocabulary
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// stats aligns two sentences and counts.
func (r *Resources) stats(hyp, ref []string, para *paraphrases) Stats {
	s := Stats{HypLength: float64(len(hyp)), RefLength: float64(len(ref))}
	for _, w := range hyp {
		if r.functionWords[w] {
			s.HypFunction++
		}
	}
	for _, w := range ref {
		if r.functionWords[w] {
			s.RefFunction++
		}
	}
	lastEnd := -1
	chosen := resolve(r.candidates(hyp, ref, para))
	for at := 0; at < len(chosen); {
		m := chosen[at]
		if m == nil {
			if lastEnd != -1 {
				s.Chunks++
				lastEnd = -1
			}
			at++
			continue
		}
		r.count(hyp[m.hyp:m.hyp+m.hypLen], &s.HypContent[m.module], &s.HypFunc[m.module])
		r.count(ref[m.ref:m.ref+m.refLen], &s.RefContent[m.module], &s.RefFunc[m.module])
		if lastEnd != -1 && m.hyp != lastEnd {
			s.Chunks++
		}
		at, lastEnd = m.ref+m.refLen, m.hyp+m.hypLen
	}
	if lastEnd != -1 {
		s.Chunks++
	}
	return s
}

func (r *Resources) count(words []string, content, function *float64) {
	for _, w := range words {
		if r.functionWords[w] {
			*function++
		} else {
			*content++
		}
	}
}
