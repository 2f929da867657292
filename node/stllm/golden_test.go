package stllm

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/tokenizer"
)

// golden loads the reference's small model, which comes without a point encoder: its features are in the cases.
func golden(t *testing.T) *Network { return goldenAs(t, Options{}) }

// goldenAs is golden on any device and in any number format.
func goldenAs(t testing.TB, o Options) *Network {
	t.Helper()
	precision, precisionErr := o.precision(ort.RoundedProducts())
	if precisionErr != nil {
		t.Fatal(precisionErr)
	}
	dir := testdata.Golden(t, "core", "model")
	n := &Network{env: orttest.Environment(t), fourier: rays.NewPublishedFourier(), log: zerolog.Nop(), id: "golden", opt: o, precision: precision}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n.cfg, err = config.Load(dir)
	must()
	n.generation, err = config.LoadGeneration(dir)
	must()
	n.eos = n.generation.EOSTokenID
	n.tok, err = tokenizer.Open(filepath.Join(dir, "tokenizer.json"))
	must()
	n.prompts, err = prompt.New(promptTokens{n.tok}, prompt.Options{Timed: true, GenerationHeader: true})
	must()
	n.folder, err = checkpoint.OpenFolder(dir)
	must()
	err = n.tables()
	must()
	n.vision, err = n.visionSession()
	must()
	n.aligner, err = n.alignerSession(false)
	must()
	n.decoder, err = n.decoderSession()
	must()
	t.Cleanup(func() { n.Close() })
	return n
}

type goldenCase struct {
	Name       string
	Question   string
	FrameSize  [2]int    `json:"frame_size"`
	FrameTimes []float64 `json:"frame_times"`
	Seconds    float64
	Voxel      float64
}

func goldenCases(t *testing.T) []goldenCase {
	t.Helper()
	var list struct{ Cases []goldenCase }
	if testdata.JSON(t, testdata.Golden(t, "core", "cases.json"), &list); len(list.Cases) == 0 {
		t.Fatal("cases.json has no cases")
	}
	return list.Cases
}

// request rebuilds a case's snapshot from its pictures, poses and voxel features.
func request(t *testing.T, n *Network, c goldenCase, x map[string]testdata.Tensor) Request {
	t.Helper()
	req := Request{Question: c.Question, Seconds: c.Seconds}
	poses, k := x["c2w_world"].Float64s(), x["K"].Float64s()
	for i, at := range c.FrameTimes {
		data, err := os.ReadFile(filepath.Join(testdata.Golden(t, "core", "frames"), fmt.Sprintf("%s_%d.png", c.Name, i)))
		if err != nil {
			t.Fatal(err)
		}
		img, err := imaging.DecodeBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		f := Frame{Stamp: int64(math.Round(at * 1e9)), K: [9]float64(k), Width: c.FrameSize[0], Height: c.FrameSize[1]}
		if f.Pose, err = geometry.FromMatrix([16]float64(poses[16*i : 16*i+16])); err != nil {
			t.Fatal(err)
		}
		if f.Features, err = n.EncodeFrame(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		req.Frames = append(req.Frames, f)
	}
	m := &mapFeatures{features: x["voxel_features"].Float32s(), coords: x["coords"].Int32s(), size: c.Voxel}
	for a, v := range x["min_coords"].Float64s() {
		m.min[a] = int64(v)
	}
	req.Map = m
	return req
}

func within(t *testing.T, name string, got, want []float32, tol float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d values, expected %d", name, len(got), len(want))
		return
	}
	worst := 0.0
	for i := range want {
		worst = math.Max(worst, math.Abs(float64(got[i])-float64(want[i]))) // NaN where one is
	}
	if !(worst <= tol) {
		t.Errorf("%s: differs by %.3g, allowed %.3g", name, worst, tol)
	}
	t.Logf("%s: %.2g of %.2g", name, worst, tol)
}

// tolLogits is the tolerance of golden/core/README.md. It holds for the gap of two logits as well.
const tolLogits = 1.5e-4

