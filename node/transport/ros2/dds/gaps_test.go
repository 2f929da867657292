package dds

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestGaps(t *testing.T) {
	a, b := GUID{1}, GUID{2}
	var g gaps
	for i, s := range []struct {
		writer   GUID
		sequence int64
		want     int
	}{{a, 7, 0}, {a, 8, 0}, {b, 1, 0}, {a, 12, 3}, {b, 2, 0}, {a, 12, 0}, {a, 9, 0}, {a, 13, 0}, {b, 1<<40 + 3, 1 << 40}, {a, 14, 0}} {
		if got := g.skipped(s.writer, s.sequence); got != s.want {
			t.Errorf("sample %d: %d skipped, expected %d", i, got, s.want)
		}
	}
}

// Whatever is left out of several writers' samples, what came and what is missing add up.
func TestGapsAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var g gaps
	came, missing, last := 0, 0, [5]int64{}
	for range 10_000 {
		w := r.IntN(len(last))
		last[w]++
		if last[w] == 1 || r.IntN(3) > 0 { // each begins with its first
			came++
			missing += g.skipped(GUID{byte(w)}, last[w])
		}
	}
	for w := range last {
		last[w]++
		came++
		missing += g.skipped(GUID{byte(w)}, last[w])
	}
	if sent := int(last[0] + last[1] + last[2] + last[3] + last[4]); came+missing != sent {
		t.Errorf("%d came and %d are missing of %d", came, missing, sent)
	}
}

func TestGapsForget(t *testing.T) {
	var g gaps
	for i := range uint32(10 * maxWriters) {
		var w GUID
		binary.LittleEndian.PutUint32(w[:], i)
		if n := g.skipped(w, int64(i)); n != 0 || len(g.last) > maxWriters {
			t.Fatalf("writer %d: %d skipped, %d remembered", i, n, len(g.last))
		}
	}
}
