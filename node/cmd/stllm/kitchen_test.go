package main

import (
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
		if got := k.options().ImageNoise; got != c.noise {
			t.Errorf("%s: image noise %g, expected %g", name, got, c.noise)
		}
		if got := k.changed(); got != c.changed {
			t.Errorf("%s: changed %q, expected %q", name, got, c.changed)
		}
	}
}
