package rosbag1

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/bags/internal/record"
	"github.com/stllm/stllm/bags/internal/recordtest"
)

// made is a small bag with two connections in several chunks.
func made(t testing.TB, compression string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.bag")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(f, record.WriteOptions{Compression: compression, ChunkSize: 300})
	if err != nil {
		t.Fatal(err)
	}
	recordtest.Fill(t, w, record.ROS1)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCut reads a bag cut at every length: messages only get fewer, and what is
// lost is told.
func TestCut(t *testing.T) {
	for _, compression := range []string{"none", "lz4"} {
		recordtest.Cut(t, compression, made(t, compression), headerSize+len(magic), New)
	}
}

func TestRefused(t *testing.T) {
	whole := made(t, "none")
	for name, b := range map[string][]byte{
		"empty":     {},
		"version":   []byte("#ROSBAG V1.2\n and so on"),
		"other":     []byte("PK\x03\x04 not a bag at all"),
		"no header": []byte(magic),
		"encrypted": bytes.Replace(whole, []byte("chunk_count="), []byte("encryptor=x="), 1),
	} {
		if _, err := New(name, bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	// An unknown compression is named in a warning; the other chunks are read.
	b := bytes.Replace(whole, []byte("compression=none"), []byte("compression=snap"), 1)
	r, err := New("snap", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	named := false
	for _, w := range r.Warnings() {
		named = named || bytes.Contains([]byte(w.String()), []byte(`"snap"`))
	}
	if !named {
		t.Errorf("warnings: %v", r.Warnings())
	}
}

func FuzzReader(f *testing.F) {
	for _, compression := range []string{"none", "lz4"} {
		whole := made(f, compression)
		f.Add(whole)
		f.Add(whole[:len(whole)*3/4])
		f.Add(bytes.Replace(whole, []byte("index_pos="), []byte("index_xxx="), 1))
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
