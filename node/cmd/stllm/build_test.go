package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// The program built without Fast DDS says what to install when it is asked for ROS 2, and reads bags all the same.
func TestBuildWithoutFastDDS(t *testing.T) {
	if os.Getenv("STLLM_LONG") == "" {
		t.Skip("links the program once more: set STLLM_LONG=1")
	}
	bag := testdata.Data(t, "kitchen_a_mcap")
	program := filepath.Join(t.TempDir(), "stllm")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"node", "--transport", "ros2"}, {"bag", "play", bag, "--transport", "ros2"}} {
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "built without Fast DDS") || !strings.Contains(string(out), "apt-get install libfastrtps-dev libfastcdr-dev") {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), program, "bag", "info", bag).CombinedOutput(); err != nil || !strings.Contains(string(out), "/map/points") {
		t.Errorf("bag info: %v, %s", err, out)
	}
}
