package ros1

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
)

func TestReadFrame(t *testing.T) {
	big := bytes.Repeat([]byte{7}, 3*firstChunk+5)
	for _, want := range [][]byte{{}, {1}, big} {
		got, err := readFrame(bytes.NewReader(frame(want)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes became %d, %v", len(want), len(got), err)
		}
	}
	for name, data := range map[string][]byte{"cut length": {1, 2}, "cut message": {9, 0, 0, 0, 1}} {
		if _, err := readFrame(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	huge := binary.LittleEndian.AppendUint32(nil, 1<<32-1)
	if _, err := readFrame(bytes.NewReader(huge)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a message of 4 GiB: %v", err)
	}
	// A length alone costs no memory.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = readFrame(bytes.NewReader(binary.LittleEndian.AppendUint32(nil, MaxMessageBytes)))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2*firstChunk {
		t.Errorf("a bare length of 1 GiB allocated %d bytes", n)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(frame([]byte("abc")))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = readFrame(bytes.NewReader(data))
	})
}

func TestQueueDropsTheOldest(t *testing.T) {
	q := newQueue[int](3)
	for i := range 10 {
		q.push(i)
	}
	if q.dropped.Load() != 7 {
		t.Errorf("%d dropped, expected 7", q.dropped.Load())
	}
	for want := 7; want < 10; want++ {
		if v, ok := q.pop(t.Context()); !ok || v != want {
			t.Errorf("got %d, expected %d", v, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := q.pop(ctx); ok {
		t.Error("something came out of an empty queue")
	}
}
