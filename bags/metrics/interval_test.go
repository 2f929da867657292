package metrics

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The interval holds the true mean in about 95 of 100 samples.
func TestBootstrapCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	covered := 0
	const trials = 200
	for trial := range trials {
		values := make([]float64, 80)
		for i := range values {
			if r.Float64() < 0.7 {
				values[i] = 1
			}
		}
		in := Bootstrap(values, uint64(trial))
		if in.Low > in.Mean || in.High < in.Mean || in.N != 80 {
			t.Fatalf("interval %+v does not hold its mean", in)
		}
		if in.Low <= 0.7 && 0.7 <= in.High {
			covered++
		}
	}
	if covered < trials*88/100 || covered == trials {
		t.Errorf("%d of %d intervals hold the true mean", covered, trials)
	}
	if a, b := Bootstrap([]float64{1, 0, 1, 1}, 3), Bootstrap([]float64{1, 0, 1, 1}, 3); a != b {
		t.Errorf("the same seed gave %+v and %+v", a, b)
	}
	// The bounds of 8 of 8 and of 0 of 8 by Wilson's formula.
	for value, want := range map[float64][2]float64{1: {0.6756, 1}, 0: {0, 0.3244}} {
		in := Bootstrap(slices.Repeat([]float64{value}, 8), 1)
		if in.Mean != value || math.Abs(in.Low-want[0]) > 1e-4 || math.Abs(in.High-want[1]) > 1e-4 {
			t.Errorf("eight times %v: %+v, expected %v", value, in, want)
		}
	}
	if in := Bootstrap([]float64{0.5, 0.5}, 1); in.Low != 0.5 || in.High != 0.5 {
		t.Errorf("twice a half: %+v", in)
	}
	if !math.IsNaN(Bootstrap(nil, 1).Mean) {
		t.Error("nothing has a mean")
	}
}

func TestCompare(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	a, better, same := make([]float64, 200), make([]float64, 200), make([]float64, 200)
	for i := range a {
		a[i], same[i] = math.Round(r.Float64()), math.Round(r.Float64())
		better[i] = math.Max(a[i], math.Round(r.Float64()*0.9))
	}
	c, err := Compare(a, better, 1)
	if err != nil || c.P > 0.01 || c.Difference.Low <= 0 {
		t.Errorf("a better run: %+v, %v", c, err)
	}
	if c, _ = Compare(a, a, 1); c.P != 1 || c.Difference.Mean != 0 {
		t.Errorf("a run against itself: %+v", c)
	}
	if c, _ = Compare(a, same, 1); c.P < 0.01 {
		t.Errorf("two coin flippers differ: %+v", c)
	}
	if _, err := Compare(a, a[:3], 1); err == nil {
		t.Error("runs of different length were compared")
	}
}

func TestConfuse(t *testing.T) {
	c, err := Confuse([]string{"left", "left", "right"}, []string{"left", "right", ""})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Labels) != 3 || c.Labels[0] != "(none)" || c.Counts[1][1] != 1 || c.Counts[1][2] != 1 || c.Counts[2][0] != 1 {
		t.Errorf("%+v", c)
	}
}
