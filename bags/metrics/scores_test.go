package metrics

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags/metrics/meteor"
	"github.com/stllm/stllm/bags/metrics/sensim"
	"github.com/stllm/stllm/node/ort"
)

// resources are the optional parts; what is not on this machine is left out and logged.
func resources(t *testing.T) Scorer {
	t.Helper()
	var s Scorer
	if path, err := meteor.Find(); err != nil {
		t.Log(err)
	} else if s.METEOR, err = meteor.Open(path); err != nil {
		t.Fatal(err)
	}
	dir, err := sensim.Find()
	if err != nil {
		t.Log(err)
		return s
	}
	env, err := ort.OpenDefault()
	if err != nil {
		t.Log(err)
		return s
	}
	e, err := sensim.Open(env, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	s.SenSim = e
	return s
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Max(1, math.Abs(want))) {
		t.Errorf("%s: %.12g, expected %.12g", what, got, want)
	}
}

func same(t *testing.T, what string, got, want Figures) {
	t.Helper()
	near(t, what+" BLEU-1", got.BLEU1, want.BLEU1, 1e-9)
	near(t, what+" BLEU-2", got.BLEU2, want.BLEU2, 1e-9)
	near(t, what+" BLEU-3", got.BLEU3, want.BLEU3, 1e-9)
	near(t, what+" BLEU-4", got.BLEU4, want.BLEU4, 1e-9)
	near(t, what+" CIDEr-D", got.CIDErD, want.CIDErD, 1e-9)
	near(t, what+" CIDEr", got.CIDEr, want.CIDEr, 1e-9)
	near(t, what+" ROUGE-L", got.ROUGEL, want.ROUGEL, 1e-9)
	if got.METEOR != nil {
		near(t, what+" METEOR", *got.METEOR, *want.METEOR, 1e-6)
	}
}

// All figures of metrics.json: the corpus, every type as a corpus of its own, every pair. The tokens are ours, too.
func TestGoldenScores(t *testing.T) {
	g := load(t)
	scorer := resources(t)
	var all []Pair
	byType := map[string][]Pair{}
	for _, p := range g.Pairs {
		pair := Pair{References: []string{p.Reference}, Hypothesis: p.Hypothesis}
		all = append(all, pair)
		byType[p.Type] = append(byType[p.Type], pair)
	}
	if err := scorer.Prepare(all); err != nil {
		t.Fatal(err)
	}
	check := func(name string, pairs []Pair, want goldenScores) *Scores {
		got, err := scorer.Score(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name+" raw", got.Raw, want.Raw)
		same(t, name+" ptb", got.PTB, want.PTB)
		if got.SenSim != nil {
			near(t, name+" SenSim", *got.SenSim, *want.SenSim, 1e-4)
		}
		return got
	}
	got := check("corpus", all, g.Corpus)
	for i, p := range g.Pairs {
		same(t, "pair raw", got.Each[i].Raw, p.Raw)
		same(t, "pair ptb", got.Each[i].PTB, p.PTB.Figures)
	}
	for typ, want := range g.ByType {
		check(typ, byType[typ], want)
	}
	near(t, "authors' BLEU", got.Raw.BLEU3, g.Authors["bleu"], 1e-9)
	near(t, "authors' CIDEr", got.Raw.CIDErD, g.Authors["cider"], 1e-9)
	near(t, "authors' ROUGE", got.Raw.ROUGEL, g.Authors["rouge"], 1e-9)
}

// fixed is a similarity that knows one answer.
type fixed struct {
	value float64
	err   error
}

func (f fixed) Similarity(_ context.Context, a, _ []string) ([]float64, error) {
	out := make([]float64, len(a))
	for i := range out {
		out[i] = f.value + float64(i)
	}
	return out, f.err
}

func TestMissingPartsAreNamed(t *testing.T) {
	pairs := []Pair{{References: []string{"a b", "c d"}, Hypothesis: "a b"}, {References: []string{"e f"}, Hypothesis: "e\rf"}}
	s, err := Scorer{Why: map[string]error{"SenSim": errors.New("no such folder")}}.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if s.Raw.METEOR != nil || s.SenSim != nil || len(s.Missing) != 2 ||
		!strings.Contains(s.Missing[0], "pycocoevalcap") || !strings.Contains(s.Missing[1], "no such folder") {
		t.Errorf("%+v", s)
	}
	if s.Each[1].PTB.BLEU2 < 0.99 {
		t.Errorf("a carriage return is no space: BLEU-2 is %g", s.Each[1].PTB.BLEU2)
	}
	s, err = Scorer{SenSim: fixed{value: 1}}.Score(t.Context(), pairs)
	if err != nil || *s.Each[0].SenSim != 2 || *s.Each[1].SenSim != 3 || *s.SenSim != 2.5 {
		t.Errorf("of several references the most similar one counts: %+v, %v", s, err)
	}
	if _, err := (Scorer{SenSim: fixed{err: errors.New("broken")}}).Score(t.Context(), pairs); err == nil {
		t.Error("an error of SenSim was lost")
	}
	if _, err := (Scorer{}).Score(t.Context(), []Pair{{Hypothesis: "x"}}); err == nil {
		t.Error("a pair without a reference was scored")
	}
	if s, err := (Scorer{}).Score(t.Context(), nil); err != nil || s.Items != 0 {
		t.Errorf("nothing: %+v, %v", s, err)
	}
}

// The same texts give the same bits, whatever the order in which maps are walked.
func TestScoresRepeat(t *testing.T) {
	text := strings.Repeat("the cup is on the left of the sink and the kettle stands behind you near the hob ", 3)
	var pairs []Pair
	for i := range 40 {
		pairs = append(pairs, Pair{References: []string{text[i:]}, Hypothesis: text[:len(text)-3*i]})
	}
	first, err := Scorer{}.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		again, err := Scorer{}.Score(t.Context(), pairs)
		if err != nil || again.Raw != first.Raw || again.PTB != first.PTB {
			t.Fatalf("%+v, then %+v, %v", first.Raw, again.Raw, err)
		}
	}
}
