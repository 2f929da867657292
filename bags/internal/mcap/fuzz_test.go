package mcap

import (
	"bytes"
	"strings"
	"testing"

	fox "github.com/foxglove/mcap/go/mcap"

	"github.com/stllm/stllm/bags/internal/record"
	"github.com/stllm/stllm/bags/internal/recordtest"
)

type file struct{ bytes.Buffer }

func (*file) Close() error { return nil }

// made is a small file with two connections in several chunks.
func made(t testing.TB, compression string) []byte {
	t.Helper()
	var out file
	w, err := NewWriter(&out, record.WriteOptions{Compression: compression, ChunkSize: 300})
	if err != nil {
		t.Fatal(err)
	}
	recordtest.Fill(t, w, record.CDR)
	return out.Bytes()
}

// loose is a file without chunks, index or summary.
func loose(t testing.TB) []byte {
	t.Helper()
	var out file
	w, err := fox.NewWriter(&out, &fox.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	steps := []error{
		w.WriteHeader(&fox.Header{Profile: "ros2"}),
		w.WriteSchema(&fox.Schema{ID: 1, Name: "std_msgs/msg/String", Encoding: "ros2msg", Data: []byte("string data\n")}),
		w.WriteChannel(&fox.Channel{ID: 3, SchemaID: 1, Topic: "/a", MessageEncoding: "cdr"}),
	}
	for i := range 9 {
		steps = append(steps, w.WriteMessage(&fox.Message{ChannelID: 3, LogTime: uint64(100 - i), PublishTime: uint64(50 - i), Data: []byte("12345678")}))
	}
	for _, err := range append(steps, w.Close()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestLoose(t *testing.T) {
	b := loose(t)
	r, err := New("loose", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got := recordtest.Drain(t, r, record.Filter{})
	if len(got) != 9 || got[0].LogTime != 92 || got[0].PublishTime != 42 || got[8].LogTime != 100 {
		t.Errorf("%d messages: %+v", len(got), got)
	}
}

// TestCut reads a file cut at every length.
func TestCut(t *testing.T) {
	for _, compression := range []string{"none", "lz4", "zstd"} {
		recordtest.Cut(t, compression, made(t, compression), 40, New)
	}
}

func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":   "",
		"version": "\x89MCAP1\r\n and so on",
		"other":   "PK\x03\x04 not one at all",
		"magic":   magic,
		"record":  magic + "\x05\x00\x00\x00\x00\x00\x00\x00\x00",
		"length":  magic + "\x01\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		if _, err := New(name, strings.NewReader(text), int64(len(text))); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	b := bytes.ReplaceAll(made(t, "zstd"), []byte("zstd"), []byte("snap"))
	r, err := New("snap", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got := recordtest.Drain(t, r, record.Filter{}); len(got) != 0 {
		t.Errorf("%d messages", len(got))
	}
	named := false
	for _, w := range r.Warnings() {
		named = named || strings.Contains(w.String(), `"snap"`)
	}
	if !named {
		t.Errorf("warnings: %v", r.Warnings())
	}
}

func FuzzReader(f *testing.F) {
	f.Add(loose(f))
	for _, compression := range []string{"none", "lz4", "zstd"} {
		whole := made(f, compression)
		f.Add(whole)
		f.Add(whole[:len(whole)*3/4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := New("fuzz", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		recordtest.Drain(t, r, record.Filter{})
		r.Info()
		r.Warnings()
	})
}
