package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/stllm"
)

// benchAnswer are the settings of `stllm bench answer`.
type benchAnswer struct {
	model          modelFlags
	frames, tokens int
	seed           uint64
	evidence       bool
	question       string
	peer           string // Python with torch and transformers; empty: none
}

func (a *app) benchAnswerCommand() *cobra.Command {
	var b benchAnswer
	cmd := &cobra.Command{
		Use:   "answer DIR",
		Short: "Time and memory of one question by stage: load, vision, points, aligner, prefill, decoding",
		Long: `answer loads a model and asks it one question about a made kitchen. Of a model with generated weights the answer means
nothing; what is measured does not depend on it.`,
		Args: exactly(1, "a model folder, or nano"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.model.dir = args[0]
			return b.run(cmd.Context(), a)
		},
	}
	f := cmd.Flags()
	b.model.addRun(f)
	f.IntVar(&b.frames, "frames", 0, "frames of the window; 0: as many as the model wants")
	f.IntVar(&b.tokens, "tokens", 16, "tokens of the answer at most")
	f.Uint64Var(&b.seed, "seed", 1, "of the kitchen")
	f.BoolVar(&b.evidence, "evidence", false, "ask for evidence as well")
	f.StringVar(&b.peer, "peer", "", "a Python with torch and transformers, which runs the same stages: compare with it")
	f.StringVar(&b.question, "question", "Where is the sink from where I stand now?", "what is asked")
	return cmd
}

// stageTable writes a line for each stage that has ended.
type stageTable struct {
	w       io.Writer
	start   time.Time
	seconds map[string]float64 // by stage
	peak    int64              // bytes, of all
}

// next says how the stage ended that began last, and begins another.
func (s *stageTable) next(stage string, note string) error {
	took := time.Since(s.start).Seconds()
	m, err := readMemory()
	if err != nil {
		return err
	}
	s.seconds[stage] = took
	s.peak = max(s.peak, m.peak)
	s.line(stage, fmt.Sprintf("%.2f", took), gigabytes(m.peak), gigabytes(m.resident), gigabytes(m.own), gigabytes(m.swap), note)
	if err := resetPeak(); err != nil {
		return err
	}
	s.start = time.Now()
	return nil
}

func (s *stageTable) line(stage, seconds, peak, resident, own, swapped, note string) {
	fmt.Fprintf(s.w, "%-8s %9s  %11s  %9s  %15s  %7s  %s\n", stage, seconds, peak, resident, own, swapped, note)
}

func (b benchAnswer) run(ctx context.Context, a *app) error {
	if b.frames < 0 || b.tokens < 1 {
		return usageError{fmt.Errorf("--frames is %d and --tokens %d, expected at least 0 and 1", b.frames, b.tokens)}
	}
	if b.peer != "" {
		if _, err := exec.LookPath(b.peer); err != nil {
			return usageError{fmt.Errorf("--peer: %w", err)}
		}
	}
	if _, err := ort.OpenDefault(); err != nil {
		return err
	}
	sample, err := kitchen.NewSample(b.seed, kitchen.SampleOptions{Width: 640, Height: 480, Frames: max(2, b.frames), Windows: 1, Questions: 1})
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	if err := resetPeak(); err != nil {
		return err
	}
	s := stageTable{w: a.out, start: time.Now(), seconds: map[string]float64{}}
	s.line("stage", "seconds", "peak memory", "resident", "of that its own", "swapped", "")
	n, err := a.load(ctx, &b.model)
	if err != nil {
		return err
	}
	defer n.Close()
	if err := s.next("load", ""); err != nil {
		return err
	}
	if b.peer != "" { // it warms up, too
		quiet := stageTable{w: io.Discard, start: time.Now(), seconds: map[string]float64{}}
		req, err := b.request(ctx, a, n, sample, &quiet)
		if err != nil {
			return err
		}
		if _, err := n.Answer(ctx, req, nil); err != nil {
			return err
		}
		s.start = time.Now()
	}
	req, err := b.request(ctx, a, n, sample, &s)
	if err != nil {
		return err
	}
	var stage stllm.Stage
	var broken error
	ended := func(next stllm.Stage) {
		if stage != "" && stage != next && broken == nil {
			broken = s.next(string(stage), "")
		}
		stage = next
	}
	ans, err := n.Answer(ctx, req, func(p stllm.Progress) {
		ended(p.Stage)
		if p.Stage == stllm.StageDecode {
			a.log.Debug().Int("tokens", p.Tokens).Msg("decode")
		}
	})
	if err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	if err := s.next(string(stage), fmt.Sprintf("%d tokens", ans.NewTokens)); err != nil {
		return err
	}
	var prefill, decode float64
	for _, t := range ans.Timings {
		switch t.Stage {
		case stllm.StagePrefill:
			prefill = t.Duration.Seconds()
		case stllm.StageDecode:
			decode = t.Duration.Seconds()
		}
	}
	fmt.Fprintf(a.out, "\n%d frames, %d voxels, %d tokens of prompt; prefill %.1f tok/s, decode %.2f tok/s; %s\n%q\n", len(req.Frames), req.Map.Voxels(),
		ans.PromptTokens, float64(ans.PromptTokens)/prefill, float64(max(1, ans.NewTokens-1))/decode, ans.Finish, ans.Text)
	if b.peer == "" {
		return nil
	}
	dir, err := b.model.folder(ctx)
	if err != nil {
		return err
	}
	return comparePeer(ctx, a.out, b.peer, b.model.opt.Threads, answered{seconds: s.seconds, peak: s.peak, types: n.Types(), dir: dir, frames: len(req.Frames),
		voxels: req.Map.Voxels(), prompt: ans.PromptTokens, text: len(strings.Fields(b.question)) + 6, decoded: ans.NewTokens})
}

// request encodes frames and map.
func (b benchAnswer) request(ctx context.Context, a *app, n *stllm.Network, sample *kitchen.Sample, s *stageTable) (stllm.Request, error) {
	req := stllm.Request{Question: b.question, Evidence: b.evidence, Decoding: stllm.Decoding{MaxNewTokens: b.tokens}}
	frames := b.frames
	if frames == 0 {
		frames = n.Frames()
	}
	bar := a.progress("frames")
	for i := range frames {
		at := sample.Frames[i%len(sample.Frames)] // of a window that is longer than the sample, pictures come twice
		img := &imaging.RGB{Width: sample.View.Width, Height: sample.View.Height, Pix: at.RGB}
		features, err := n.EncodeFrame(ctx, img)
		if err != nil {
			return req, err
		}
		req.Frames = append(req.Frames, stllm.Frame{Stamp: int64(i) * 5e8, Pose: at.Pose, Width: img.Width, Height: img.Height, Features: features,
			K: [9]float64{sample.View.FX, 0, sample.View.CX, 0, sample.View.FY, sample.View.CY, 0, 0, 1}})
		bar.set(i+1, frames)
	}
	bar.done()
	if err := s.next("vision", fmt.Sprintf("%d frames, %.2f s each", frames, time.Since(s.start).Seconds()/float64(frames))); err != nil {
		return req, err
	}
	var err error
	if req.Map, err = n.EncodeMap(ctx, sample.Cloud); err != nil {
		return req, err
	}
	return req, s.next("points", fmt.Sprintf("%d voxels", req.Map.Voxels()))
}
