package metadata

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags/internal/record"
)

func TestWriteRead(t *testing.T) {
	dir := t.TempDir()
	conns := []*record.Connection{
		{Topic: "/a", Type: "std_msgs/String", QoS: record.DefaultQoS(true), Hash: "RIHS01_00", Count: 3, First: 5, Last: 9},
		{Topic: "/b \"x\"", Type: "std_msgs/String", QoS: record.DefaultQoS(false)},
	}
	if err := Write(dir, "bag_0.mcap", conns); err != nil {
		t.Fatal(err)
	}
	b, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b.Version != written || b.Storage != "mcap" || len(b.Files) != 1 || b.Files[0] != "bag_0.mcap" || b.Messages != 3 || len(b.Topics) != 2 ||
		b.Topics[1].Metadata != (Topic{Name: "/b \"x\"", Type: "std_msgs/msg/String"}) {
		t.Errorf("read back: %+v", b)
	}
	if err := Write(dir, "bag_0.mcap", nil); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(dir); err != nil || len(b.Topics) != 0 {
		t.Errorf("without topics: %+v, %v", b, err)
	}
}

func TestRefused(t *testing.T) {
	const head = "rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths: [a.db3]\n"
	for _, c := range []struct{ text, want string }{
		{"", "rosbag2_bagfile_information"},
		{"[", ""},
		{"a: 1", "rosbag2_bagfile_information"},
		{head + "  files: " + strings.Repeat("[", 1<<20), "line 4: nested"}, // the parser would take hours
		{strings.Replace(head, "5", "99", 1), "version is 99"},
		{strings.Replace(head, "[a.db3]", "[]", 1), "relative_file_paths"},
		{head + "  compression_mode: pages\n", "\"pages\""},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestPath(t *testing.T) {
	for in, want := range map[string]string{"a.db3": "bag/a.db3", "old/a.db3": "bag/a.db3", "../../etc/passwd": "bag/passwd", "/etc/passwd": "bag/passwd"} {
		if got := Path("bag", in); got != filepath.FromSlash(want) {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths:\n    - a.db3\n  topics_with_message_count:\n    - topic_metadata:\n        name: /a\n"))
	f.Add([]byte("rosbag2_bagfile_information: &a\n  version: 5\n  files: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := Parse(text); err == nil && (b == nil || len(b.Files) == 0) {
			t.Errorf("taken: %+v", b)
		}
	})
}
