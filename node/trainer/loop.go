package trainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Point is one line of the training log.
type Point struct {
	Stage   string             `json:"stage"`
	Step    int                `json:"step"`
	Steps   int                `json:"steps"`
	Loss    float64            `json:"loss"` // mean since the last line
	Rate    float64            `json:"rate"`
	Norm    float64            `json:"norm"`    // of the gradient before clipping, the largest group's
	Seconds float64            `json:"seconds"` // in this stage
	Seen    int                `json:"seen"`    // questions, pictures or maps
	Figures map[string]float64 `json:"figures,omitempty"`
}

// stage is a stretch of training with one program.
type stage struct {
	name     string
	steps    int
	micro    int // runs whose gradients are summed for one step
	seen     int // of a run
	schedule Schedule
	program  runner
	opt      *AdamW
	// make gives the batch of a run; the same number gives the same batch. It is called from several goroutines.
	make func(run int, r *rand.Rand) (Batch, error)
	// after looks at what a run has shown; nil where there is nothing to see.
	after func(shown map[string][]float32) error
	// measure gives figures on held-out kitchens every so many steps and at the end.
	measure func(ctx context.Context) (map[string]float64, error)
	every   int
	line    int // steps between two lines of the log; 0: logEvery
	// step is told of every step that is done; nil where nobody watches.
	step func(stage string, done, steps int)
}

// ahead is the number of batches that are made before they are needed.
const ahead = 3

// logEvery is the number of steps between two lines of the log.
const logEvery = 20

// run goes from step first on to the end. save is called from time to time with the number of steps done.
func (s *stage) run(ctx context.Context, seed uint64, first int, workers int, log io.Writer, progress func(Point), save func(done int) error, saveEvery time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := s.feed(ctx, seed, first*s.micro, s.steps*s.micro, workers)
	start, saved := time.Now(), time.Now()
	sum, count, norm := 0.0, 0, 0.0
	line := s.line
	if line == 0 {
		line = logEvery
	}
	for step := first; step < s.steps; step++ {
		for range s.micro {
			b, err := next(ctx, batches)
			var loss float64
			var shown map[string][]float32
			if err == nil {
				loss, shown, err = s.program.run(ctx, b)
			}
			if err == nil && s.after != nil {
				err = s.after(shown)
			}
			if errors.Is(err, context.Canceled) && step > first {
				err = errors.Join(err, save(step)) // what is done is not lost
			}
			if err != nil {
				var nan *NotFiniteError
				if errors.As(err, &nan) {
					nan.Step = step
				}
				return fmt.Errorf("stage %s, step %d: %w", s.name, step, err)
			}
			sum, count = sum+loss, count+1
		}
		rate := s.schedule.at(float64(step) / float64(s.steps))
		n, err := s.opt.apply(s.program.sums(), s.micro, rate)
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.name, err)
		}
		norm = max(norm, n)
		done := step + 1
		if s.step != nil {
			s.step(s.name, done, s.steps)
		}
		measure := s.measure != nil && (s.every > 0 && done%s.every == 0 || done == s.steps)
		if done%line == 0 || done == s.steps || measure {
			p := Point{Stage: s.name, Step: done, Steps: s.steps, Loss: sum / float64(max(count, 1)), Rate: rate, Norm: norm,
				Seconds: time.Since(start).Seconds(), Seen: done * s.micro * s.seen}
			if measure {
				if p.Figures, err = s.measure(ctx); err != nil {
					return fmt.Errorf("stage %s, step %d: measure: %w", s.name, done, err)
				}
			}
			line, err := json.Marshal(p)
			if err != nil {
				return err
			}
			if _, err := log.Write(append(line, '\n')); err != nil {
				return fmt.Errorf("training log: %w", err)
			}
			progress(p)
			sum, count, norm = 0, 0, 0
		}
		if done == s.steps || time.Since(saved) > saveEvery {
			if err := save(done); err != nil {
				return err
			}
			saved = time.Now()
		}
	}
	return nil
}

// made is a batch or why there is none.
type made struct {
	batch Batch
	err   error
}

// feed makes batches ahead of the steps, several at a time and in order.
func (s *stage) feed(ctx context.Context, seed uint64, from, to, workers int) <-chan chan made {
	queue := make(chan chan made, ahead)
	go func() {
		defer close(queue)
		limit := make(chan struct{}, max(1, workers))
		for run := from; run < to; run++ {
			slot := make(chan made, 1)
			select {
			case queue <- slot:
			case <-ctx.Done():
				return
			}
			limit <- struct{}{}
			go func() {
				defer func() { <-limit }()
				b, err := s.make(run, rand.New(rand.NewPCG(seed, uint64(run)<<8|uint64(len(s.name)))))
				slot <- made{b, err}
			}()
		}
	}()
	return queue
}

func next(ctx context.Context, batches <-chan chan made) (Batch, error) {
	select {
	case slot, ok := <-batches:
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		m := <-slot
		return m.batch, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
