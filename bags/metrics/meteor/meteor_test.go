package meteor

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// tables finds pycocoevalcap, or skips: its tables may not be shipped.
func tables(t testing.TB) *Resources {
	t.Helper()
	path := os.Getenv("STLLM_PYCOCOEVALCAP")
	if path == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		found, _ := filepath.Glob(filepath.Join(dir, "stllm", "metrics", "pycocoevalcap-*.whl"))
		if len(found) == 0 {
			t.Skip("METEOR's tables are not here: run `stllm setup --metrics`, or set STLLM_PYCOCOEVALCAP to a pycocoevalcap 1.2 wheel or folder")
		}
		path = found[0]
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Paraphrases() {
		t.Fatalf("%s has no paraphrase table", path)
	}
	return r
}

type part struct {
	TestLength            float64   `json:"test_length"`
	ReferenceLength       float64   `json:"reference_length"`
	TestFunctionWords     float64   `json:"test_function_words"`
	ReferenceFunction     float64   `json:"reference_function_words"`
	TestStageContent      []float64 `json:"test_stage_content"`
	ReferenceStageContent []float64 `json:"reference_stage_content"`
	TestStageFunction     []float64 `json:"test_stage_function"`
	ReferenceStageFunc    []float64 `json:"reference_stage_function"`
	Chunks                float64
	Score                 float64
	TestWords             []string `json:"test_words"`
	ReferenceWords        []string `json:"reference_words"`
}

type group struct {
	Items  []part
	Corpus part
}

func TestGoldenMETEOR(t *testing.T) {
	r := tables(t)
	var parts struct {
		Raw, PTB group
		Several  group `json:"several_references"`
	}
	testdata.JSON(t, testdata.Golden(t, "metrics", "meteor_parts.json"), &parts)
	var texts struct {
		Pairs []struct {
			Reference, Hypothesis string
			PTB                   struct{ Reference, Hypothesis string }
		}
		Several struct {
			Items []struct {
				References []string
				Hypothesis string
			}
		} `json:"several_references"`
	}
	testdata.JSON(t, testdata.Golden(t, "metrics", "metrics.json"), &texts)
	var raw, ptb, several []Pair
	for _, p := range texts.Pairs {
		raw = append(raw, Pair{[]string{p.Reference}, p.Hypothesis})
		ptb = append(ptb, Pair{[]string{p.PTB.Reference}, p.PTB.Hypothesis})
	}
	for _, p := range texts.Several.Items {
		several = append(several, Pair{p.References, p.Hypothesis})
	}
	check(t, r, "raw", raw, parts.Raw)
	check(t, r, "ptb", ptb, parts.PTB)
	check(t, r, "several", several, parts.Several)
}

func check(t *testing.T, r *Resources, name string, pairs []Pair, want group) {
	t.Helper()
	if len(pairs) != len(want.Items) || len(pairs) == 0 {
		t.Fatalf("%s: %d pairs, %d expectations", name, len(pairs), len(want.Items))
	}
	corpus, each, err := r.Corpus(pairs)
	if err != nil {
		t.Fatal(err)
	}
	n := newNormalizer(r.prefixes)
	for i, s := range each {
		w := want.Items[i]
		if words := n.words(strings.ReplaceAll(squeeze(pairs[i].Hypothesis), "|||", "")); len(w.TestWords) > 0 && !slices.Equal(words, w.TestWords) {
			t.Errorf("%s %d: words %q, expected %q", name, i, words, w.TestWords)
		}
		if math.Abs(s.Score()-w.Score) > 1e-9 || s.Chunks != w.Chunks ||
			!slices.Equal(s.HypContent[:], w.TestStageContent) || !slices.Equal(s.RefFunc[:], w.ReferenceStageFunc) ||
			!slices.Equal(s.RefContent[:], w.ReferenceStageContent) || !slices.Equal(s.HypFunc[:], w.TestStageFunction) {
			t.Errorf("%s %d: score %.9f chunks %v content %v %v function %v %v\n expected %.9f %v %v %v %v %v\n %q\n %q", name, i,
				s.Score(), s.Chunks, s.HypContent, s.RefContent, s.HypFunc, s.RefFunc,
				w.Score, w.Chunks, w.TestStageContent, w.ReferenceStageContent, w.TestStageFunction, w.ReferenceStageFunc,
				pairs[i].Hypothesis, pairs[i].References)
		}
	}
	if math.Abs(corpus-want.Corpus.Score) > 1e-9 {
		t.Errorf("%s: corpus %.9f, expected %.9f", name, corpus, want.Corpus.Score)
	}
}
