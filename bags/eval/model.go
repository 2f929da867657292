package eval

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// keptFrames and keptMaps are how many features stay for the items that follow: questions about one scene share them.
const (
	keptFrames = 256
	keptMaps   = 4
)

// Model has an ST-LLM answer. What a run keeps back is replaced by something that is the same for all items: a grey picture,
// one camera that stands still, a flat grey map, with the model's own switches on top, which zero the features.
type Model struct {
	model    stllm.Model
	decoding stllm.Decoding
	evidence bool
	video    bool // from video and text alone
	frames   *cache[*imaging.RGB, stllm.FrameFeatures]
	maps     *cache[*scene.Cloud, stllm.MapFeatures]
	grey     *imaging.RGB
	flat     *scene.Cloud

	mu    sync.Mutex
	spent Encoding
}

// Encoding is what was encoded for answers, which share it, and how long that took in all.
type Encoding struct {
	Frames, Maps         int
	FramesTook, MapsTook time.Duration
}

// Encoding tells what was encoded so far.
func (m *Model) Encoding() Encoding {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spent
}

// encoded adds what began at start.
func (m *Model) encoded(start time.Time, number *int, took *time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*number++
	*took += time.Since(start)
}

// NewModel makes an answerer of a model; evidence asks it where it looked.
func NewModel(m stllm.Model, d stllm.Decoding, evidence bool) *Model {
	return &Model{model: m, decoding: d, evidence: evidence, frames: newCache[*imaging.RGB, stllm.FrameFeatures](keptFrames),
		maps: newCache[*scene.Cloud, stllm.MapFeatures](keptMaps), grey: greyPicture(), flat: flatMap()}
}

// NewVideoModel makes an answerer of the same graph without map and aligner, as LLaVA prompts: pictures and text alone.
func NewVideoModel(m stllm.Model, d stllm.Decoding) *Model {
	out := NewModel(m, d, false)
	out.video = true
	return out
}

// ID names the weights.
func (m *Model) ID() string { return m.model.ID() }

// greyPicture is what stands for a picture that is kept back: 640 × 480 pixels of medium grey.
func greyPicture() *imaging.RGB {
	p := &imaging.RGB{Width: 640, Height: 480, Pix: make([]uint8, 3*640*480)}
	for i := range p.Pix {
		p.Pix[i] = scene.Grey
	}
	return p
}

// flatMap is what stands for a map that is kept back: a floor of 4 m × 4 m with a point every 20 cm.
func flatMap() *scene.Cloud {
	c := &scene.Cloud{}
	for x := range 21 {
		for y := range 21 {
			c.XYZ = append(c.XYZ, float64(x)/5-2, float64(y)/5-2, 0)
			c.RGB = append(c.RGB, scene.Grey, scene.Grey, scene.Grey)
		}
	}
	return c
}

// Answer encodes what is not encoded yet and asks.
func (m *Model) Answer(ctx context.Context, q Query) (Reply, error) {
	req := stllm.Request{Question: q.Question, Task: q.Task, Seconds: q.Clip.Seconds, Decoding: m.decoding, Evidence: m.evidence && q.Run == None,
		Choices: q.Choices, Plan: q.Task == stllm.TaskPlanning && len(q.Choices) == 0}
	cloud := q.Clip.Map
	if cloud == nil || m.video {
		cloud, req.Ablate.NoPoints = m.flat, true
	}
	req.Ablate.NoAligner = m.video
	var err error
	if req.Map, err = m.maps.get(cloud, func() (stllm.MapFeatures, error) {
		defer m.encoded(time.Now(), &m.spent.Maps, &m.spent.MapsTook)
		return m.model.EncodeMap(ctx, cloud)
	}); err != nil {
		return Reply{}, fmt.Errorf("encode the map of item %s: %w", q.ID, err)
	}
	frames := q.Clip.Frames
	if len(frames) == 0 {
		frames = m.still()
	}
	for i, f := range frames {
		p := f.Picture
		if p == nil {
			p, req.Ablate.NoVideo = m.grey, true
		}
		features, err := m.frames.get(p, func() (stllm.FrameFeatures, error) {
			defer m.encoded(time.Now(), &m.spent.Frames, &m.spent.FramesTook)
			return m.model.EncodeFrame(ctx, p)
		})
		if err != nil {
			return Reply{}, fmt.Errorf("encode frame %d of item %s: %w", i, q.ID, err)
		}
		req.Frames = append(req.Frames, stllm.Frame{Stamp: f.Stamp, Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height, Features: features, Depth: f.Depth})
	}
	a, err := m.model.Answer(ctx, req, nil)
	if err != nil {
		return Reply{}, fmt.Errorf("answer item %s: %w", q.ID, err)
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, err // the answer stopped in the middle
	}
	return Reply{a.Text, a.Evidence}, nil
}

// still are the frames of a blind run: as many as the model wants, one second apart, from a camera that does not move.
func (m *Model) still() []Frame {
	frames := make([]Frame, m.model.Frames())
	for i := range frames {
		frames[i] = Frame{Stamp: int64(i) * 1e9, Pose: geometry.Identity(), K: [9]float64{460, 0, 320, 0, 460, 240, 0, 0, 1}, Width: 640, Height: 480}
	}
	return frames
}
