package stllm

import (
	"strings"
	"testing"

	"github.com/stllm/stllm/node/graph"
)

func TestPrecision(t *testing.T) {
	for _, c := range []struct {
		device, dtype string
		able          bool
		want          precision
		err           string
	}{
		{"", "", true, precision{graph.Float32, false}, ""}, {"cpu", "fp32", true, precision{graph.Float32, false}, ""}, {"cpu", "fp16", true, precision{graph.Float16, false}, ""},
		{"cuda", "", false, precision{graph.BFloat16, false}, ""}, {"cuda:1", "bf16", true, precision{graph.BFloat16, false}, ""}, {"cuda", "fp16", false, precision{graph.Float16, false}, ""},
		{"cpu", "bf16", true, precision{graph.Float32, true}, ""}, {"", "bf16", true, precision{graph.Float32, true}, ""}, {"cpu", "bf16", false, precision{}, "this processor has no products (AVX-512 BF16)"},
		{"cuda", "fp32", true, precision{}, "attention"}, {"", "fp8", true, precision{}, `dtype is "fp8"`}, {"tpu", "", true, precision{}, `device is "tpu"`},
	} {
		got, err := Options{Device: c.device, DType: c.dtype}.precision(c.able)
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q, %q: %v, %v", c.device, c.dtype, got, err)
		}
	}
}
