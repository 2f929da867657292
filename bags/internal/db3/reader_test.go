package db3

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/stllm/stllm/bags/internal/record"
	"github.com/stllm/stllm/bags/internal/recordtest"
)

// layout is a database as rosbag2 up to Humble makes it.
const layout = `
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL);
INSERT INTO topics VALUES (1, '/a', 'std_msgs/msg/String', 'cdr', ''), (2, '/b', 'std_msgs/msg/String', 'cdr', '- durability: 1');`

const index = "CREATE INDEX timestamp_idx ON messages (timestamp ASC)"

// made is a database of n messages, whose times run backwards in pairs.
func made(t testing.TB, n int, indexed bool, pack func([]byte) []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.db3")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(layout)
	if indexed {
		exec(index)
	}
	exec("BEGIN")
	for i := range n {
		data := bytes.Repeat([]byte{byte(i)}, 1000+i)
		if pack != nil {
			data = pack(data)
		}
		exec("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", 1+i%2, i^1, data)
	}
	exec("COMMIT")
	return path
}

func openMade(t testing.TB, path string, opts Options) *Reader {
	t.Helper()
	r, err := New(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func zstdPacker(t testing.TB) func([]byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(b []byte) []byte { return z.EncodeAll(b, nil) }
}

func TestRead(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		for _, pack := range []string{"", "zstd"} {
			t.Run(fmt.Sprintf("indexed %v %s", indexed, pack), func(t *testing.T) {
				var packer func([]byte) []byte
				if pack != "" {
					packer = zstdPacker(t)
				}
				r := openMade(t, made(t, 40, indexed, packer), Options{MessageCompression: pack})
				got := recordtest.Drain(t, r, record.Filter{})
				if len(got) != 40 {
					t.Fatalf("%d messages", len(got))
				}
				for i, m := range got {
					n := i ^ 1
					if m.LogTime != int64(i) || len(m.Data) != 1000+n || m.Data[0] != byte(n) || m.Connection.Topic != []string{"/a", "/b"}[n%2] {
						t.Fatalf("message %d: %s at %d with %d bytes", i, m.Connection.Topic, m.LogTime, len(m.Data))
					}
				}
				if got := recordtest.Drain(t, r, record.Filter{Topics: []string{"/b"}, Start: 10, End: 19}); len(got) != 5 {
					t.Errorf("filter: %d messages", len(got))
				}
				if got := recordtest.Drain(t, r, record.Filter{Topics: []string{"/none"}}); len(got) != 0 {
					t.Errorf("absent topic: %d messages", len(got))
				}
				info := r.Info()
				if info.Messages != 40 || info.First != 0 || info.Last != 39 || info.Connections[0].Latched || !info.Connections[1].Latched {
					t.Errorf("info %+v", info)
				}
			})
		}
	}
}

// TestDamaged overwrites or cuts pages in the middle: the rest is still read.
func TestDamaged(t *testing.T) {
	whole, err := os.ReadFile(made(t, 200, true, nil))
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func([]byte) []byte{
		"cut":         func(b []byte) []byte { return b[:len(b)*7/10] },
		"overwritten": func(b []byte) []byte { copy(b[len(b)/2:], bytes.Repeat([]byte{0xEE}, 8192)); return b },
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "spoilt.db3")
			if err := os.WriteFile(path, spoil(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			r := openMade(t, path, Options{})
			got := recordtest.Drain(t, r, record.Filter{})
			if len(got) < 60 || len(got) >= 200 {
				t.Errorf("%d of 200 messages", len(got))
			}
			for i, m := range got {
				if i > 0 && m.LogTime <= got[i-1].LogTime {
					t.Fatal("out of order, or twice")
				}
			}
			if len(r.Warnings()) == 0 {
				t.Error("no warning")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path string
		opts Options
		want string
	}{
		{filepath.Join(dir, "absent"), Options{}, "no such file"},
		{file("text", "not a database"), Options{}, "not an SQLite"},
		{file("short", sqliteMagic+"and nothing"), Options{}, ""},
		{file("zstd", "no frame"), Options{FileCompression: "zstd"}, "unpacking"},
		{file("x", ""), Options{FileCompression: "lzma"}, `"lzma"`},
		{file("y", ""), Options{MessageCompression: "lzma"}, `"lzma"`},
	} {
		if _, err := New(c.path, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	empty := filepath.Join(dir, "tables.db3")
	db, err := sql.Open("sqlite", empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE topics(id INTEGER); CREATE TABLE messages(id INTEGER, topic_id, timestamp, data)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := New(empty, Options{}); err == nil || !strings.Contains(err.Error(), `"topics" has no column "name"`) {
		t.Errorf("other tables: %v", err)
	}
}

// TestUnpacked checks that the temporary file goes.
func TestUnpacked(t *testing.T) {
	whole, err := os.ReadFile(made(t, 5, true, nil))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.db3.zstd")
	if err := os.WriteFile(path, zstdPacker(t)(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	r := openMade(t, path, Options{FileCompression: "zstd"})
	if got := recordtest.Drain(t, r, record.Filter{}); len(got) != 5 {
		t.Errorf("%d messages", len(got))
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func FuzzReader(f *testing.F) {
	for _, indexed := range []bool{true, false} {
		whole, err := os.ReadFile(made(f, 6, indexed, nil))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole)
		f.Add(whole[:len(whole)*3/4])
	}
	path := filepath.Join(f.TempDir(), "fuzz")
	f.Fuzz(func(t *testing.T, b []byte) {
		name := fmt.Sprintf("%s-%d.db3", path, os.Getpid())
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := New(name, Options{})
		if err != nil {
			return
		}
		defer r.Close()
		recordtest.Drain(t, r, record.Filter{})
		r.Info()
	})
}
