package stllm

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/testdata"
)

// distance is how far two lists of numbers are apart: the largest difference and the root of the mean square.
func distance(t *testing.T, what string, got, want []float32) (most, rms float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d values, expected %d", what, len(got), len(want))
	}
	for i := range want {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			t.Fatalf("%s: value %d is %g, expected %g", what, i, got[i], want[i])
		}
		most, rms = math.Max(most, d), rms+d*d
	}
	return most, math.Sqrt(rms / float64(len(want)))
}

// The whole graph in half precision: its distance from the reference in float32 is measured by that of the reference's own
// bfloat16 run, which the goldens hold. On the processor it is float16, for which ONNX Runtime puts casts around what has no
// kernel, and float32 with products of many rows in bfloat16; STLLM_TEST_DEVICE=cuda runs it in bfloat16 and float16 on a device.
func TestGoldenHalfPrecision(t *testing.T) {
	runs := []struct {
		o     Options
		share float64 // of the reference's distance that is allowed
	}{{Options{DType: "fp16"}, 0.25}}
	if ort.RoundedProducts() {
		runs = append(runs, runs[0])
		runs[1].o.DType, runs[1].share = "bf16", 0.75
	} else {
		t.Log("NOT TESTED: bf16, of which this processor has no products")
	}
	if device := orttest.Device(); device != "" {
		runs = runs[:0]
		for _, dtype := range []string{"bf16", "fp16"} {
			share := 0.25
			if dtype == "bf16" {
				share = 1.5
			}
			runs = append(runs, struct {
				o     Options
				share float64
			}{Options{Device: device, DType: dtype}, share})
		}
	}
	for _, run := range runs {
		n := goldenAs(t, run.o)
		for _, c := range goldenCases(t) {
			t.Run(run.o.DType+"/"+c.Name, func(t *testing.T) {
				x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
				req := request(t, n, c, x)
				p, err := n.prompt(req)
				if err != nil {
					t.Fatal(err)
				}
				frames, places, err := n.inputs(req)
				if err != nil {
					t.Fatal(err)
				}
				spatial, _, err := n.align(t.Context(), req, frames, places, p)
				if err != nil {
					t.Fatal(err)
				}
				embeds, err := n.splice(p, spatial, frames.pooled)
				if err != nil {
					t.Fatal(err)
				}
				o := generate.Defaults()
				o.MaxNewTokens, o.EOS, o.NumBeams = 8, n.eos, 2
				d, err := n.newDecode(2, len(embeds)/n.cfg.HiddenSize+o.MaxNewTokens)
				if err != nil {
					t.Fatal(err)
				}
				defer d.close()
				logits, _, err := d.prefill(t.Context(), embeds, p.Prefix())
				if err != nil {
					t.Fatal(err)
				}
				last := x["logits"].Float32s()
				last = last[len(last)-len(logits):]
				theirs := x["published_bf16.logits"].Float32s()
				theirs = theirs[len(theirs)-len(logits):]
				for _, stage := range []struct {
					name               string
					got, want, rounded []float32
				}{{"prefix", spatial, x["prefix"].Float32s(), x["published_bf16.prefix"].Float32s()}, {"logits", logits, last, theirs}} {
					most, rms := distance(t, stage.name, stage.got, stage.want)
					mostAllowed, rmsAllowed := distance(t, stage.name, stage.rounded, stage.want)
					t.Logf("%s: differs by %.3g, rms %.3g; the reference's bfloat16 by %.3g, rms %.3g", stage.name, most, rms, mostAllowed, rmsAllowed)
					if most > run.share*mostAllowed || rms > run.share*rmsAllowed {
						t.Errorf("%s: differs by %.3g, rms %.3g, allowed %.3g, rms %.3g", stage.name, most, rms, run.share*mostAllowed, run.share*rmsAllowed)
					}
				}
				// Beams copy their caches, which may be in a device's memory.
				if _, err := generate.Run(t.Context(), d, logits, o, nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
