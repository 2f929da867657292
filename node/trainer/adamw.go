package trainer

import (
	"math"
	"strings"
)

// Group is a set of parameters with a setting of its own; gradients are clipped by group.
type Group struct {
	Prefixes []string
	Rate     float64 // times the schedule's learning rate
}

// AdamW is the optimizer of Loshchilov and Hutter: decay apart from the gradient, bias-corrected moments.
type AdamW struct {
	Beta1, Beta2, Epsilon float64
	Decay                 float64 // of matrices; vectors are not decayed
	Clip                  float64 // largest norm of a group's gradient
	Groups                []Group

	step   int
	first  map[string][]float32
	second map[string][]float32
}

// newAdamW has the recipe's settings.
func newAdamW(groups ...Group) *AdamW {
	return &AdamW{Beta1: 0.9, Beta2: 0.98, Epsilon: 1e-8, Decay: 0.01, Clip: 1, Groups: groups, first: map[string][]float32{}, second: map[string][]float32{}}
}

// group finds the first group with a prefix of the name, or the last one.
func (o *AdamW) group(name string) int {
	for i, g := range o.Groups {
		for _, p := range g.Prefixes {
			if strings.HasPrefix(name, p) {
				return i
			}
		}
	}
	return len(o.Groups) - 1
}

// apply takes a step along the mean of count gradients that a program has summed, and clears them. It returns the largest
// norm of a group before clipping.
func (o *AdamW) apply(p *program, count int, rate float64) (norm float64, err error) {
	o.step++
	squares := make([]float64, len(o.Groups))
	for i, g := range p.grads {
		sum := 0.0
		for _, v := range g {
			sum += float64(v) * float64(v)
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return 0, &NotFiniteError{Step: o.step, Tensor: "gradient of " + p.names[i]}
		}
		squares[o.group(p.names[i])] += sum / float64(count) / float64(count)
	}
	scale := make([]float64, len(o.Groups))
	for i, s := range squares {
		n := math.Sqrt(s)
		norm = max(norm, n)
		scale[i] = 1 / float64(count)
		if o.Clip > 0 && n > o.Clip {
			scale[i] *= o.Clip / n
		}
	}
	c1, c2 := 1-math.Pow(o.Beta1, float64(o.step)), 1-math.Pow(o.Beta2, float64(o.step))
	for i, g := range p.grads {
		name, t := p.names[i], p.params[i]
		m, v := o.first[name], o.second[name]
		if m == nil {
			m, v = make([]float32, len(g)), make([]float32, len(g))
			o.first[name], o.second[name] = m, v
		}
		k := o.group(name)
		lr := rate * o.Groups[k].Rate
		keep := float32(1)
		if len(t.Shape) > 1 {
			keep = float32(1 - lr*o.Decay)
		}
		s, b1, b2 := float32(scale[k]), float32(o.Beta1), float32(o.Beta2)
		step, root, eps := float32(lr/c1), float32(1/math.Sqrt(c2)), float32(o.Epsilon)
		for j, d := range g {
			d *= s
			m[j] = b1*m[j] + (1-b1)*d
			v[j] = b2*v[j] + (1-b2)*d*d
			t.Data[j] = keep*t.Data[j] - step*m[j]/(float32(math.Sqrt(float64(v[j])))*root+eps)
		}
		clear(g)
	}
	return norm, nil
}

// Schedule is a linear warm-up and a linear decay to nothing over the last part of a stage, or half a cosine from the end of
// the warm-up to the end, by the share of the stage that is done.
type Schedule struct {
	Peak   float64
	WarmUp float64 // share of the stage
	Decay  float64 // share of the stage at the end over which the rate falls
	Cosine bool    `json:",omitempty"`
}

func (s Schedule) at(done float64) float64 {
	r := 1.0
	if s.WarmUp > 0 {
		r = min(r, (done+0.002)/s.WarmUp)
	}
	if s.Decay > 0 {
		r = min(r, max(0.02, (1-done)/s.Decay))
	}
	if s.Cosine && done > s.WarmUp {
		r = min(r, (1+math.Cos(math.Pi*(done-s.WarmUp)/(1-s.WarmUp)))/2)
	}
	return s.Peak * r
}
