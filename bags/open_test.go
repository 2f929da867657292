package bags_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
)

func TestFolderWithoutMetadata(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	list := items(17, 120)
	write(t, filepath.Join(dir, "bag_9.mcap"), bags.WriteOptions{}, msgs.CDR, list[:60])
	write(t, filepath.Join(dir, "bag_10.mcap"), bags.WriteOptions{}, msgs.CDR, list[60:])
	r := open(t, dir)
	got := contents(t, read(t, r, bags.Filter{}))
	if want := sorted(list, func(item) bool { return true }); !reflect.DeepEqual(got, want) {
		t.Errorf("%d messages, expected %d", len(got), len(want))
	}
	if info := r.Info(); len(info.Connections) != 3 || info.Path != dir {
		t.Errorf("info: %+v", info)
	}
	if w := r.Warnings(); len(w) != 1 || !strings.Contains(w[0].String(), "metadata.yaml") {
		t.Errorf("warnings: %v", w)
	}
	// One file lost: the other is read.
	if err := os.WriteFile(filepath.Join(dir, "bag_9.mcap"), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir)
	if n := len(read(t, r, bags.Filter{})); n != 60 || len(r.Warnings()) != 2 {
		t.Errorf("%d messages, warnings %v", n, r.Warnings())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const head = "rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths: [a.db3]\n"
	for path, want := range map[string]string{
		filepath.Join(dir, "absent"):                   "no such file",
		file("empty", ""):                              "empty",
		file("zip", "PK\x03\x04"):                      "neither a ROS 1 bag",
		file("old.bag", "#ROSBAG V1.2\nabc"):           "V1.2",
		file("new.mcap", "\x89MCAP1\r\nabc"):           "version",
		filepath.Dir(file("nobag/readme", "x")):        "not a bag",
		filepath.Dir(file("lost/metadata.yaml", head)): "a.db3",
		filepath.Dir(file("yaml/metadata.yaml", "[")):  "metadata.yaml",
		filepath.Dir(file("lzma/metadata.yaml", head+"  compression_mode: file\n  compression_format: lzma\n")): "lzma",
	} {
		if _, err := bags.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", path, err, want)
		}
	}
	if _, err := bags.OpenAll(); err == nil {
		t.Error("no bag was taken")
	}
}
