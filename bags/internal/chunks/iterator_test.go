package chunks

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/bags/internal/record"
)

// size of a message in a made file: its time.
const size = 8

// madeFile has chunks of messages at the given times; a message is its time.
func madeFile(times [][]int64) (*File, *record.Warnings) {
	conn := &record.Connection{}
	var warnings record.Warnings
	f := &File{Name: "made", Warnings: &warnings}
	var data []byte
	for _, chunk := range times {
		c := Chunk{Offset: int64(len(data)), Stored: int64(size * len(chunk)), Size: int64(size * len(chunk)), Compression: "none"}
		for _, t := range chunk {
			data = binary.LittleEndian.AppendUint64(data, uint64(t))
			c.Count(conn, t, 1)
		}
		f.Chunks = append(f.Chunks, c)
	}
	f.Reader = bytes.NewReader(data)
	f.Parse = func(dst []Entry, b []byte) ([]Entry, error) {
		for i := 0; i+size <= len(b); i += size {
			dst = append(dst, Entry{Time: int64(binary.LittleEndian.Uint64(b[i:])), Connection: conn, Start: uint32(i), End: uint32(i + size)})
		}
		return dst, nil
	}
	return f, &warnings
}

// TestBudget merges chunks that all overlap, within a budget of a few of them.
func TestBudget(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	times := make([][]int64, 40)
	var all []int64
	for i := range times {
		for range 50 {
			v := rng.Int64N(1000)
			times[i] = append(times[i], v)
			all = append(all, v)
		}
	}
	slices.Sort(all)
	f, warnings := madeFile(times)
	for _, budget := range []int64{1, 3 * 50 * size, Budget} {
		it := NewIterator(f, nil, record.Filter{})
		it.budget = budget
		for i, want := range all {
			m, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if got := int64(binary.LittleEndian.Uint64(m.Data)); m.LogTime != want || got != want {
				t.Fatalf("budget %d: message %d is of %d, its data of %d, expected %d", budget, i, m.LogTime, got, want)
			}
			if it.held > max(budget, 50*size) {
				t.Fatalf("budget %d: %d bytes are held", budget, it.held)
			}
		}
		if _, err := it.Next(); err != io.EOF {
			t.Fatalf("after the last message: %v", err)
		}
		if it.held != 0 {
			t.Errorf("%d bytes are held at the end", it.held)
		}
	}
	if w := warnings.List(); len(w) > 0 {
		t.Error(w)
	}
}

// TestLyingIndex has an index that says a chunk starts later than it does.
func TestLyingIndex(t *testing.T) {
	f, warnings := madeFile([][]int64{{1, 5, 9}, {2, 3, 8}})
	f.Chunks[1].First = 8
	it := NewIterator(f, nil, record.Filter{})
	n := 0
	for {
		_, err := it.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 6 || len(warnings.List()) != 1 {
		t.Errorf("%d messages, warnings %v", n, warnings.List())
	}
}

func TestChecksum(t *testing.T) {
	f, warnings := madeFile([][]int64{{1, 2}})
	f.Chunks[0].CRC = 1
	it := NewIterator(f, nil, record.Filter{})
	if _, err := it.Next(); err != nil {
		t.Fatal(err)
	}
	if len(warnings.List()) != 1 {
		t.Errorf("warnings: %v", warnings.List())
	}
}

func TestClose(t *testing.T) {
	f, _ := madeFile([][]int64{{1, 2}})
	it := NewIterator(f, nil, record.Filter{})
	for range 2 {
		if err := it.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := it.Next(); err != io.EOF {
		t.Errorf("after Close: %v", err)
	}
}
