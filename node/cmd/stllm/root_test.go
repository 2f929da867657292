package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A wrong command line says what was expected and ends with the code of wrong command lines; a command that has others below it
// shows them.
func TestUsage(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for want, args := range map[string][]string{
		`stllm has no command "foo", expected one of`:              {"foo"},
		`stllm model has no command "foo", expected one of export`: {"model", "foo"},
		`stllm rea has no command "foo"`:                           {"rea", "foo"},
		`stllm bag has no command "foo"`:                           {"bag", "foo"},
		`stllm bench has no command "foo"`:                         {"bench", "foo"},
		"--out is needed":                                          {"train", "--data", none},
		"--llm is needed":                                          {"chat"},
		"--count is 0, expected at least 1":                        {"rea", "generate", "k.bag", "--out", none, "--count", "0"},
		"no such file or directory; expected a REA list":           {"eval", "--out", none, "--items", "foo:" + none},
		"is no range of seeds":                                     {"eval", "--out", none, "--items", "kitchens:9..3"},
		"--kitchen-questions is 0, expected more than 0":           {"rea", "export", "kitchens:1..2", "--out", none, "--kitchen-questions", "0"},
		"--peer: ": {"bench", "answer", "nano", "--peer", none},
	} {
		if code, _, msg := stllmRun(t, args...); code != exitUsage || !strings.Contains(msg, want) {
			t.Errorf("%v: code %d, %q, expected %q", args, code, msg, want)
		}
	}
	for _, args := range [][]string{{}, {"model"}, {"rea"}, {"bag"}, {"bench"}} {
		if code, out, msg := stllmRun(t, append([]string{}, args...)...); code != exitOK || !strings.Contains(out, "Available Commands:") {
			t.Errorf("%v: code %d, %s%s", args, code, out, msg)
		}
	}
}

// Memory is told of in the unit that other commands use.
func TestMemoryLine(t *testing.T) {
	mem := "MemTotal:       16384000 kB\nMemFree:  1 kB\nMemAvailable:    8192000 kB\n"
	for kind, want := range map[string]string{"MemTotal": gigabytes(16384000 << 10), "MemAvailable": gigabytes(8192000 << 10), "Swap": "?"} {
		if got := memoryLine(mem, kind); got != want {
			t.Errorf("%s: %s, expected %s", kind, got, want)
		}
	}
}
