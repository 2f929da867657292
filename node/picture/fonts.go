package picture

import (
	"fmt"
	"image"
	"image/color"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// fonts are the faces of one picture; they are not shared, since a face is no goroutine's friend.
type fonts struct{ regular, bold, small, label font.Face }

func newFonts() (*fonts, error) {
	face := func(ttf []byte, size float64) (font.Face, error) {
		f, err := opentype.Parse(ttf)
		if err != nil {
			return nil, fmt.Errorf("picture: font: %w", err)
		}
		return opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	}
	var f fonts
	var err error
	if f.regular, err = face(goregular.TTF, 19); err != nil {
		return nil, err
	}
	if f.bold, err = face(gobold.TTF, 19); err != nil {
		return nil, err
	}
	if f.label, err = face(gobold.TTF, 15); err != nil {
		return nil, err
	}
	f.small, err = face(goregular.TTF, 14)
	return &f, err
}

func (f *fonts) text(img *image.RGBA, face font.Face, s string, x, y int, c color.Color) {
	d := font.Drawer{Dst: img, Src: image.NewUniform(c), Face: face, Dot: fixed.P(x, y)}
	d.DrawString(printable(s))
}

// printable leaves out what would break a line of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// maxLines bounds how much of a long text is shown.
const maxLines = 4

// wrap breaks a text into lines of at most width pixels; what does not fit ends in an ellipsis.
func (f *fonts) wrap(face font.Face, s string, width int) []string {
	var lines []string
	line := ""
	fits := func(s string) bool { return font.MeasureString(face, s).Ceil() <= width }
	for _, w := range strings.Fields(printable(s)) {
		for !fits(w) { // a word without end
			runes := []rune(w)
			n := len(runes)
			for n > 1 && !fits(string(runes[:n])) {
				n = n * 9 / 10
			}
			if line != "" {
				lines = append(lines, line)
				line = ""
			}
			lines, w = append(lines, string(runes[:n])), string(runes[n:])
			if len(lines) > maxLines {
				break
			}
		}
		switch {
		case line == "":
			line = w
		case fits(line + " " + w):
			line += " " + w
		default:
			lines, line = append(lines, line), w
		}
		if len(lines) > maxLines {
			break
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	if len(lines) > maxLines {
		lines = lines[:maxLines]
		lines[maxLines-1] += " …"
	}
	return lines
}
