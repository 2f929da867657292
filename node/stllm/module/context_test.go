package module

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
)

// A token of the user turn brings its neighbours along, each offset through its own columns; beyond the ends there is nothing.
// The sum is written out here.
func TestTextContext(t *testing.T) {
	const around = 3
	c := config.Nano(512, 1)
	c.RobotConfig.TextContext = around
	d, h := c.HiddenSize, c.QFormerConfig.HiddenSize
	r := rand.New(rand.NewPCG(3, 4))
	s := shelf{}
	values := map[string][]float32{}
	for name, shape := range map[string][]int64{
		"text_embed_to_qformer_projection.weight": {int64(h), int64(d)}, "text_embed_to_qformer_projection.bias": {int64(h)},
		"text_context_projection.weight": {int64(h), int64(2 * around * d)},
	} {
		n := 1
		for _, k := range shape {
			n *= int(k)
		}
		data := randomBlocks(r, checkpoint.F32, 1, n)
		s.put(name, checkpoint.F32, data, shape...)
		v, err := s[name].Float32()
		if err != nil {
			t.Fatal(err)
		}
		values[name] = v
	}
	own, bias, near := values["text_embed_to_qformer_projection.weight"], values["text_embed_to_qformer_projection.bias"], values["text_context_projection.weight"]
	for _, length := range []int{1, 2, 9} {
		t.Run(fmt.Sprintf("%d tokens", length), func(t *testing.T) {
			rig := newRig(t, s, false)
			in := rig.b.G.Input("text", graph.Float32, graph.N("questions"), graph.N("text"), graph.D(d))
			rig.b.probe("out", Aligner{Config: c}.text(rig.b, in))
			const batch = 2
			x := make([]float32, batch*length*d)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			got := rig.run(ort.Values{"text": floats(t, x, batch, length, d)})["out"]
			for b := range batch {
				for at := range length {
					for k := range h {
						want := float64(bias[k])
						for j := range d {
							want += float64(own[k*d+j]) * float64(x[(b*length+at)*d+j])
						}
						block := 0
						for offset := -around; offset <= around; offset++ {
							if offset == 0 {
								continue
							}
							if from := at + offset; from >= 0 && from < length {
								for j := range d {
									want += float64(near[(k*2*around+block)*d+j]) * float64(x[(b*length+from)*d+j])
								}
							}
							block++
						}
						if v := got[(b*length+at)*h+k]; !(math.Abs(float64(v)-want) < 1e-3) {
							t.Fatalf("question %d, token %d, number %d is %v, expected %v", b, at, k, v, want)
						}
					}
				}
			}
		})
	}
}
