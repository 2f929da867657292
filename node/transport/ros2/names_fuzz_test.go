package ros2

import (
	"strings"
	"testing"
)

// USER_DATA and topic names come from any participant.
func FuzzDiscovered(f *testing.F) {
	f.Add("enclave=/;typehash=RIHS01_ab;", "rq/a/bRequest")
	f.Add("typehash=;;=x;typehash", "rt")
	f.Fuzz(func(t *testing.T, data, topic string) {
		if v := userValue(data, "typehash"); v != "" && !strings.Contains(data, "typehash="+v) {
			t.Errorf("%q of %q", v, data)
		}
		if name := rosName(topic); !strings.HasSuffix(topic, name) {
			t.Errorf("%q of %q", name, topic)
		}
	})
}
