package stllm

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/mapped"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/generate"
	"github.com/stllm/stllm/node/stllm/prompt"
)

// Answer runs the aligner, the prefill and the decoding for one snapshot.
func (n *Network) Answer(ctx context.Context, req Request, emit func(Progress)) (Answer, error) {
	if emit == nil {
		emit = func(Progress) {}
	}
	var ans Answer
	opt, err := n.decoding(req)
	if err != nil {
		return ans, err
	}
	frames, places, err := n.inputs(req)
	if err != nil {
		return ans, err
	}
	p, err := n.prompt(req)
	if err != nil {
		return ans, err
	}
	n.answer.Lock()
	defer n.answer.Unlock()
	clock := stopwatch{ans: &ans, last: time.Now()}
	ended := func(err error) (Answer, error) {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			ans.Finish = FinishDeadline
		case errors.Is(err, context.Canceled):
			ans.Finish = FinishCancelled
		default:
			ans.Finish = FinishError
			return ans, err
		}
		return ans, nil
	}
	emit(Progress{Stage: StageAlign})
	var spatial []float32
	if !req.Ablate.NoAligner {
		if spatial, ans.Evidence, err = n.align(ctx, req, frames, places, p); err != nil {
			return ended(err)
		}
	}
	clock.lap(StageAlign)

	emit(Progress{Stage: StagePrefill})
	embeds, err := n.splice(p, spatial, frames.pooled)
	if err != nil {
		return ended(err)
	}
	ans.PromptTokens = len(embeds) / n.cfg.HiddenSize
	if err := n.fits(ans.PromptTokens); err != nil {
		return ans, err
	}
	opt.MaxNewTokens = min(opt.MaxNewTokens, n.cfg.MaxPositionEmbeddings-ans.PromptTokens)
	if opt.Constraint, err = ending(opt.Constraint, req, opt.MaxNewTokens); err != nil {
		return ans, err
	}
	d, err := n.newDecode(max(1, opt.NumBeams), ans.PromptTokens+opt.MaxNewTokens)
	if err != nil {
		return ended(err)
	}
	defer d.close()
	logits, cached, err := d.prefill(ctx, embeds, p.Prefix())
	ans.CachedTokens = cached
	if err != nil {
		return ended(err)
	}
	clock.lap(StagePrefill)

	emit(Progress{Stage: StageDecode})
	stream := n.tok.Stream(true)
	say := func(delta string) {
		ans.Text += delta
		emit(Progress{Stage: StageDecode, Tokens: ans.NewTokens, Delta: delta})
	}
	result, err := generate.Run(ctx, d, logits, opt, func(id int32) {
		ans.NewTokens++
		say(stream.Push(id))
	})
	if rest := stream.Flush(); rest != "" {
		say(rest)
	}
	clock.lap(StageDecode)
	if err != nil {
		return ended(err)
	}
	ans.Finish = FinishStop
	if result.Reason == generate.Length {
		ans.Finish = FinishLength
	}
	return ans, nil
}

// stopwatch notes how long each stage took.
type stopwatch struct {
	ans  *Answer
	last time.Time
}

func (s *stopwatch) lap(stage Stage) {
	now := time.Now()
	s.ans.Timings = append(s.ans.Timings, Timing{stage, now.Sub(s.last)})
	s.last = now
}

func (n *Network) decoding(req Request) (generate.Options, error) {
	d := req.Decoding
	opt := generate.Options{
		MaxNewTokens: d.MaxNewTokens, EOS: n.eos, DoSample: d.DoSample, NumBeams: d.NumBeams, Temperature: d.Temperature, TopP: d.TopP,
		TopK: d.TopK, RepetitionPenalty: d.RepetitionPenalty, LengthPenalty: d.LengthPenalty, Seed: d.Seed,
	}
	for v, standard := range map[*float64]float64{&opt.Temperature: 1, &opt.TopP: 1, &opt.RepetitionPenalty: 1, &opt.LengthPenalty: 1} {
		if *v == 0 {
			*v = standard
		}
	}
	if opt.MaxNewTokens == 0 {
		opt.MaxNewTokens = generate.Defaults().MaxNewTokens
	}
	form, err := n.form(req)
	if err != nil {
		return opt, err
	}
	if form != nil {
		opt.Constraint = form
	}
	return opt, opt.Validate()
}

// inputs unpacks the features and checks that they are this model's.
func (n *Network) inputs(req Request) (*frameFeatures, *mapFeatures, error) {
	if len(req.Frames) == 0 {
		return nil, nil, errors.New("answer: the request has no frames")
	}
	places, ok := req.Map.(*mapFeatures)
	if !ok {
		return nil, nil, fmt.Errorf("answer: map features are a %T, which this model did not make", req.Map)
	}
	var all frameFeatures
	for i, f := range req.Frames {
		ff, ok := f.Features.(*frameFeatures)
		if !ok {
			return nil, nil, fmt.Errorf("answer: features of frame %d are a %T, which this model did not make", i, f.Features)
		}
		all.pooled = append(all.pooled, ff.pooled...)
		all.patches = append(all.patches, ff.patches...)
	}
	if req.Ablate.NoVideo {
		clear(all.pooled)
		all.patches = nil
	}
	if req.Ablate.NoPoints {
		blind := *places
		blind.features = make([]float32, len(places.features))
		if n.cfg.RobotConfig != nil {
			// Without a map there are no voxels, and no ray ends anywhere.
			blind = mapFeatures{size: places.size, min: places.min}
		}
		places = &blind
	}
	return &all, places, nil
}

