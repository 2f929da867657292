package stllm

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// A plan is well formed however few tokens it may have, down to the shortest one; with fewer the question is refused.
func TestGoldenPlanWithin(t *testing.T) {
	n := golden(t)
	c := goldenCases(t)[0]
	x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
	req := request(t, n, c, x)
	req.Plan = true
	form := regexp.MustCompile(`^(?:` + PlanGrammar + `)$`)
	plan, err := n.form(req)
	if err != nil {
		t.Fatal(err)
	}
	least := plan.Shortest()
	for _, budget := range []int{least, least + 1, least + 5, 24, 60} {
		for beams := range 2 {
			req.Decoding.MaxNewTokens, req.Decoding.NumBeams = budget, 1+2*beams
			ans, err := n.Answer(t.Context(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !form.MatchString(ans.Text) {
				t.Errorf("within %d tokens, %d beams: %q", budget, 1+2*beams, ans.Text)
			}
		}
	}
	req.Decoding.MaxNewTokens = least - 1
	var refused *QuestionError
	if _, err := n.Answer(t.Context(), req, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "max_new_tokens") {
		t.Errorf("%v", err)
	}
}

// What forms need is made once: the second plan's constraint is the first one's.
func BenchmarkForm(b *testing.B) {
	for _, kept := range []bool{false, true} {
		name := "made each time"
		if kept {
			name = "kept"
		}
		b.Run(name, func(b *testing.B) {
			n := goldenAs(b, Options{})
			for b.Loop() {
				if !kept {
					n.forms = forms{}
				}
				if _, err := n.form(Request{Plan: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
