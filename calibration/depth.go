package calibration

import (
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/imaging"
)

// How a patch's depth is taken from a depth image.
const (
	// around is the share of a patch, to either side of its centre, whose pixels are looked at.
	around = 1.0 / 16
	// looks is how many of them at most, to either side.
	looks = 3
	// least is the share of them that must have been measured: at the rim of a hole depth is often wrong.
	least = 0.25
	// surface is by what share of its depth neighbouring pixels of one surface may differ.
	surface = 0.05
	// aspect is by how much of itself a depth image's aspect may differ from the picture's: widths and heights are rounded.
	aspect = 0.01
)

// PatchDepths takes, for each of side × side equal patches of the rectified picture, row by row, the depth at the patch's centre:
// the median of a few pixels around it, metres along the rectified picture's optical axis, 0 where too few were measured. The
// depth image is one that is registered to the (not rectified) picture: of the same camera, with the same lens and field of view,
// in any resolution of that aspect. What lies nearer than near or further than far along its ray, metres, counts as not measured.
func (r *Rectifier) PatchDepths(d *imaging.Depth, side int, near, far float64) ([]float32, error) {
	w, h := r.in.Width, r.in.Height
	if side < 1 || side > min(w, h) {
		return nil, fmt.Errorf("patch depths: %d patches a side of a picture of %d×%d, expected 1 to its pixels", side, w, h)
	}
	if !SameAspect(d.Width, d.Height, w, h) {
		return nil, fmt.Errorf("depth image is %d×%d, the picture %d×%d, which is another aspect: depth must be registered (aligned) to the colour camera", d.Width, d.Height, w, h)
	}
	out := make([]float32, 0, side*side)
	s := sampler{Rectifier: r, depth: d, near: near, far: far, dx: max(1, around*float64(w)/float64(side)), dy: max(1, around*float64(h)/float64(side))}
	s.rotated = r.rotated()
	for a := range side {
		for b := range side {
			out = append(out, s.at((float64(b)+0.5)*float64(w)/float64(side), (float64(a)+0.5)*float64(h)/float64(side)))
		}
	}
	return out, nil
}

// SameAspect tells whether a depth image of some size fits a picture of another: the same view in another resolution.
func SameAspect(width, height, pictureWidth, pictureHeight int) bool {
	off := float64(width) * float64(pictureHeight) / (float64(height) * float64(pictureWidth))
	return math.Abs(off-1) <= aspect
}

// sampler reads depth around places of the rectified picture.
type sampler struct {
	*Rectifier
	depth     *imaging.Depth
	near, far float64
	dx, dy    float64 // to either side, pixels
	rotated   bool
	found     []float32
}

func (s *sampler) at(x, y float64) float32 {
	nx, ny := min(looks, int(math.Ceil(s.dx))), min(looks, int(math.Ceil(s.dy)))
	s.found = s.found[:0]
	for j := -ny; j <= ny; j++ {
		for i := -nx; i <= nx; i++ {
			if z := s.one(x+s.dx*float64(i)/float64(nx), y+s.dy*float64(j)/float64(ny)); z > 0 {
				s.found = append(s.found, z)
			}
		}
	}
	if total := (2*nx + 1) * (2*ny + 1); len(s.found) == 0 || float64(len(s.found)) < least*float64(total) {
		return 0
	}
	slices.Sort(s.found)
	return s.found[len(s.found)/2]
}

// read is the depth at a place of the depth image, or 0: of one surface between pixels (whose inverse depth is linear there), of
// the nearest pixel otherwise.
func (s *sampler) read(x, y float64) float64 {
	w, h := s.depth.Width, s.depth.Height
	nx, ny := math.Round(x), math.Round(y)
	if !(nx >= 0 && nx < float64(w) && ny >= 0 && ny < float64(h)) {
		return 0
	}
	nearest := float64(s.depth.At(int(nx), int(ny)))
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	if nearest == 0 || x0 < 0 || y0 < 0 || x0 > w-2 || y0 > h-2 {
		return nearest
	}
	fx, fy := x-float64(x0), y-float64(y0)
	inverse := 0.0
	for k, weight := range [4]float64{(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy} {
		z := float64(s.depth.At(x0+k%2, y0+k/2))
		if math.Abs(z-nearest) > surface*nearest {
			return nearest
		}
		inverse += weight / z
	}
	return 1 / inverse
}

// one is the depth of a single place of the rectified picture, or 0.
func (s *sampler) one(x, y float64) float32 {
	u, v, c := s.source(x, y, s.rotated)
	z := s.read((u+0.5)*float64(s.depth.Width)/float64(s.in.Width)-0.5, (v+0.5)*float64(s.depth.Height)/float64(s.in.Height)-0.5) / c
	a, b := (x-s.k[2])/s.k[0], (y-s.k[5])/s.k[4]
	if along := z * math.Sqrt(a*a+b*b+1); !(along >= s.near && along <= s.far) {
		return 0
	}
	return float32(z)
}
