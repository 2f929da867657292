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
	DType    string `json:"dtype"` // PyTorch's name of the type of weights and activations
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
	types                 string // what is computed in, for people
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

// comparePeer runs the same stages in PyTorch, in each type that it may be used in, and writes all with their ratios.
func comparePeer(ctx context.Context, w io.Writer, python string, threads int, a answered) error {
	c, err := config.Load(a.dir)
	if err != nil {
		return err
	}
	types := []string{"float32", "bfloat16"}
	var replies []peerReply
	for _, t := range types {
		ask := peerShape(c, a, threads)
		ask.DType = t
		peer, err := askPeer(ctx, python, ask)
		if err != nil {
			return err
		}
		replies = append(replies, peer)
	}
	fmt.Fprintf(w, "\nstllm: %s. PyTorch %s, transformers %s: the same shapes with random weights; the faster of two runs of each stage\n", a.types, replies[0].Torch, replies[0].Transformers)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	row := func(name string, cell func(p *peerReply) (theirs, ratio string), ours string) {
		fmt.Fprintf(t, "%s\t%s", name, ours)
		for i := range replies {
			theirs, ratio := cell(&replies[i])
			fmt.Fprintf(t, "\t%s\t%s", theirs, ratio)
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "stage\tstllm s")
	for _, name := range types {
		fmt.Fprintf(t, "\t%s s\tratio", name)
	}
	fmt.Fprintln(t)
	var ours float64
	theirs := make(map[*peerReply]float64)
	for _, stage := range comparable() {
		s := a.seconds[stage]
		ours += s
		row(stage, func(p *peerReply) (string, string) {
			theirs[p] += p.Seconds[stage]
			return fmt.Sprintf("%.3f", p.Seconds[stage]), fmt.Sprintf("%.2f", p.Seconds[stage]/s)
		}, fmt.Sprintf("%.3f", s))
	}
	row("these together", func(p *peerReply) (string, string) {
		return fmt.Sprintf("%.3f", theirs[p]), fmt.Sprintf("%.2f", theirs[p]/ours)
	}, fmt.Sprintf("%.3f", ours))
	row("peak memory", func(p *peerReply) (string, string) {
		return gigabytes(p.Peak), fmt.Sprintf("%.2f", float64(p.Peak)/float64(a.peak))
	}, gigabytes(a.peak))
	return t.Flush()
}

// askPeer runs the script once.
func askPeer(ctx context.Context, python string, request peerRequest) (peer peerReply, err error) {
	ask, err := json.Marshal(request)
	if err != nil {
		return peer, err
	}
	cmd := exec.CommandContext(ctx, python, "-c", peerScript)
	cmd.Env = append(os.Environ(), "TRANSFORMERS_VERBOSITY=error")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(ask), &out, &errs
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return peer, fmt.Errorf("%s: %w: %s (the peer needs torch and transformers: pip install torch transformers)", python, err, lines[len(lines)-1])
	}
	if err := json.Unmarshal(out.Bytes(), &peer); err != nil {
		return peer, fmt.Errorf("%s: what it wrote is no reply: %w", python, err)
	}
	if peer.Peak == 0 {
		return peer, errors.New("the peer did not measure its memory")
	}
	return peer, nil
}
