package constrain

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
)

// vocabulary of all single bytes and some longer tokens, as byte-level BPE has them; the last id ends.
func vocabulary(t *testing.T, longer ...string) (*Vocabulary, [][]byte, int32) {
	t.Helper()
	var tokens [][]byte
	for b := range 256 {
		tokens = append(tokens, []byte{byte(b)})
	}
	for _, s := range longer {
		tokens = append(tokens, []byte(s))
	}
	tokens = append(tokens, nil)
	end := int32(len(tokens) - 1)
	v, err := NewVocabulary(tokens, []int32{end})
	if err != nil {
		t.Fatal(err)
	}
	return v, tokens, end
}

// write decodes with random logits until the end token.
func write(t *testing.T, c *Constraint, tokens [][]byte, end int32, r *rand.Rand) string {
	t.Helper()
	var text []byte
	var sofar []int32
	for range 200 {
		logits := make([]float32, len(tokens))
		for i := range logits {
			logits[i] = float32(r.NormFloat64())
		}
		if err := c.Mask(sofar, logits); err != nil {
			t.Fatalf("after %q: %v", text, err)
		}
		best := int32(0)
		for i, l := range logits {
			if l > logits[best] {
				best = int32(i)
			}
		}
		if math.IsInf(float64(logits[best]), -1) {
			t.Fatalf("after %q nothing is allowed", text)
		}
		if best == end {
			return string(text)
		}
		sofar = append(sofar, best)
		text = append(text, tokens[best]...)
	}
	t.Fatalf("no end after 200 tokens: %q", text)
	return ""
}

func TestChoices(t *testing.T) {
	choices := []string{"fridge", "fridge door", "sink (left)", "Spüle", "水槽", "oven."}
	v, tokens, end := vocabulary(t, "fri", "dge", "fridge", " door", "sink", "ven", "\xe6\xb0", "\xb4\xe6", "xyz")
	l, err := Choices(choices)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	for range 400 {
		got := write(t, New(v, l), tokens, end, r)
		if !slices.Contains(choices, got) {
			t.Fatalf("wrote %q, which is no choice", got)
		}
		seen[got] = true
	}
	if len(seen) != len(choices) {
		t.Errorf("random logits reached %d of %d choices: %v", len(seen), len(choices), seen)
	}
}

func TestExpressions(t *testing.T) {
	v, tokens, end := vocabulary(t, "go to", " the ", "sink", "12", "é", "\xc3")
	for _, expr := range []string{`(go to the (sink|hob)\. ){1,3}`, `[0-9]{2,4}é?`, `a|(bc)+d`, `[α-ω]{3}`} {
		l, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		whole := regexp.MustCompile(`^(?:` + expr + `)$`)
		r := rand.New(rand.NewPCG(2, 9))
		for range 100 {
			if got := write(t, New(v, l), tokens, end, r); !whole.MatchString(got) {
				t.Fatalf("%s: wrote %q", expr, got)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, expr := range []string{`(`, `a\b`, `^a`} {
		if _, err := Compile(expr); err == nil {
			t.Errorf("%s: accepted", expr)
		}
	}
	for _, choices := range [][]string{nil, {""}, {"a", "\xff"}} {
		if _, err := Choices(choices); err == nil {
			t.Errorf("%q: accepted", choices)
		}
	}
	if _, err := NewVocabulary([][]byte{{1}}, nil); err == nil {
		t.Error("a vocabulary without an end token was accepted")
	}
	v, _, _ := vocabulary(t)
	l, _ := Choices([]string{"abc"})
	if err := New(v, l).Mask([]int32{'x'}, make([]float32, 257)); err == nil {
		t.Error("a text outside the language was accepted")
	}
	if err := New(v, l).Mask([]int32{9999}, make([]float32, 257)); err == nil {
		t.Error("a token outside the vocabulary was accepted")
	}
}

// Whatever the logits, an answer within a number of tokens is whole; and it needs no more than Shortest says.
func TestWithin(t *testing.T) {
	v, tokens, _ := vocabulary(t, "open", " the", " fri", "dge", "open the fridge", ". ", ".\n", "水", "turn left", " and")
	for _, expr := range []string{
		`(?:open|turn left)(?: the [a-z]{1,14})?(?:, then (?:open|close)(?: [a-z]{1,14}){1,8}){0,7}\.`,
		`(?:[1-9]\. [A-Z][a-z]{2,9}(?: [a-z]{1,14}){1,8}\.\n?){1,6}|There is no [a-z]+\.`,
		`[水木火]{2,}(?:。|!!!)`,
		`a*b{3}`,
	} {
		l, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		c := New(v, l)
		form := regexp.MustCompile(`^(?:` + expr + `)$`)
		least := c.Shortest()
		if least < 1 || least > 20 {
			t.Fatalf("%s: shortest %d", expr, least)
		}
		r := rand.New(rand.NewPCG(7, 7))
		for budget := least; budget < least+40; budget++ {
			text, used := random(t, c.Within(budget), tokens, budget, r)
			if !form.MatchString(text) {
				t.Fatalf("%s: within %d tokens: %q after %d", expr, budget, text, used)
			}
		}
		// Too few tokens: still nothing outside the language, but perhaps not to its end.
		if text, _ := random(t, c.Within(1), tokens, 1, r); text == "" {
			t.Errorf("%s: nothing within one token", expr)
		}
	}
}

// random decodes with random logits until the end token, or for so many tokens.
func random(t *testing.T, c *Constraint, tokens [][]byte, most int, r *rand.Rand) (string, int) {
	t.Helper()
	var text []byte
	var sofar []int32
	for len(sofar) < most {
		logits := make([]float32, len(tokens))
		for i := range logits {
			logits[i] = float32(r.NormFloat64())
		}
		logits[len(logits)-1] -= 3 // talkative
		if err := c.Mask(sofar, logits); err != nil {
			t.Fatalf("after %q: %v", text, err)
		}
		best := int32(0)
		for i, l := range logits {
			if l > logits[best] {
				best = int32(i)
			}
		}
		if int(best) == len(tokens)-1 {
			break
		}
		sofar = append(sofar, best)
		text = append(text, tokens[best]...)
	}
	return string(text), len(sofar)
}

// A text whose bytes are no tokens cannot be promised.
func TestShortestWithoutBytes(t *testing.T) {
	v, err := NewVocabulary([][]byte{[]byte("ab"), []byte("c"), nil}, []int32{2})
	if err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]int{"c": 1, "ab": never, "ab|cc": 2} {
		l, err := Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := New(v, l).Shortest(); got != want {
			t.Errorf("%s: %d, expected %d", expr, got, want)
		}
	}
}
