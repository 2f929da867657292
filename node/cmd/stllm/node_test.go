package main

import (
	"fmt"
	"testing"

	"github.com/stllm/stllm/node/params"
)

// What the command line says of simulated time stands above the master; where it says nothing, the master is asked.
func TestSimulated(t *testing.T) {
	for _, c := range []struct {
		file    bool // of --params or -p
		private map[string]string
		want    string
	}{
		{false, nil, "the master's"},
		{false, map[string]string{"frames": "3"}, "the master's"},
		{true, nil, "true"},
		{false, map[string]string{"use_sim_time": "true"}, "true"},
		{true, map[string]string{"use_sim_time": "false"}, "false"},
		{false, map[string]string{"use_sim_time": "perhaps"}, "an error"},
	} {
		p := params.Default()
		p.UseSimTime = c.file
		sim, err := simulated(&p, c.private)
		got := "the master's"
		switch {
		case err != nil:
			got = "an error"
		case sim != nil:
			got = fmt.Sprint(*sim)
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
