// Package render is a small software renderer: triangles with textures and baked light into colour, depth and object ids.
//
// It works in two passes. The first fills a z-buffer with the number of the nearest triangle; the second shades every pixel
// once. A picture of ids and depths alone costs the first pass only. Frames: world is right-handed with z up, metres; the
// camera's optical frame has z forward, x right, y down (REP-103).
package render

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/geometry"
)

// Vec is a point or direction: x, y, z in metres.
type Vec [3]float32

// Add, Sub, Scale, Dot, Cross and Unit are the usual operations.
func (a Vec) Add(b Vec) Vec             { return Vec{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }
func (a Vec) Sub(b Vec) Vec             { return Vec{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }
func (a Vec) Scale(s float32) Vec       { return Vec{a[0] * s, a[1] * s, a[2] * s} }
func (a Vec) Dot(b Vec) float32         { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }
func (a Vec) Norm() float32             { return float32(math.Sqrt(float64(a.Dot(a)))) }
func (a Vec) Mul(b Vec) Vec             { return Vec{a[0] * b[0], a[1] * b[1], a[2] * b[2]} }
func (a Vec) Lerp(b Vec, t float32) Vec { return a.Add(b.Sub(a).Scale(t)) }
func (a Vec) Cross(b Vec) Vec {
	return Vec{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

// Unit returns a with length 1; the zero vector stays.
func (a Vec) Unit() Vec {
	n := a.Norm()
	if n == 0 {
		return a
	}
	return a.Scale(1 / n)
}

// Camera is a pinhole camera without distortion; fx, fy, cx, cy in pixels, pixel centres at half-integers.
type Camera struct {
	Width, Height  int
	FX, FY, CX, CY float64
}

// Validate names the field that is wrong.
func (c Camera) Validate() error {
	switch {
	case c.Width < 8 || c.Width > 4096:
		return fmt.Errorf("camera width is %d, expected 8 to 4096 pixels", c.Width)
	case c.Height < 8 || c.Height > 4096:
		return fmt.Errorf("camera height is %d, expected 8 to 4096 pixels", c.Height)
	case !(c.FX >= float64(c.Width)/8 && c.FX <= 16*float64(c.Width)):
		return fmt.Errorf("camera fx is %g, expected an eighth to sixteen times the width of %d pixels", c.FX, c.Width)
	case !(c.FY >= float64(c.Height)/8 && c.FY <= 16*float64(c.Height)):
		return fmt.Errorf("camera fy is %g, expected an eighth to sixteen times the height of %d pixels", c.FY, c.Height)
	case !(c.CX >= 0 && c.CX <= float64(c.Width)):
		return fmt.Errorf("camera cx is %g, expected a place within the width of %d pixels", c.CX, c.Width)
	case !(c.CY >= 0 && c.CY <= float64(c.Height)):
		return fmt.Errorf("camera cy is %g, expected a place within the height of %d pixels", c.CY, c.Height)
	}
	return nil
}

// Scaled is the camera of the same view at another resolution; x and y are scaled apart.
func (c Camera) Scaled(width, height int) Camera {
	sx, sy := float64(width)/float64(c.Width), float64(height)/float64(c.Height)
	return Camera{Width: width, Height: height, FX: c.FX * sx, FY: c.FY * sy, CX: c.CX * sx, CY: c.CY * sy}
}

// K returns the intrinsics as a row-major 3×3 matrix in the convention of camera_info, where the centre of the first pixel
// is (0, 0): the principal point is half a pixel less than CX, CY.
func (c Camera) K() [9]float64 {
	return [9]float64{c.FX, 0, c.CX - 0.5, 0, c.FY, c.CY - 0.5, 0, 0, 1}
}

// Picture is what one rendering gives. ID is the object of each pixel (see [Tri]), -1 where nothing is; Depth is the
// distance along the optical axis in metres, +Inf where nothing is.
type Picture struct {
	Width, Height int
	RGB           []uint8
	Depth         []float32
	ID            []int16
}

// View is a camera at a place. Pose takes points of the optical frame into the world.
type View struct {
	Camera Camera
	Pose   geometry.Transform
}

// near is the distance of the near clipping plane in metres.
const near = 0.06

// Renderer draws meshes; its buffers are reused from picture to picture. It is used by one goroutine.
type Renderer struct {
	w, h   int
	inv    []float32 // 1/z of the nearest surface, 0 where nothing is
	top    []int32   // index into screen of the nearest triangle, -1 where nothing is
	screen []screenTri
	cam    []camVert
	view   View
	rot    [9]float32 // world to optical
	eye    Vec
}

type camVert struct{ x, y, z float32 }

// screenTri is a triangle after clipping. Attributes f are planes f/z = a·x + b·y + c over the screen, filled in on first use.
type screenTri struct {
	mesh  *Mesh
	tri   int32
	ready bool
	iz    [3]float32
	v     [3]clipVert
	// u, v, light r g b
	plane [5][3]float32
}

// clipVert is a corner after clipping: optical coordinates and weights of the three corners of the source triangle.
type clipVert struct {
	x, y, z float32
	w       [3]float32
}

func (r *Renderer) reset(v View) {
	n := v.Camera.Width * v.Camera.Height
	if r.w != v.Camera.Width || r.h != v.Camera.Height {
		r.w, r.h = v.Camera.Width, v.Camera.Height
		r.inv, r.top = make([]float32, n), make([]int32, n)
	}
	clear(r.inv)
	for i := range r.top {
		r.top[i] = -1
	}
	r.screen = r.screen[:0]
	r.view = v
	m := v.Pose.Matrix()
	for i := range 3 {
		for j := range 3 {
			r.rot[3*i+j] = float32(m[4*j+i])
		}
		r.eye[i] = float32(m[4*i+3])
	}
}

// visit runs the first pass.
func (r *Renderer) visit(v View, scene []*Mesh) {
	r.reset(v)
	for _, m := range scene {
		r.mesh(m)
	}
}

func (r *Renderer) mesh(m *Mesh) {
	if cap(r.cam) < len(m.Verts) {
		r.cam = make([]camVert, len(m.Verts))
	}
	cam := r.cam[:len(m.Verts)]
	for i := range m.Verts {
		p := m.Verts[i].P.Sub(r.eye)
		cam[i] = camVert{
			r.rot[0]*p[0] + r.rot[1]*p[1] + r.rot[2]*p[2],
			r.rot[3]*p[0] + r.rot[4]*p[1] + r.rot[5]*p[2],
			r.rot[6]*p[0] + r.rot[7]*p[1] + r.rot[8]*p[2],
		}
	}
	c := r.view.Camera
	// Slopes of the side planes of the viewing frustum.
	left, right := float32(-c.CX/c.FX), float32((float64(c.Width)-c.CX)/c.FX)
	up, down := float32(-c.CY/c.FY), float32((float64(c.Height)-c.CY)/c.FY)
	for i := range m.Tris {
		t := &m.Tris[i]
		a, b, d := cam[t.V[0]], cam[t.V[1]], cam[t.V[2]]
		switch {
		case a.z < near && b.z < near && d.z < near,
			a.x < left*a.z && b.x < left*b.z && d.x < left*d.z,
			a.x > right*a.z && b.x > right*b.z && d.x > right*d.z,
			a.y < up*a.z && b.y < up*b.z && d.y < up*d.z,
			a.y > down*a.z && b.y > down*b.z && d.y > down*d.z:
			continue
		}
		// Facing: the plane through the corners seen from the eye.
		nx := (b.y-a.y)*(d.z-a.z) - (b.z-a.z)*(d.y-a.y)
		ny := (b.z-a.z)*(d.x-a.x) - (b.x-a.x)*(d.z-a.z)
		nz := (b.x-a.x)*(d.y-a.y) - (b.y-a.y)*(d.x-a.x)
		if nx*a.x+ny*a.y+nz*a.z >= 0 && !m.Materials[t.Material].TwoSided {
			continue
		}
		poly := [4]clipVert{}
		n := clipNear([3]camVert{a, b, d}, &poly)
		for k := 2; k < n; k++ {
			r.raster(m, int32(i), poly[0], poly[k-1], poly[k])
		}
	}
}

func clipNear(in [3]camVert, out *[4]clipVert) int {
	n := 0
	for i := range 3 {
		j := (i + 1) % 3
		p, q := in[i], in[j]
		var wp clipVert
		wp.x, wp.y, wp.z = p.x, p.y, p.z
		wp.w[i] = 1
		if p.z >= near {
			out[n] = wp
			n++
		}
		if (p.z >= near) != (q.z >= near) {
			s := (near - p.z) / (q.z - p.z)
			c := clipVert{x: p.x + s*(q.x-p.x), y: p.y + s*(q.y-p.y), z: near}
			c.w[i], c.w[j] = 1-s, s
			out[n] = c
			n++
		}
	}
	return n
}

func (r *Renderer) project(v clipVert) (x, y float64) {
	c := r.view.Camera
	return float64(v.x)/float64(v.z)*c.FX + c.CX, float64(v.y)/float64(v.z)*c.FY + c.CY
}

// raster fills one triangle row by row; rows and columns are pixel centres.
func (r *Renderer) raster(m *Mesh, tri int32, a, b, c clipVert) {
	ax, ay := r.project(a)
	bx, by := r.project(b)
	cx, cy := r.project(c)
	area := (bx-ax)*(cy-ay) - (by-ay)*(cx-ax)
	if math.Abs(area) < 1e-9 {
		return
	}
	y0 := max(0, int(math.Ceil(min(ay, by, cy)-0.5)))
	y1 := min(r.h-1, int(math.Floor(max(ay, by, cy)-0.5)))
	if y0 > y1 {
		return
	}
	s := screenTri{mesh: m, tri: tri, v: [3]clipVert{a, b, c}}
	s.iz = plane(ax, ay, bx, by, cx, cy, area, 1/float64(a.z), 1/float64(b.z), 1/float64(c.z))
	id := int32(len(r.screen))
	drawn := false
	ex := [3][4]float64{{ax, ay, bx, by}, {bx, by, cx, cy}, {cx, cy, ax, ay}}
	for y := y0; y <= y1; y++ {
		fy := float64(y) + 0.5
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, e := range ex {
			p, q, u, v := e[0], e[1], e[2], e[3]
			if q > v { // the same arithmetic for both triangles of an edge: no cracks
				p, q, u, v = u, v, p, q
			}
			if fy < q || fy > v {
				continue
			}
			x := p
			if v > q {
				x = p + (u-p)*((fy-q)/(v-q))
			} else {
				lo, hi = min(lo, u), max(hi, u)
			}
			lo, hi = min(lo, x), max(hi, x)
		}
		if lo > hi {
			continue
		}
		x0, x1 := max(0, int(math.Ceil(lo-0.5))), min(r.w-1, int(math.Floor(hi-0.5)))
		if x0 > x1 {
			continue
		}
		iz := s.iz[0]*(float32(x0)+0.5) + s.iz[1]*float32(fy) + s.iz[2]
		row := r.inv[y*r.w+x0 : y*r.w+x1+1]
		top := r.top[y*r.w+x0 : y*r.w+x1+1]
		for i := range row {
			if iz > row[i] {
				row[i], top[i] = iz, id
				drawn = true
			}
			iz += s.iz[0]
		}
	}
	if drawn {
		r.screen = append(r.screen, s)
	}
}

// plane solves a·x + b·y + c through three screen points.
func plane(ax, ay, bx, by, cx, cy, area, fa, fb, fc float64) [3]float32 {
	gx := ((fb-fa)*(cy-ay) - (fc-fa)*(by-ay)) / area
	gy := ((fc-fa)*(bx-ax) - (fb-fa)*(cx-ax)) / area
	return [3]float32{float32(gx), float32(gy), float32(fa - gx*ax - gy*ay)}
}

// Identify renders ids and depths alone. scene is drawn in any order.
func (r *Renderer) Identify(v View, scene []*Mesh, out *Picture) {
	r.visit(v, scene)
	r.resolve(out)
}

func (r *Renderer) resolve(out *Picture) {
	n := r.w * r.h
	out.Width, out.Height = r.w, r.h
	if len(out.Depth) != n {
		out.Depth, out.ID = make([]float32, n), make([]int16, n)
	}
	for i, t := range r.top {
		if t < 0 {
			out.Depth[i], out.ID[i] = float32(math.Inf(1)), -1
			continue
		}
		s := &r.screen[t]
		out.Depth[i], out.ID[i] = 1/r.inv[i], s.mesh.Tris[s.tri].Object
	}
}
