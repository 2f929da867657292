package nano

import (
	"fmt"
	"strings"

	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/label"
	"github.com/stllm/stllm/node/stllm/prompt"
)

// The tokenizer is trained on questions and answers of made kitchens, none of which is ever trained or tested on.
const (
	corpusSeed     = 700_000
	corpusKitchens = 16
	corpusAsked    = 60 // questions a kitchen
)

// corpus are texts of the kind that the model reads and writes, so that their words become tokens.
func corpus() ([]string, error) {
	var out []string
	for i := range uint64(corpusKitchens) {
		k, err := kitchen.Generate(kitchen.Options{Seed: corpusSeed + i, Quiz: quiz.Options{Count: corpusAsked}})
		if err != nil {
			return nil, fmt.Errorf("texts for the tokenizer: %w", err)
		}
		for _, q := range k.Questions {
			out = append(out, q.Text, q.Answer)
		}
	}
	// What kitchens seldom hold is still a word.
	for _, c := range kitchen.Classes() {
		for range 20 {
			out = append(out, "Where is the "+c+"? The "+c+" is here.")
		}
	}
	for _, d := range label.Directions() {
		out = append(out, "to your "+d+", to the "+d+" of the person")
	}
	for _, text := range []string{prompt.System, "Answer from the map and the video.", "system\n", "user\n", "assistant\n", "0 1 2 3 4 5 6 7 8 9"} {
		out = append(out, text, text)
	}
	return out, nil
}

// ClassWord is the word by which a class is known, and none for what nobody asks about: the first of its words that no
// other class has.
func ClassWord(class string) string {
	words := strings.Fields(class)
	for _, w := range words {
		shared := false
		for _, other := range kitchen.Classes() {
			if other != class {
				for _, o := range strings.Fields(other) {
					shared = shared || o == w
				}
			}
		}
		if !shared {
			return w
		}
	}
	return ""
}
