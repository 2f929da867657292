package bags_test

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/bags/internal/recordtest"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
)

// kitchenEnd is the log time in ns of the last message of the ROS 2 kitchens.
const kitchenEnd = 1600000003975666761

func open(t *testing.T, paths ...string) bags.Reader {
	t.Helper()
	r, err := bags.OpenAll(paths...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// read returns the selected messages and checks their order.
func read(t *testing.T, r bags.Reader, f bags.Filter) []*bags.Message {
	t.Helper()
	out := recordtest.Drain(t, r, f)
	for n, m := range out {
		if n > 0 && m.LogTime < out[n-1].LogTime {
			t.Fatalf("message %d was logged at %d ns, before the one ahead of it at %d ns", n, m.LogTime, out[n-1].LogTime)
		}
	}
	return out
}

func counts(messages []*bags.Message) map[string]int {
	n := map[string]int{}
	for _, m := range messages {
		n[m.Connection.Topic]++
	}
	return n
}

type expected struct {
	NeedsReindexing bool           `json:"needs_reindexing"`
	Messages        map[string]int `json:"messages"`
	WholeRecords    map[string]int `json:"whole_records"`
	WholeChunks     map[string]int `json:"whole_chunks"`
	First, Last     int64
}

func TestOddBags(t *testing.T) {
	folder := filepath.Join(testdata.Data(t), "odd")
	var want map[string]expected
	testdata.JSON(t, filepath.Join(folder, "expected.json"), &want)
	for name, w := range want {
		t.Run(name, func(t *testing.T) {
			r := open(t, filepath.Join(folder, name))
			got := read(t, r, bags.Filter{})
			info := r.Info()
			fromInfo := map[string]int{}
			for _, c := range info.Connections {
				if c.Count > 0 {
					fromInfo[c.Topic] += int(c.Count)
				}
			}
			if n := counts(got); !reflect.DeepEqual(n, fromInfo) {
				t.Errorf("Info counts %v, the iterator gave %v", fromInfo, n)
			}
			if len(got) == 0 || info.First != got[0].LogTime || info.Last != got[len(got)-1].LogTime {
				t.Errorf("Info's times are %d to %d", info.First, info.Last)
			}
			if w.WholeChunks != nil {
				for topic, n := range w.WholeChunks {
					if counts(got)[topic] < n {
						t.Errorf("%s: %d messages, whole chunks have %d", topic, counts(got)[topic], n)
					}
				}
			} else {
				exact := w.Messages
				if w.WholeRecords != nil {
					exact = w.WholeRecords
				}
				if n := counts(got); !reflect.DeepEqual(n, exact) {
					t.Errorf("messages are %v, expected %v", n, exact)
				}
				if info.First != w.First || info.Last < w.Last {
					t.Errorf("times are %d to %d ns, expected %d to %d", info.First, info.Last, w.First, w.Last)
				}
			}
			damaged := w.NeedsReindexing || w.WholeChunks != nil
			if warned := len(r.Warnings()) > 0; warned != damaged || info.Indexed == damaged {
				t.Errorf("damaged: %v, indexed: %v, warnings: %v", damaged, info.Indexed, r.Warnings())
			}
			for _, m := range got {
				if _, err := m.Decode(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestSameContent reads the same two seconds in every form.
func TestSameContent(t *testing.T) {
	folder := filepath.Join(testdata.Data(t), "odd")
	plain := read(t, open(t, filepath.Join(folder, "plain.bag")), bags.Filter{})
	for _, name := range []string{"bz2.bag", "lz4.bag", "unindexed.bag", "zstd.mcap", "lz4.mcap", "file_zstd_db3", "file_zstd_db3/file_zstd_db3.db3.zstd",
		"message_zstd_db3", "old_db3", "old_db3/old_db3.db3", "split_db3"} {
		t.Run(name, func(t *testing.T) {
			r := open(t, filepath.Join(folder, name))
			same(t, plain, read(t, r, bags.Filter{}))
			for _, c := range r.Info().Connections {
				if c.Definition == "" || c.BuiltIn != strings.HasPrefix(name, "old") {
					t.Errorf("%s: definition of %d bytes, built in: %v", c.Topic, len(c.Definition), c.BuiltIn)
				}
				if err := msgs.Compatible(c.Type, c.Encoding, c.Definition); err != nil {
					t.Errorf("%s: %v", c.Topic, err)
				}
			}
		})
	}
}

// TestKitchen compares the kitchen's first four seconds over all formats.
func TestKitchen(t *testing.T) {
	folder := testdata.Data(t)
	want := read(t, open(t, filepath.Join(folder, "kitchen_a.bag")), bags.Filter{End: kitchenEnd})
	if len(want) != 202 {
		t.Fatalf("%d messages, expected 202", len(want))
	}
	for _, name := range []string{"kitchen_a_mcap", "kitchen_a_mcap/kitchen_a_mcap.mcap", "kitchen_a_db3", "kitchen_a_db3/kitchen_a_db3.db3"} {
		t.Run(name, func(t *testing.T) {
			r := open(t, filepath.Join(folder, name))
			same(t, want, read(t, r, bags.Filter{}))
			for _, c := range r.Info().Connections {
				hash, err := msgs.TypeHash(c.Type)
				// rosbags' MCAP files have the hashes in the metadata only.
				if bare := strings.HasSuffix(name, ".mcap"); err != nil || hash != c.Hash && !bare {
					t.Errorf("%s: type hash %q, ours is %q, %v", c.Type, c.Hash, hash, err)
				}
				if latched := c.Topic == "/tf_static" || c.Topic == "/map/points"; c.Latched != latched {
					t.Errorf("%s: latched is %v", c.Topic, c.Latched)
				}
			}
		})
	}
}

// same compares messages field by field; only Header.Seq, which ROS 2 does not
// have, is left out.
func same(t *testing.T, want, got []*bags.Message) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%d messages, expected %d", len(got), len(want))
	}
	for i := range want {
		a, b := want[i], got[i]
		if a.Connection.Topic != b.Connection.Topic || a.Connection.Type != b.Connection.Type || a.LogTime != b.LogTime {
			t.Fatalf("message %d: %s %s at %d, expected %s %s at %d", i, b.Connection.Topic, b.Connection.Type, b.LogTime,
				a.Connection.Topic, a.Connection.Type, a.LogTime)
		}
		if a.Connection.Encoding == b.Connection.Encoding {
			if !bytes.Equal(a.Data, b.Data) {
				t.Fatalf("message %d of %s differs", i, a.Connection.Topic)
			}
			continue
		}
		x, err := a.Decode()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Decode()
		if err != nil {
			t.Fatal(err)
		}
		clearSeq(reflect.ValueOf(x))
		clearSeq(reflect.ValueOf(y))
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("message %d of %s: %+v, expected %+v", i, a.Connection.Topic, y, x)
		}
	}
}

func clearSeq(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		clearSeq(v.Elem())
	case reflect.Struct:
		if h, ok := v.Addr().Interface().(*msgs.Header); ok {
			h.Seq = 0
			return
		}
		for i := range v.NumField() {
			clearSeq(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				clearSeq(v.Index(i))
			}
		}
	}
}
