package msgs_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
)

// What genpy (ROS 1) and rosbags (CDR) have written is read, and written again byte for byte; sums of genpy are ours.
// testdata/golden.py makes the files.
func TestForeignBytes(t *testing.T) {
	for file, e := range map[string]msgs.Encoding{"ros1.txt": msgs.ROS1, "cdr.txt": msgs.CDR} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		checked := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				t.Fatalf("%s: line %q", file, line)
			}
			typ := ros2Name(f[0])
			if f[1] != "-" {
				if sum, err := msgs.MD5(typ); err == nil && sum != f[1] {
					t.Errorf("%s: MD5 sum %s, genpy has %s", typ, sum, f[1])
				}
			}
			m, ok := msgs.New(typ)
			if !ok {
				continue // not one of ours
			}
			checked[msgs.Key(typ)] = true
			data := []byte{}
			if f[2] != "-" {
				if data, err = hex.DecodeString(f[2]); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
			}
			again(t, e, typ, data, m)
		}
		// Nothing of ours is left out, but for what the sources do not have.
		for _, key := range msgs.Definitions(e).Keys() {
			if _, ok := msgs.New(key); ok && !checked[key] {
				t.Errorf("%s: no golden message of %s", file, key)
			}
		}
	}
}

// ros2Name turns genpy's names of parts into those of this package.
func ros2Name(typ string) string {
	pkg, name, _ := strings.Cut(typ, "/")
	for _, base := range []string{"Ask", "PlanAction", "Trigger", "Empty", "SetBool"} {
		for _, part := range []string{"Request", "Response", "Goal", "Result", "Feedback"} {
			if name == base+part {
				return pkg + "/" + base + "_" + part
			}
		}
	}
	return typ
}

func again(t *testing.T, e msgs.Encoding, typ string, data []byte, m msgs.Message) {
	t.Helper()
	if err := e.Unmarshal(data, m); err != nil {
		t.Errorf("%s: %v", typ, err)
		return
	}
	got, err := e.Marshal(m)
	if err != nil {
		t.Errorf("%s: %v", typ, err)
		return
	}
	// Writers of CDR differ in whether they pad the end to 4 bytes.
	if e == msgs.CDR {
		for len(data)%4 != 0 {
			data = append(data[:len(data):len(data)], 0)
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%s %s: written again it differs\n%x\nexpected\n%x", e, typ, got, data)
	}
}

// Every message of the kitchen's bags goes through decode and encode unchanged, in both generations, and what the bags say of
// their types is what we say.
func TestGoldenKitchen(t *testing.T) {
	for _, bag := range []string{"kitchen_a.bag", "kitchen_a_mcap", "kitchen_a_db3"} {
		t.Run(bag, func(t *testing.T) {
			r, err := bags.Open(testdata.Data(t, bag))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for _, c := range r.Info().Connections {
				if c.Encoding == msgs.ROS1 {
					if sum, err := msgs.MD5(c.Type); err != nil || sum != c.MD5 {
						t.Errorf("%s: MD5 sum %s (%v), the bag has %s", c.Type, sum, err, c.MD5)
					}
					if err := msgs.Compatible(c.Type, c.Encoding, c.MD5); err != nil {
						t.Error(err)
					}
				} else if c.Hash != "" {
					if hash, err := msgs.TypeHash(c.Type); err != nil || hash != c.Hash {
						t.Errorf("%s: type hash %s (%v), the bag has %s", c.Type, hash, err, c.Hash)
					}
				}
				if err := msgs.Compatible(c.Type, c.Encoding, c.Definition); err != nil {
					t.Error(err)
				}
			}
			it := r.Messages(bags.Filter{})
			defer it.Close()
			n := 0
			for ; ; n++ {
				m, err := it.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				msg, ok := msgs.New(m.Connection.Type)
				if !ok {
					t.Fatalf("no type %s", m.Connection.Type)
				}
				again(t, m.Connection.Encoding, m.Connection.Type, m.Data, msg)
			}
			if n < 200 {
				t.Errorf("%d messages, expected 202 and more", n)
			}
		})
	}
}
