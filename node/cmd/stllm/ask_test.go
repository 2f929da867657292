package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/robot"
)

// What is wrong with a question is told before the bag is opened, which is not there.
func TestAskRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"empty":        {[]string{" "}, "text is missing"},
		"task":         {[]string{"where?", "--task", "foo"}, `task is "foo"`},
		"not a number": {[]string{"where?", "--at", "nan"}, "at is NaN"},
		"negative":     {[]string{"where?", "--at", "-1"}, "at is -1"},
		"threads":      {[]string{"where?", "--threads", "-3"}, "--threads is -3"},
	} {
		var out, errw bytes.Buffer
		code := run(t.Context(), append([]string{"ask", "nosuch.bag"}, c.args...), strings.NewReader(""), &out, &errw)
		if code != exitUsage || !strings.Contains(errw.String(), c.want) {
			t.Errorf("%s: exit code %d, %s", name, code, errw.String())
		}
	}
}

// Evidence is listed with times from the question's moment and with the thing that stands at a place.
func TestWriteEvidence(t *testing.T) {
	boxes := []picture.Box{{Name: "sink", X: 1, Y: 2, Width: 1, Depth: 0.6, Yaw: 1.5708}, {Name: "mug", X: 4, Y: 4, Width: 0.2, Depth: 0.2, Small: true, To: 9e9}}
	region := func(x, y float64) []msgs.RegionEvidence {
		return []msgs.RegionEvidence{{Position: msgs.Point{X: x, Y: y, Z: 0.5}, Radius: 0.25, Weight: 0.4}}
	}
	for name, c := range map[string]struct {
		answer msgs.Answer
		want   string
	}{
		"nothing": {msgs.Answer{}, ""},
		"frame":   {msgs.Answer{FrameEvidence: []msgs.FrameEvidence{{StampNs: 8e9, Weight: 0.75}}}, "leaned on  frame  -2.0 s  75 %\n"},
		"inside":  {msgs.Answer{RegionEvidence: region(1, 2.4)}, "leaned on  place  1.00 2.40 0.50 m ± 0.25  40 %  sink\n"},
		"beside":  {msgs.Answer{RegionEvidence: region(1.4, 2)}, "leaned on  place  1.40 2.00 0.50 m ± 0.25  40 %  sink\n"},
		"nowhere": {msgs.Answer{RegionEvidence: region(2, 2)}, "leaned on  place  2.00 2.00 0.50 m ± 0.25  40 %\n"},
		"gone":    {msgs.Answer{RegionEvidence: region(4, 4)}, "leaned on  place  4.00 4.00 0.50 m ± 0.25  40 %\n"},
	} {
		var out bytes.Buffer
		if err := writeEvidence(&out, &robot.Outcome{Answer: &c.answer, Stamp: 10e9}, boxes); err != nil || out.String() != c.want {
			t.Errorf("%s: %q, %v, expected %q", name, out.String(), err, c.want)
		}
	}
}
