// Package constrain restricts decoding to texts of a regular language: a list of choices, or the grammar of plans. It
// walks the vocabulary as a trie of bytes beside an automaton made from a Go regular expression, so a token is allowed
// exactly when the text so far with the token's bytes can still grow into a text of the language.
package constrain

import (
	"errors"
	"fmt"
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Vocabulary is the byte trie over a tokenizer's tokens; it is built once and shared by all constraints.
type Vocabulary struct {
	nodes  []trieNode
	bytes  [][]byte  // by token id; nil for tokens that are no text
	single [256]bool // bytes that are tokens of their own
	eos    []int32
}

type trieNode struct {
	children []edge  // in order of byte
	tokens   []int32 // tokens that end here
}

type edge struct {
	b    byte
	node int32
}

// NewVocabulary takes each token's bytes (nil for special tokens, which a constrained text never holds) and the end tokens.
func NewVocabulary(tokens [][]byte, eos []int32) (*Vocabulary, error) {
	if len(eos) == 0 {
		return nil, errors.New("constrained decoding needs at least one end token")
	}
	v := &Vocabulary{nodes: make([]trieNode, 1), bytes: tokens, eos: slices.Clone(eos)}
	for id, text := range tokens {
		if len(text) == 0 {
			continue
		}
		if len(text) == 1 {
			v.single[text[0]] = true
		}
		at := int32(0)
		for _, b := range text {
			at = v.child(at, b)
		}
		v.nodes[at].tokens = append(v.nodes[at].tokens, int32(id))
	}
	return v, nil
}

func (v *Vocabulary) child(at int32, b byte) int32 {
	i, found := slices.BinarySearchFunc(v.nodes[at].children, b, func(e edge, b byte) int { return int(e.b) - int(b) })
	if found {
		return v.nodes[at].children[i].node
	}
	id := int32(len(v.nodes))
	v.nodes = append(v.nodes, trieNode{})
	v.nodes[at].children = slices.Insert(v.nodes[at].children, i, edge{b, id})
	return id
}

// Language is a compiled regular language over texts. It is immutable and may be shared.
type Language struct {
	prog  *syntax.Prog
	start state
}

// Compile reads a Go regular expression that the whole text must match. Look-around assertions (\b, ^ inside) are refused.
func Compile(expr string) (*Language, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("constraint %q: %w", expr, err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, fmt.Errorf("constraint %q: %w", expr, err)
	}
	for i, inst := range prog.Inst {
		if inst.Op == syntax.InstEmptyWidth {
			return nil, fmt.Errorf("constraint %q: instruction %d looks around itself, only plain expressions are possible", expr, i)
		}
	}
	l := &Language{prog: prog}
	l.start = state{threads: l.close([]uint32{uint32(prog.Start)})}
	return l, nil
}

// Choices is the language of a list of texts.
func Choices(texts []string) (*Language, error) {
	if len(texts) == 0 {
		return nil, errors.New("constraint: the list of choices is empty")
	}
	quoted := make([]string, len(texts))
	for i, t := range texts {
		if t == "" || !utf8.ValidString(t) {
			return nil, fmt.Errorf("constraint: choice %d (%q) is empty or not valid UTF-8", i, t)
		}
		quoted[i] = syntaxQuote(t)
	}
	return Compile(strings.Join(quoted, "|"))
}

func syntaxQuote(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// state is a set of automaton threads plus the bytes of a rune that is not complete yet.
type state struct {
	threads []uint32
	partial [utf8.UTFMax]byte
	n       int
}

// close follows the instructions that take no input.
func (l *Language) close(pcs []uint32) []uint32 {
	seen := make(map[uint32]bool, 2*len(pcs))
	var out []uint32
	stack := slices.Clone(pcs)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch inst := &l.prog.Inst[pc]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, inst.Arg, inst.Out)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, inst.Out)
		case syntax.InstFail:
		default:
			out = append(out, pc)
		}
	}
	return out
}

// step takes one byte; ok is false when no text of the language goes on like this.
func (l *Language) step(s state, b byte) (state, bool) {
	s.partial[s.n] = b
	s.n++
	if !utf8.FullRune(s.partial[:s.n]) {
		// Which runes may follow is decided when the rune is whole; a wrong start is noticed by then.
		return s, s.n < utf8.UTFMax
	}
	r, size := utf8.DecodeRune(s.partial[:s.n])
	if r == utf8.RuneError && size <= 1 || size != s.n {
		return state{}, false
	}
	var next []uint32
	for _, pc := range s.threads {
		inst := &l.prog.Inst[pc]
		switch inst.Op {
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if inst.MatchRune(r) {
				next = append(next, inst.Out)
			}
		}
	}
	threads := l.close(next)
	return state{threads: threads}, len(threads) > 0
}

