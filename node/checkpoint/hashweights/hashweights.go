// Package hashweights makes the weights that the golden vectors were computed with: every value follows from the tensor's
// name, its shape and the place in it. There are two rules, that of golden/core (bf16, with a salt) and that of golden/points
// (fp32).
package hashweights

import (
	"hash/fnv"
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/stllm/stllm/node/checkpoint"
)

// Unit is element i of the hash sequence of a name: in [-1, 1), a multiple of 2^-23.
func Unit(name string, i int64) float64 {
	return unit(hash(name), uint64(i))
}

func hash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

func unit(state, i uint64) float64 {
	z := state + i + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>40)/(1<<23) - 1
}

// Core returns a tensor of golden/core: offset + scale·x in float64, rounded to float32 and to bfloat16. The salt is "" for
// the small model and "wide:" for the wide checks. num_batches_tracked is 0.
func Core(salt, name string, shape ...int64) []float32 {
	out := make([]float32, elements(shape))
	inPieces(len(out), func(start, end int) { CorePiece(out[start:end], int64(start), salt, name, shape...) })
	return out
}

// CorePiece is a part of Core: the elements from start on, as many as out holds.
func CorePiece(out []float32, start int64, salt, name string, shape ...int64) {
	if strings.HasSuffix(name, "num_batches_tracked") {
		clear(out)
		return
	}
	offset, scale := coreRule(name, shape)
	state := hash(salt+name) + uint64(start)
	for i := range out {
		out[i] = bf16(float32(offset + scale*unit(state, uint64(i))))
	}
}

// Input returns an input tensor of golden/core's wide checks: s·x, rounded to float32 and to bfloat16.
func Input(salt, name string, s float64, shape ...int64) []float32 {
	out, state := make([]float32, elements(shape)), hash(salt+name)
	for i := range out {
		out[i] = bf16(float32(s * unit(state, uint64(i))))
	}
	return out
}

func coreRule(name string, shape []int64) (offset, scale float64) {
	parts := strings.Split(name, ".")
	last, module := parts[len(parts)-1], ""
	if len(parts) > 1 {
		module = parts[len(parts)-2]
	}
	switch {
	case last == "running_var", last == "weight" && len(shape) == 1:
		return 1, 0.1
	case last == "bias", last == "running_mean":
		return 0, 0.1
	case last == "image_newline":
		return 0, 0.5
	}
	gain := 1.0
	switch module {
	case "embed_tokens", "position_embedding", "position_embeddings", "word_embeddings", "latent_query":
		return 0, 1
	case "q_proj", "k_proj", "query", "key":
		gain = 1.5
	case "lm_head":
		gain = 3
	}
	return 0, gain * math.Sqrt(3/float64(fanIn(shape)))
}

// Points returns a tensor of golden/points: computed in float64 and rounded once to float32. num_batches_tracked is 1000.
func Points(name string, shape ...int64) []float32 {
	if strings.HasSuffix(name, "num_batches_tracked") {
		return []float32{1000}
	}
	offset, scale := pointsRule(name, shape)
	out, state := make([]float32, elements(shape)), hash(name)
	for i := range out {
		out[i] = float32(offset + scale*unit(state, uint64(i)))
	}
	return out
}

func pointsRule(name string, shape []int64) (offset, scale float64) {
	switch {
	case strings.HasSuffix(name, "running_var"):
		return 1, 0.5
	case strings.HasSuffix(name, "running_mean"):
		return 0, 0.1
	case strings.HasSuffix(name, ".kernel"): // offsets × in × out, or in × out
		occupied := 1.0
		if len(shape) == 3 && !strings.Contains(name, "convtr") {
			occupied = map[int64]float64{125: 25, 27: 9, 8: 4}[shape[0]]
		}
		return 0, math.Sqrt(3 / (float64(shape[len(shape)-2]) * occupied))
	case len(shape) == 1 && strings.HasSuffix(name, "weight"):
		return 1, 0.1
	case len(shape) == 1:
		return 0, 0.1
	}
	return 0, math.Sqrt(3 / float64(fanIn(shape)))
}

func fanIn(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape[min(1, len(shape)):] {
		n *= d
	}
	return n
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// inPieces splits n values among goroutines: the wide checks have hundreds of millions of them.
func inPieces(n int, compute func(start, end int)) {
	const least = 1 << 16 // values that are worth a goroutine
	size := max(least, (n+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var pieces sync.WaitGroup
	for start := 0; start < n; start += size {
		pieces.Go(func() { compute(start, min(start+size, n)) })
	}
	pieces.Wait()
}

func bf16(f float32) float32 { return checkpoint.BFloatToFloat32(checkpoint.Float32ToBFloat(f)) }
