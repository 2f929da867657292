package meteor

import (
	"slices"
	"strings"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/english"
)

// The modules in order, with their weights (METEOR 1.5, English, task "rank").
const (
	exact = iota
	stem
	synonym
	paraphrase
	modules
)

var moduleWeights = [modules]float64{exact: 1, stem: 0.6, synonym: 0.8, paraphrase: 0.6}

// beamSize is how many partial alignments the search keeps.
const beamSize = 40

// match pairs a stretch of the reference with one of the hypothesis.
type match struct {
	ref, refLen int
	hyp, hypLen int
	module      int
}

// stage holds all matches that are possible, by where they start in the reference.
type stage struct {
	hyp, ref           []string
	matches            [][]match
	hypCover, refCover []int
}

func (s *stage) add(m match) {
	s.matches[m.ref] = append(s.matches[m.ref], m)
	for i := range m.hypLen {
		s.hypCover[m.hyp+i]++
	}
	for i := range m.refLen {
		s.refCover[m.ref+i]++
	}
}

// candidates finds every match of every module. Equal sentences need exact matches only.
func (r *Resources) candidates(hyp, ref []string, para *paraphrases) *stage {
	s := &stage{hyp: hyp, ref: ref, matches: make([][]match, len(ref)), hypCover: make([]int, len(hyp)), refCover: make([]int, len(ref))}
	words := func(module int, same func(i, j int) bool) {
		for j := range ref {
			for i := range hyp {
				if same(i, j) {
					s.add(match{j, 1, i, 1, module})
				}
			}
		}
	}
	words(exact, func(i, j int) bool { return hyp[i] == ref[j] })
	if slices.Equal(hyp, ref) {
		return s
	}
	hs, rs := stems(hyp), stems(ref)
	words(stem, func(i, j int) bool { return hs[i] == rs[j] && hyp[i] != ref[j] })
	hy, ry := r.synonymSets(hyp), r.synonymSets(ref)
	words(synonym, func(i, j int) bool { return hyp[i] != ref[j] && overlap(hy[i], ry[j]) })
	phrases(ref, hyp, para, func(j, jLen, i, iLen int) { s.add(match{j, jLen, i, iLen, paraphrase}) })
	phrases(hyp, ref, para, func(i, iLen, j, jLen int) { s.add(match{j, jLen, i, iLen, paraphrase}) })
	return s
}

func stems(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		env := snowballstem.NewEnv(w)
		english.Stem(env)
		out[i] = env.Current()
	}
	return out
}

func (r *Resources) synonymSets(words []string) []map[int]bool {
	out := make([]map[int]bool, len(words))
	for i, w := range words {
		set := map[int]bool{}
		for _, form := range append([]string{w}, r.lemmas(w)...) {
			for _, id := range r.synsets[form] {
				set[id] = true
			}
		}
		out[i] = set
	}
	return out
}

func overlap(a, b map[int]bool) bool {
	for id := range a {
		if b[id] {
			return true
		}
	}
	return false
}

// suffixes are WordNet's detachment rules (morphy), nouns, verbs, adjectives.
var suffixes = [][2]string{
	{"s", ""}, {"ses", "s"}, {"xes", "x"}, {"zes", "z"}, {"ches", "ch"}, {"shes", "sh"}, {"men", "man"}, {"ies", "y"},
	{"s", ""}, {"ies", "y"}, {"es", "e"}, {"es", ""}, {"ed", "e"}, {"ed", ""}, {"ing", "e"}, {"ing", ""},
	{"er", ""}, {"est", ""}, {"er", "e"}, {"est", "e"},
}

// lemmas returns a word's base forms: irregular ones from the table, else the first rule that leads to a known word.
func (r *Resources) lemmas(w string) []string {
	if bases := r.bases[w]; bases != nil {
		return bases
	}
	if strings.HasSuffix(w, "ss") || len([]rune(w)) <= 2 {
		return nil
	}
	for _, s := range suffixes {
		if strings.HasSuffix(w, s[0]) {
			base := strings.TrimSuffix(w, s[0]) + s[1]
			if r.synsets[base] != nil && base != w {
				return []string{base}
			}
		}
	}
	return nil
}

// phrases finds the table's phrases in a whose paraphrases stand in b.
func phrases(a, b []string, para *paraphrases, found func(at, n, bAt, bN int)) {
	for at := range a {
		for n := 1; n <= para.longest && at+n <= len(a); n++ {
			for _, words := range para.of[strings.Join(a[at:at+n], " ")] {
				for i := 0; i+len(words) <= len(b); i++ {
					if slices.Equal(b[i:i+len(words)], words) {
						found(at, n, i, len(words))
					}
				}
			}
		}
	}
}

