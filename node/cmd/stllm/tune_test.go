package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/ort/orttest"
)

// stllmRun runs the program in this process.
func stllmRun(t *testing.T, args ...string) (code int, out, msg string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// What a user does: a bag becomes REA items, a checkpoint of the published layout is fine-tuned on them, and the result is
// inspected and asked. One item has lost its pictures and one its answer: both are named.
func TestTrainOnItems(t *testing.T) {
	orttest.Environment(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	k, err := kitchen.Generate(kitchen.Options{Seed: 3, Seconds: 8, Rate: 4, Width: 96, Height: 72, MapEdge: 0.1, Quiz: quiz.Options{Count: 6, Windows: 2}})
	if err != nil {
		t.Fatal(err)
	}
	if err := kitchen.Write(t.Context(), k, at("k.bag"), nil); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) (string, string) {
		t.Helper()
		code, out, msg := stllmRun(t, args...)
		if code != exitOK {
			t.Fatalf("%s: code %d\n%s%s", strings.Join(args, " "), code, out, msg)
		}
		return out, msg
	}
	must("rea", "export", at("k.bag"), "--out", at("rea"), "--frames", "4")
	must("model", "init", at("tiny"), "--config", "published-tiny")
	spoil(t, at("rea/items.json"))
	train := []string{"train", "--init", at("tiny"), "--items", "rea:" + at("rea/items.json"), "--out", at("out"), "--steps", "tune=4", "--accumulate", "2", "--threads", "1"}
	out, msg := must(train...)
	for _, want := range []string{"tune    step     4/4", "of 4 steps", "2 of ", "were left out", at("out/model")} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, want := range []string{"reference answer is empty", "video: "} {
		if strings.Count(msg, want) != 1 {
			t.Errorf("expected %q once in\n%s", want, msg)
		}
	}
	if out, _ := must(train...); !strings.Contains(out, "4 of 4 steps are done") {
		t.Errorf("once more: %s", out)
	}
	must("model", "init", at("other"), "--config", "published-tiny", "--seed", "9")
	train[slices.Index(train, "--init")+1] = at("other")
	if code, _, msg := stllmRun(t, train...); code != exitError || !strings.Contains(msg, "begun from "+at("tiny")) {
		t.Errorf("from another model: code %d\n%s", code, msg)
	}
	if out, _ := must("model", "info", at("out/model")); !strings.Contains(out, "model-00002-of-00002.safetensors") {
		t.Errorf("info:\n%s", out)
	}
	must("ask", at("k.bag"), "Where is the fridge?", "--model", at("out/model"), "-p", "max_new_tokens=4", "--threads", "1")
	must("eval", "--items", at("rea/items.json"), "--model", at("out/model"), "--out", at("eval"), "-p", "max_new_tokens=4", "--threads", "1")
}

// spoil takes the answer from the first item and the pictures from the second.
func spoil(t *testing.T, list string) {
	t.Helper()
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	var items []map[string]any
	if err := json.Unmarshal(data, &items); err != nil || len(items) < 4 {
		t.Fatalf("%d items: %v", len(items), err)
	}
	items[0]["conversations"].([]any)[1].(map[string]any)["value"] = " "
	items[1]["video"] = "gone"
	if data, err = json.Marshal(items); err == nil {
		err = os.WriteFile(list, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A command line that cannot be meant is refused with what to do instead.
func TestTrainRefuses(t *testing.T) {
	dir := t.TempDir()
	items := filepath.Join(dir, "items.json")
	if err := os.WriteFile(items, []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--data is needed":                                   {},
		"--accumulate is for training":                       {"--data", dir, "--accumulate", "2"},
		"--data is for training":                             {"--data", dir, "--items", "rea:" + items, "--init", dir},
		"--items needs --init":                               {"--items", "rea:" + items},
		"expected a list of REA items":                       {"--items", "k.bag", "--init", "tiny"},
		"expected one of points, vision, align, joint, tune": {"--items", "rea:" + items, "--steps", "tuen=3"},
		"with --items there is tune alone":                   {"--items", "rea:" + items, "--steps", "joint=3"},
		"without it there are points":                        {"--data", dir, "--steps", "tune=3"},
		"at least one step":                                  {"--items", "rea:" + items, "--steps", "tune=0"},
		"--kitchens is 0, expected at least 1":               {"--data", dir, "--kitchens", "0"},
		"--kitchens is -2, expected at least 1":              {"--data", dir, "--kitchens", "-2"},
		"--held-out is 0, expected at least 1":               {"--data", dir, "--held-out", "0"},
		"--seed is 0, expected at least 1":                   {"--data", dir, "--seed", "0"},
		"--threads is -3, expected 0 or more":                {"--data", dir, "--threads", "-3"},
		"--rate is -1, expected more than 0":                 {"--items", "rea:" + items, "--rate", "-1"},
		"--accumulate is 0, expected at least 1":             {"--items", "rea:" + items, "--accumulate", "0"},
		"--feature-cache is -1 GB":                           {"--items", "rea:" + items, "--feature-cache", "-1"},
	} {
		args := append([]string{"train", "--out", filepath.Join(dir, "out")}, args...)
		if want == "expected a list of REA items" {
			if code, _, msg := stllmRun(t, "model", "init", filepath.Join(dir, "tiny"), "--config", "published-tiny"); code != exitOK {
				t.Fatal(msg)
			}
			args[len(args)-1] = filepath.Join(dir, "tiny")
		}
		code, _, msg := stllmRun(t, args...)
		if code != exitUsage || !strings.Contains(msg, want) {
			t.Errorf("%v: code %d, %q, expected %q", args, code, msg, want)
		}
	}
}
