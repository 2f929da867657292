package stllm_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/nano"
)

// BenchmarkQuestion is one question end to end with the built-in model, by stage: what a frame and a map cost once, and
// what each question costs (16 frames of 640 × 480, a map of 40,000 points, 24 new tokens).
func BenchmarkQuestion(b *testing.B) {
	env := orttest.Environment(b)
	dir := b.TempDir()
	if err := nano.Init(b.Context(), dir, nano.Options{Config: "nano", Seed: 1}); err != nil {
		b.Fatal(err)
	}
	model, err := stllm.Load(b.Context(), env, dir, stllm.Options{Log: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	defer model.Close()
	r := rand.New(rand.NewPCG(1, 1))
	img, err := imaging.NewRGB(640, 480)
	if err != nil {
		b.Fatal(err)
	}
	for i := range img.Pix {
		img.Pix[i] = byte(r.UintN(256))
	}
	cloud := &scene.Cloud{HasColor: true}
	for range 40_000 {
		cloud.XYZ = append(cloud.XYZ, 5*r.Float64(), 4*r.Float64(), 2*r.Float64())
		cloud.RGB = append(cloud.RGB, byte(r.UintN(256)), byte(r.UintN(256)), byte(r.UintN(256)))
	}
	took := map[stllm.Stage]time.Duration{}
	for b.Loop() {
		start := time.Now()
		req := stllm.Request{Question: "Where is the sink from where I stand now?", Decoding: stllm.Decoding{MaxNewTokens: 24}}
		for i := range model.Frames() {
			f, err := model.EncodeFrame(b.Context(), img)
			if err != nil {
				b.Fatal(err)
			}
			req.Frames = append(req.Frames, stllm.Frame{
				Stamp: int64(i) * 1e8, Pose: geometry.Identity(), K: [9]float64{500, 0, 320, 0, 500, 240, 0, 0, 1}, Width: 640, Height: 480, Features: f,
			})
		}
		took["frame"] += time.Since(start) / time.Duration(model.Frames())
		start = time.Now()
		if req.Map, err = model.EncodeMap(b.Context(), cloud); err != nil {
			b.Fatal(err)
		}
		took[stllm.StageMap] += time.Since(start)
		ans, err := model.Answer(b.Context(), req, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range ans.Timings {
			took[t.Stage] += t.Duration
		}
	}
	for stage, d := range took {
		b.ReportMetric(math.Round(float64(d.Microseconds())/float64(b.N))/1000, "ms-"+string(stage))
	}
}
