package picture

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/vector"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// plan maps the fixed frame's ground plane to pixels, +y up.
type plan struct {
	r          image.Rectangle
	minX, minY float64
	scale      float64 // pixels a metre
}

func (p plan) at(x, y float64) (float32, float32) {
	return float32(float64(p.r.Min.X) + (x-p.minX)*p.scale), float32(float64(p.r.Max.Y) - (y-p.minY)*p.scale)
}

// newPlan fits everything that is shown, with a little room around.
func newPlan(r image.Rectangle, in Input) plan {
	lo, hi := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	take := func(x, y float64) {
		lo[0], lo[1], hi[0], hi[1] = min(lo[0], x), min(lo[1], y), max(hi[0], x), max(hi[1], y)
	}
	if in.Map != nil {
		for i := 0; i < len(in.Map.XYZ); i += 3 {
			take(in.Map.XYZ[i], in.Map.XYZ[i+1])
		}
	}
	for _, t := range in.Path {
		take(t.Translation.X, t.Translation.Y)
	}
	for _, f := range in.Frames {
		take(f.Pose.Translation.X, f.Pose.Translation.Y)
	}
	if math.IsInf(lo[0], 1) {
		take(-1, -1)
		take(1, 1)
	}
	side := max(hi[0]-lo[0], hi[1]-lo[1], 0.5) * 1.08
	return plan{r, (lo[0] + hi[0] - side) / 2, (lo[1] + hi[1] - side) / 2, float64(r.Dx()) / side}
}

// ceiling cuts the top of a room off, so that one looks in from above: points higher than this above the floor are left out.
const ceiling = 2.0

func topView(img *image.RGBA, f *fonts, r image.Rectangle, in Input) {
	draw.Draw(img, r, image.NewUniform(color.RGBA{255, 255, 255, 255}), image.Point{}, draw.Src)
	p := newPlan(r, in)
	points(img, p, in)
	most := 0.0
	for _, g := range in.Regions {
		most = max(most, g.Weight)
	}
	for _, g := range in.Regions {
		x, y := p.at(g.X, g.Y)
		c := lookInk // full where it looked most
		c.A = uint8(40 + 80*max(0, g.Weight)/max(most, 1e-12))
		size := float32(max(8, g.Radius*p.scale))
		disc(img, r, x, y, size, c)
		ring(img, r, x, y, size, lookInk)
	}
	for _, rank := range []func(Box) bool{ // what counts most is drawn last
		func(b Box) bool { return !b.Asked && !b.Answered },
		func(b Box) bool { return b.Answered && !b.Asked },
		func(b Box) bool { return b.Asked },
	} {
		for _, b := range in.Boxes {
			if rank(b) {
				box(img, p, b)
			}
		}
	}
	for _, fr := range in.Frames {
		cone(img, p, fr)
	}
	for i := 1; i < len(in.Path); i++ {
		line(img, p, in.Path[i-1], in.Path[i], 2.5, pathInk)
	}
	if n := len(in.Path); n > 0 {
		x, y := p.at(in.Path[0].Translation.X, in.Path[0].Translation.Y)
		disc(img, r, x, y, 5, color.RGBA{255, 255, 255, 255})
		disc(img, r, x, y, 3.5, pathInk)
		x, y = p.at(in.Path[n-1].Translation.X, in.Path[n-1].Translation.Y)
		camera(img, r, x, y)
	}
	labels(img, f, p, in.Boxes)
	scaleBar(img, f, p)
	north(img, f, r)
}

// points draws the cloud from the floor up, so that what is higher covers what is lower; height makes it lighter.
func points(img *image.RGBA, p plan, in Input) {
	if in.Map == nil || in.Map.Len() == 0 {
		return
	}
	floor := math.Inf(1)
	for i := 2; i < len(in.Map.XYZ); i += 3 {
		floor = min(floor, in.Map.XYZ[i])
	}
	w, h := p.r.Dx(), p.r.Dy()
	top := make([]float64, w*h)
	for i := range top {
		top[i] = math.Inf(-1)
	}
	size := max(1, int(p.scale*0.03))
	for i := range in.Map.Len() {
		x, y, z := in.Map.XYZ[3*i], in.Map.XYZ[3*i+1], in.Map.XYZ[3*i+2]
		if z-floor > ceiling {
			continue
		}
		fx, fy := p.at(x, y)
		shade := 0.55 + 0.45*(z-floor)/ceiling
		c := color.RGBA{R: uint8(float64(in.Map.RGB[3*i]) * shade), G: uint8(float64(in.Map.RGB[3*i+1]) * shade), B: uint8(float64(in.Map.RGB[3*i+2]) * shade), A: 255}
		for dy := range size {
			for dx := range size {
				px, py := int(fx)+dx-size/2-p.r.Min.X, int(fy)+dy-size/2-p.r.Min.Y
				if px < 0 || py < 0 || px >= w || py >= h || z <= top[py*w+px] {
					continue
				}
				top[py*w+px] = z
				img.SetRGBA(p.r.Min.X+px, p.r.Min.Y+py, c)
			}
		}
	}
}

