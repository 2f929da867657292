package bags_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	fox "github.com/foxglove/mcap/go/mcap"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
)

// start is the log time in ns of the first message of made bags.
const start = 1_700_000_000_000_000_000

// forms are the ways a bag is written.
var forms = []struct {
	name     string
	opts     bags.WriteOptions
	encoding msgs.Encoding
}{
	{"none.bag", bags.WriteOptions{Compression: "none", ChunkSize: 4096}, msgs.ROS1},
	{"lz4.bag", bags.WriteOptions{Compression: "lz4", ChunkSize: 4096}, msgs.ROS1},
	{"none.mcap", bags.WriteOptions{Compression: "none", ChunkSize: 4096}, msgs.CDR},
	{"lz4.mcap", bags.WriteOptions{Compression: "lz4", ChunkSize: 4096}, msgs.CDR},
	{"zstd.mcap", bags.WriteOptions{Compression: "zstd", ChunkSize: 4096}, msgs.CDR},
	{"ros1.mcap", bags.WriteOptions{ChunkSize: 4096}, msgs.ROS1},
	{"folder", bags.WriteOptions{ChunkSize: 4096}, msgs.CDR},
}

// item is a message of a made bag.
type item struct {
	topic string
	time  int64
	text  string
}

// items are n messages on three topics; their log times jump back and forth by
// up to a second, as those of a busy recorder do.
func items(seed uint64, n int) []item {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]item, n)
	for i := range out {
		out[i] = item{topic: fmt.Sprintf("/topic_%d", rng.IntN(3)), text: fmt.Sprintf("%d %s", i, strings.Repeat("x", rng.IntN(300))),
			time: start + int64(i)*10_000_000 + rng.Int64N(1_000_000_000)}
	}
	return out
}

func write(t *testing.T, path string, opts bags.WriteOptions, enc msgs.Encoding, list []item) {
	t.Helper()
	w, err := bags.CreateWith(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	conns := map[string]*bags.Connection{}
	for _, it := range list {
		c := conns[it.topic]
		if c == nil {
			if c, err = w.Add(bags.Connection{Topic: it.topic, Type: "std_msgs/String", Encoding: enc, Latched: it.topic == "/topic_0"}); err != nil {
				t.Fatal(err)
			}
			conns[it.topic] = c
		}
		if err := bags.WriteMessage(w, c, it.time, &msgs.String{Data: it.text}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// sorted gives the items as readers should: by time, then as written.
func sorted(list []item, keep func(item) bool) []item {
	var out []item
	for _, it := range list {
		if !keep(it) {
			continue
		}
		i := len(out)
		for i > 0 && out[i-1].time > it.time {
			i--
		}
		out = append(out[:i], append([]item{it}, out[i:]...)...)
	}
	return out
}

func contents(t *testing.T, messages []*bags.Message) []item {
	t.Helper()
	var out []item
	for _, m := range messages {
		s, err := m.Decode()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, item{m.Connection.Topic, m.LogTime, s.(*msgs.String).Data})
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	list := items(7, 400)
	middle := int64(start + 2_000_000_000)
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), form.name)
			write(t, path, form.opts, form.encoding, list)
			r := open(t, path)
			for _, c := range []struct {
				name   string
				filter bags.Filter
				keep   func(item) bool
			}{
				{"all", bags.Filter{}, func(item) bool { return true }},
				{"topic", bags.Filter{Topics: []string{"/topic_1", "/absent"}}, func(i item) bool { return i.topic == "/topic_1" }},
				{"from", bags.Filter{Start: middle}, func(i item) bool { return i.time >= middle }},
				{"until", bags.Filter{End: middle, Topics: []string{"/topic_0", "/topic_2"}},
					func(i item) bool { return i.time <= middle && i.topic != "/topic_1" }},
				{"none", bags.Filter{Topics: []string{"/absent"}}, func(item) bool { return false }},
			} {
				want := sorted(list, c.keep)
				got := contents(t, read(t, r, c.filter))
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %d messages, expected %d", c.name, len(got), len(want))
				}
			}
			info := r.Info()
			if info.Messages != 400 || !info.Indexed || len(info.Connections) != 3 {
				t.Errorf("info: %+v", info)
			}
			for _, c := range info.Connections {
				if c.Type != "std_msgs/String" || c.Definition == "" || c.Encoding != form.encoding || c.Latched != (c.Topic == "/topic_0") {
					t.Errorf("connection: %+v", c)
				}
				if form.encoding == msgs.ROS1 && c.MD5 != "992ce8a1687cec8c8bd883ec73ca41d1" {
					t.Errorf("MD5 is %q", c.MD5)
				}
			}
			if w := r.Warnings(); len(w) > 0 {
				t.Error(w)
			}
		})
	}
}

