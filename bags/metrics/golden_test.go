package metrics

import (
	"math"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// scores are one set of figures in golden/metrics.
type scores struct {
	BLEU1  float64 `json:"bleu1"`
	BLEU2  float64 `json:"bleu2"`
	BLEU3  float64 `json:"bleu3"`
	BLEU4  float64 `json:"bleu4"`
	CIDErD float64 `json:"cider_d"`
	CIDEr  float64 `json:"cider"`
	ROUGEL float64 `json:"rouge_l"`
	METEOR float64 `json:"meteor"`
}

type goldenPair struct {
	ID                    int
	Type                  string
	Reference, Hypothesis string
	Raw                   scores
	PTB                   struct {
		scores
		Reference, Hypothesis string
	}
	SenSim float64
}

type golden struct {
	Corpus  struct{ Raw, PTB scores }
	ByType  map[string]struct{ Raw, PTB scores } `json:"by_type"`
	Pairs   []goldenPair
	Several struct {
		Corpus scores
		Items  []struct {
			scores
			References []string
			Hypothesis string
		}
	} `json:"several_references"`
}

func load(t *testing.T) golden {
	t.Helper()
	var g golden
	if testdata.JSON(t, testdata.Golden(t, "metrics", "metrics.json"), &g); len(g.Pairs) == 0 {
		t.Fatal("no pairs in metrics.json")
	}
	return g
}

func close9(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: %.12g, expected %.12g", what, got, want)
	}
}

func checkCorpus(t *testing.T, name string, pairs []Pair, corpus scores, each []scores) {
	t.Helper()
	bleu, bleus := BLEU(pairs)
	d, plain, ds, plains := CIDEr(pairs)
	rouge, rouges := ROUGEL(pairs)
	one := func(what string, b [maxN]float64, d, plain, rouge float64, want scores) {
		close9(t, what+" BLEU-1", b[0], want.BLEU1)
		close9(t, what+" BLEU-2", b[1], want.BLEU2)
		close9(t, what+" BLEU-3", b[2], want.BLEU3)
		close9(t, what+" BLEU-4", b[3], want.BLEU4)
		close9(t, what+" CIDEr-D", d, want.CIDErD)
		close9(t, what+" CIDEr", plain, want.CIDEr)
		close9(t, what+" ROUGE-L", rouge, want.ROUGEL)
	}
	one(name, bleu, d, plain, rouge, corpus)
	for i, want := range each {
		one(name+" pair", bleus[i], ds[i], plains[i], rouges[i], want)
	}
}

func TestGoldenNGrams(t *testing.T) {
	g := load(t)
	var raw, ptb []Pair
	var rawEach, ptbEach []scores
	byType := map[string][2][]Pair{}
	for _, p := range g.Pairs {
		r := Pair{[]string{p.Reference}, p.Hypothesis}
		q := Pair{[]string{p.PTB.Reference}, p.PTB.Hypothesis}
		raw, ptb = append(raw, r), append(ptb, q)
		rawEach, ptbEach = append(rawEach, p.Raw), append(ptbEach, p.PTB.scores)
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
	var severalEach []scores
	for _, s := range g.Several.Items {
		several = append(several, Pair{s.References, s.Hypothesis})
		severalEach = append(severalEach, s.scores)
	}
	checkCorpus(t, "several references", several, g.Several.Corpus, severalEach)
}