// fill paints a polygon, clipped to the plan.
func fill(img *image.RGBA, clip image.Rectangle, c color.Color, xy ...float32) {
	z := vector.NewRasterizer(clip.Dx(), clip.Dy())
	ox, oy := float32(clip.Min.X), float32(clip.Min.Y)
	for i := 0; i+1 < len(xy); i += 2 {
		x, y := xy[i]-ox, xy[i+1]-oy
		if i == 0 {
			z.MoveTo(x, y)
		} else {
			z.LineTo(x, y)
		}
	}
	z.ClosePath()
	z.Draw(img, clip, image.NewUniform(premultiplied(c)), image.Point{})
}

// premultiplied turns a colour with plain alpha into what image/draw wants.
func premultiplied(c color.Color) color.Color {
	if r, ok := c.(color.RGBA); ok {
		return color.NRGBA(r)
	}
	return c
}

func stroke(img *image.RGBA, clip image.Rectangle, x0, y0, x1, y1, w float32, c color.Color) {
	dx, dy := x1-x0, y1-y0
	n := float32(math.Hypot(float64(dx), float64(dy)))
	if n == 0 {
		return
	}
	px, py := -dy/n*w/2, dx/n*w/2
	fill(img, clip, c, x0+px, y0+py, x1+px, y1+py, x1-px, y1-py, x0-px, y0-py)
}

func line(img *image.RGBA, p plan, a, b geometry.Transform, w float32, c color.Color) {
	x0, y0 := p.at(a.Translation.X, a.Translation.Y)
	x1, y1 := p.at(b.Translation.X, b.Translation.Y)
	stroke(img, p.r, x0, y0, x1, y1, w, c)
}

// ring is the edge of a disc.
func ring(img *image.RGBA, clip image.Rectangle, x, y, r float32, c color.Color) {
	const n = 32
	for i := range n {
		s0, c0 := math.Sincos(2 * math.Pi * float64(i) / n)
		s1, c1 := math.Sincos(2 * math.Pi * float64(i+1) / n)
		stroke(img, clip, x+r*float32(c0), y+r*float32(s0), x+r*float32(c1), y+r*float32(s1), 2, c)
	}
}

func disc(img *image.RGBA, clip image.Rectangle, x, y, r float32, c color.Color) {
	const n = 32
	xy := make([]float32, 0, 2*n)
	for i := range n {
		s, co := math.Sincos(2 * math.Pi * float64(i) / n)
		xy = append(xy, x+r*float32(co), y+r*float32(s))
	}
	fill(img, clip, c, xy...)
}

// cone shows what a frame looked at: the picture's horizontal opening, 0.7 m long.
func cone(img *image.RGBA, p plan, f Frame) {
	const length = 0.7
	if f.K[0] <= 0 || f.Width <= 0 {
		return
	}
	left, right := -f.K[2]/f.K[0], (float64(f.Width)-f.K[2])/f.K[0]
	a := f.Pose.Apply(r3.Vec{X: left * length, Z: length})
	b := f.Pose.Apply(r3.Vec{X: right * length, Z: length})
	x0, y0 := p.at(f.Pose.Translation.X, f.Pose.Translation.Y)
	x1, y1 := p.at(a.X, a.Y)
	x2, y2 := p.at(b.X, b.Y)
	fill(img, p.r, coneInk, x0, y0, x1, y1, x2, y2)
}

// camera is where the path ends: the camera at the question's moment.
func camera(img *image.RGBA, clip image.Rectangle, x, y float32) {
	disc(img, clip, x, y, 10, color.RGBA{255, 255, 255, 255})
	disc(img, clip, x, y, 8, pathInk)
	disc(img, clip, x, y, 3, color.RGBA{255, 255, 255, 255})
}

