package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// On the command line 0 is none, which the library writes as a negative number, and what was said is part of the name.
func TestKitchenFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		noise   float64
		changed string
	}{
		"nothing said": {nil, 2, ""},
		"none":         {[]string{"--kitchen-image-noise", "0"}, -1, "image-noise 0"},
		"others":       {[]string{"--kitchen-rate=5", "--other=1", "--kitchen-pose-noise", "0.02"}, 2, "pose-noise 0.02, rate 5"},
	} {
		var k kitchenFlags
		set := pflag.NewFlagSet("test", pflag.ContinueOnError)
		set.Int("other", 0, "")
		k.add(set, "kitchen-")
		if err := set.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got, err := k.options(); err != nil || got.ImageNoise != c.noise {
			t.Errorf("%s: image noise %g, expected %g: %v", name, got.ImageNoise, c.noise, err)
		}
		if got := k.changed(); got != c.changed {
			t.Errorf("%s: changed %q, expected %q", name, got, c.changed)
		}
	}
}

// What makes no kitchen is refused before anything is written.
func TestKitchenRefuses(t *testing.T) {
	dir := t.TempDir()
	for want, args := range map[string][]string{
		"ends in .bag or .mcap":                    {"k"},
		"--rate is 0, expected more than 0":        {"k.bag", "--rate", "0"},
		"--questions is 0, expected more than 0":   {"k.bag", "--questions", "0"},
		"--map-edge is -0.1, expected more than 0": {"k.bag", "--map-edge", "-0.1"},
	} {
		args[0] = filepath.Join(dir, args[0])
		if code, _, msg := stllmRun(t, append([]string{"kitchen"}, args...)...); code != exitUsage || !strings.Contains(msg, want) {
			t.Errorf("%v: code %d, %q, expected %q", args, code, msg, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// A signal ends the making of a kitchen, and nothing of it is left under any name.
func TestKitchenStops(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, msg bytes.Buffer
	code := run(ctx, []string{"kitchen", filepath.Join(dir, "k.bag"), "--seconds", "3", "--width", "64", "--height", "48"}, nil, &out, &msg)
	if code != exitError || !strings.Contains(msg.String(), "k.bag: interrupted") {
		t.Errorf("code %d: %s", code, &msg)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
