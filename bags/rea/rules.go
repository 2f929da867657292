package rea

import (
	"fmt"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// Rules are the thresholds of the published labels, in the scene's units. As published they belong to the units of one
// reconstruction each and have no metric meaning; zero values are the published numbers.
type Rules struct {
	Main, Side         float64 // direction: an axis counts from Main on, the other joins from Side on; 1.5 and 1.0
	FindMain, FindSide float64 // the same for lost items; 2.0 and 1.8
	Slope              float64 // distance of one thing: change a second from which it counts (as published: a sample, at any spacing); 0.05
	Same               float64 // distance of two things: difference from which it counts; 0.1
	Fetch              float64 // which of two an item is nearer to: difference from which it counts; 0.5
}

// Metric are rules for rooms in metres, where the published ones would call most things centered.
func Metric() Rules {
	return Rules{Main: 1.0, Side: 0.7, FindMain: 1.0, FindSide: 0.7, Slope: 0.05, Same: 0.1, Fetch: 0.5}
}

func (r Rules) withDefaults() (Rules, error) {
	for _, f := range []struct {
		name  string
		v     *float64
		value float64
	}{{"main", &r.Main, 1.5}, {"side", &r.Side, 1.0}, {"find main", &r.FindMain, 2.0}, {"find side", &r.FindSide, 1.8}, {"slope", &r.Slope, 0.05},
		{"same", &r.Same, 0.1}, {"fetch", &r.Fetch, 0.5}} {
		if *f.v == 0 {
			*f.v = f.value
		}
		if !(*f.v > 0 && *f.v < 1e6) {
			return r, fmt.Errorf("rules: %s is %g, expected a number above 0", f.name, *f.v)
		}
	}
	return r, nil
}

// local gives a place in an optical frame: to the right and ahead. Height is ignored, and so is how far the camera looks down,
// as published: the axes are the camera's own.
func local(pose geometry.Transform, p r3.Vec) (x, z float64) {
	q := pose.Inverse().Apply(p)
	return q.X, q.Z
}

// phrase says a direction as the released answers do, but for "centered of the person", which is none.
func phrase(d string) string {
	switch d {
	case "front":
		return "in front of the person"
	case "back":
		return "behind the person"
	case "here":
		return "right beside the person"
	}
	return "to the " + d + " of the person"
}

// hand is the one nearer to a direction.
func hand(d string) string {
	switch d {
	case "left", "front-left", "back-left":
		return "the left hand"
	case "right", "front-right", "back-right":
		return "the right hand"
	}
	return "unclear which hand"
}

// slope is the least-squares change of values a step.
func slope(values []float64) float64 {
	n := float64(len(values))
	if n < 2 {
		return 0
	}
	var sy, sxy float64
	for i, v := range values {
		sy += v
		sxy += float64(i) * v
	}
	sx, sxx := n*(n-1)/2, n*(n-1)*(2*n-1)/6
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}
