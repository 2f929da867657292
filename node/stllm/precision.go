package stllm

import (
	"fmt"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
)

// precision is the element type of weights and activations.
func (o Options) precision() (graph.DType, error) {
	device := ort.CPU
	if o.Device != "" {
		var err error
		if device, _, err = ort.ParseDevice(o.Device); err != nil {
			return 0, err
		}
	}
	switch {
	case o.DType == "fp32" && device == ort.CUDA:
		return 0, fmt.Errorf("dtype is fp32, which the attention of ONNX Runtime does not take on CUDA; expected bf16 or fp16")
	case o.DType == "fp32", o.DType == "" && device == ort.CPU:
		return graph.Float32, nil
	case o.DType == "bf16" && device == ort.CPU:
		return 0, fmt.Errorf("dtype is bf16, in which ONNX Runtime has no products on the CPU; expected fp32 or fp16 there, whatever the weights are stored as")
	case o.DType == "bf16", o.DType == "":
		return graph.BFloat16, nil
	case o.DType == "fp16":
		return graph.Float16, nil
	}
	return 0, fmt.Errorf("dtype is %q, expected fp32, bf16 or fp16", o.DType)
}
