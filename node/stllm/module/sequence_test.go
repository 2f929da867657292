package module

import (
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/testdata"
)

// The decoder as it is trained, without a cache, gives the reference's states and, with the head, its logits: what Build gives
// by ONNX Runtime's own attention.
func TestGoldenSequence(t *testing.T) {
	cases(t, func(t *testing.T, c *config.Config, model *checkpoint.Folder, x map[string]testdata.Tensor) {
		r := newRig(t, model, true)
		g, d := r.b.G, decoderConfig(c)
		embeds := x["inputs_embeds"]
		s := embeds.Shape[0]
		place, hide := make([]int64, s), make([]float32, s*s)
		for i := range s {
			place[i] = int64(i)
			for j := i + 1; j < s; j++ {
				hide[i*s+j] = -1e9
			}
		}
		in := g.Input("inputs_embeds", graph.Float32, graph.N("batch"), graph.D(s), graph.D(c.HiddenSize))
		causal := g.Floats(graph.Float32, hide, 1, 1, 1, s, s)
		normed := d.Sequence(r.b, in, g.Ints(place), causal, s)
		r.b.probe("llm.normed", normed)
		r.b.probe("logits", r.b.Linear(normed, "lm_head", c.HiddenSize, c.VocabSize, false))
		// Twice the same sequence: a batch changes nothing.
		two := append(append([]float32(nil), embeds.Float32s()...), embeds.Float32s()...)
		got := r.run(ort.Values{"inputs_embeds": floats(t, two, 2, s, c.HiddenSize)})
		for name, tol := range map[string]float64{"llm.normed": tolLayers, "logits": tolLogits} {
			want, v := x[name].Float32s(), got[name]
			for range 2 {
				half := v[:len(got[name])/2]
				compare(t, name, half[len(half)-len(want):], want, tol)
				v = v[len(half):]
			}
		}
	})
}
