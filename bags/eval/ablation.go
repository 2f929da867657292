package eval

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gonum.org/v1/gonum/num/quat"

	"github.com/stllm/stllm/node/geometry"
)

// Ablation names a run by what is kept from the answerer.
type Ablation string

// The runs. A score that the blind run reaches shows nothing of what was seen (arXiv 2603.23523).
const (
	None     Ablation = "none"
	Blind    Ablation = "blind"     // the question alone: no pictures, no poses, no map
	NoPoints Ablation = "no-points" // without the map, its extent included; pictures and poses stay
	NoVideo  Ablation = "no-video"  // without the pictures; the camera's path and the map stay
	// Still is what is left without any video: no pictures, and no path of the camera, which stands all the time where it stands
	// when the question is asked; the map stays.
	Still Ablation = "still"
	// ShuffledFrames draws the order of all frames but the last: each stands, with its pose, at another one's time.
	ShuffledFrames Ablation = "shuffled-frames"
	WrongPose      Ablation = "wrong-pose" // every pose is another frame's, turned by 60° to 300° about the camera's vertical axis
	// Shuffled asks nobody: every item gets the whole run's answer to another item of its task. What it scores, the mix of
	// answers scores without regard to what was asked and seen.
	Shuffled Ablation = "shuffled"
)

// Ablations are all runs in the order of reports.
func Ablations() []Ablation {
	return []Ablation{None, Blind, NoPoints, NoVideo, Still, ShuffledFrames, WrongPose, Shuffled}
}

// AblationNames lists them for people.
func AblationNames() string {
	var names []string
	for _, a := range Ablations() {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// ParseAblations reads a list such as "none,blind". An empty one is the whole run alone.
func ParseAblations(s string) ([]Ablation, error) {
	var out []Ablation
	for part := range strings.SplitSeq(s, ",") {
		a := Ablation(strings.TrimSpace(part))
		switch {
		case a == "" && s == "":
			a = None
		case !slices.Contains(Ablations(), a):
			return nil, fmt.Errorf("ablation %q is not known, expected some of %s, joined by commas", a, AblationNames())
		}
		if slices.Contains(out, a) {
			return nil, fmt.Errorf("ablation %q is named twice", a)
		}
		out = append(out, a)
	}
	return out, nil
}

// apply returns what an answerer may see of a clip; the clip itself stays as it is. The same seed and id give the same poses.
func (a Ablation) apply(c *Clip, id string, seed uint64) *Clip {
	out := *c
	switch a {
	case Blind:
		return &Clip{}
	case NoPoints:
		out.Map = nil
	case NoVideo, Still:
		out.Frames = slices.Clone(c.Frames)
		for i := range out.Frames {
			out.Frames[i].Picture, out.Frames[i].Depth = nil, nil
			if a == Still {
				out.Frames[i].Pose, out.Path = c.Frames[len(c.Frames)-1].Pose, nil
			}
		}
	case ShuffledFrames:
		out.Frames, out.Path = slices.Clone(c.Frames), nil
		for i, k := range chance(id, seed).Perm(max(0, len(c.Frames)-1)) {
			out.Frames[i] = c.Frames[k]
			out.Frames[i].Stamp = c.Frames[i].Stamp
		}
	case WrongPose:
		angle := (60 + 240*chance(id, seed).Float64()) * math.Pi / 180
		// Optical frames have y down, so this is a turn on the spot.
		turn := geometry.Transform{Rotation: quat.Number{Real: math.Cos(angle / 2), Jmag: math.Sin(angle / 2)}}
		out.Frames = slices.Clone(c.Frames)
		for i := range out.Frames {
			out.Frames[i].Pose = c.Frames[(i+len(c.Frames)/2)%len(c.Frames)].Pose.Mul(turn)
		}
		out.Path = nil
	}
	return &out
}

// chance is an item's own source of chance.
func chance(id string, seed uint64) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(id))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