func (n *Network) prompt(req Request) (prompt.Prompt, error) {
	first, last := req.Frames[0].Stamp, req.Frames[len(req.Frames)-1].Stamp
	times := make([]float64, len(req.Frames))
	for i, f := range req.Frames {
		times[i] = float64(f.Stamp-first) / 1e9
	}
	seconds := req.Seconds
	if seconds == 0 {
		seconds = float64(last-first) / 1e9
	}
	p, err := n.prompts.Build(req.Question, times, seconds)
	if err != nil {
		return p, &QuestionError{Reason: err.Error()}
	}
	if limit := req.MaxQuestionTokens; limit > 0 {
		if tokens := len(n.tok.Encode(req.Question)); tokens > limit {
			return p, &QuestionError{TooLong: true, Reason: fmt.Sprintf("it has %d tokens, max_question_tokens is %d", tokens, limit)}
		}
	}
	return p, n.fits(len(p.IDs)) // before the aligner reads all of it
}

// fits refuses a prompt that leaves no room for an answer.
func (n *Network) fits(tokens int) error {
	if tokens < n.cfg.MaxPositionEmbeddings {
		return nil
	}
	return &QuestionError{TooLong: true, Reason: fmt.Sprintf("the prompt has %d tokens or more, the model takes %d with the answer; ask a shorter question or use fewer frames",
		tokens, n.cfg.MaxPositionEmbeddings)}
}

// alignerRays are the encodings of where things are.
type alignerRays struct{ images, points, patches []float32 }

// onHeap is room for n numbers in Go's memory.
func onHeap(n int) ([]float32, error) { return make([]float32, n), nil }

// aside is room for numbers outside of it, which there is until the map's encodings have been used: the published ones of a large map
// are hundreds of megabytes.
func aside(to **mapped.File) func(n int) ([]float32, error) {
	return func(n int) ([]float32, error) {
		m, err := mapped.Anonymous(4 * n)
		if err != nil || n == 0 {
			return nil, err
		}
		*to = m
		return unsafe.Slice((*float32)(unsafe.Pointer(&m.Data[0])), n), nil
	}
}

// directions computes the ray encodings of the window and of the map; those of the map may take what room gives.
func (n *Network) directions(req Request, places *mapFeatures, room func(n int) ([]float32, error)) (alignerRays, error) {
	if n.cfg.RobotConfig != nil {
		return n.robotPlaces(req, places)
	}
	var out alignerRays
	poses := make([]rays.Pose, len(req.Frames))
	for i, f := range req.Frames {
		poses[i] = rays.VoxelPose(rays.Pose(f.Pose.Matrix()), places.size, places.min)
	}
	f, size := req.Frames[0], n.cfg.VisionConfig.ImageSize
	k := rays.ScaleK(f.K, f.Width, f.Height, size)
	var patch, point []float32
	var err error
	if n.cfg.Profile == config.Robot {
		if patch, err = rays.CleanPatchRays(poses, k, size, n.cfg.PooledGrid()); err == nil {
			point, err = rays.CleanPointRays(places.coords, poses[0])
		}
	} else {
		if patch, err = rays.PatchRays(poses, k, size, n.cfg.PooledGrid()); err == nil {
			_, point, err = rays.PointRays(places.coords, poses[0])
		}
	}
	if err != nil {
		return out, fmt.Errorf("rays: %w", err)
	}
	if out.points, err = room(len(point) / 3 * n.fourier.Width(3)); err != nil {
		return out, fmt.Errorf("encode rays: %w", err)
	}
	if n.cfg.Profile == config.Robot {
		f := rays.NewFourier(rays.PublishedFrequencies())
		if out.images, err = f.Encode(patch, 3); err == nil {
			err = f.EncodeInto(out.points, point, 3)
		}
	} else if out.images, err = n.fourier.Encode(patch, 3); err == nil {
		err = n.fourier.EncodePointsInto(out.points, point)
	}
	if err != nil {
		return out, fmt.Errorf("encode rays: %w", err)
	}
	return out, nil
}

