package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/stllm/stllm/node/imaging"
	clouds "github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// TuneItem is one question with its right answer.
type TuneItem struct {
	ID       string
	Question string
	Answer   string
	Err      error // what makes the item unusable; nil for a good one
	// Open gets what the item shows. It may be called again, from several goroutines at once.
	Open func(ctx context.Context) (*Shown, error)

	n int // its place in the list; ids may come twice
}

// Shown is what an item shows.
type Shown struct {
	Frames  []ShownFrame // in order of time
	Map     *clouds.Cloud
	Seconds float64 // length of the video that the frames are from; 0: from the first to the last
}

// ShownFrame is a posed picture; the frame's features are not looked at.
type ShownFrame struct {
	stllm.Frame
	Picture *imaging.RGB
}

func (it TuneItem) check() error {
	switch {
	case it.Err != nil:
		return it.Err
	case strings.TrimSpace(it.Question) == "":
		return fmt.Errorf("item %s: the question is empty", it.ID)
	case strings.TrimSpace(it.Answer) == "":
		return fmt.Errorf("item %s has no answer to learn from", it.ID)
	case it.Open == nil:
		return fmt.Errorf("item %s has nothing to look at", it.ID)
	}
	return nil
}

// itemError is what is wrong with an item, as opposed to the run.
type itemError struct{ err error }

func (e *itemError) Error() string { return e.err.Error() }

// leaveOut notes a broken item, the first time that it is met.
func (t *Tuner) leaveOut(it TuneItem, err error) {
	t.mu.Lock()
	_, known := t.broken[it.n]
	t.broken[it.n] = err
	t.mu.Unlock()
	if !known {
		t.opt.Broken(it.ID, err)
	}
}

func (t *Tuner) isBroken(it TuneItem) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken[it.n] != nil
}

// batch is that of run n: items in an order of their own each epoch. In place of a broken one comes the next in that order, so
// that the same number gives the same item.
func (t *Tuner) batch(ctx context.Context, run int) (Batch, error) {
	n := len(t.train)
	order := rand.New(rand.NewPCG(t.recipe.Seed, uint64(1+run/n))).Perm(n)
	var last error
	for k := range n {
		it := t.train[order[(run+k)%n]]
		if t.isBroken(it) {
			continue
		}
		b, err := t.prepare(ctx, it)
		var bad *itemError
		if !errors.As(err, &bad) {
			return b, err
		}
		t.leaveOut(it, bad.err)
		last = bad.err
	}
	if last == nil {
		last = errors.New("see above")
	}
	return nil, fmt.Errorf("none of the %d items can be trained on; the last: %w", n, last)
}

// prepare makes an item's batch: frozen features, rays and text. What the item itself has wrong is an *itemError.
func (t *Tuner) prepare(ctx context.Context, it TuneItem) (Batch, error) {
	fault := func(err error) error {
		return &itemError{fmt.Errorf("item %s: %w", it.ID, err)}
	}
	sort := func(err error) error {
		var input *stllm.InputError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &input):
			return fault(err)
		}
		return fmt.Errorf("item %s: %w", it.ID, err)
	}
	shown, err := it.Open(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		err = shown.check()
	}
	if err != nil {
		return nil, fault(err)
	}
	s := seen{frames: len(shown.Frames)}
	frames := make([]stllm.Frame, len(shown.Frames))
	times := make([]float64, len(shown.Frames))
	for i, f := range shown.Frames {
		frames[i] = f.Frame
		times[i] = float64(f.Stamp-shown.Frames[0].Stamp) / 1e9
		features, err := t.cache.get("frame-"+pictureKey(f.Picture), func() ([]float32, error) { return t.frozen.Picture(ctx, f.Picture) })
		if err != nil {
			return nil, sort(err)
		}
		s.features = append(s.features, features...)
	}
	m, points, err := t.frozen.Map(ctx, shown.Map, func(encode func() ([]float32, error)) ([]float32, error) {
		return t.cache.get("map-"+shown.Map.ID(), encode)
	})
	if err != nil {
		return nil, sort(err)
	}
	s.points = points
	if s.imageRays, s.pointRays, err = t.frozen.Rays(frames, m); err != nil {
		return nil, sort(err)
	}
	seconds := shown.Seconds
	if seconds == 0 {
		seconds = times[len(times)-1]
	}
	text, err := t.text.Training(it.Question, it.Answer, times, seconds)
	if err != nil {
		return nil, fault(err)
	}
	b, err := s.batch(t.cfg, t.table, text)
	if err != nil {
		return nil, fault(err)
	}
	return b, nil
}

func (s *Shown) check() error {
	if s.Map == nil || s.Map.Len() == 0 {
		return errors.New("it has no map")
	}
	if len(s.Frames) == 0 {
		return errors.New("it has no frames")
	}
	for i, f := range s.Frames {
		switch {
		case f.Picture == nil:
			return fmt.Errorf("frame %d has no picture", i)
		case f.Width < 1 || f.Height < 1:
			return fmt.Errorf("frame %d: intrinsics of a picture of %d × %d", i, f.Width, f.Height)
		case i > 0 && f.Stamp < s.Frames[i-1].Stamp:
			return fmt.Errorf("frame %d is earlier than the one before it", i)
		}
	}
	return s.Map.Validate()
}

// pictureKey names a picture by what it shows.
func pictureKey(p *imaging.RGB) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d ", p.Width, p.Height)
	h.Write(p.Pix)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
