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