// path is a partial alignment. Paths are copied for every choice, so they are kept small.
type path struct {
	taken                         *taken // choices of this path, the last one first
	hypUsed, refUsed              bits
	weight                        int // weighted words matched, cut to whole numbers after each addition, as the reference does
	chunks, at, lastEnd, distance int
}

// taken is a list of matches that paths share the beginning of.
type taken struct {
	*match
	before *taken
}

// bits is a set of positions in a sentence.
type bits []uint64

func newBits(n int) bits { return make(bits, n/64+1) }

func (b bits) set(from, n int) {
	for i := from; i < from+n; i++ {
		b[i/64] |= 1 << (i % 64)
	}
}

func (b bits) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }

func (b bits) any(from, n int) bool {
	for i := from; i < from+n; i++ {
		if b.has(i) {
			return true
		}
	}
	return false
}

func (p *path) clone() *path {
	q := *p
	n := len(p.hypUsed)
	both := append(append(make(bits, 0, n+len(p.refUsed)), p.hypUsed...), p.refUsed...)
	q.hypUsed, q.refUsed = both[:n:n], both[n:]
	return &q
}

func (p *path) free(m match) bool {
	return !p.refUsed.any(m.ref, m.refLen) && !p.hypUsed.any(m.hyp, m.hypLen)
}

func (p *path) take(m *match) {
	p.refUsed.set(m.ref, m.refLen)
	p.hypUsed.set(m.hyp, m.hypLen)
}

// pass counts a match that the path goes over. hypWeight and refWeight are cut apart.
func (p *path) pass(m *match) {
	p.weight += int(float64(m.hypLen)*moduleWeights[m.module]) + int(float64(m.refLen)*moduleWeights[m.module])
	if p.lastEnd != -1 && m.hyp != p.lastEnd {
		p.chunks++
	}
	p.at = m.ref + m.refLen
	p.lastEnd = m.hyp + m.hypLen
}

func better(x, y *path) int {
	if x.weight != y.weight {
		return y.weight - x.weight
	}
	if x.chunks != y.chunks {
		return x.chunks - y.chunks
	}
	return x.distance - y.distance
}

func abs(x int) int { return max(x, -x) }

// resolve finds the best alignment: most weighted matches, then fewest chunks, then shortest distance, by beam search over
// the reference from left to right.
func resolve(s *stage) []*match {
	start := &path{hypUsed: newBits(len(s.hyp)), refUsed: newBits(len(s.ref)), lastEnd: -1}
	chosen := make([]*match, len(s.ref)) // by where they start in the reference: first those without an alternative
	fixed := func(m match) bool {
		for i := range m.refLen {
			if s.refCover[m.ref+i] != 1 {
				return false
			}
		}
		for i := range m.hypLen {
			if s.hypCover[m.hyp+i] != 1 {
				return false
			}
		}
		return true
	}
	for _, ms := range s.matches {
		if len(ms) == 1 && fixed(ms[0]) {
			start.take(&ms[0])
			chosen[ms[0].ref] = &ms[0]
		}
	}
	next := []*path{start}
	for current := 0; current <= len(s.ref); current++ {
		paths := next
		next = nil
		slices.SortStableFunc(paths, better)
		for _, p := range paths[:min(beamSize, len(paths))] {
			next = append(next, extend(p, s, chosen, current)...)
		}
		if len(next) == 0 {
			next = paths[:1]
		}
	}
	slices.SortStableFunc(next, better)
	for t := next[0].taken; t != nil; t = t.before {
		chosen[t.ref] = t.match
	}
	return chosen
}

// extend takes a path over one position of the reference. fixed holds the matches that every path has.
func extend(p *path, s *stage, fixed []*match, current int) []*path {
	if current == len(s.ref) {
		if p.lastEnd != -1 {
			p.chunks++
		}
		return []*path{p}
	}
	if p.refUsed.has(current) {
		if current < p.at {
			return []*path{p} // inside a match
		}
		m := fixed[p.at]
		if m == nil {
			return nil
		}
		p.distance += abs(m.ref - m.hyp)
		p.pass(m)
		return []*path{p}
	}
	var out []*path
	for i := range s.matches[current] {
		m := &s.matches[current][i]
		if !p.free(*m) {
			continue
		}
		q := p.clone()
		q.take(m)
		q.taken = &taken{m, p.taken}
		q.pass(m)
		// The reference adds the distance to the path that is left, not to the new one; its choices depend on that.
		p.distance += abs(m.ref - m.hyp)
		out = append(out, q)
	}
	if p.lastEnd != -1 {
		p.chunks++
		p.lastEnd = -1
	}
	p.at++
	return append(out, p)
}
