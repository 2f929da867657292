package tokenizer

import "container/heap"

// word is the scratch memory for merging one piece: its symbols as a doubly linked list in slices.
type word struct {
	id         []int32
	prev, next []int32
	queue      candidates
}

// candidate is a possible merge of the symbols at left and right. It is stale when either has changed since.
type candidate struct {
	rank, left, right int32
	leftID, rightID   int32
	id                int32
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }

// Less orders by rank, then by place: equal pairs merge from the left.
func (c candidates) Less(i, j int) bool {
	if c[i].rank != c[j].rank {
		return c[i].rank < c[j].rank
	}
	return c[i].left < c[j].left
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// short is the length up to which rescanning all pairs after each merge is faster than a heap.
const short = 32

// appendPiece appends the tokens of one piece of the split.
func (t *Tokenizer) appendPiece(ids []int32, w *word, piece string) []int32 {
	if id, ok := t.ids[piece]; ok && (t.whole || len(piece) == 1) {
		return append(ids, id)
	}
	w.id = w.id[:0]
	for i := range len(piece) {
		if id := t.bytes[piece[i]]; id >= 0 {
			w.id = append(w.id, id)
		}
	}
	if len(w.id) <= short {
		return append(ids, t.mergeShort(w.id)...)
	}
	return t.mergeLong(ids, w)
}

// mergeShort merges the best pair, the leftmost of equals, until none is left.
func (t *Tokenizer) mergeShort(s []int32) []int32 {
	for len(s) > 1 {
		best, at := merge{rank: -1}, -1
		for i := range len(s) - 1 {
			if m, ok := t.merges[pair(s[i], s[i+1])]; ok && (at < 0 || m.rank < best.rank) {
				best, at = m, i
			}
		}
		if at < 0 {
			break
		}
		s[at] = best.id
		s = append(s[:at+1], s[at+2:]...)
	}
	return s
}

// mergeLong does the same in n log n steps with a heap over a linked list: a word of a million letters is no trouble.
func (t *Tokenizer) mergeLong(ids []int32, w *word) []int32 {
	n := int32(len(w.id))
	w.prev, w.next, w.queue = resize(w.prev, n), resize(w.next, n), w.queue[:0]
	for i := range n {
		w.prev[i], w.next[i] = i-1, i+1
	}
	w.next[n-1] = -1
	for i := range n - 1 {
		if c, ok := t.candidate(w, i, i+1); ok {
			w.queue = append(w.queue, c)
		}
	}
	heap.Init(&w.queue)
	for len(w.queue) > 0 {
		c := heap.Pop(&w.queue).(candidate)
		// A merged symbol keeps its left place; its right place gets the id -1 and so makes its candidates stale.
		if w.id[c.left] != c.leftID || w.id[c.right] != c.rightID || w.next[c.left] != c.right {
			continue
		}
		w.id[c.left], w.id[c.right] = c.id, -1
		after := w.next[c.right]
		w.next[c.left] = after
		if after >= 0 {
			w.prev[after] = c.left
			if c, ok := t.candidate(w, c.left, after); ok {
				heap.Push(&w.queue, c)
			}
		}
		if before := w.prev[c.left]; before >= 0 {
			if c, ok := t.candidate(w, before, c.left); ok {
				heap.Push(&w.queue, c)
			}
		}
	}
	for i := int32(0); i >= 0; i = w.next[i] {
		ids = append(ids, w.id[i])
	}
	return ids
}

func (t *Tokenizer) candidate(w *word, left, right int32) (candidate, bool) {
	a, b := w.id[left], w.id[right]
	m, ok := t.merges[pair(a, b)]
	return candidate{m.rank, left, right, a, b, m.id}, ok
}

func pair(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

func resize(s []int32, n int32) []int32 {
	if int32(cap(s)) < n {
		return make([]int32, n)
	}
	return s[:n]
}
