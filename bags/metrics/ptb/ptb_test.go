package ptb

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func TestGoldenPTB(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(testdata.Golden(t, "metrics"), "ptb.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Strings []struct {
			Text         string
			Tokens, Coco []string
		}
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	for _, s := range g.Strings {
		if got := Tokens(s.Text); !slices.Equal(got, s.Tokens) {
			t.Errorf("%q:\n got      %q\n expected %q", s.Text, got, s.Tokens)
		}
		if got := Captions([]string{s.Text})[0]; got != strings.Join(s.Coco, " ") {
			t.Errorf("%q: caption %q, expected %q", s.Text, got, s.Coco)
		}
	}
}

func TestGoldenCaptions(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(testdata.Golden(t, "metrics"), "metrics.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Pairs []struct {
			Reference, Hypothesis string
			PTB                   struct{ Reference, Hypothesis string }
		}
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	var refs, hyps []string
	for _, p := range g.Pairs {
		refs, hyps = append(refs, p.Reference), append(hyps, p.Hypothesis)
	}
	gotRefs, gotHyps := Captions(refs), Captions(hyps)
	for i, p := range g.Pairs {
		if gotRefs[i] != p.PTB.Reference {
			t.Errorf("pair %d %q:\n got      %q\n expected %q", i, p.Reference, gotRefs[i], p.PTB.Reference)
		}
		if gotHyps[i] != p.PTB.Hypothesis {
			t.Errorf("pair %d %q:\n got      %q\n expected %q", i, p.Hypothesis, gotHyps[i], p.PTB.Hypothesis)
		}
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"The cook's pan; isn't it?", "3 1/2 \u00a0 “x” 'n' y'all", "\xff'", "a.b.c. :d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, tok := range Tokens(s) {
			if tok == "" {
				t.Errorf("%q gives an empty token", s)
			}
		}
	})
}
