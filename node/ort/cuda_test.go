package ort

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a driver the error says so; with one it names the libraries that are missing and how to get them.
func TestMissingCUDA(t *testing.T) {
	t.Setenv("STLLM_CACHE", t.TempDir())
	t.Setenv("STLLM_CUDA_LIBS", "")
	err := needCUDA()
	switch driver := dlopen("libcuda.so.1") == nil; {
	case err == nil && !driver:
		t.Error("no driver, and no error")
	case err != nil && !driver && !strings.Contains(err.Error(), "no NVIDIA driver"):
		t.Error(err)
	case err != nil && driver && !strings.Contains(err.Error(), "stllm setup --gpu"):
		t.Error(err)
	}
}

// A library that is there and cannot be loaded is an error, not one that is missing.
func TestBrokenCUDA(t *testing.T) {
	if dlopen("libcudart.so.13") == nil {
		t.Skip("this machine's own libcudart.so.13 is found first")
	}
	dir := t.TempDir()
	t.Setenv("STLLM_CACHE", t.TempDir())
	t.Setenv("STLLM_CUDA_LIBS", "/nonexistent:"+dir)
	if err := os.WriteFile(filepath.Join(dir, "libcudart.so.13"), []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	missing, err := LoadCUDA()
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	for _, l := range missing {
		if l.Name == "libcudart.so.13" {
			t.Error("a broken library counts as missing")
		}
	}
}

// The GPU build is taken where set-up has put one.
func TestFindPrefersTheGPUBuild(t *testing.T) {
	t.Setenv("STLLM_CACHE", t.TempDir())
	t.Setenv("STLLM_ONNXRUNTIME", "")
	for _, path := range []func() (string, error){LibraryPath, GPULibraryPath} {
		want, err := path()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(want, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Find(); got != want || err != nil {
			t.Errorf("%s, %v, expected %s", got, err, want)
		}
	}
}

// A device that is not there is an error before any work is done for it.
func TestCheckDevice(t *testing.T) {
	env, err := OpenDefault()
	if err != nil {
		t.Skip(err)
	}
	for _, device := range []string{"", "cpu"} {
		if err := CheckDevice(env, device); err != nil {
			t.Errorf("%q: %v", device, err)
		}
	}
	for device, want := range map[string]string{"tpu": "expected cpu, cuda or cuda:N", "cuda:7": "device cuda:7: "} {
		if err := CheckDevice(env, device); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", device, err, want)
		}
	}
}
