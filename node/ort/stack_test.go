package ort

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The library opens however long the process's command line is: here half a MB, of the 2 that Linux admits.
func TestLongCommandLine(t *testing.T) {
	env(t)
	args := []string{"-test.run=^TestOutputsInPlace$"}
	for range 4 {
		args = append(args, strings.Repeat("a", 120_000))
	}
	out, err := exec.CommandContext(t.Context(), os.Args[0], args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %.600s", err, out)
	}
}
