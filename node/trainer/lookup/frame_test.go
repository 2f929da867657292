package lookup

import (
	"math"
	"testing"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/kitchen"
)

// What is in use has directions of its own: none of them shares anything with a class, and little with another.
func TestUsed(t *testing.T) {
	s, err := NewSpace(config.Nano(960, 928), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Used) != len(kitchen.Usable()) {
		t.Fatalf("%d directions for %d classes", len(s.Used), len(kitchen.Usable()))
	}
	dot := func(a, b []float32) float64 {
		sum := 0.0
		for i := range a {
			sum += float64(a[i]) * float64(b[i])
		}
		return sum
	}
	worst := 0.0
	for i, u := range s.Used {
		if n := dot(u, u); math.Abs(n-1) > 1e-5 {
			t.Errorf("direction %d has the length² %v", i, n)
		}
		for k, v := range s.Direction {
			if math.Abs(dot(u, v)) > 1e-5 {
				t.Errorf("direction %d shares %v with class %d", i, dot(u, v), k)
			}
		}
		for _, v := range s.Used[:i] {
			worst = max(worst, math.Abs(dot(u, v)))
		}
	}
	if worst > 0.25 {
		t.Errorf("two directions share %.2f, expected at most 0.25", worst)
	}
	t.Log(kitchen.Usable(), worst)
}
