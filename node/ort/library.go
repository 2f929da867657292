// Package ort runs models through ONNX Runtime: it finds the library, makes sessions from graphs and moves tensors. It stands
// on onnxruntime_go, whose environment is one for the whole process.
package ort

/*
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
static void trim(void) { malloc_trim(0); }
#else
static void trim(void) {}
#endif
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/stllm/stllm/node/graph"
)

// Version is the release of ONNX Runtime that is fetched and tested.
const Version = "1.30.0"

// CacheDir is where fetched files lie: STLLM_CACHE, or the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("STLLM_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder: %w (set STLLM_CACHE)", err)
	}
	return filepath.Join(dir, "stllm"), nil
}

// Platform is "linux-x64" or "linux-arm64".
func Platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// LibraryPath is where set-up puts the library.
func LibraryPath() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "onnxruntime", Version, Platform(), "libonnxruntime.so.1"), nil
}

// MissingError says that the library is not there and how to get it.
type MissingError struct{ Path string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("ONNX Runtime is not at %s; run `stllm setup` (or make setup), or set STLLM_ONNXRUNTIME to a libonnxruntime.so", e.Path)
}

// Find returns the library to load: STLLM_ONNXRUNTIME, or what set-up has fetched. Where that is both, it is the GPU build,
// which computes on the CPU as well.
func Find() (string, error) {
	if path := os.Getenv("STLLM_ONNXRUNTIME"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("STLLM_ONNXRUNTIME: %w", err)
		}
		return path, nil
	}
	path, err := GPULibraryPath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if path, err = LibraryPath(); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", &MissingError{path}
	}
	return path, nil
}

// Environment is the loaded library. The process has one; Open gives it out as often as it is asked for.
type Environment struct{ path string }

// Path is the library file.
func (e *Environment) Path() string { return e.path }

// RuntimeVersion is what the library says of itself.
func (e *Environment) RuntimeVersion() string { return ort.GetVersion() }

// open is the process's environment: the C library has global state, so there can be only one.
var open struct {
	sync.Mutex
	env *Environment
}

// Open loads the library, or returns the one that is loaded already.
func Open(path string) (*Environment, error) {
	open.Lock()
	defer open.Unlock()
	if open.env != nil {
		if real(open.env.path) != real(path) {
			return nil, fmt.Errorf("ONNX Runtime is loaded from %s already, it cannot be loaded from %s as well", open.env.path, path)
		}
		return open.env, nil
	}
	ort.SetSharedLibraryPath(path)
	if err := onStack(openingStack, func() error { return ort.InitializeEnvironment(ort.WithLogLevelError()) }); err != nil {
		if strings.Contains(err.Error(), "API") {
			err = fmt.Errorf("%w (version %s is needed)", err, Version)
		}
		return nil, fmt.Errorf("load ONNX Runtime from %s: %w", path, err)
	}
	open.env = &Environment{path: path}
	return open.env, nil
}

// OpenDefault loads the library that Find finds.
func OpenDefault() (*Environment, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	return Open(path)
}

func real(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	return path
}

// Device names an execution provider.
type Device string

// The devices.
const (
	CPU  Device = "cpu"
	CUDA Device = "cuda"
)

// ParseDevice reads "cpu", "cuda" or "cuda:1".
func ParseDevice(s string) (d Device, index string, err error) {
	name, index, _ := strings.Cut(s, ":")
	switch d = Device(name); d {
	case CPU, CUDA:
		if index == "" {
			index = "0"
		}
		return d, index, nil
	}
	return "", "", fmt.Errorf("device is %q, expected cpu, cuda or cuda:N", s)
}

// OnCUDA tells whether a device that an option names is a GPU; "" is the processor.
func OnCUDA(device string) bool {
	d, _, err := ParseDevice(device)
	return err == nil && d == CUDA
}

// CheckDevice makes a session of one operator there, so that a device that cannot be used is known before work is done for it.
func CheckDevice(env *Environment, device string) error {
	if device == "" {
		return nil
	}
	if d, _, err := ParseDevice(device); err != nil || d == CPU {
		return err
	}
	g := graph.New("device")
	x := g.Input("x", graph.Float32, graph.D(1))
	g.Output("y", g.Add(x, x))
	m, err := g.Model()
	if err != nil {
		return err
	}
	s, err := NewSession(env, m, Options{Device: device})
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	return s.Close()
}

// Trim gives memory back that ONNX Runtime has freed and the C library keeps: making sessions takes much more than they keep. It
// takes milliseconds.
func Trim() { C.trim() }

// errNoEnvironment says that a session was asked for before Open.
var errNoEnvironment = errors.New("ONNX Runtime is not loaded: call ort.Open first")
