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

// Drain returns the messages that pass a filter. Each has to have a connection.
func Drain(t testing.TB, r record.Reader, f record.Filter) []*record.Message {
	t.Helper()
	it := r.Messages(f)
	defer it.Close()
	var out []*record.Message
	for {
		m, err := it.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Connection == nil {
			t.Fatal("message without a connection")
		}
		out = append(out, m)
	}
}
