// Package recordtest fills and drains bags in tests.
package recordtest

import (
	"bytes"
	"io"
	"testing"

	"github.com/stllm/stllm/bags/internal/record"
)

// Fill writes two connections with six messages of 40 bytes each, and closes the bag.
func Fill(t testing.TB, w record.Writer, encoding record.Encoding) {
	t.Helper()
	for _, topic := range []string{"/a", "/b"} {
		c, err := w.Add(record.Connection{Topic: topic, Type: "std_msgs/String", Encoding: encoding})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if err := w.Write(c, 1e18+int64(i), bytes.Repeat([]byte{byte(i)}, 40)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// messages that Fill writes.
const messages = 12

// Cut reads a file of Fill at every length from least on: messages only get fewer, down to none, and what is lost is told.
func Cut[R record.Reader](t *testing.T, what string, whole []byte, least int, open func(name string, file io.ReaderAt, size int64) (R, error)) {
	t.Helper()
	last := messages
	for n := len(whole) - 1; n >= least; n-- {
		r, err := open("cut", bytes.NewReader(whole[:n]), int64(n))
		if err != nil {
			t.Fatalf("%s cut at %d: %v", what, n, err)
		}
		got := len(Drain(t, r, record.Filter{}))
		if got > last {
			t.Fatalf("%s cut at %d: %d messages, %d when longer", what, n, got, last)
		}
		last = got
		if len(r.Warnings()) == 0 {
			t.Fatalf("%s cut at %d: no warning", what, n)
		}
	}
	if last != 0 {
		t.Errorf("%s: %d messages without any chunk", what, last)
	}
}

// Drain returns the messages that pass a filter. Each has to have a connection,
// and to be the same with Filter.Reuse.
func Drain(t testing.TB, r record.Reader, f record.Filter) []*record.Message {
	t.Helper()
	var out []*record.Message
	each(t, r, f, func(m *record.Message) { out = append(out, m) })
	f.Reuse = true
	n := 0
	each(t, r, f, func(m *record.Message) {
		if n >= len(out) || m.Connection != out[n].Connection || m.LogTime != out[n].LogTime || m.PublishTime != out[n].PublishTime || !bytes.Equal(m.Data, out[n].Data) {
			t.Fatalf("message %d differs when its memory is used again: %+v", n, m)
		}
		n++
	})
	if n != len(out) {
		t.Fatalf("%d messages, %d when their memory is used again", len(out), n)
	}
	return out
}

func each(t testing.TB, r record.Reader, f record.Filter, use func(*record.Message)) {
	t.Helper()
	it := r.Messages(f)
	defer it.Close()
	for {
		m, err := it.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Connection == nil {
			t.Fatal("message without a connection")
		}
		use(m)
	}
}
