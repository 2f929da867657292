package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/ort/orttest"
	"github.com/stllm/stllm/node/trainer/weights"
)

// A run that is told to stop keeps every step that it has taken, whether it was waiting for a batch or computing.
func TestStopKeepsSteps(t *testing.T) {
	env := orttest.Environment(t)
	for range 20 { // which of the two it is doing is left to chance
		w := weights.NewSet()
		w.Put(&weights.Tensor{Name: "w", Shape: []int{4}, Data: []float32{1, 2, 3, 4}})
		g := graph.New("stop")
		d := g.Sub(g.Input("w", graph.Float32, graph.D(4)), g.Input("x", graph.Float32, graph.D(4)))
		p, err := newProgram(env, g, w, g.Sum(g.Mul(d, d), 0, false), nil, ort.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		runs, kept := 0, -1
		s := &stage{name: "stop", steps: 100, micro: 1, program: p, opt: newAdamW(Group{Rate: 1}), schedule: Schedule{Peak: 1e-3},
			make: func(int, *rand.Rand) (Batch, error) {
				return Batch{"x": {Shape: []int{4}, Float32s: make([]float32, 4)}}, nil
			},
			after: func(map[string][]float32) error {
				if runs++; runs == 5 {
					cancel()
				}
				return nil
			},
		}
		err = s.run(ctx, 1, 0, 1, io.Discard, func(Point) {}, func(done int) error { kept = done; return nil }, time.Hour)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, expected that it was cancelled", err)
		}
		if kept != s.opt.step || kept < 5 {
			t.Fatalf("%d steps were kept of %d", kept, s.opt.step)
		}
		if err := p.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A line that was cut off goes; the lines before it and those that follow stay.
func TestLogAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.jsonl")
	for i, left := range []string{"", `{"stage":"tune","st`} {
		f, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, "{\"stage\":\"tune\",\"step\":%d}\n%s", i+1, left); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, `{"stage":"tune","step":3}`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := ReadLog(path)
	if err != nil || len(log) != 3 || log[0].Step != 1 || log[1].Step != 2 || log[2].Step != 3 {
		t.Errorf("%+v: %v", log, err)
	}
}
