package dds

// maxWriters bounds the writers whose place is remembered; beyond, all begin anew, which forgets losses but invents none.
const maxWriters = 1024

// gaps finds samples that a reader never got to: each writer numbers its samples without a gap, so a number that is left out
// was lost on the way, given up by its writer, or replaced in the reader's history (keep-last) before it was taken. DDS's own
// sample-lost status tells of the first two alone, and of samples from before a reader came.
type gaps struct{ last map[GUID]int64 }

// skipped says how many samples of its writer are missing before this one. What came before the first is not missed.
func (g *gaps) skipped(writer GUID, sequence int64) int {
	last, known := g.last[writer]
	switch {
	case known && sequence <= last:
		return 0
	case !known && len(g.last) >= maxWriters:
		clear(g.last)
	case g.last == nil:
		g.last = map[GUID]int64{}
	}
	g.last[writer] = sequence
	if !known {
		return 0
	}
	return int(sequence - last - 1)
}