// files reads all files of a bag.
func files(t *testing.T, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[d.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSameBytes(t *testing.T) {
	list := items(3, 300)
	for _, form := range forms {
		var want map[string]string
		for range 4 {
			path := filepath.Join(t.TempDir(), form.name)
			write(t, path, form.opts, form.encoding, list)
			got := files(t, path)
			if want == nil {
				want = got
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: the same messages made different bytes", form.name)
			}
		}
	}
}

func TestMergedBags(t *testing.T) {
	dir := t.TempDir()
	list := items(11, 300)
	var paths []string
	for i := range 3 {
		form := forms[2*i]
		var part []item
		for j, it := range list {
			if j%3 == i {
				part = append(part, it)
			}
		}
		path := filepath.Join(dir, form.name)
		write(t, path, form.opts, form.encoding, part)
		paths = append(paths, path)
	}
	r := open(t, paths...)
	got := contents(t, read(t, r, bags.Filter{}))
	if want := sorted(list, func(item) bool { return true }); !reflect.DeepEqual(got, want) {
		t.Errorf("%d messages, expected %d in order", len(got), len(want))
	}
	info := r.Info()
	if len(info.Connections) != 9 || info.Messages != 300 || len(info.Files) != 3 {
		t.Errorf("info: %+v", info)
	}
	for i, c := range info.Connections {
		if c.ID != i {
			t.Errorf("connection %d has ID %d", i, c.ID)
		}
	}
}

// TestMCAPPeer reads our files with the library of MCAP's authors.
func TestMCAPPeer(t *testing.T) {
	list := items(5, 200)
	for _, name := range []string{"none.mcap", "lz4.mcap", "zstd.mcap"} {
		path := filepath.Join(t.TempDir(), name)
		write(t, path, bags.WriteOptions{Compression: strings.TrimSuffix(name, ".mcap"), ChunkSize: 4096}, msgs.CDR, list)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := fox.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		it, err := r.Messages(fox.UsingIndex(true), fox.InOrder(fox.LogTimeOrder))
		if err != nil {
			t.Fatal(err)
		}
		var got []item
		for {
			s, c, m, err := it.NextInto(nil)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != "std_msgs/msg/String" || s.Encoding != "ros2msg" || c.MessageEncoding != "cdr" {
				t.Fatalf("%s: schema %s %s, message encoding %s", name, s.Name, s.Encoding, c.MessageEncoding)
			}
			var text msgs.String
			if err := msgs.CDR.Unmarshal(m.Data, &text); err != nil {
				t.Fatal(err)
			}
			got = append(got, item{c.Topic, int64(m.LogTime), text.Data})
		}
		if want := sorted(list, func(item) bool { return true }); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the peer read %d messages, %d were written", name, len(got), len(want))
		}
	}
}

// rosbagDump prints what Debian's rosbag reads of a bag.
const rosbagDump = `
import json, sys, rosbag
out = []
with rosbag.Bag(sys.argv[1]) as bag:
    for topic, raw, t in bag.read_messages(raw=True):
        out.append([topic, t.to_nsec(), raw[1][4:].decode(), raw[0], raw[2]])
json.dump(out, sys.stdout)
`

// TestROS1Peer reads our bags with Debian's rosbag.
func TestROS1Peer(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import rosbag").Run(); err != nil {
		t.Skip("Debian's rosbag is not installed: apt-get install python3-rosbag")
	}
	// In order of time: rosbag's Python reader does not sort over chunks.
	list := sorted(items(13, 150), func(item) bool { return true })
	for _, compression := range []string{"none", "lz4"} {
		path := filepath.Join(t.TempDir(), compression+".bag")
		write(t, path, bags.WriteOptions{Compression: compression, ChunkSize: 4096}, msgs.ROS1, list)
		var stderr bytes.Buffer
		cmd := exec.Command(python, "-c", rosbagDump, path)
		cmd.Stderr = &stderr
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: rosbag: %v\n%s", compression, err, stderr.Bytes())
		}
		var rows [][5]any
		if err := json.Unmarshal(text, &rows); err != nil {
			t.Fatal(err)
		}
		want := list
		if len(rows) != len(want) {
			t.Fatalf("%s: rosbag read %d messages, %d were written", compression, len(rows), len(want))
		}
		for i, row := range rows {
			if row[0] != want[i].topic || row[1] != float64(want[i].time) || row[2] != want[i].text ||
				row[3] != "std_msgs/String" || row[4] != "992ce8a1687cec8c8bd883ec73ca41d1" {
				t.Fatalf("%s: rosbag read message %d as %v, expected %v", compression, i, row, want[i])
			}
		}
		if tool, err := exec.LookPath("rosbag"); err == nil {
			if out, err := exec.Command(tool, "info", path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("150")) {
				t.Errorf("%s: rosbag info: %v\n%s", compression, err, out)
			}
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := bags.Create(filepath.Join(dir, "a.zip")); err == nil || !strings.Contains(err.Error(), ".zip") {
		t.Errorf("name: %v", err)
	}
	if _, err := bags.CreateWith(filepath.Join(dir, "a.bag"), bags.WriteOptions{Compression: "zstd"}); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("compression: %v", err)
	}
	if _, err := bags.Create(dir); err == nil {
		t.Error("an existing folder was taken")
	}
	w, err := bags.Create(filepath.Join(dir, "b.bag"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, c := range []bags.Connection{
		{Type: "std_msgs/String", Encoding: msgs.ROS1},
		{Topic: "/a", Encoding: msgs.ROS1},
		{Topic: "/a", Type: "std_msgs/String"},
		{Topic: "/a", Type: "std_msgs/String", Encoding: msgs.CDR},
		{Topic: "/a", Type: "nobody_msgs/Unknown", Encoding: msgs.ROS1},
	} {
		if _, err := w.Add(c); err == nil {
			t.Errorf("connection %+v was taken", c)
		}
	}
	c, err := w.Add(bags.Connection{Topic: "/a", Type: "std_msgs/String", Encoding: msgs.ROS1})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(c, -1, nil); err == nil {
		t.Error("a negative time was taken")
	}
	if err := bags.WriteMessage(w, c, 1, &msgs.Header{}); err == nil {
		t.Error("a message of another type was taken")
	}
	if err := w.Write(&bags.Connection{}, 1, nil); err == nil {
		t.Error("a foreign connection was taken")
	}
}
