package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	foreign "github.com/stllm/stllm/node/transport/ros2/peers"
)

// cyclonePython is a Python with CycloneDDS.
func cyclonePython(t *testing.T) string {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	return foreign.CyclonePython(t)
}

// manage lets a manager on another DDS implementation drive a node, and returns what it said by its first word.
func manage(t *testing.T, domain string, node []string, words ...string) map[string][]string {
	t.Helper()
	python := cyclonePython(t)
	t.Setenv("ROS_DOMAIN_ID", domain)
	t.Setenv("ROS_LOCALHOST_ONLY", "1")
	t.Setenv("ROS_DISTRO", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log bytes.Buffer
	end := make(chan int, 1)
	go func() {
		defer cancel() // a manager without a node has nothing to do
		args := []string{"node", "--transport", "ros2", "--ros-args", "-r", "__node:=eyes", "-r", "__ns:=/robot1", "-p", "autostart:=false"}
		end <- run(ctx, append(args, node...), strings.NewReader(""), io.Discard, &log)
	}()
	manager := cycloneCommand(ctx, python, append([]string{"testdata/manager.py", "/robot1/eyes", "60"}, words...)...)
	out, err := manager.Output()
	cancel()
	code := <-end
	if code != exitOK {
		t.Fatalf("the node ended with %d: %s", code, log.String())
	}
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		t.Fatalf("%v\n%s\nnode: %s", err, out, log.String())
	}
	said := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var words []json.RawMessage
		if err := json.Unmarshal([]byte(line), &words); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var what string
		if err := json.Unmarshal(words[0], &what); err != nil {
			t.Fatal(err)
		}
		said[what] = append(said[what], strings.TrimSuffix(strings.TrimPrefix(line, `["`+what+`", `), "]\n"))
	}
	return said
}

// A node whose model cannot be loaded stays unconfigured, as ROS 2 has it when on_configure fails, and says why; it can be shut down.
func TestForeignManagerOfMissingModel(t *testing.T) {
	said := manage(t, "92", []string{"-p", "model:=/nonexistent/model"}, "broken")
	if want := []string{`1, false, ["unconfigured"]`, `3, false, ["unconfigured"]`, `0, false, ["unconfigured"]`, `5, true, ["finalized"]`}; !slices.Equal(said["change"], want) {
		t.Errorf("changes %q, expected %q", said["change"], want)
	}
	if !slices.ContainsFunc(said["log"], func(s string) bool {
		return strings.HasPrefix(s, fmt.Sprintf(`%d, "robot1.eyes", "lifecycle: configure failed`, msgs.LogError)) && strings.Contains(s, "/nonexistent/model")
	}) {
		t.Errorf("no error that names the folder on /rosout: %q", said["log"])
	}
	// The first events may be from before this reader was found.
	whole := []string{`"unconfigured", "configure", "configuring"`, `"configuring", "transition_failure", "unconfigured"`, `"unconfigured", "configure", "configuring"`,
		`"configuring", "transition_failure", "unconfigured"`, `"unconfigured", "shutdown", "shuttingdown"`, `"shuttingdown", "transition_success", "finalized"`}
	if n := len(said["event"]); n < 4 || n > len(whole) || !slices.Equal(said["event"], whole[len(whole)-n:]) {
		t.Errorf("events %q", said["event"])
	}
}

// A manager on another DDS implementation reads and sets parameters, takes the node through its life, and hears what the node
// tells.
func TestForeignManager(t *testing.T) {
	said := manage(t, "93", nil)
	for what, want := range map[string][]string{
		"state":       {`"unconfigured"`},
		"transitions": {`[[1, "configure", "configuring"], [5, "shutdown", "shuttingdown"]]`},
		"graph":       {"25"},
		"values":      {`[0, "map", null, false, 1.0]`, "[4, 0.5]"},
		"descriptors": {`[["frames", 2, false, false, [[0, 1024]]], ["tf_timeout", 3, false, false, [[0.0, 60.0]]], ["model", 4, true, false, []]]`},
		"atomically":  {`false, "parameter top_p is -1.0, expected a number, 0 to 1"`},
		"change":      {`3, false, ["unconfigured"]`, `1, true, ["inactive"]`, `3, true, ["active"]`, `4, true, ["inactive"]`, `2, true, ["unconfigured"]`, `0, true, ["inactive"]`, `6, true, ["finalized"]`},
	} {
		if !slices.Equal(said[what], want) {
			t.Errorf("%s: %q\nexpected %q", what, said[what], want)
		}
	}
	var names []string
	if err := json.Unmarshal([]byte(said["names"][0]), &names); err != nil || len(names) != len(params.Names()) {
		t.Errorf("%d names (%v)", len(names), err)
	}
	if s := said["set"]; len(s) != 1 || !strings.HasPrefix(s[0], `[[true, ""], [false, "parameter frames is of type integer, found double"], [false, "parameter top_p is 2.0`) || !strings.HasSuffix(s[0], `[true, ""]]`) {
		t.Errorf("set: %q", s)
	}
	// The first events may be from before this reader was found; from the first one on none is missing.
	whole := []string{"unconfigured configure configuring", "configuring transition_success inactive", "inactive activate activating", "activating transition_success active",
		"active deactivate deactivating", "deactivating transition_success inactive", "inactive cleanup cleaningup", "cleaningup transition_success unconfigured",
		"unconfigured configure configuring", "configuring transition_success inactive", "inactive shutdown shuttingdown", "shuttingdown transition_success finalized"}
	events := make([]string, len(said["event"]))
	for i, e := range said["event"] {
		events[i] = strings.NewReplacer(`"`, "", ",", "").Replace(e)
	}
	if n := len(events); n < 8 || n > len(whole) || !reflect.DeepEqual(events, whole[len(whole)-n:]) {
		t.Errorf("events %q", events)
	}
	if b := said["bond"]; len(b) < 2 || b[0] != `"eyes", true` || b[len(b)-1] != `"eyes", false` {
		t.Errorf("bond %q", b)
	}
	if p := said["parameters"]; len(p) == 0 || p[len(p)-1] != `"/robot1/eyes", 0, [["top_p", 0.5]]` {
		t.Errorf("parameter events %q", p)
	}
	if !slices.ContainsFunc(said["log"], func(s string) bool {
		return strings.HasPrefix(s, fmt.Sprintf(`%d, "robot1.eyes", "unconfigured: waiting`, msgs.LogInfo)) // from before the reader
	}) {
		t.Errorf("log %q", said["log"])
	}
}
