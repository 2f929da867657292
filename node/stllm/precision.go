package stllm

import (
	"fmt"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
)

// precision is how a model computes.
type precision struct {
	dtype   graph.DType // of weights and activations
	rounded bool        // many rows are multiplied of numbers rounded to bfloat16; see graph.Graph
}

// precision follows from device and DType; able says whether the processor has products of bfloat16.
func (o Options) precision(able bool) (precision, error) {
	device := ort.CPU
	if o.Device != "" {
		var err error
		if device, _, err = ort.ParseDevice(o.Device); err != nil {
			return precision{}, err
		}
	}
	switch {
	case o.DType == "fp32" && device == ort.CUDA:
		return precision{}, fmt.Errorf("dtype is fp32, which the attention of ONNX Runtime does not take on CUDA; expected bf16 or fp16")
	case o.DType == "fp32", o.DType == "" && device == ort.CPU:
		return precision{dtype: graph.Float32}, nil
	case o.DType == "bf16" && device == ort.CPU && !able:
		return precision{}, fmt.Errorf("dtype is bf16, for which this processor has no products (AVX-512 BF16); expected fp32 or fp16 on it, whatever the weights are stored as")
	case o.DType == "bf16" && device == ort.CPU:
		return precision{dtype: graph.Float32, rounded: true}, nil
	case o.DType == "bf16", o.DType == "":
		return precision{dtype: graph.BFloat16}, nil
	case o.DType == "fp16":
		return precision{dtype: graph.Float16}, nil
	}
	return precision{}, fmt.Errorf("dtype is %q, expected fp32, bf16 or fp16", o.DType)
}
