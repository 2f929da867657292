package lookup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/kitchen"
)

// Logit turns the product of a feature with a class direction into the logit that the class is there: Scale·product + Shift.
// It is fixed, so that products have one size in both encoders.
const (
	Scale = 8
	Shift = -4
)

// Space is the class half of the features.
type Space struct {
	Width     int         // of features
	Half      int         // of it, for classes
	Direction [][]float32 // by class, Half numbers each, orthonormal
	// Used are the directions of what is in use, one for each of [kitchen.Usable]: unit vectors in what the classes leave over,
	// nearly orthonormal (see frame). A fridge that stands open has two directions, that of fridges and that of used ones.
	Used      [][]float32
	UsedClass []int // the class of each of Used
}

// NewSpace draws the directions; the same seed gives the same space.
func NewSpace(c *config.Config, seed uint64) (*Space, error) {
	s := &Space{Width: c.PcdFeatureDim, Half: c.PcdFeatureDim / 2}
	classes := kitchen.Classes()
	if len(classes) >= s.Half {
		return nil, fmt.Errorf("look-up start: %d classes and what is in use do not fit %d features", len(classes), s.Half)
	}
	if c.HiddenSize != s.Width || c.QFormerConfig.HiddenSize < 3*s.Half || c.QFormerConfig.HiddenSize != c.QFormerConfig.NumAttentionHeads*s.Half {
		return nil, fmt.Errorf("look-up start: hidden_size %d, qformer hidden_size %d and heads %d do not fit pcd_feature_dim %d: expected the same, half as much again or more, and heads of half of it",
			c.HiddenSize, c.QFormerConfig.HiddenSize, c.QFormerConfig.NumAttentionHeads, s.Width)
	}
	r := rand.New(rand.NewPCG(seed, 0x6c6f6f6b))
	for range s.Half {
		v := make([]float64, s.Half)
		for i := range v {
			v[i] = r.NormFloat64()
		}
		for range 2 { // twice, for the digits that the first pass loses
			for _, u := range s.Direction {
				dot := 0.0
				for i := range v {
					dot += v[i] * float64(u[i])
				}
				for i := range v {
					v[i] -= dot * float64(u[i])
				}
			}
		}
		n := 0.0
		for _, x := range v {
			n += x * x
		}
		u := make([]float32, s.Half)
		for i := range v {
			u[i] = float32(v[i] / math.Sqrt(n))
		}
		s.Direction = append(s.Direction, u)
	}
	basis := s.Direction[len(classes):]
	s.Direction = s.Direction[:len(classes):len(classes)]
	for _, w := range frame(len(kitchen.Usable()), len(basis), r) {
		u := make([]float32, s.Half)
		for k, b := range basis {
			for i, v := range b {
				u[i] += float32(w[k]) * v
			}
		}
		s.Used = append(s.Used, u)
	}
	for _, name := range kitchen.Usable() {
		s.UsedClass = append(s.UsedClass, slices.Index(classes, name))
	}
	return s, nil
}

// Seen are the directions of what a picture shows: the classes, then what is in use.
func (s *Space) Seen() [][]float32 { return append(slices.Clone(s.Direction), s.Used...) }

// frame gives n unit vectors of so many dimensions that are as far apart as pushing the nearest pairs away from each
// other brings them: close to orthonormal where n is not much larger than dims.
func frame(n, dims int, r *rand.Rand) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		out[i] = make([]float64, dims)
		for k := range dims {
			out[i][k] = r.NormFloat64()
		}
		floats.Scale(1/floats.Norm(out[i], 2), out[i])
	}
	const rounds, power = 2000, 7
	for round := range rounds {
		rate := 0.05 * (1 - float64(round)/rounds)
		worst := 1e-9
		for i := range out {
			for j := range i {
				worst = max(worst, math.Abs(floats.Dot(out[i], out[j])))
			}
		}
		for i := range out {
			push := make([]float64, dims)
			for j := range out {
				if i != j {
					floats.AddScaled(push, -rate*math.Pow(floats.Dot(out[i], out[j])/worst, power), out[j])
				}
			}
			floats.Add(out[i], push)
			floats.Scale(1/floats.Norm(out[i], 2), out[i])
		}
	}
	return out
}

// Matrix is directions as columns [Half, directions]: features times it are products.
func (s *Space) Matrix(directions [][]float32) []float32 {
	out := make([]float32, s.Half*len(directions))
	for k, u := range directions {
		for i, v := range u {
			out[i*len(directions)+k] = v
		}
	}
	return out
}

// project is the part of a vector of Half numbers that the classes span.
func (s *Space) project(v []float32) []float32 {
	out := make([]float32, len(v))
	for _, u := range s.Direction {
		dot := float32(0)
		for i := range v {
			dot += u[i] * v[i]
		}
		for i := range v {
			out[i] += dot * u[i]
		}
	}
	return out
}
