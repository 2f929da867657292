package stllm

import (
	"fmt"
	"sync"

	"github.com/stllm/stllm/node/stllm/constrain"
	"github.com/stllm/stllm/node/stllm/generate"
)

// The words of a plan that node/label can read.
const (
	planVerbs = `(?:turn on|turn off|pick up|put down|sit on|turn|walk|go|move|take|put|open|close|fill|pour|wash|cut|wipe|bring|carry|look|wait|press|stir|dry|use|reach)`
	planFirst = `(?:Turn on|Turn off|Pick up|Put down|Sit on|Turn|Walk|Go|Move|Take|Put|Open|Close|Fill|Pour|Wash|Cut|Wipe|Bring|Carry|Look|Wait|Press|Stir|Dry|Use|Reach)`
	planWords = `(?: [a-z]{1,14}){1,8}`
)

// PlanGrammar is the form of a constrained plan: numbered steps that begin with a verb which node/label can read; or the same
// as sentences, perhaps with what was done before; or that the thing is not there.
const PlanGrammar = `(?:[1-9]\. ` + planFirst + planWords + `\.\n?){1,6}` +
	`|(?:(?:You|So far you) have` + planWords + `\. )?(?:` + planFirst + `|(?:Next, |First )` + planVerbs + `)` + planWords +
	`(?:(?:, then |, | and |: |\. For this, )` + planVerbs + planWords + `){0,7}\.` +
	`|(?:You|So far you) have` + planWords + `\. Nothing is left to do\.` +
	`|(?:I have not seen the|There is no)` + planWords + `\.`

// forms are what answers of a given form need; the vocabulary's trie is made when the first one is asked for and then kept.
type forms struct {
	once       sync.Once
	vocabulary *constrain.Vocabulary
	plan       *constrain.Constraint
	err        error
}

// form is the constraint that a request asks for, nil for none.
func (n *Network) form(req Request) (*constrain.Constraint, error) {
	if len(req.Choices) == 0 && !req.Plan {
		return nil, nil
	}
	f := &n.forms
	f.once.Do(func() {
		tokens := make([][]byte, n.tok.Size())
		for id := range tokens {
			if !n.tok.IsSpecial(int32(id)) {
				tokens[id] = n.tok.Bytes(int32(id))
			}
		}
		if f.vocabulary, f.err = constrain.NewVocabulary(tokens, n.eos); f.err != nil {
			return
		}
		var lang *constrain.Language
		if lang, f.err = constrain.Compile(PlanGrammar); f.err == nil {
			f.plan = constrain.New(f.vocabulary, lang)
		}
	})
	if f.err != nil {
		return nil, f.err
	}
	if len(req.Choices) == 0 {
		return f.plan, nil
	}
	lang, err := constrain.Choices(req.Choices)
	if err != nil {
		return nil, &QuestionError{Reason: err.Error()}
	}
	return constrain.New(f.vocabulary, lang), nil
}

// ending has an answer of a given form end within the tokens that it may have. For a plan they have to be enough.
func ending(c generate.Constraint, req Request, tokens int) (generate.Constraint, error) {
	form, ok := c.(*constrain.Constraint)
	if !ok {
		return c, nil
	}
	if least := form.Shortest(); req.Plan && len(req.Choices) == 0 && tokens < least {
		return nil, &QuestionError{Reason: fmt.Sprintf("max_new_tokens leaves %d tokens, a plan takes up to %d at least", tokens, least)}
	}
	return form.Within(tokens), nil
}
