package stllm

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// A question may have as many tokens as it is allowed, and no more; without a limit as many as the sequence has room for.
func TestGoldenQuestionLength(t *testing.T) {
	n := golden(t)
	c := goldenCases(t)[0]
	x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
	req := request(t, n, c, x)
	req.Decoding.MaxNewTokens, req.Decoding.NumBeams = 1, 1
	tokens := len(n.tok.Encode(req.Question))
	for _, tt := range []struct {
		name, question string
		limit          int
		want           string // of the error; "": none
	}{
		{"as long as it may be", req.Question, tokens, ""},
		{"a token too long", req.Question, tokens - 1, "max_question_tokens"},
		{"no limit", req.Question, 0, ""},
		{"no room", strings.Repeat(req.Question+" ", n.cfg.MaxPositionEmbeddings/tokens+1), 0, "the model takes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req.Question, req.MaxQuestionTokens = tt.question, tt.limit
			_, err := n.Answer(t.Context(), req, nil)
			var refused *QuestionError
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.As(err, &refused) || !refused.TooLong || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v", err)
			}
		})
	}
}
