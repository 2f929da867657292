// Package picture draws what a question was answered from: a contact sheet of the frames that the model saw, and a top view
// of the map with the camera's path, viewing cones, scale bar, boxes, evidence and a legend. The same input gives the same bytes.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"golang.org/x/image/draw"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/scene"
)

// Frame is one frame that the model saw.
type Frame struct {
	Picture *imaging.RGB // nil: an empty tile
	Seconds float64      // from the question's moment, negative before it
	Pose    geometry.Transform
	K       [9]float64
	Width   int     // of the picture that K belongs to
	Weight  float64 // evidence, 0: none
}

// Box is a named thing on the map: a ground rectangle turned by Yaw about its centre, metres and radians.
type Box struct {
	Name                    string
	X, Y, Width, Depth, Yaw float64
	Small                   bool  // drawn only where it is asked about or answered
	From, To                int64 // ns, when it stands there; To is 0 where it stays
	Asked                   bool  // the question is about it: drawn so that it is seen first
	Answered                bool  // the answer names it
	Vague                   bool  // with Answered: the answer may mean another of its name as well
}

// StandsAt tells whether it is there at a time, ns.
func (b Box) StandsAt(at int64) bool { return at >= b.From && (b.To == 0 || at < b.To) }

// Region is a ball that the answer looked at, metres.
type Region struct{ X, Y, Radius, Weight float64 }

// Input is what a picture shows.
type Input struct {
	Title    string // for example the question's id and the model
	Question string
	Answer   string
	Frames   []Frame
	Path     []geometry.Transform // every pose of the window, in order of time
	Map      *scene.Cloud         // in the fixed frame; nil: none
	MapID    string
	Boxes    []Box
	Regions  []Region
}

// Sizes in pixels.
const (
	width     = 1600
	margin    = 28
	mapSide   = 760
	columns   = 4
	lineStep  = 26
	cardSpace = 10
)

// Colours: a quiet page with one strong colour for what was asked, and one for what was answered. The camera is blue.
var (
	paper    = color.RGBA{250, 249, 246, 255}
	ink      = color.RGBA{34, 38, 44, 255}
	faint    = color.RGBA{120, 126, 134, 255}
	frameBg  = color.RGBA{232, 231, 227, 255}
	pathInk  = color.RGBA{24, 110, 190, 255}
	coneInk  = color.RGBA{24, 110, 190, 60}
	askedInk = color.RGBA{214, 64, 52, 255}
	saidInk  = color.RGBA{22, 138, 86, 255}
	boxInk   = color.RGBA{90, 96, 104, 170}
	lookInk  = color.RGBA{240, 160, 20, 255}
)

// Window draws the picture and returns it as PNG.
func Window(in Input) ([]byte, error) {
	f, err := newFonts()
	if err != nil {
		return nil, err
	}
	tile := (width - 2*margin - mapSide - margin - (columns-1)*cardSpace) / columns
	tileH := tile * 3 / 4
	rows := max(1, (len(in.Frames)+columns-1)/columns)
	text := append(f.wrap(f.bold, in.Question, width-2*margin), f.wrap(f.regular, in.Answer, width-2*margin)...)
	top := margin + lineStep + len(text)*lineStep + lineStep
	entries := legend(in)
	body := max(mapSide+legendHeight(f, entries), rows*(tileH+lineStep+cardSpace))
	height := top + body + lineStep + margin
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(img, img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)

	y := margin + 18
	f.text(img, f.small, in.Title, margin, y, faint)
	y += lineStep
	for i, l := range text {
		face, c := f.regular, ink
		if i < len(f.wrap(f.bold, in.Question, width-2*margin)) {
			face = f.bold
		}
		f.text(img, face, l, margin, y, c)
		y += lineStep
	}
	topView(img, f, image.Rect(margin, top, margin+mapSide, top+mapSide), in)
	drawLegend(img, f, margin, top+mapSide, entries)
	for i, fr := range in.Frames {
		x0 := margin + mapSide + margin + (i%columns)*(tile+cardSpace)
		y0 := top + (i/columns)*(tileH+lineStep+cardSpace)
		card(img, f, image.Rect(x0, y0, x0+tile, y0+tileH), fr, i)
	}
	f.text(img, f.small, footer(in), margin, height-margin+6, faint)
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img); err != nil {
		return nil, fmt.Errorf("picture: %w", err)
	}
	return b.Bytes(), nil
}

func footer(in Input) string {
	s := fmt.Sprintf("%d frames shown to the model, %d posed frames in the window", len(in.Frames), len(in.Path))
	if in.Map != nil {
		s += fmt.Sprintf(", %d map points", in.Map.Len())
	}
	if in.MapID != "" {
		s += " (map " + in.MapID[:min(8, len(in.MapID))] + ")"
	}
	return s + ". North (up) is +y, east (right) is +x of the fixed frame."
}

// card draws one frame with its number and time; a bar shows how much it was looked at.
func card(img *image.RGBA, f *fonts, r image.Rectangle, fr Frame, i int) {
	draw.Draw(img, r, image.NewUniform(frameBg), image.Point{}, draw.Src)
	if fr.Picture != nil {
		// The whole picture, as large as fits.
		w, h := r.Dx(), r.Dx()*fr.Picture.Height/fr.Picture.Width
		if h > r.Dy() {
			w, h = r.Dy()*fr.Picture.Width/fr.Picture.Height, r.Dy()
		}
		at := image.Rect(0, 0, w, h).Add(image.Pt(r.Min.X+(r.Dx()-w)/2, r.Min.Y+(r.Dy()-h)/2))
		draw.CatmullRom.Scale(img, at, fr.Picture.Image(), image.Rect(0, 0, fr.Picture.Width, fr.Picture.Height), draw.Src, nil)
	}
	if fr.Weight > 0 {
		bar := image.Rect(r.Min.X, r.Max.Y-5, r.Min.X+int(float64(r.Dx())*min(1, fr.Weight)), r.Max.Y)
		draw.Draw(img, bar, image.NewUniform(lookInk), image.Point{}, draw.Src)
	}
	f.text(img, f.small, fmt.Sprintf("%d   %+.1f s", i+1, fr.Seconds), r.Min.X, r.Max.Y+18, faint)
}
