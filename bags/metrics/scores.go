package metrics

import (
	"context"
	"fmt"
	"strings"

	"github.com/stllm/stllm/bags/metrics/meteor"
	"github.com/stllm/stllm/bags/metrics/ptb"
)

// Figures are all scores of a corpus or of one pair in one form of the texts. METEOR is nil where its tables are not there.
type Figures struct {
	BLEU1  float64  `json:"bleu1"`
	BLEU2  float64  `json:"bleu2"`
	BLEU3  float64  `json:"bleu3"`
	BLEU4  float64  `json:"bleu4"`
	CIDErD float64  `json:"cider_d"` // what pycocoevalcap, REA and the paper call CIDEr; times 10
	CIDEr  float64  `json:"cider"`   // without clipping and length penalty; times 10
	ROUGEL float64  `json:"rouge_l"`
	METEOR *float64 `json:"meteor,omitempty"`
}

// Scores are the scores of a corpus: of the strings as they are (raw, what REA does) and of the COCO pipeline's tokens (ptb).
type Scores struct {
	Items  int      `json:"items"`
	Raw    Figures  `json:"raw"`
	PTB    Figures  `json:"ptb"`
	SenSim *float64 `json:"sensim,omitempty"` // mean cosine of sentence embeddings, of the raw strings
	// Missing says in a sentence each what was not computed, or not as published, and why.
	Missing []string `json:"missing,omitempty"`
	// Each are the scores of every pair within the corpus, in order.
	Each []PairScores `json:"-"`
}

// PairScores are those of one pair.
type PairScores struct {
	Raw    Figures  `json:"raw"`
	PTB    Figures  `json:"ptb"`
	SenSim *float64 `json:"sensim,omitempty"`
}

// Similarity compares sentences by meaning; [sensim.Encoder] does.
type Similarity interface {
	Similarity(ctx context.Context, a, b []string) ([]float64, error)
}

// Scorer computes all scores. Its parts are optional; what is missing because of that is said in [Scores.Missing].
type Scorer struct {
	METEOR *meteor.Resources
	SenSim Similarity
	// Why tells why a part is nil: by "METEOR" and "SenSim".
	Why map[string]error
}

// Prepare reads at once what scoring these pairs, or any part of them, needs. It only saves time.
func (s Scorer) Prepare(pairs []Pair) error {
	if s.METEOR == nil {
		return nil
	}
	var list []meteor.Pair
	for _, p := range append(tokenise(pairs), pairs...) {
		list = append(list, meteor.Pair(p))
	}
	if err := s.METEOR.Prepare(list); err != nil {
		return fmt.Errorf("METEOR: %w", err)
	}
	return nil
}

// Score computes all scores of a corpus. Document frequencies and corpus counts are those of these pairs, so the scores of a
// subset are not comparable with the whole's. A pair without references is an error.
func (s Scorer) Score(ctx context.Context, pairs []Pair) (*Scores, error) {
	for i, p := range pairs {
		if len(p.References) == 0 {
			return nil, fmt.Errorf("score pair %d of %d: it has no reference", i+1, len(pairs))
		}
	}
	out := &Scores{Items: len(pairs), Each: make([]PairScores, len(pairs))}
	tokenised := tokenise(pairs)
	var err error
	if out.Raw, err = s.form(pairs, out.Each, func(p *PairScores) *Figures { return &p.Raw }); err != nil {
		return nil, err
	}
	if out.PTB, err = s.form(tokenised, out.Each, func(p *PairScores) *Figures { return &p.PTB }); err != nil {
		return nil, err
	}
	switch {
	case s.METEOR == nil:
		out.Missing = append(out.Missing, s.missing("METEOR", "the folder or wheel of pycocoevalcap 1.2, which holds its tables, was not given"))
	case !s.METEOR.Paraphrases():
		out.Missing = append(out.Missing, "METEOR was computed without the paraphrase table and is lower than published METEOR 1.5.")
	}
	if s.SenSim == nil {
		out.Missing = append(out.Missing, s.missing("SenSim", "the folder of all-MiniLM-L6-v2 was not given"))
		return out, nil
	}
	return out, s.similarity(ctx, pairs, out)
}

func (s Scorer) missing(what, otherwise string) string {
	if err := s.Why[what]; err != nil {
		otherwise = err.Error()
	}
	return what + " was not computed: " + otherwise + "."
}

// form scores the texts in one form and puts each pair's scores where it belongs.
func (s Scorer) form(pairs []Pair, each []PairScores, of func(*PairScores) *Figures) (f Figures, err error) {
	bleu, bleus := BLEU(pairs)
	d, plain, ds, plains := CIDEr(pairs)
	rouge, rouges := ROUGEL(pairs)
	f = Figures{bleu[0], bleu[1], bleu[2], bleu[3], d, plain, rouge, nil}
	for i := range pairs {
		b := bleus[i]
		*of(&each[i]) = Figures{b[0], b[1], b[2], b[3], ds[i], plains[i], rouges[i], nil}
	}
	if s.METEOR == nil {
		return f, nil
	}
	list := make([]meteor.Pair, len(pairs))
	for i, p := range pairs {
		list[i] = meteor.Pair(p)
	}
	score, stats, err := s.METEOR.Corpus(list)
	if err != nil {
		return f, fmt.Errorf("METEOR: %w", err)
	}
	f.METEOR = &score
	for i, st := range stats {
		v := st.Score()
		of(&each[i]).METEOR = &v
	}
	return f, nil
}

// similarity fills in SenSim; of several references the most similar one counts.
func (s Scorer) similarity(ctx context.Context, pairs []Pair, out *Scores) error {
	var a, b []string
	for _, p := range pairs {
		for _, r := range p.References {
			a, b = append(a, r), append(b, p.Hypothesis)
		}
	}
	values, err := s.SenSim.Similarity(ctx, a, b)
	if err != nil {
		return fmt.Errorf("SenSim: %w", err)
	}
	sum, at := 0.0, 0
	for i, p := range pairs {
		best := values[at]
		for _, v := range values[at : at+len(p.References)] {
			best = max(best, v)
		}
		at += len(p.References)
		out.Each[i].SenSim = &best
		sum += best
	}
	if len(pairs) > 0 {
		sum /= float64(len(pairs))
	}
	out.SenSim = &sum
	return nil
}

// lineEnds become spaces before tokenising: in pycocoevalcap one in an answer shifts all later captions by one.
var lineEnds = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\u0085", " ", "\u2028", " ", "\u2029", " ", "\v", " ", "\f", " ")

// tokenise brings pairs into the COCO form, references and hypotheses as a text of their own each, as the pipeline does.
func tokenise(pairs []Pair) []Pair {
	var refs, hyps []string
	for _, p := range pairs {
		for _, r := range p.References {
			refs = append(refs, lineEnds.Replace(r))
		}
		hyps = append(hyps, lineEnds.Replace(p.Hypothesis))
	}
	refs, hyps = ptb.Captions(refs), ptb.Captions(hyps)
	out := make([]Pair, len(pairs))
	for i, p := range pairs {
		out[i] = Pair{refs[:len(p.References):len(p.References)], hyps[i]}
		refs = refs[len(p.References):]
	}
	return out
}
