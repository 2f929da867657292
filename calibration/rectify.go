package calibration

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/imaging"
)

// Rectifier takes the distortion out of pictures of one camera at one size. The rectified picture has the size of the
// original and the projection that camera_info gives (P), or else the original K: what a robot's other nodes assume.
type Rectifier struct {
	in      *Intrinsics
	k       [9]float64
	corners []corner // nil when there is nothing to do
}

// corner is where a rectified pixel lies in the original: upper left neighbour and weights out of 256; −1 outside.
type corner struct {
	at     int32
	fx, fy uint16
}

// NewRectifier prepares the map for pictures of a size.
func NewRectifier(in *Intrinsics, width, height int) (*Rectifier, error) {
	sized, err := in.For(width, height)
	if err != nil {
		return nil, err
	}
	r := &Rectifier{in: sized, k: sized.K}
	rotated := r.rotated()
	if !sized.Distorted() && !rotated {
		return r, nil
	}
	if p := in.P; p[0] > 0 && p[5] > 0 {
		full := *in
		full.K = [9]float64{p[0], 0, p[2], 0, p[5], p[6], 0, 0, 1}
		scaled, err := full.For(width, height)
		if err != nil {
			return nil, err
		}
		r.k = scaled.K
	}
	r.corners = make([]corner, width*height)
	for y := range height {
		for x := range width {
			u, v, _ := r.source(float64(x), float64(y), rotated)
			r.corners[y*width+x] = cornerOf(u, v, width, height)
		}
	}
	return r, nil
}

// rotated tells whether the rectified camera looks in another direction than the original.
func (r *Rectifier) rotated() bool {
	return r.in.R != [9]float64{} && r.in.R != [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
}

// source is where a rectified pixel lies in the original picture, and the original's depth of what has the rectified depth 1.
func (r *Rectifier) source(x, y float64, rotated bool) (u, v, c float64) {
	a, b, c := (x-r.k[2])/r.k[0], (y-r.k[5])/r.k[4], 1.0
	if rotated {
		// R turns original rays into rectified ones; its transpose goes back.
		m := r.in.R
		a, b, c = m[0]*a+m[3]*b+m[6]*c, m[1]*a+m[4]*b+m[7]*c, m[2]*a+m[5]*b+m[8]*c
		if c <= 0 {
			return math.NaN(), math.NaN(), c
		}
	}
	dx, dy := r.in.distort(a/c, b/c)
	return dx*r.in.K[0] + r.in.K[2], dy*r.in.K[4] + r.in.K[5], c
}

func cornerOf(u, v float64, width, height int) corner {
	const edge = 1e-3 // a pixel on the very border is inside
	if math.IsNaN(u) || math.IsNaN(v) || u < -edge || v < -edge || u > float64(width-1)+edge || v > float64(height-1)+edge {
		return corner{at: -1}
	}
	u, v = min(max(u, 0), float64(width-1)), min(max(v, 0), float64(height-1))
	x, y := min(int(u), max(width-2, 0)), min(int(v), max(height-2, 0))
	return corner{int32(y*width + x), uint16(math.Round((u - float64(x)) * 256)), uint16(math.Round((v - float64(y)) * 256))}
}

// K is the rectified picture's.
func (r *Rectifier) K() [9]float64 { return r.k }

// Rectify returns the picture without distortion (bilinear; what lies outside the original is black). A picture that needs
// nothing comes back as it is.
func (r *Rectifier) Rectify(p *imaging.RGB) (*imaging.RGB, error) {
	if p.Width != r.in.Width || p.Height != r.in.Height {
		return nil, fmt.Errorf("rectify: picture is %d×%d, the map is for %d×%d", p.Width, p.Height, r.in.Width, r.in.Height)
	}
	if r.corners == nil {
		return p, nil
	}
	out, err := imaging.NewRGB(p.Width, p.Height)
	if err != nil {
		return nil, err
	}
	right, below := 3, 3*p.Width
	if p.Width == 1 {
		right = 0
	}
	if p.Height == 1 {
		below = 0
	}
	for i, c := range r.corners {
		if c.at < 0 {
			continue
		}
		a := p.Pix[3*c.at:]
		fx, fy := uint32(c.fx), uint32(c.fy)
		for ch := range 3 {
			top := uint32(a[ch])*(256-fx) + uint32(a[right+ch])*fx
			bottom := uint32(a[below+ch])*(256-fx) + uint32(a[below+right+ch])*fx
			out.Pix[3*i+ch] = uint8((top*(256-fy) + bottom*fy + 1<<15) >> 16)
		}
	}
	return out, nil
}
