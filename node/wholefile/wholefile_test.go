package wholefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// content is what lies in a folder, by name.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

func TestWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.bag")
	if err := Write(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	for _, write := range []func(made string) error{
		func(string) error { return full }, // before there is a file
		func(made string) error { return errors.Join(os.WriteFile(made, []byte("ha"), 0o644), full) },
		func(made string) error { return errors.Join(os.MkdirAll(filepath.Join(made, "sub"), 0o755), full) },
	} {
		err := Make(path, func(made string) error {
			if filepath.Ext(made) != ".bag" {
				t.Errorf("made as %s", made)
			}
			return write(made)
		})
		if !errors.Is(err, full) || !strings.Contains(err.Error(), path) {
			t.Errorf("broken off: %v", err)
		}
		if got := content(t, dir); len(got) != 1 || got["a.bag"] != "old" {
			t.Errorf("broken off: the folder has %v", got)
		}
	}
	err := Stream(path, func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("ha", 1<<17)) // more than the buffer holds
		return errors.Join(err, full)
	})
	if got := content(t, dir); !errors.Is(err, full) || len(got) != 1 || got["a.bag"] != "old" {
		t.Errorf("a stream broken off: %v, the folder has %d files", err, len(got))
	}
	if err := Make(path, func(made string) error { return os.WriteFile(made, []byte("new"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir); len(got) != 1 || got["a.bag"] != "new" {
		t.Errorf("the folder has %v", got)
	}
	// The name is taken by a folder: nothing is left behind.
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, []byte("x")); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("over a folder: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*"+Ending)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := Write(filepath.Join(dir, "missing", "f"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into no folder: %v", err)
	}
}
