// Package testdata finds the folders of golden vectors and trial data that lie beside the repository, for tests only.
package testdata

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Golden returns the folder of golden vectors (STLLM_GOLDEN, default ../shared/golden beside the repository) joined with
// parts, or skips the test with a message that says what is missing.
func Golden(t testing.TB, parts ...string) string {
	t.Helper()
	return find(t, "STLLM_GOLDEN", "golden", parts)
}

// Data returns the folder of trial data (STLLM_DATA, default ../shared/data beside the repository) joined with parts, or
// skips the test.
func Data(t testing.TB, parts ...string) string {
	t.Helper()
	return find(t, "STLLM_DATA", "data", parts)
}

// Root returns the repository root: the nearest folder upwards with a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// Long skips the test unless STLLM_LONG=1 (make test-long).
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv("STLLM_LONG") == "" {
		t.Skip("long test: set STLLM_LONG=1 or run make test-long")
	}
}

// GoldenFiles returns the golden files whose names fit a pattern (as in [filepath.Match]) in a folder of the golden vectors, or
// skips the test where there are none.
func GoldenFiles(t testing.TB, folder, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Golden(t, folder), pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no %s in golden/%s", pattern, folder)
	}
	return files
}

// JSON decodes a whole file.
func JSON(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func find(t testing.TB, env, name string, parts []string) string {
	t.Helper()
	base := os.Getenv(env)
	if base == "" {
		base = filepath.Join(Root(t), "..", "shared", name)
	} else if !filepath.IsAbs(base) {
		// go test changes into the package folder, so a relative setting is meant from the root.
		base = filepath.Join(Root(t), base)
	}
	path := filepath.Join(append([]string{base}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there: set %s to the folder that holds it", path, env)
	}
	return path
}
