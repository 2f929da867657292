// Package calibration holds camera models: intrinsics from camera_info messages or camera_calibration files, distortion and
// rectification, and extrinsics that give a camera its place on the robot.
package calibration

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/msgs"
)

// Distortion models (sensor_msgs/distortion_models.hpp).
const (
	PlumbBob           = "plumb_bob"           // k1 k2 p1 p2 [k3]
	RationalPolynomial = "rational_polynomial" // k1 k2 p1 p2 k3 k4 k5 k6
	Equidistant        = "equidistant"         // fisheye: k1 k2 k3 k4
)

// Intrinsics are a camera's model. Pixels, row-major matrices.
type Intrinsics struct {
	Width, Height int        // of the full picture that K belongs to
	K             [9]float64 // fx 0 cx 0 fy cy 0 0 1
	Model         string     // a distortion model; "" or "none": no distortion
	D             []float64
	R             [9]float64  // rectification (stereo); zero: identity
	P             [12]float64 // projection after rectification; zero: not given
	BinningX      int
	BinningY      int
	ROI           ROI
}

// ROI is the part of the full picture that is sent; zero width means all of it.
type ROI struct{ X, Y, Width, Height int }

// FromCameraInfo reads and checks a camera_info message.
func FromCameraInfo(m *msgs.CameraInfo) (*Intrinsics, error) {
	in := &Intrinsics{
		Width: int(m.Width), Height: int(m.Height), K: m.K, Model: m.DistortionModel, D: m.D, R: m.R, P: m.P,
		BinningX: max(1, int(m.BinningX)), BinningY: max(1, int(m.BinningY)),
		ROI: ROI{int(m.Roi.XOffset), int(m.Roi.YOffset), int(m.Roi.Width), int(m.Roi.Height)},
	}
	if err := in.Validate(); err != nil {
		return nil, fmt.Errorf("camera_info: %w", err)
	}
	return in, nil
}

// Validate says which field is wrong and what to do.
func (in *Intrinsics) Validate() error {
	k := in.K
	for i, v := range k {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("K[%d] is %v, expected a finite number", i, v)
		}
	}
	switch {
	case in.Width < 1 || in.Height < 1:
		return fmt.Errorf("width and height are %d and %d, expected the picture's size", in.Width, in.Height)
	case k[0] == 0:
		return fmt.Errorf("K[0] is 0: the camera is not calibrated; calibrate it (camera_calibration) or give its calibration file")
	case k[0] < 0 || k[4] <= 0:
		return fmt.Errorf("focal lengths are %g and %g, expected numbers above 0", k[0], k[4])
	case k[3] != 0 || k[6] != 0 || k[7] != 0 || math.Abs(k[8]-1) > 1e-9:
		return fmt.Errorf("K is %v, expected [fx 0 cx 0 fy cy 0 0 1]", k)
	case k[2] < 0 || k[2] > float64(in.Width) || k[5] < 0 || k[5] > float64(in.Height):
		return fmt.Errorf("principal point (%g, %g) lies outside the picture of %d×%d; does this calibration belong to another resolution?", k[2], k[5], in.Width, in.Height)
	case k[0] > 50*float64(in.Width) || k[4] > 50*float64(in.Height):
		return fmt.Errorf("focal lengths %g and %g do not fit a picture of %d×%d", k[0], k[4], in.Width, in.Height)
	}
	if err := in.checkRectification(); err != nil {
		return err
	}
	want := map[string][]int{PlumbBob: {0, 4, 5}, RationalPolynomial: {8, 12, 14}, Equidistant: {4}, "": {0}, "none": {0}, "pinhole": {0}}
	lengths, known := want[in.Model]
	if !known {
		return fmt.Errorf("distortion_model is %q, expected plumb_bob, rational_polynomial or equidistant", in.Model)
	}
	if in.Model == "" && !in.Distorted() {
		return nil // drivers of perfect cameras leave the model out and send zeros
	}
	for _, n := range lengths {
		if len(in.D) == n {
			for i, v := range in.D {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return fmt.Errorf("D[%d] is %v, expected a finite number", i, v)
				}
			}
			return nil
		}
	}
	if in.Model == "" {
		return fmt.Errorf("distortion_model is empty although D has %d numbers that are not all 0; name the model", len(in.D))
	}
	return fmt.Errorf("D has %d numbers, %s has %v", len(in.D), in.Model, lengths)
}

// checkRectification refuses an R or P with which a rectified picture would be black or its K not a number.
func (in *Intrinsics) checkRectification() error {
	for i, v := range in.R {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("R[%d] is %v, expected a finite number", i, v)
		}
	}
	for i, v := range in.P {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("P[%d] is %v, expected a finite number", i, v)
		}
	}
	if r := in.R; r != [9]float64{} {
		const tolerance = 1e-2 // calibration files carry few digits
		for i := range 3 {
			for j := i; j < 3; j++ {
				want := 0.0
				if i == j {
					want = 1
				}
				if d := r[3*i]*r[3*j] + r[3*i+1]*r[3*j+1] + r[3*i+2]*r[3*j+2]; math.Abs(d-want) > tolerance {
					return fmt.Errorf("R is %v, expected a rotation (rows %d and %d have product %.4g, not %g) or all 0", r, i, j, d, want)
				}
			}
		}
		if det := r[0]*(r[4]*r[8]-r[5]*r[7]) - r[1]*(r[3]*r[8]-r[5]*r[6]) + r[2]*(r[3]*r[7]-r[4]*r[6]); det < 0 {
			return fmt.Errorf("R is %v, which mirrors; expected a rotation or all 0", r)
		}
	}
	p, w, h := in.P, float64(in.Width), float64(in.Height)
	if p[0] > 0 && p[5] > 0 { // otherwise P is not given and K counts
		switch {
		case p[0] > 50*w || p[5] > 50*h:
			return fmt.Errorf("focal lengths of P, %g and %g, do not fit a picture of %d×%d", p[0], p[5], in.Width, in.Height)
		case p[2] < -w || p[2] > 2*w || p[6] < -h || p[6] > 2*h: // stereo may move it out of the picture, not far
			return fmt.Errorf("principal point of P, (%g, %g), lies far outside the picture of %d×%d", p[2], p[6], in.Width, in.Height)
		}
	}
	return nil
}