// ink is the colour of a box and of its name, and the width of its lines.
func (b Box) ink() (color.RGBA, float32) {
	switch {
	case b.Asked:
		return askedInk, 4
	case b.Vague:
		return saidInk, 1.5
	case b.Answered:
		return saidInk, 3
	}
	return boxInk, 1.5
}

func box(img *image.RGBA, p plan, b Box) {
	sin, cos := math.Sincos(b.Yaw)
	c, w := b.ink()
	var xs, ys [4]float32
	for i, s := range [4][2]float64{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
		dx, dy := s[0]*b.Width/2, s[1]*b.Depth/2
		xs[i], ys[i] = p.at(b.X+dx*cos-dy*sin, b.Y+dx*sin+dy*cos)
	}
	for i := range 4 {
		j := (i + 1) % 4
		stroke(img, p.r, xs[i], ys[i], xs[j], ys[j], w, c)
	}
}

// labels names the boxes that were asked about and answered, each on a plate of its own so that it can be read on any map.
// Names that would cover another one, or a small thing, move down.
func labels(img *image.RGBA, f *fonts, p plan, boxes []Box) {
	const high, pad = 20, 5
	var taken []image.Rectangle
	for _, b := range boxes {
		if b.Small { // stays to be seen
			x, y := p.at(b.X, b.Y)
			side := int(max(b.Width, b.Depth)*p.scale/2) + 2
			taken = append(taken, image.Rect(int(x)-side, int(y)-side, int(x)+side, int(y)+side))
		}
	}
	for _, asked := range []bool{true, false} {
		for _, b := range boxes {
			if b.Name == "" || b.Asked != asked || !b.Asked && !b.Answered {
				continue
			}
			c, _ := b.ink()
			x, y := p.at(b.X, b.Y)
			w := font.MeasureString(f.label, printable(b.Name)).Ceil() + 2*pad
			at := image.Rect(0, 0, w, high).Add(image.Pt(int(x)-w/2, int(y)-high/2))
			for range len(taken) {
				for _, t := range taken {
					if at.Overlaps(t) {
						at = at.Add(image.Pt(0, t.Max.Y-at.Min.Y+1))
					}
				}
			}
			at = inside(at, p.r)
			taken = append(taken, at)
			plate(img, at, c)
			f.text(img, f.label, b.Name, at.Min.X+pad, at.Max.Y-5, c)
		}
	}
}

// inside moves a rectangle into another one, as far as it fits.
func inside(r, in image.Rectangle) image.Rectangle {
	r = r.Add(image.Pt(min(0, in.Max.X-r.Max.X), min(0, in.Max.Y-r.Max.Y)))
	return r.Add(image.Pt(max(0, in.Min.X-r.Min.X), max(0, in.Min.Y-r.Min.Y)))
}

// plate is a light ground for text with a fine edge.
func plate(img *image.RGBA, r image.Rectangle, edge color.Color) {
	draw.Draw(img, r, image.NewUniform(edge), image.Point{}, draw.Over)
	draw.Draw(img, r.Inset(1), image.NewUniform(color.RGBA{255, 255, 255, 255}), image.Point{}, draw.Over)
}

// scaleBar is one metre, or as many as make a readable bar.
func scaleBar(img *image.RGBA, f *fonts, p plan) {
	metres := 1.0
	for metres*p.scale < 60 {
		metres *= 2
	}
	x0, y := float32(p.r.Min.X+16), float32(p.r.Max.Y-18)
	x1 := x0 + float32(metres*p.scale)
	fill(img, p.r, color.RGBA{255, 255, 255, 200}, x0-8, y-26, x1+8, y-26, x1+8, y+10, x0-8, y+10)
	stroke(img, p.r, x0, y, x1, y, 3, ink)
	stroke(img, p.r, x0, y-5, x0, y+5, 2, ink)
	stroke(img, p.r, x1, y-5, x1, y+5, 2, ink)
	f.text(img, f.small, fmt.Sprintf("%g m", metres), int(x0), int(y)-8, ink)
}

func north(img *image.RGBA, f *fonts, r image.Rectangle) {
	x, y := float32(r.Max.X-26), float32(r.Min.Y+22)
	fill(img, r, color.RGBA{255, 255, 255, 200}, x-18, y-18, x+18, y-18, x+18, y+38, x-18, y+38)
	fill(img, r, ink, x, y-12, x+8, y+10, x, y+5, x-8, y+10)
	f.text(img, f.small, "N", int(x)-5, int(y)+30, ink)
}