// align runs the Q-Former and returns the spatial tokens [queries·LLM].
func (n *Network) align(ctx context.Context, req Request, frames *frameFeatures, places *mapFeatures, p prompt.Prompt) ([]float32, *Evidence, error) {
	if n.cfg.STLLM3D {
		spatial, err := n.project(ctx, places)
		return spatial, nil, err
	}
	var pointRays *mapped.File
	enc, err := n.directions(req, places, aside(&pointRays))
	defer func() { _ = pointRays.Close() }() // an address that Mmap gave
	if err != nil {
		return nil, nil, err
	}
	text, err := n.embed(p.QFormer)
	if err != nil {
		return nil, nil, err
	}
	c := n.cfg
	in := ort.Values{}
	defer in.Close()
	inputs := []struct {
		name  string
		data  []float32
		width int
	}{
		{"images", frames.pooled, c.ImgEncoderFeatureDim}, {"image_rays", enc.images, c.ImageColumns()}, {"text", text, c.HiddenSize},
		{"points", places.features, c.PcdFeatureDim}, {"point_rays", enc.points, c.PointColumns()},
		{"patches", frames.patches, c.HiddenSize}, {"patch_rays", enc.patches, c.PointColumns()},
	}
	if c.RobotConfig == nil || !c.RobotConfig.PatchMemory {
		inputs = inputs[:5]
	}
	for _, t := range inputs {
		if len(t.data) == 0 {
			t.data = make([]float32, t.width) // a modality that is left out is one empty row, in training as here
		}
		if len(t.data)%t.width != 0 {
			return nil, nil, fmt.Errorf("align: %s has %d numbers in rows of %d", t.name, len(t.data), t.width)
		}
		if in[t.name], err = ort.New(t.data, len(t.data)/t.width, t.width); err != nil {
			return nil, nil, fmt.Errorf("align: %s: %w", t.name, err)
		}
	}
	session := n.aligner
	if req.Evidence {
		n.looking.Do(func() { n.looker, n.lookErr = n.alignerSession(true) })
		if n.lookErr != nil {
			return nil, nil, fmt.Errorf("align: %w", n.lookErr)
		}
		session = n.looker
	}
	rows := c.QFormerConfig.NumQueryTokens
	if c.RobotConfig != nil && c.RobotConfig.SequenceTokens {
		rows += in["images"].Shape()[0] + in["text"].Shape()[0]
	}
	spatial := make([]float32, rows*c.HiddenSize)
	prefix, err := ort.New(spatial, rows, c.HiddenSize)
	if err != nil {
		return nil, nil, fmt.Errorf("align: %w", err)
	}
	// What ONNX Runtime allocates for an output keeps much of a run's memory from being given back with it.
	out, err := session.Run(ctx, in, ort.Values{"prefix": prefix})
	if err != nil {
		prefix.Close()
		return nil, nil, err
	}
	defer out.Close()
	var evidence *Evidence
	if req.Evidence {
		if evidence, err = n.evidence(out, len(req.Frames), len(p.QFormer), places); err != nil {
			return nil, nil, err
		}
	}
	return spatial, evidence, nil
}

// project gives STLLM-3D's spatial tokens: one for every place of the map [N·LLM]. Nothing looks at them before the language
// model does, so there is no evidence.
func (n *Network) project(ctx context.Context, places *mapFeatures) ([]float32, error) {
	width := n.cfg.PcdFeatureDim
	if len(places.features) == 0 {
		return nil, nil // left out
	}
	rows := len(places.features) / width
	points, err := ort.New(places.features, rows, width)
	if err != nil {
		return nil, fmt.Errorf("project the map: %w", err)
	}
	defer points.Close()
	spatial := make([]float32, rows*n.cfg.HiddenSize)
	prefix, err := ort.New(spatial, rows, n.cfg.HiddenSize)
	if err != nil {
		return nil, fmt.Errorf("project the map: %w", err)
	}
	defer prefix.Close()
	if _, err := n.aligner.Run(ctx, ort.Values{"points": points}, ort.Values{"prefix": prefix}); err != nil {
		return nil, err
	}
	return spatial, nil
}

// embed looks up rows of the embedding table, which stays in its file.
func (n *Network) embed(ids []int32) ([]float32, error) {
	d := n.cfg.HiddenSize
	out := make([]float32, d*len(ids))
	for i, id := range ids {
		if err := n.table.Float32Rows(int64(id), 1, out[i*d:(i+1)*d]); err != nil {
			return nil, fmt.Errorf("embedding of token %d: %w", id, err)
		}
	}
	return out, nil
}

// splice lays out the language model's input: text, spatial tokens, and video tokens with a newline after each row of patches.
func (n *Network) splice(p prompt.Prompt, spatial, frames []float32) ([]float32, error) {
	d, grid := n.cfg.HiddenSize, n.cfg.PooledGrid()
	rows := len(frames) / d / grid
	blocks := prompt.Splice(p.IDs, len(spatial)/d, rows*(grid+1))
	out := make([]float32, 0, d*prompt.Length(blocks))
	for _, b := range blocks {
		switch b.Kind {
		case prompt.Text:
			text, err := n.embed(b.IDs)
			if err != nil {
				return nil, err
			}
			out = append(out, text...)
		case prompt.Spatial:
			out = append(out, spatial...)
		case prompt.VideoTokens:
			for r := range rows {
				out = append(out, frames[r*grid*d:(r+1)*grid*d]...)
				out = append(out, n.newline...)
			}
		}
	}
	return out, nil
}