// Distorted tells whether any coefficient is not zero.
func (in *Intrinsics) Distorted() bool {
	for _, v := range in.D {
		if v != 0 {
			return true
		}
	}
	return false
}

// For gives the intrinsics of pictures of a size, with region of interest and binning applied. A size that cannot come from
// this camera is an error.
func (in *Intrinsics) For(width, height int) (*Intrinsics, error) {
	out := *in
	out.ROI, out.BinningX, out.BinningY = ROI{}, 1, 1
	fullW, fullH := in.Width, in.Height
	if in.ROI.Width > 0 && in.ROI.Height > 0 {
		out.K[2] -= float64(in.ROI.X)
		out.K[5] -= float64(in.ROI.Y)
		fullW, fullH = in.ROI.Width, in.ROI.Height
	}
	bx, by := max(1, in.BinningX), max(1, in.BinningY)
	out.K[0], out.K[2] = out.K[0]/float64(bx), out.K[2]/float64(bx)
	out.K[4], out.K[5] = out.K[4]/float64(by), out.K[5]/float64(by)
	out.K[1] /= float64(bx)
	out.Width, out.Height = fullW/bx, fullH/by
	if out.Width != width || out.Height != height {
		return nil, fmt.Errorf("picture is %d×%d, camera_info describes %d×%d; both must come from the same stream (or scale the calibration)", width, height, out.Width, out.Height)
	}
	return &out, nil
}

// Scaled is K for a picture that was resized.
func Scaled(k [9]float64, fromW, fromH, toW, toH int) [9]float64 {
	sx, sy := float64(toW)/float64(fromW), float64(toH)/float64(fromH)
	for i := range 3 {
		k[i] *= sx
		k[3+i] *= sy
	}
	return k
}

// distort takes a point of the ideal image plane (x/z, y/z) to where the lens puts it.
func (in *Intrinsics) distort(x, y float64) (float64, float64) {
	if !in.Distorted() {
		return x, y
	}
	d := func(i int) float64 {
		if i < len(in.D) {
			return in.D[i]
		}
		return 0
	}
	r2 := x*x + y*y
	if in.Model == Equidistant {
		r := math.Sqrt(r2)
		if r < 1e-12 {
			return x, y
		}
		t := math.Atan(r)
		t2 := t * t
		s := t * (1 + t2*(d(0)+t2*(d(1)+t2*(d(2)+t2*d(3))))) / r
		return x * s, y * s
	}
	radial := 1 + r2*(d(0)+r2*(d(1)+r2*d(4)))
	if in.Model == RationalPolynomial {
		radial /= 1 + r2*(d(5)+r2*(d(6)+r2*d(7)))
	}
	dx := 2*d(2)*x*y + d(3)*(r2+2*x*x)
	dy := d(2)*(r2+2*y*y) + 2*d(3)*x*y
	r4 := r2 * r2
	// thin prism terms of the 12 and 14 number forms
	dx += d(8)*r2 + d(9)*r4
	dy += d(10)*r2 + d(11)*r4
	return x*radial + dx, y*radial + dy
}

// Distort takes pixels of an ideal pinhole picture with the same K to pixels of the real one.
func (in *Intrinsics) Distort(u, v float64) (float64, float64) {
	x, y := in.distort((u-in.K[2])/in.K[0], (v-in.K[5])/in.K[4])
	return x*in.K[0] + in.K[2], y*in.K[4] + in.K[5]
}

// Undistort is the inverse, by Newton's method; ok is false where it does not converge (beyond the lens's field of view).
func (in *Intrinsics) Undistort(u, v float64) (ideal [2]float64, ok bool) {
	tx, ty := (u-in.K[2])/in.K[0], (v-in.K[5])/in.K[4]
	x, y := tx, ty
	const step = 1e-6
	for range 50 {
		dx, dy := in.distort(x, y)
		ex, ey := dx-tx, dy-ty
		if math.Abs(ex)+math.Abs(ey) < 1e-12 {
			return [2]float64{x*in.K[0] + in.K[2], y*in.K[4] + in.K[5]}, true
		}
		ax, ay := in.distort(x+step, y)
		bx, by := in.distort(x, y+step)
		a, b, c, d := (ax-dx)/step, (bx-dx)/step, (ay-dy)/step, (by-dy)/step
		det := a*d - b*c
		if math.Abs(det) < 1e-9 || math.IsNaN(det) {
			break
		}
		x -= (d*ex - b*ey) / det
		y -= (a*ey - c*ex) / det
	}
	dx, dy := in.distort(x, y)
	return [2]float64{x*in.K[0] + in.K[2], y*in.K[4] + in.K[5]}, math.Abs(dx-tx)+math.Abs(dy-ty) < 1e-9
}
