package metrics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is a mean with its 95 % bootstrap interval (percentiles of resampled means).
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	N    int     `json:"n"`
}

// resamples is how often a bootstrap draws; the interval's ends are then good to about a hundredth of its width.
const resamples = 2000

// Bootstrap gives the interval of a mean. The same seed and values give the same interval. Of values that are all 0, or all 1,
// every resample is the same and says nothing of those not seen: Wilson's interval of a share stands in.
func Bootstrap(values []float64, seed uint64) Interval {
	in := bootstrap(values, seed)
	if in.Low != in.High || in.N == 0 {
		return in
	}
	const z2 = 1.959964 * 1.959964
	n := float64(in.N)
	switch in.Mean {
	case 0:
		in.High = z2 / (n + z2)
	case 1:
		in.Low = n / (n + z2)
	}
	return in
}

func bootstrap(values []float64, seed uint64) Interval {
	n := len(values)
	if n == 0 {
		return Interval{Mean: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	means := make([]float64, resamples)
	for i := range means {
		sum := 0.0
		for range n {
			sum += values[r.IntN(n)]
		}
		means[i] = sum / float64(n)
	}
	slices.Sort(means)
	return Interval{Mean: mean(values), Low: means[resamples*25/1000], High: means[resamples*975/1000], N: n}
}

// Comparison is a paired test of two runs over the same items.
type Comparison struct {
	Difference Interval `json:"difference"` // B minus A
	P          float64  `json:"p"`          // two-sided, of no difference
}

// Compare pairs the items of two runs: the bootstrap interval of the mean difference and the p value of a sign-flip
// permutation test.
func Compare(a, b []float64, seed uint64) (Comparison, error) {
	if len(a) != len(b) || len(a) == 0 {
		return Comparison{}, fmt.Errorf("compare two runs: %d and %d items, expected the same number and at least one", len(a), len(b))
	}
	d := make([]float64, len(a))
	for i := range d {
		d[i] = b[i] - a[i]
	}
	observed := math.Abs(mean(d))
	r := rand.New(rand.NewPCG(seed, 1))
	atLeast := 1 // the observed one is one of the permutations
	for range resamples {
		sum := 0.0
		for _, v := range d {
			if r.Uint32()&1 == 0 {
				v = -v
			}
			sum += v
		}
		if math.Abs(sum/float64(len(d))) >= observed-1e-12 {
			atLeast++
		}
	}
	return Comparison{Difference: bootstrap(d, seed), P: float64(atLeast) / (resamples + 1)}, nil
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// Confusion counts how often each true label was answered with each label.
type Confusion struct {
	Labels []string `json:"labels"` // sorted; rows and columns
	Counts [][]int  `json:"counts"` // [truth][answer]
}

// Confuse builds the matrix from pairs of truth and answer; an answer without a label counts as "(none)".
func Confuse(truth, answer []string) (Confusion, error) {
	if len(truth) != len(answer) {
		return Confusion{}, fmt.Errorf("confusion matrix: %d truths and %d answers", len(truth), len(answer))
	}
	index := map[string]int{}
	name := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	var c Confusion
	for _, list := range [][]string{truth, answer} {
		for _, s := range list {
			if _, ok := index[name(s)]; !ok {
				index[name(s)] = 0
				c.Labels = append(c.Labels, name(s))
			}
		}
	}
	slices.Sort(c.Labels)
	for i, l := range c.Labels {
		index[l] = i
		c.Counts = append(c.Counts, make([]int, len(c.Labels)))
	}
	for i := range truth {
		c.Counts[index[name(truth[i])]][index[name(answer[i])]]++
	}
	return c, nil
}
