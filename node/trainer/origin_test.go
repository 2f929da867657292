package trainer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder goes on with the model that it was begun from, or with none named, and with no other.
func TestOrigin(t *testing.T) {
	dir := t.TempDir()
	folder := func(name, weights string) string {
		t.Helper()
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"config.json": "{}", "model.safetensors": weights} {
			if err := os.WriteFile(filepath.Join(to, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	long := strings.Repeat("w", 3*originEdge)
	first := folder("first", long)
	k := newKeeper(filepath.Join(dir, "out"))
	if err := k.sameOrigin(first); err != nil {
		t.Errorf("a folder without a note: %v", err)
	}
	if err := k.begun(first); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, want string }{
		"the same":        {first, ""},
		"a copy of it":    {folder("copy", long), ""},
		"none":            {"", ""},
		"another ending":  {folder("other", long[:len(long)-1]+"x"), "begun from " + first},
		"another size":    {folder("short", "w"), "is another model"},
		"one that is not": {filepath.Join(dir, "none"), "name that folder or none"},
	} {
		err := k.sameOrigin(c.from)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, expected %q", name, err, c.want)
		}
	}
	if err := k.begun(filepath.Join(dir, "none")); err == nil {
		t.Error("begun from a folder that is not there")
	}
}
