package constrain

import (
	"container/heap"
	"math"
	"regexp/syntax"
	"unicode/utf8"
)

// never is the distance of what cannot be completed.
const never = math.MaxInt32

// Within is the constraint for an answer of at most so many tokens: tokens after which the text could no more be completed
// within them are not allowed either, so an answer is never cut off within a text, provided that tokens is at least
// [Constraint.Shortest]. With fewer, the text may stay incomplete.
func (c *Constraint) Within(tokens int) *Constraint {
	bound := *c
	bound.budget = tokens
	return &bound
}

// Shortest is the number of tokens in which some text of the language can be written for certain: that of the bytes of its
// shortest text, since each byte is a token in byte-level vocabularies. It is never where bytes are missing.
func (c *Constraint) Shortest() int { return c.left(c.lang.start) }

// left is the number of bytes, each a token, that complete a text from a state.
func (c *Constraint) left(s state) int {
	best, more := never, 0
	lo, hi := rune(0), rune(utf8.MaxRune)
	if s.n > 0 {
		var ok bool
		if lo, hi, ok = interval(s.partial[:s.n]); !ok {
			return never
		}
		more = utf8.RuneLen(hi) - s.n
	}
	for _, pc := range s.threads {
		d := c.distance[pc]
		if s.n > 0 {
			if inst := &c.lang.prog.Inst[pc]; !takes(inst, lo, hi) {
				continue
			} else if d = c.distance[inst.Out]; d != never {
				d += more
			}
		}
		best = min(best, d)
	}
	return best
}

// distances gives, for every instruction, the number of bytes to the next match, of those that are tokens of their own.
func distances(v *Vocabulary, prog *syntax.Prog) []int {
	type arc struct{ from, cost int }
	back := make([][]arc, len(prog.Inst))
	dist := make([]int, len(prog.Inst))
	var queue nearest
	for pc := range prog.Inst {
		inst := &prog.Inst[pc]
		dist[pc] = never
		link := func(to uint32, cost int) { back[to] = append(back[to], arc{pc, cost}) }
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			link(inst.Out, 0)
			link(inst.Arg, 0)
		case syntax.InstCapture, syntax.InstNop:
			link(inst.Out, 0)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			if n := v.spelled(inst); n > 0 {
				link(inst.Out, n)
			}
		case syntax.InstMatch:
			dist[pc] = 0
			heap.Push(&queue, visit{pc, 0})
		}
	}
	for len(queue) > 0 {
		at := heap.Pop(&queue).(visit)
		if at.dist > dist[at.pc] {
			continue
		}
		for _, a := range back[at.pc] {
			if d := at.dist + a.cost; d < dist[a.from] {
				dist[a.from] = d
				heap.Push(&queue, visit{a.from, d})
			}
		}
	}
	return dist
}

// spelled is the number of bytes of the shortest rune of an instruction whose bytes are all tokens; 0: there is none.
func (v *Vocabulary) spelled(inst *syntax.Inst) int {
	best := 0
	try := func(r rune) {
		var b [utf8.UTFMax]byte
		n := utf8.EncodeRune(b[:], r)
		for _, x := range b[:n] {
			if !v.single[x] {
				return
			}
		}
		if best == 0 || n < best {
			best = n
		}
	}
	if inst.Op == syntax.InstRuneAny || inst.Op == syntax.InstRuneAnyNotNL {
		try(' ')
		return best
	}
	try(inst.Rune[0])
	for i := 0; i+1 < len(inst.Rune); i += 2 {
		// A class lists its ranges from small runes to large ones: the first that can be spelled is a shortest one.
		for r := inst.Rune[i]; r <= inst.Rune[i+1] && best == 0; r++ {
			try(r)
		}
	}
	return best
}

// nearest is a heap of instructions by distance.
type nearest []visit

type visit struct{ pc, dist int }

func (q nearest) Len() int           { return len(q) }
func (q nearest) Less(i, j int) bool { return q[i].dist < q[j].dist }
func (q nearest) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *nearest) Push(x any)        { *q = append(*q, x.(visit)) }
func (q *nearest) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
