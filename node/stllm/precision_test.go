package stllm

import (
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

func TestPrecision(t *testing.T) {
	for _, c := range []struct {
		device, dtype string
		want          graph.DType
		err           string
	}{
		{"", "", graph.Float32, ""}, {"cpu", "fp32", graph.Float32, ""}, {"cpu", "fp16", graph.Float16, ""},
		{"cuda", "", graph.BFloat16, ""}, {"cuda:1", "bf16", graph.BFloat16, ""}, {"cuda", "fp16", graph.Float16, ""},
		{"cpu", "bf16", 0, "no products on the CPU"}, {"cuda", "fp32", 0, "attention"}, {"", "fp8", 0, `dtype is "fp8"`}, {"tpu", "", 0, `device is "tpu"`},
	} {
		got, err := Options{Device: c.device, DType: c.dtype}.precision()
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q, %q: %s, %v", c.device, c.dtype, got, err)
		}
	}
}
