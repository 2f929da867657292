package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/stllm/stllm/node/checkpoint/config"
)

//go:embed peer_answer.py
var peerScript string

// peerRequest is what the script is asked for: numbers of things that its stages go through.
type peerRequest struct {
	Config   string `json:"config"`
	Threads  int    `json:"threads"`
	Frames   int    `json:"frames"`
	Memory   int    `json:"memory"`   // rows that the aligner looks at
	Sequence int    `json:"sequence"` // of the aligner
	Prompt   int    `json:"prompt"`   // tokens of the language model's
	Tokens   int    `json:"tokens"`   // decoded
}

// peerReply is what it took.
type peerReply struct {
	Torch        string             `json:"torch"`
	Transformers string             `json:"transformers"`
	Seconds      map[string]float64 `json:"seconds"`
	Peak         int64              `json:"peak"` // bytes
}

// comparable are the stages that both have, in their order. PyTorch has no sparse convolution.
func comparable() []string { return []string{"vision", "align", "prefill", "decode"} }

// answered is what an answer took here, and what of.
type answered struct {
	seconds               map[string]float64
	peak                  int64
	dir                   string
	frames, voxels        int
	prompt, text, decoded int
}

// peerShape is how large the peer's stages are for the same answer.
func peerShape(c *config.Config, a answered, threads int) peerRequest {
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	r := peerRequest{Config: filepath.Join(a.dir, "config.json"), Threads: threads, Frames: a.frames, Memory: a.voxels, Prompt: a.prompt, Tokens: max(2, a.decoded),
		Sequence: c.QFormerConfig.NumQueryTokens + a.frames*c.ImgNumPatches + a.text}
	if o := c.RobotConfig; o != nil && o.PatchMemory {
		r.Memory += a.frames * c.VisionConfig.Grid() * c.VisionConfig.Grid()
	}
	return r
}

// comparePeer runs the same stages in PyTorch and writes both with their ratios.
func comparePeer(ctx context.Context, w io.Writer, python string, threads int, a answered) error {
	c, err := config.Load(a.dir)
	if err != nil {
		return err
	}
	ask, err := json.Marshal(peerShape(c, a, threads))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, python, "-c", peerScript)
	cmd.Env = append(os.Environ(), "TRANSFORMERS_VERBOSITY=error")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(ask), &out, &errs
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return fmt.Errorf("%s: %w: %s (the peer needs torch and transformers: pip install torch transformers)", python, err, lines[len(lines)-1])
	}
	var peer peerReply
	if err := json.Unmarshal(out.Bytes(), &peer); err != nil {
		return fmt.Errorf("%s: what it wrote is no reply: %w", python, err)
	}
	if peer.Peak == 0 {
		return errors.New("the peer did not measure its memory")
	}
	fmt.Fprintf(w, "\nPyTorch %s, transformers %s, float32, the same shapes with random weights; the faster of two runs of each stage\n", peer.Torch, peer.Transformers)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "stage\tstllm s\tPyTorch s\tratio")
	var ours, theirs float64
	for _, stage := range comparable() {
		ours, theirs = ours+a.seconds[stage], theirs+peer.Seconds[stage]
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.2f\n", stage, a.seconds[stage], peer.Seconds[stage], peer.Seconds[stage]/a.seconds[stage])
	}
	fmt.Fprintf(t, "these together\t%.3f\t%.3f\t%.2f\n", ours, theirs, theirs/ours)
	fmt.Fprintf(t, "peak memory\t%s\t%s\t%.2f\n", gigabytes(a.peak), gigabytes(peer.Peak), float64(peer.Peak)/float64(a.peak))
	return t.Flush()
}
