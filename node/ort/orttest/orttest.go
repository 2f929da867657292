// Package orttest opens ONNX Runtime for the tests of other packages.
package orttest

import (
	"errors"
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
