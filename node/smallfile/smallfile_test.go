package smallfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, size := range []int{0, 1, 10} {
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(path, 10); err != nil || len(b) != size {
			t.Errorf("%d bytes: read %d, %v", size, len(b), err)
		}
	}
	if _, err := Read(path, 9); err == nil || !strings.Contains(err.Error(), "expected at most 9") {
		t.Errorf("too large: %v", err)
	}
	if _, err := Read(path+"x", 9); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Read(t.TempDir(), 1<<20); err == nil {
		t.Error("a folder was read")
	}
	for _, device := range []string{"/dev/zero", "/proc/self/status"} { // without an end; without a size
		if _, err := os.Stat(device); err != nil {
			continue
		}
		b, err := Read(device, 1<<16)
		if endless := device == "/dev/zero"; endless != (err != nil) || !endless && len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", device, len(b), err)
		}
	}
}
