package stllm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/stllm/nano"
)

// variant makes a small untrained model of another shape.
func variant(t *testing.T, change func(c *config.Config)) string {
	t.Helper()
	dir := t.TempDir()
	if err := nano.Write(filepath.Join(dir, "nano")); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(filepath.Join(dir, "nano"))
	if err != nil {
		t.Fatal(err)
	}
	c.TorchDtype = "float32"
	change(c)
	specs, err := layout.Tensors(c)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "variant")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(filepath.Join(out, "config.json"), data, 0o644)
	}
	for _, name := range []string{"tokenizer.json", "generation_config.json"} {
		if err == nil {
			err = checkpoint.CopyFile(name, filepath.Join(dir, "nano"), out)
		}
	}
	if err == nil {
		err = checkpoint.WriteRandomFolder(t.Context(), out, 1, specs, checkpoint.FolderOptions{}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whole models of the shapes that a config can choose: each loads, sees a kitchen and answers; the same question has the same
// answer, and another map another prompt.
func TestVariants(t *testing.T) {
	env := orttest.Environment(t)
	sample, err := kitchen.NewSample(3, kitchen.SampleOptions{Frames: 4, Windows: 1, Questions: 1, Supersample: 1})
	if err != nil {
		t.Fatal(err)
	}
	transformer := func(c *config.Config) {
		p := &c.PointEncoderConfig
		p.Type, p.HiddenSize, p.Heads, p.FFN, p.Layers = config.MaskedTransformer, c.PcdFeatureDim, 4, 64, 3
		p.Points, p.Tokens, p.Kept, p.Samples, p.Samples2 = 4096, 256, 128, 16, 8
		c.RobotConfig.VoxelFeatures = config.ColorFeatures
	}
	for name, v := range map[string]struct {
		change func(c *config.Config)
		tokens int // spatial tokens; 0: one for every voxel
	}{
		"STLLM-3D": {func(c *config.Config) { c.STLLM3D, c.MaxPositionEmbeddings = true, 8192 }, 0},
		"STLLM-3D on point encoder B": {func(c *config.Config) {
			transformer(c)
			c.STLLM3D = true
		}, 128},
		"point encoder B": {func(c *config.Config) {
			transformer(c)
			c.RobotConfig.SequenceTokens = false
		}, 16},
		// 16 latent queries, 4 frames and the 12 tokens of the user turn.
		"the whole sequence": {func(*config.Config) {}, 16 + 4 + 12},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := stllm.Load(t.Context(), env, variant(t, v.change), stllm.Options{Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			m, err := n.EncodeMap(t.Context(), sample.Cloud)
			if err != nil {
				t.Fatal(err)
			}
			req := stllm.Request{Question: "Where is the fridge?", Map: m, Decoding: stllm.Decoding{MaxNewTokens: 6}}
			for _, f := range sample.Windows[0].Frames {
				fr := sample.Frames[f]
				features, err := n.EncodeFrame(t.Context(), &imaging.RGB{Width: sample.View.Width, Height: sample.View.Height, Pix: fr.RGB})
				if err != nil {
					t.Fatal(err)
				}
				req.Frames = append(req.Frames, stllm.Frame{Stamp: fr.Stamp, Pose: fr.Pose, Width: sample.View.Width, Height: sample.View.Height, Features: features,
					K: [9]float64{sample.View.FX, 0, sample.View.CX, 0, sample.View.FY, sample.View.CY, 0, 0, 1}})
			}
			first, err := n.Answer(t.Context(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			again, err := n.Answer(t.Context(), req, nil)
			if err != nil || again.Text != first.Text {
				t.Errorf("%q, then %q: %v", first.Text, again.Text, err)
			}
			req.Ablate.NoAligner = true
			without, err := n.Answer(t.Context(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := v.tokens
			if want == 0 {
				want = m.Voxels()
			}
			if got := first.PromptTokens - without.PromptTokens; got != want {
				t.Errorf("%d spatial tokens, expected %d", got, want)
			}
		})
	}
}
