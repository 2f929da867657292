package render

import "math"

// Texture is a square tile that repeats in both directions, with mip levels. Texels are linear light.
type Texture struct {
	scale  float32 // texels a metre at level 0
	levels []level
}

type level struct {
	size  int
	texel []Vec
}

// NewTexture fills a tile of size×size texels (a power of two) that covers edge metres; paint gets coordinates in [0, 1)
// and returns linear light.
func NewTexture(size int, edge float32, paint func(u, v float32) Vec) *Texture {
	t := &Texture{scale: float32(size) / edge}
	base := level{size: size, texel: make([]Vec, size*size)}
	for y := range size {
		for x := range size {
			base.texel[y*size+x] = paint((float32(x)+0.5)/float32(size), (float32(y)+0.5)/float32(size))
		}
	}
	t.levels = append(t.levels, base)
	for s := size / 2; s >= 1; s /= 2 {
		up := t.levels[len(t.levels)-1]
		l := level{size: s, texel: make([]Vec, s*s)}
		for y := range s {
			for x := range s {
				a := up.texel[2*y*up.size+2*x].Add(up.texel[2*y*up.size+2*x+1])
				b := up.texel[(2*y+1)*up.size+2*x].Add(up.texel[(2*y+1)*up.size+2*x+1])
				l.texel[y*s+x] = a.Add(b).Scale(0.25)
			}
		}
		t.levels = append(t.levels, l)
	}
	return t
}

// sample reads the tile at (u, v) metres with a footprint of width metres.
func (t *Texture) sample(u, v, width float32) Vec {
	k := 0
	for f := width * t.scale * 1.3; f > 1.5 && k < len(t.levels)-1; f /= 2 {
		k++
	}
	l := &t.levels[k]
	n := float32(l.size)
	edge := float32(t.levels[0].size) / t.scale
	x, y := u/edge*n-0.5, v/edge*n-0.5
	fx, fy := float32(math.Floor(float64(x))), float32(math.Floor(float64(y)))
	mask := l.size - 1
	x0, y0 := int(fx)&mask, int(fy)&mask
	x1, y1 := (x0+1)&mask, (y0+1)&mask
	dx, dy := x-fx, y-fy
	a, b := &l.texel[y0*l.size+x0], &l.texel[y0*l.size+x1]
	c, d := &l.texel[y1*l.size+x0], &l.texel[y1*l.size+x1]
	var out Vec
	for i := range 3 {
		p := a[i] + (b[i]-a[i])*dx
		q := c[i] + (d[i]-c[i])*dx
		out[i] = p + (q-p)*dy
	}
	return out
}

// At reads the material's colour at (u, v) metres, averaged over width metres.
func (m *Material) At(u, v, width float32) Vec {
	if m.Texture == nil {
		return m.Color
	}
	return m.Texture.sample(u, v, width)
}
