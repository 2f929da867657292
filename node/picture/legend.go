package picture

import (
	"image"
	"image/color"
	"slices"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
)

// entry is one line of the legend: a drawing of legendMark by legendMark pixels and what it means.
type entry struct {
	text string
	mark func(img *image.RGBA, r image.Rectangle)
}

const (
	legendMark = 18
	legendStep = 26
	legendGap  = 22
)

// legend explains what is in the picture, and nothing else.
func legend(in Input) []entry {
	var out []entry
	outline := func(b Box) func(img *image.RGBA, r image.Rectangle) {
		return func(img *image.RGBA, r image.Rectangle) {
			c, w := b.ink()
			x0, y0, x1, y1 := float32(r.Min.X+2), float32(r.Min.Y+3), float32(r.Max.X-2), float32(r.Max.Y-3)
			for _, l := range [][4]float32{{x0, y0, x1, y0}, {x1, y0, x1, y1}, {x1, y1, x0, y1}, {x0, y1, x0, y0}} {
				stroke(img, r, l[0], l[1], l[2], l[3], w, c)
			}
		}
	}
	if slices.ContainsFunc(in.Boxes, func(b Box) bool { return b.Asked }) {
		out = append(out, entry{"asked about", outline(Box{Asked: true})})
	}
	if slices.ContainsFunc(in.Boxes, func(b Box) bool { return b.Answered && !b.Vague && !b.Asked }) {
		out = append(out, entry{"named in the answer", outline(Box{Answered: true})})
	}
	if slices.ContainsFunc(in.Boxes, func(b Box) bool { return b.Vague && !b.Asked }) {
		out = append(out, entry{"one of these, it says", outline(Box{Answered: true, Vague: true})})
	}
	if slices.ContainsFunc(in.Boxes, func(b Box) bool { return !b.Answered && !b.Asked }) {
		out = append(out, entry{"other furniture", outline(Box{})})
	}
	if len(in.Path) > 0 {
		out = append(out, entry{"camera when asked", func(img *image.RGBA, r image.Rectangle) {
			camera(img, r, float32(r.Min.X+r.Max.X)/2, float32(r.Min.Y+r.Max.Y)/2)
		}}, entry{"its path", func(img *image.RGBA, r image.Rectangle) {
			y := float32(r.Min.Y+r.Max.Y) / 2
			stroke(img, r, float32(r.Min.X), y, float32(r.Max.X), y, 2.5, pathInk)
		}})
	}
	if len(in.Frames) > 0 {
		out = append(out, entry{"view of a frame", func(img *image.RGBA, r image.Rectangle) {
			fill(img, r, color.RGBA{pathInk.R, pathInk.G, pathInk.B, 110}, float32(r.Min.X), float32(r.Min.Y+r.Max.Y)/2, float32(r.Max.X), float32(r.Min.Y+2), float32(r.Max.X), float32(r.Max.Y-2))
		}})
	}
	if len(in.Regions) > 0 {
		out = append(out, entry{"looked at here", func(img *image.RGBA, r image.Rectangle) {
			x, y := float32(r.Min.X+r.Max.X)/2, float32(r.Min.Y+r.Max.Y)/2
			c := lookInk
			c.A = 120
			disc(img, r, x, y, 7, c)
			ring(img, r, x, y, 7, lookInk)
		}})
	}
	if slices.ContainsFunc(in.Frames, func(f Frame) bool { return f.Weight > 0 }) {
		out = append(out, entry{"frame's share of the looking", func(img *image.RGBA, r image.Rectangle) {
			draw.Draw(img, image.Rect(r.Min.X, r.Max.Y-8, r.Max.X, r.Max.Y-3), image.NewUniform(lookInk), image.Point{}, draw.Src)
		}})
	}
	return out
}

// legendPlaces are the corners of the entries below the top view, broken into lines of its width.
func legendPlaces(f *fonts, entries []entry) []image.Point {
	var out []image.Point
	at := image.Point{}
	for _, e := range entries {
		w := legendMark + 6 + font.MeasureString(f.small, e.text).Ceil()
		if at.X > 0 && at.X+w > mapSide {
			at = image.Pt(0, at.Y+legendStep)
		}
		out = append(out, at)
		at.X += w + legendGap
	}
	return out
}

// legendHeight is what the legend takes below the top view, pixels.
func legendHeight(f *fonts, entries []entry) int {
	if len(entries) == 0 {
		return 0
	}
	at := legendPlaces(f, entries)
	return at[len(at)-1].Y + legendStep + cardSpace
}

// drawLegend draws the entries below y.
func drawLegend(img *image.RGBA, f *fonts, x, y int, entries []entry) {
	for i, at := range legendPlaces(f, entries) {
		r := image.Rect(0, 0, legendMark, legendMark).Add(image.Pt(x, y+cardSpace).Add(at))
		entries[i].mark(img, r)
		f.text(img, f.small, entries[i].text, r.Max.X+6, r.Max.Y-4, ink)
	}
}
