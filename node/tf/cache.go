package tf

import (
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// sample is one transform of a frame to its parent at one time.
type sample struct {
	stamp  int64
	parent string
	pose   geometry.Transform
}

// cache holds the transforms of one child frame: sorted by stamp, oldest first, or a single static one.
type cache struct {
	static  bool
	samples []sample
}

// latest is the newest stamp and its parent; a static transform has stamp 0, as it holds at all times.
func (c *cache) latest() (int64, string) {
	if len(c.samples) == 0 {
		return 0, ""
	}
	s := c.samples[len(c.samples)-1]
	if c.static {
		return 0, s.parent
	}
	return s.stamp, s.parent
}

// insert keeps samples in order. Data older than the cache, relative to the newest stamp, is refused; of two samples with the
// same stamp the later one counts as the newer. dropped is how many samples of that stamp had to go: lookups use the first
// and the last alone.
func (c *cache) insert(s sample, keep int64) (dropped int, ok bool) {
	if c.static {
		c.samples = append(c.samples[:0], s)
		return 0, true
	}
	if n := len(c.samples); n > 0 {
		if s.stamp < c.samples[n-1].stamp-keep {
			return 0, false
		}
	}
	at := sort.Search(len(c.samples), func(i int) bool { return c.samples[i].stamp > s.stamp })
	for i := at - 1; i >= 0 && c.samples[i].stamp == s.stamp; i-- {
		if c.samples[i] == s {
			return 0, true
		}
	}
	if first := at - maxSameStamp; first >= 0 && c.samples[first].stamp == s.stamp {
		c.samples = slices.Delete(c.samples, first+1, first+2)
		at--
		dropped = 1
	}
	c.samples = slices.Insert(c.samples, at, s)
	c.prune(c.samples[len(c.samples)-1].stamp - keep)
	return dropped, true
}

func (c *cache) prune(before int64) {
	n := 0
	for n < len(c.samples) && c.samples[n].stamp < before {
		n++
	}
	if n > 0 {
		c.samples = append(c.samples[:0], c.samples[n:]...)
	}
	if cap(c.samples) > 1024 && len(c.samples) < cap(c.samples)/4 {
		c.samples = slices.Clone(c.samples) // what one burst needed is not held for ever
	}
}

// at finds the transform at a stamp (0: the newest), interpolated between neighbours; where those have different parents the
// older one counts. It never extrapolates.
func (c *cache) at(stamp int64) (sample, *ExtrapolationError) {
	n := len(c.samples)
	switch {
	case n == 0:
		return sample{}, &ExtrapolationError{Kind: NoData, Requested: stamp}
	case c.static:
		s := c.samples[0]
		s.stamp = stamp
		return s, nil
	case stamp == 0, c.samples[n-1].stamp == stamp:
		return c.samples[n-1], nil
	case n == 1:
		return sample{}, &ExtrapolationError{Kind: OneSample, Requested: stamp, Bound: c.samples[0].stamp}
	case c.samples[0].stamp == stamp:
		return c.samples[0], nil
	case stamp > c.samples[n-1].stamp:
		return sample{}, &ExtrapolationError{Kind: Forward, Requested: stamp, Bound: c.samples[n-1].stamp}
	case stamp < c.samples[0].stamp:
		return sample{}, &ExtrapolationError{Kind: Backward, Requested: stamp, Bound: c.samples[0].stamp}
	}
	at := sort.Search(n, func(i int) bool { return c.samples[i].stamp > stamp })
	older, newer := c.samples[at-1], c.samples[at]
	if older.parent != newer.parent {
		return older, nil
	}
	return interpolate(older, newer, stamp), nil
}

func interpolate(a, b sample, stamp int64) sample {
	if a.stamp == b.stamp {
		return b
	}
	t := float64(stamp-a.stamp) / float64(b.stamp-a.stamp)
	out := a
	out.pose.Translation = r3.Add(r3.Scale(1-t, a.pose.Translation), r3.Scale(t, b.pose.Translation))
	out.pose.Rotation = slerp(a.pose.Rotation, b.pose.Rotation, t)
	return out
}

// slerp goes the short way round; equal rotations stay as they are.
func slerp(a, b quat.Number, t float64) quat.Number {
	dot := a.Real*b.Real + a.Imag*b.Imag + a.Jmag*b.Jmag + a.Kmag*b.Kmag
	if dot < 0 {
		b, dot = quat.Scale(-1, b), -dot
	}
	theta := math.Acos(min(1, dot/(quat.Abs(a)*quat.Abs(b))))
	if theta == 0 {
		return a
	}
	d := 1 / math.Sin(theta)
	return quat.Add(quat.Scale(math.Sin((1-t)*theta)*d, a), quat.Scale(math.Sin(t*theta)*d, b))
}