// tolScore is that of a beam's score, which the README does not have: the mean of log p = logit − log Σ exp over the answer. That
// moves by twice what logits do at most, and the README measured those 1.7e-5 apart between float32 and float64; the float32
// sum of up to 48 of them, divided by their number, adds 48·2^-24 of the score, 1.5e-5 at the 5 that nothing here reaches.
const tolScore = 2*1.7e-5 + 1.5e-5

// recorder keeps the logits of every step of a single sequence.
type recorder struct {
	generate.Model
	rows [][]float32
}

func (r *recorder) Next(ctx context.Context, tokens []int32, parents []int) ([][]float32, error) {
	rows, err := r.Model.Next(ctx, tokens, parents)
	for _, row := range rows {
		r.rows = append(r.rows, slices.Clone(row))
	}
	return rows, err
}

// gaps are how far the best logit of each step is from the second.
func (r *recorder) gaps() (out []float32) {
	for _, row := range r.rows {
		sorted := slices.Sorted(slices.Values(row))
		out = append(out, sorted[len(sorted)-1]-sorted[len(sorted)-2])
	}
	return out
}

func ids(x testdata.Tensor) (out []int32) {
	for _, v := range x.Float64s() {
		out = append(out, int32(v))
	}
	return out
}

// From pictures, poses and a question to the answer's tokens: the whole graph against the reference's.
func TestGoldenWholeModel(t *testing.T) {
	n := golden(t)
	for _, c := range goldenCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
			req := request(t, n, c, x)
			p, err := n.prompt(req)
			if err != nil {
				t.Fatal(err)
			}
			if want := ids(x["prompt_ids"]); !slices.Equal(p.IDs, want) {
				t.Fatalf("prompt is %v\nexpected %v", p.IDs, want)
			}
			var qformer []int32
			for _, id := range ids(x["qformer_ids"]) {
				if id >= 0 {
					qformer = append(qformer, id)
				}
			}
			if !slices.Equal(p.QFormer, qformer) {
				t.Fatalf("Q-Former text is %v\nexpected %v", p.QFormer, qformer)
			}
			frames, places, err := n.inputs(req)
			if err != nil {
				t.Fatal(err)
			}
			var pixels []float32
			side := x["frames.resized"].Shape[1]
			for f := range slices.Chunk(x["frames.resized"].Data, 3*side*side) {
				pixels = append(pixels, normalise(&imaging.RGB{Width: side, Height: side, Pix: f})...)
			}
			within(t, "pixels", pixels, x["pixels"].Float32s(), 0)
			within(t, "pooled", frames.pooled, x["pooled"].Float32s(), 3e-5)
			enc, err := n.directions(req, places, onHeap)
			if err != nil {
				t.Fatal(err)
			}
			within(t, "ray.embedding", enc.images, x["ray.embedding"].Float32s(), 0)
			spatial, _, err := n.align(t.Context(), req, frames, places, p)
			if err != nil {
				t.Fatal(err)
			}
			within(t, "prefix", spatial, x["prefix"].Float32s(), 2e-5)
			embeds, err := n.splice(p, spatial, frames.pooled)
			if err != nil {
				t.Fatal(err)
			}
			within(t, "inputs_embeds", embeds, x["inputs_embeds"].Float32s(), 3e-5)
			for _, b := range prompt.Splice(p.IDs, len(spatial)/n.cfg.HiddenSize, x["video_tokens"].Shape[0]) {
				if b.Kind == prompt.VideoTokens {
					within(t, "video_tokens", embeds[b.Start*n.cfg.HiddenSize:(b.Start+b.Length)*n.cfg.HiddenSize], x["video_tokens"].Float32s(), 3e-5)
				}
			}

			for _, run := range []struct {
				name string
				set  func(*generate.Options)
			}{
				{"greedy", func(*generate.Options) {}},
				{"greedy.penalty_1.05", func(o *generate.Options) { o.RepetitionPenalty = 1.05 }},
				{"beam5", func(o *generate.Options) { o.NumBeams = 5 }},
			} {
				o := generate.Defaults()
				o.MaxNewTokens, o.EOS = 48, n.eos
				run.set(&o)
				d, err := n.newDecode(max(1, o.NumBeams), len(embeds)/n.cfg.HiddenSize+o.MaxNewTokens)
				if err != nil {
					t.Fatal(err)
				}
				logits, _, err := d.prefill(t.Context(), embeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				last := x["logits"].Float32s()
				within(t, "logits", logits, last[len(last)-len(logits):], tolLogits)
				seen := &recorder{Model: d, rows: [][]float32{slices.Clone(logits)}}
				res, err := generate.Run(t.Context(), seen, logits, o, nil)
				d.close()
				if err != nil {
					t.Fatal(err)
				}
				got := res.Tokens
				if res.Reason == generate.Stop {
					end := res.EOS
					if o.NumBeams > 1 {
						end = n.eos[0] // the reference writes the first end id, whichever was met
					}
					got = append(slices.Clone(got), end)
				}
				if want := ids(x[run.name]); !slices.Equal(got, want) {
					t.Errorf("%s: %v\nexpected %v", run.name, got, want)
				}
				switch run.name {
				case "beam5":
					within(t, "beam5.score", []float32{float32(res.Score)}, x["beam5.score"].Float32s(), tolScore)
				case "greedy":
					steps := x["greedy.logits"]
					if len(steps.Shape) != 2 || steps.Shape[0] > len(seen.rows) {
						t.Fatalf("greedy.logits: shape %v, %d steps were run", steps.Shape, len(seen.rows))
					}
					within(t, "greedy.logits", slices.Concat(seen.rows[:steps.Shape[0]]...), steps.Float32s(), tolLogits)
					within(t, "greedy.gap", seen.gaps(), x["greedy.gap"].Float32s(), tolLogits)
				}
			}
		})
	}
}

