package metrics

import (
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// goldenScores are all figures of a corpus in golden/metrics.
type goldenScores struct {
	Raw, PTB Figures
	SenSim   *float64
}

type goldenPair struct {
	Type                  string
	Reference, Hypothesis string
	Raw                   Figures
	PTB                   struct {
		Figures
		Reference, Hypothesis string
	}
}

type golden struct {
	Corpus  goldenScores
	ByType  map[string]goldenScores `json:"by_type"`
	Authors map[string]float64      `json:"authors_evaluator_raw"`
	Pairs   []goldenPair
	Several struct {
		Corpus Figures
		Items  []struct {
			Figures
			References []string
			Hypothesis string
		}
	} `json:"several_references"`
}

func load(t *testing.T) golden {
	t.Helper()
	var g golden
	if testdata.JSON(t, testdata.Golden(t, "metrics", "metrics.json"), &g); len(g.Pairs) == 0 || len(g.ByType) == 0 {
		t.Fatal("metrics.json has no pairs or no types")
	}
	return g
}

func checkCorpus(t *testing.T, name string, pairs []Pair, corpus Figures, each []Figures) {
	t.Helper()
	bleu, bleus := BLEU(pairs)
	d, plain, ds, plains := CIDEr(pairs)
	rouge, rouges := ROUGEL(pairs)
	one := func(what string, b [maxN]float64, d, plain, rouge float64, want Figures) {
		near(t, what+" BLEU-1", b[0], want.BLEU1, 1e-9)
		near(t, what+" BLEU-2", b[1], want.BLEU2, 1e-9)
		near(t, what+" BLEU-3", b[2], want.BLEU3, 1e-9)
		near(t, what+" BLEU-4", b[3], want.BLEU4, 1e-9)
		near(t, what+" CIDEr-D", d, want.CIDErD, 1e-9)
		near(t, what+" CIDEr", plain, want.CIDEr, 1e-9)
		near(t, what+" ROUGE-L", rouge, want.ROUGEL, 1e-9)
	}
	one(name, bleu, d, plain, rouge, corpus)
	for i, want := range each {
		one(name+" pair", bleus[i], ds[i], plains[i], rouges[i], want)
	}
}

func TestGoldenNGrams(t *testing.T) {
	g := load(t)
	var raw, ptb []Pair
	var rawEach, ptbEach []Figures
	byType := map[string][2][]Pair{}
	for _, p := range g.Pairs {
		r := Pair{[]string{p.Reference}, p.Hypothesis}
		q := Pair{[]string{p.PTB.Reference}, p.PTB.Hypothesis}
		raw, ptb = append(raw, r), append(ptb, q)
		rawEach, ptbEach = append(rawEach, p.Raw), append(ptbEach, p.PTB.Figures)
		of := byType[p.Type]
		byType[p.Type] = [2][]Pair{append(of[0], r), append(of[1], q)}
	}
	checkCorpus(t, "raw", raw, g.Corpus.Raw, rawEach)
	checkCorpus(t, "ptb", ptb, g.Corpus.PTB, ptbEach)
	for typ, want := range g.ByType {
		checkCorpus(t, typ+" raw", byType[typ][0], want.Raw, nil)
		checkCorpus(t, typ+" ptb", byType[typ][1], want.PTB, nil)
	}
	var several []Pair
	var severalEach []Figures
	for _, s := range g.Several.Items {
		several = append(several, Pair{s.References, s.Hypothesis})
		severalEach = append(severalEach, s.Figures)
	}
	checkCorpus(t, "several references", several, g.Several.Corpus, severalEach)
}
