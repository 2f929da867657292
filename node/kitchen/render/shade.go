package render

import "math"

// Draw renders colours, depths and ids. With supersample n > 1 every pixel is the mean of n×n samples; depth and id are
// those of the sample in its middle, so both stay values of one surface.
func (r *Renderer) Draw(v View, scene []*Mesh, supersample int, out *Picture) {
	if supersample > 1 {
		w, h := v.Camera.Width, v.Camera.Height
		fine := View{Camera: v.Camera.Scaled(w*supersample, h*supersample), Pose: v.Pose}
		r.visit(fine, scene)
		var big Picture
		r.resolve(&big)
		acc := make([]float32, 3*w*h)
		r.shade(func(i int, c Vec) {
			j := 3 * (i/r.w/supersample*w + i%r.w/supersample)
			acc[j] += c[0]
			acc[j+1] += c[1]
			acc[j+2] += c[2]
		})
		out.Width, out.Height = w, h
		if len(out.RGB) != 3*w*h {
			out.RGB, out.Depth, out.ID = make([]uint8, 3*w*h), make([]float32, w*h), make([]int16, w*h)
		}
		k := 1 / float32(supersample*supersample)
		for i := range w * h {
			for c := range 3 {
				out.RGB[3*i+c] = encode(acc[3*i+c] * k)
			}
			j := (i/w*supersample+supersample/2)*r.w + i%w*supersample + supersample/2
			out.Depth[i], out.ID[i] = big.Depth[j], big.ID[j]
		}
		return
	}
	r.visit(v, scene)
	r.resolve(out)
	if len(out.RGB) != 3*r.w*r.h {
		out.RGB = make([]uint8, 3*r.w*r.h)
	}
	r.shade(func(i int, c Vec) {
		out.RGB[3*i], out.RGB[3*i+1], out.RGB[3*i+2] = encode(c[0]), encode(c[1]), encode(c[2])
	})
}

// shade calls put with the linear colour of every pixel.
func (r *Renderer) shade(put func(i int, c Vec)) {
	cam := r.view.Camera
	perPixel := float32(1 / math.Sqrt(cam.FX*cam.FY)) // metres a pixel spans at 1 m
	for y := range r.h {
		fy := float32(y) + 0.5
		for x := range r.w {
			i := y*r.w + x
			t := r.top[i]
			if t < 0 {
				put(i, Vec{})
				continue
			}
			s := &r.screen[t]
			if !s.ready {
				r.prepare(s)
			}
			z := 1 / r.inv[i]
			fx := float32(x) + 0.5
			var a [5]float32
			for k := range a {
				p := &s.plane[k]
				a[k] = (p[0]*fx + p[1]*fy + p[2]) * z
			}
			mat := &s.mesh.Materials[s.mesh.Tris[s.tri].Material]
			c := mat.Color
			if mat.Texture != nil {
				c = mat.Texture.sample(a[0], a[1], z*perPixel)
			}
			put(i, Vec{c[0] * max(0, a[2]), c[1] * max(0, a[3]), c[2] * max(0, a[4])})
		}
	}
}

// prepare computes the planes of the attributes, with the highlight of shiny materials added to the light at each corner.
func (r *Renderer) prepare(s *screenTri) {
	t := &s.mesh.Tris[s.tri]
	mat := &s.mesh.Materials[t.Material]
	var attr [3][5]float32
	for k := range 3 {
		v := &s.mesh.Verts[t.V[k]]
		l := v.Light
		if mat.Shine > 0 {
			l = l.Add(r.highlight(v, mat))
		}
		if mat.Glow > 0 {
			l = l.Add(Vec{mat.Glow, mat.Glow, mat.Glow})
		}
		attr[k] = [5]float32{v.U, v.V, l[0], l[1], l[2]}
	}
	ax, ay := r.project(s.v[0])
	bx, by := r.project(s.v[1])
	cx, cy := r.project(s.v[2])
	area := (bx-ax)*(cy-ay) - (by-ay)*(cx-ax)
	for f := range 5 {
		var g [3]float64
		for k := range 3 {
			w := s.v[k].w
			g[k] = float64(w[0]*attr[0][f]+w[1]*attr[1][f]+w[2]*attr[2][f]) / float64(s.v[k].z)
		}
		s.plane[f] = plane(ax, ay, bx, by, cx, cy, area, g[0], g[1], g[2])
	}
	s.ready = true
}

// highlight is a broad mirror image of a bright ceiling: it makes metal change with the place that it is seen from.
func (r *Renderer) highlight(v *Vertex, mat *Material) Vec {
	in := v.P.Sub(r.eye).Unit()
	ref := in.Sub(v.N.Scale(2 * in.Dot(v.N)))
	up := max(0, ref[2])
	side := max(0, ref[0]*0.6+ref[1]*0.8)
	g := mat.Shine * (up*up*up + 0.35*side*side*side*side) * (v.Light[0] + v.Light[1] + v.Light[2]) / 3
	return Vec{g, g, g}
}

// encode turns linear light into a byte: a soft shoulder instead of hard clipping, then the sRGB curve.
func encode(v float32) uint8 {
	if v > 0.7 {
		v = 0.7 + 0.3*(1-1/(1+(v-0.7)/0.3))
	}
	return srgb.curve[min(4095, max(0, int(v*4095+0.5)))]
}

// srgb holds the transfer curve in both directions.
var srgb = makeCurve()

type curve struct {
	curve  [4096]uint8
	linear [256]float32
}

func makeCurve() *curve {
	c := &curve{}
	for i := range c.curve {
		v := float64(i) / 4095
		if v <= 0.0031308 {
			v *= 12.92
		} else {
			v = 1.055*math.Pow(v, 1/2.4) - 0.055
		}
		c.curve[i] = uint8(v*255 + 0.5)
	}
	for i := range c.linear {
		v := float64(i) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		c.linear[i] = float32(v)
	}
	return c
}

// Linear turns an sRGB byte triple into linear light.
func Linear(r, g, b uint8) Vec { return Vec{srgb.linear[r], srgb.linear[g], srgb.linear[b]} }

// Encode turns linear light into the bytes that a picture would hold.
func Encode(c Vec) [3]uint8 { return [3]uint8{encode(c[0]), encode(c[1]), encode(c[2])} }