// The other pool modes, from pictures to logits: fewer patches a frame, so another sequence.
func TestGoldenPoolModes(t *testing.T) {
	for _, mode := range []string{"average", "max"} {
		n := golden(t)
		n.cfg.MMSpatialPoolMode = mode
		var err error
		if err = n.vision.Close(); err == nil {
			n.vision, err = n.visionSession()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range goldenCases(t) {
			t.Run(mode+"/"+c.Name, func(t *testing.T) {
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
				within(t, mode+".pooled", frames.pooled, x[mode+".pooled"].Float32s(), 3e-5)
				spatial, _, err := n.align(t.Context(), req, frames, places, p)
				if err != nil {
					t.Fatal(err)
				}
				within(t, mode+".prefix", spatial, x[mode+".prefix"].Float32s(), 2e-5)
				embeds, err := n.splice(p, spatial, frames.pooled)
				if err != nil {
					t.Fatal(err)
				}
				width := n.cfg.HiddenSize
				for _, b := range prompt.Splice(p.IDs, len(spatial)/width, x[mode+".video_tokens"].Shape[0]) {
					if b.Kind == prompt.VideoTokens {
						within(t, mode+".video_tokens", embeds[b.Start*width:(b.Start+b.Length)*width], x[mode+".video_tokens"].Float32s(), 3e-5)
					}
				}
				d, err := n.newDecode(1, len(embeds)/width)
				if err != nil {
					t.Fatal(err)
				}
				defer d.close()
				logits, _, err := d.prefill(t.Context(), embeds, nil)
				if err != nil {
					t.Fatal(err)
				}
				within(t, mode+".logits", logits, x[mode+".logits"].Float32s(), tolLogits)
			})
		}
	}
}

// Beams that meet an end: the cases have one more end token for this.
func TestGoldenBeamsThatStop(t *testing.T) {
	n := golden(t)
	for _, c := range goldenCases(t) {
		x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
		stop, ok := x["beam5.stop_token"]
		if !ok {
			continue
		}
		embeds := x["inputs_embeds"].Float32s()
		o := generate.Defaults()
		o.MaxNewTokens, o.NumBeams, o.EOS = 48, 5, append(slices.Clone(n.eos), ids(stop)...)
		d, err := n.newDecode(5, len(embeds)/n.cfg.HiddenSize+o.MaxNewTokens)
		if err != nil {
			t.Fatal(err)
		}
		logits, _, err := d.prefill(t.Context(), embeds, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := generate.Run(t.Context(), d, logits, o, nil)
		d.close()
		if err != nil {
			t.Fatal(err)
		}
		got := res.Tokens
		if res.Reason == generate.Stop {
			got = append(slices.Clone(got), n.eos[0])
		}
		if want := ids(x["beam5.stopped"]); !slices.Equal(got, want) {
			t.Errorf("%s: %v\nexpected %v", c.Name, got, want)
		}
		within(t, c.Name+": beam5.stopped.score", []float32{float32(res.Score)}, x["beam5.stopped.score"].Float32s(), tolScore)
	}
}

// The same through the public face: streamed text is the answer's text, evidence sums to one, a cancelled answer says so.
func TestGoldenAnswer(t *testing.T) {
	n := golden(t)
	for _, c := range goldenCases(t) {
		x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
		req := request(t, n, c, x)
		req.Decoding.MaxNewTokens = 48
		req.Evidence = true
		var streamed string
		ans, err := n.Answer(t.Context(), req, func(p Progress) { streamed += p.Delta })
		if err != nil {
			t.Fatal(err)
		}
		want := ids(x["greedy"])
		if slices.Contains(n.eos, want[len(want)-1]) {
			want = want[:len(want)-1]
		}
		if text := n.tok.Decode(want, true); ans.Text != text || streamed != text {
			t.Errorf("%s: answer %q, streamed %q, expected %q", c.Name, ans.Text, streamed, text)
		}
		if ans.PromptTokens != len(x["spliced_ids"].Float64s()) || len(ans.Timings) != 3 {
			t.Errorf("%s: %d prompt tokens, %d stages", c.Name, ans.PromptTokens, len(ans.Timings))
		}
		if ans.Evidence == nil || len(ans.Evidence.Frames) != min(5, len(req.Frames)) || len(ans.Evidence.Regions) == 0 {
			t.Errorf("%s: evidence %+v", c.Name, ans.Evidence)
		}
	}
}

// An answer is the same whether the keys and values of the system turn are computed or left from the last answer; only the
// rest of the prompt is run then, and another prefix is not mistaken for it.
func TestGoldenPrefixIsKept(t *testing.T) {
	n := golden(t)
	for _, c := range goldenCases(t) {
		x, _ := testdata.Tensors(t, filepath.Join(testdata.Golden(t, "core"), "case_"+c.Name+".safetensors"))
		req := request(t, n, c, x)
		p, err := n.prompt(req)
		if err != nil {
			t.Fatal(err)
		}
		prefix, embeds := p.Prefix(), x["inputs_embeds"].Float32s()
		chunk := prefillChunk
		run := func(prefix []int32) ([]float32, int) {
			d, err := n.newDecode(1, len(embeds)/n.cfg.HiddenSize+4)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			d.chunk = chunk
			logits, cached, err := d.prefill(t.Context(), embeds, prefix)
			if err != nil {
				t.Fatal(err)
			}
			return logits, cached
		}
		n.kept = kept{}
		fresh, cached := run(prefix)
		if cached != 0 || len(prefix) == 0 {
			t.Fatalf("%s: %d of %d tokens were there at first", c.Name, cached, len(prefix))
		}
		again, cached := run(prefix)
		if cached != len(prefix) || !slices.Equal(again, fresh) {
			t.Errorf("%s: %d of %d tokens left from the first run, same logits: %v", c.Name, cached, len(prefix), slices.Equal(again, fresh))
		}
		if _, cached := run(prefix[:len(prefix)-1]); cached != 0 {
			t.Errorf("%s: %d tokens of another prefix were used", c.Name, cached)
		}
		chunk = 7 // a long prompt is run in pieces
		pieces, _ := run(nil)
		last := x["logits"].Float32s()
		within(t, "logits of pieces", pieces, last[len(last)-len(pieces):], tolLogits)
		n.kept = kept{}
		req.Decoding.MaxNewTokens = 16
		var text string
		for i, want := range []int{0, len(prefix)} {
			ans, err := n.Answer(t.Context(), req, nil)
			if err != nil || ans.CachedTokens != want {
				t.Errorf("%s: answer %d used %d kept tokens, expected %d (%v)", c.Name, i, ans.CachedTokens, want, err)
			}
			if i > 0 && ans.Text != text {
				t.Errorf("%s: answer %q with kept tokens, %q without", c.Name, ans.Text, text)
			}
			text = ans.Text
		}
	}
}
