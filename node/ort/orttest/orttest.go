// Package orttest opens ONNX Runtime for the tests of other packages.
package orttest

import (
	"errors"
	"os"
	"testing"

	"github.com/stllm/stllm/node/ort"
)

// Environment opens the library, or skips the test where it is not installed. A library that does not open is a failure.
func Environment(t testing.TB) *ort.Environment {
	t.Helper()
	env, err := ort.OpenDefault()
	var missing *ort.MissingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// Device is where tests run that can run on any device: STLLM_TEST_DEVICE, or the CPU.
func Device() string { return os.Getenv("STLLM_TEST_DEVICE") }