// viable tells whether a state can go on at all: a whole rune was checked by step, a begun one stands for the interval of
// runes that start with its bytes, and some thread has to take one of them.
func (l *Language) viable(s state) bool {
	if s.n == 0 {
		return true
	}
	lo, hi, ok := interval(s.partial[:s.n])
	if !ok {
		return false
	}
	for _, pc := range s.threads {
		if takes(&l.prog.Inst[pc], lo, hi) {
			return true
		}
	}
	return false
}

// interval is the range of runes whose UTF-8 form begins with some but not all of their bytes.
func interval(begun []byte) (lo, hi rune, ok bool) {
	var size int
	switch b := begun[0]; {
	case b >= 0xC2 && b <= 0xDF:
		size, lo = 2, rune(b&0x1F)
	case b >= 0xE0 && b <= 0xEF:
		size, lo = 3, rune(b&0x0F)
	case b >= 0xF0 && b <= 0xF4:
		size, lo = 4, rune(b&0x07)
	default:
		return 0, 0, false
	}
	for _, b := range begun[1:] {
		if b&0xC0 != 0x80 {
			return 0, 0, false
		}
		lo = lo<<6 | rune(b&0x3F)
	}
	open := 6 * (size - len(begun))
	lo <<= open
	hi = min(lo|(1<<open-1), utf8.MaxRune)
	// Longer forms of small runes are not UTF-8.
	lo = max(lo, []rune{2: 0x80, 3: 0x800, 4: 0x10000}[size])
	return lo, hi, size > len(begun) && lo <= hi
}

func takes(inst *syntax.Inst, lo, hi rune) bool {
	switch inst.Op {
	case syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	case syntax.InstRune, syntax.InstRune1:
	default:
		return false
	}
	if len(inst.Rune) == 1 {
		// One rune, perhaps with its case variants.
		r := inst.Rune[0]
		for f := unicode.SimpleFold(r); ; f = unicode.SimpleFold(f) {
			if f >= lo && f <= hi && inst.MatchRune(f) {
				return true
			}
			if f == r {
				return false
			}
		}
	}
	for i := 0; i+1 < len(inst.Rune); i += 2 {
		if inst.Rune[i] <= hi && inst.Rune[i+1] >= lo {
			return true
		}
	}
	return false
}

func (l *Language) accepts(s state) bool {
	if s.n > 0 {
		return false
	}
	for _, pc := range s.threads {
		if l.prog.Inst[pc].Op == syntax.InstMatch {
			return true
		}
	}
	return false
}

// Constraint applies a language to one answer. It satisfies generate.Constraint and is stateless between calls, so beams
// can share it.
type Constraint struct {
	vocab    *Vocabulary
	lang     *Language
	distance []int // by instruction, see left
	budget   int   // tokens of the whole answer; 0: any number
}

// New joins a vocabulary and a language.
func New(v *Vocabulary, l *Language) *Constraint {
	return &Constraint{vocab: v, lang: l, distance: distances(v, l.prog)}
}

// Mask sets to −Inf the logits of every token after which no text of the language is possible (none within the number of
// tokens, see Within); end tokens stay exactly when the text so far is complete.
func (c *Constraint) Mask(sofar []int32, logits []float32) error {
	s := c.lang.start
	for _, id := range sofar {
		if int(id) >= len(c.vocab.bytes) {
			return fmt.Errorf("token %d is outside the vocabulary of %d", id, len(c.vocab.bytes))
		}
		for _, b := range c.vocab.bytes[id] {
			var ok bool
			if s, ok = c.lang.step(s, b); !ok {
				return fmt.Errorf("the text before token %d has left the language", id)
			}
		}
	}
	allowed := make(map[int32]bool)
	most := never // bytes that may be missing behind the next token
	if c.budget > 0 {
		if left := c.budget - len(sofar); left >= c.left(s) { // else it is too late
			most = left - 1
		}
	}
	c.walk(0, s, most, allowed)
	if c.lang.accepts(s) {
		for _, id := range c.vocab.eos {
			allowed[id] = true
		}
	}
	if len(allowed) == 0 {
		return errors.New("no token of the vocabulary continues the text within the language")
	}
	for i := range logits {
		if !allowed[int32(i)] {
			logits[i] = float32(math.Inf(-1))
		}
	}
	return nil
}

func (c *Constraint) walk(at int32, s state, most int, allowed map[int32]bool) {
	n := &c.vocab.nodes[at]
	if len(n.tokens) > 0 && c.lang.viable(s) && (most == never || c.left(s) <= most) {
		for _, id := range n.tokens {
			allowed[id] = true
		}
	}
	for _, e := range n.children {
		if next, ok := c.lang.step(s, e.b); ok {
			c.walk(e.node, next, most, allowed)
		}
	}
}
