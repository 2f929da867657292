package trainer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/ort/orttest"
)

// peerFeed is an input of the step as the peer reads it.
type peerFeed struct {
	Shape []int     `json:"shape"`
	F     []float32 `json:"f,omitempty"`
	L     []int64   `json:"l,omitempty"`
	Param bool      `json:"param,omitempty"`
}

// One joint step on two kitchens, 16 questions, gradients included: here and in PyTorch on the same numbers, in turns.
// STLLM_TORCH_PYTHON names a Python with torch. The peer's loss and gradients have to be ours, so it is the same step.
func BenchmarkJointStep(b *testing.B) {
	python := os.Getenv("STLLM_TORCH_PYTHON")
	if python == "" {
		b.Skip("set STLLM_TORCH_PYTHON to a Python with torch")
	}
	o := start(b)
	o.Out, o.Threads = filepath.Join(b.TempDir(), "out"), runtime.NumCPU()
	o.Recipe = func(c *config.Config) Recipe {
		r := NanoRecipe(c)
		r.Kitchens, r.HeldOut = 2, 1
		return r
	}
	tr, err := New(orttest.Environment(b), o)
	if err != nil {
		b.Fatal(err)
	}
	s, err := tr.jointStage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.program.close()
	var batch Batch
	for i := range 100 { // a full one with everything
		if batch, err = s.make(i, rand.New(rand.NewPCG(uint64(i), 3))); err != nil {
			b.Fatal(err)
		}
		if batch["text"].Shape[0] == tr.recipe.Questions && batch["points"].Shape[0] == tr.recipe.Voxels && batch["patches"].Shape[0] > 500 {
			break
		}
	}
	loss, _, err := s.program.run(b.Context(), batch)
	if err != nil {
		b.Fatal(err)
	}
	peer := startPeer(b, python, tr, s.program.sums(), batch)
	if math.Abs(peer.Loss-loss) > 1e-3*math.Abs(loss) {
		b.Fatalf("the peer's loss is %g, ours %g: it runs another step", peer.Loss, loss)
	}
	for i, name := range s.program.sums().names {
		ours := 0.0
		for _, v := range s.program.sums().grads[i] {
			ours = max(ours, math.Abs(float64(v)))
		}
		if math.Abs(ours-peer.Largest[name]) > 0.02*ours+1e-6 {
			b.Errorf("%s: the largest gradient is %g, the peer's %g", name, ours, peer.Largest[name])
		}
	}
	var us, them []float64
	for b.Loop() {
		at := time.Now()
		if _, _, err := s.program.run(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		us = append(us, time.Since(at).Seconds())
		them = append(them, peer.again(b))
	}
	median := func(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }
	b.ReportMetric(median(us)*1e3, "ms/step")
	b.ReportMetric(median(them)*1e3, "torch-ms/step")
	b.ReportMetric(median(them)/median(us), "torch/ours")
	b.ReportMetric(float64(tr.recipe.Questions)/median(us), "questions/s")
	b.ReportMetric(100*peer.FLOPs/median(us)/peer.Peak, "%peak")
	b.ReportMetric(100*peer.FLOPs/median(them)/peer.Peak, "torch-%peak")
}

// peer is the running script.
type peer struct {
	in      *bufio.Writer
	out     *bufio.Scanner
	Loss    float64            `json:"loss"`
	Largest map[string]float64 `json:"largest"`
	FLOPs   float64            `json:"flops"` // of a step's products
	Peak    float64            `json:"peak"`  // a second, of a product of large matrices on the same threads
}

func startPeer(b *testing.B, python string, tr *Trainer, p *program, batch Batch) *peer {
	b.Helper()
	inputs := map[string]peerFeed{}
	for _, name := range tr.w.Names() {
		t, err := tr.w.Get(name)
		if err != nil {
			b.Fatal(err)
		}
		if !strings.HasPrefix(name, "pcd_encoder.") && !strings.HasPrefix(name, "model.vision_tower.") {
			inputs[name] = peerFeed{Shape: t.Shape, F: t.Data, Param: slices.Contains(p.names, name)}
		}
	}
	for name, f := range batch {
		inputs[name] = peerFeed{Shape: f.Shape, F: f.Float32s, L: f.Int64s}
	}
	c := tr.cfg
	data, err := json.Marshal(map[string]any{
		"inputs": inputs, "threads": tr.opt.Threads, "hidden": c.HiddenSize, "qformer": c.QFormerConfig.HiddenSize, "qformer_heads": c.QFormerConfig.NumAttentionHeads,
		"qformer_layers": c.QFormerConfig.NumHiddenLayers, "cross_frequency": c.QFormerConfig.CrossAttentionFrequency, "context": c.RobotConfig.TextContext,
		"heads": c.NumAttentionHeads, "kv_heads": c.NumKeyValueHeads, "layers": c.NumHiddenLayers, "theta": c.RopeTheta,
		"class_weight": classWeight, "unseen_weight": unseenWeight, "steps_weight": stepsWeight, "frames_weight": framesWeight, "moment_weight": momentWeight,
	})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "step.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), python, filepath.Join("testdata", "peer_step.py"), path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	q := &peer{in: bufio.NewWriter(in), out: bufio.NewScanner(out)}
	q.out.Buffer(nil, 1<<20)
	if !q.out.Scan() {
		b.Fatalf("the peer said nothing: %v", q.out.Err())
	}
	if err := json.Unmarshal(q.out.Bytes(), q); err != nil {
		b.Fatal(err)
	}
	return q
}

// again has the peer run the step, and gives its seconds.
func (p *peer) again(b *testing.B) float64 {
	b.Helper()
	if _, err := fmt.Fprintln(p.in); err != nil {
		b.Fatal(err)
	}
	if err := p.in.Flush(); err != nil {
		b.Fatal(err)
	}
	if !p.out.Scan() {
		b.Fatalf("the peer has ended: %v", p.out.Err())
	}
	seconds, err := strconv.ParseFloat(p.out.Text(), 64)
	if err != nil {
		b.Fatal(err)
	}
	return seconds
}
