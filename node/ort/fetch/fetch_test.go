package fetch

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExtractAndVerify(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, name := range []string{"package/other", "package/lib.so"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: 3, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
	}
	tw.Close()
	gz.Close()
	var w bytes.Buffer
	zw := zip.NewWriter(&w)
	f, err := zw.Create("package/lib.so")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	zw.Close()
	for name, data := range map[string][]byte{"a.tgz": b.Bytes(), "a.whl": w.Bytes()} {
		archive, out := filepath.Join(dir, name), filepath.Join(dir, "out")
		if err := os.WriteFile(archive, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := extract(archive, "package/lib.so", out); err != nil {
			t.Fatal(err)
		}
		if err := verify(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); err != nil {
			t.Error(err)
		}
		if err := verify(out, strings.Repeat("0", 64)); err == nil {
			t.Error("a wrong checksum was accepted")
		}
		if err := extract(archive, "package/missing", out); err == nil {
			t.Errorf("%s: a missing member was found", name)
		}
	}
}

func TestNoClient(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("STLLM_CACHE", t.TempDir())
	t.Setenv("STLLM_ONNXRUNTIME", "")
	var out bytes.Buffer
	err := Library(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "pip is not installed") || !strings.Contains(err.Error(), "npm is not installed") {
		t.Errorf("%v", err)
	}
	path := filepath.Join(t.TempDir(), "libonnxruntime.so")
	t.Setenv("STLLM_ONNXRUNTIME", path)
	if err := Library(t.Context(), &out); err == nil {
		t.Error("a library that is not there was accepted")
	}
}

// The wheel's library gets the name by which others ask for it; what does not have its checksum is refused.
func TestWheelMembers(t *testing.T) {
	s, sums := gpuWheel()
	if s.Version == "" || len(sums) != 3 {
		t.Fatalf("%+v, %d members", s, len(sums))
	}
	for member, sum := range sums {
		if len(sum) != 64 {
			t.Errorf("%s has the checksum %q", member, sum)
		}
		if strings.Contains(member, "libonnxruntime.so") && suffix(member) != ".1" || strings.Contains(member, "providers") && suffix(member) != "" {
			t.Errorf("%s ends as %q", member, suffix(member))
		}
	}
	t.Setenv("PATH", t.TempDir())
	t.Setenv("STLLM_CACHE", t.TempDir())
	var out bytes.Buffer
	if err := GPU(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "pip is not installed") && !strings.Contains(err.Error(), "no published GPU build") {
		t.Errorf("%v", err)
	}
}
