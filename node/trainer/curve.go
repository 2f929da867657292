package trainer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// ReadLog reads a training log; a line that a kill has cut off at the end is left out.
func ReadLog(path string) ([]Point, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("training log: %w", err)
	}
	defer f.Close()
	var out []Point
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		var p Point
		if err := json.Unmarshal(s.Bytes(), &p); err != nil {
			if s.Scan() {
				return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
			}
			break
		}
		out = append(out, p)
	}
	return out, s.Err()
}

// openLog opens a run's training log to write on. A line that a kill or a full disk has cut off is taken away, so that it does not
// spoil the one that follows.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("training log: %w", err)
	}
	data, err := io.ReadAll(f)
	if err == nil {
		end := int64(bytes.LastIndexByte(data, '\n') + 1)
		if err = f.Truncate(end); err == nil {
			_, err = f.Seek(end, io.SeekStart)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("training log: %w", err), f.Close())
	}
	return f, nil
}

// Curve draws a training log as a PNG: the loss of each stage above, the figures on held-out kitchens below, both over the
// steps of all stages in the order in which they were run, with their names on the right. Steps that a killed run did twice count
// once.
func Curve(w io.Writer, log []Point) error {
	loss, figures := plot.New(), plot.New()
	loss.Title.Text, figures.Title.Text = "loss by stage", "figures"
	loss.X.Label.Text, figures.X.Label.Text = "steps", "steps"
	loss.Y.Label.Text, figures.Y.Label.Text = "loss, power of ten", "share"
	lines, marks := map[string]plotter.XYs{}, map[string]plotter.XYs{}
	done, at := map[string]int{}, 0 // steps of a stage, and of all
	for _, p := range log {
		if p.Step <= done[p.Stage] {
			continue
		}
		at += p.Step - done[p.Stage]
		done[p.Stage] = p.Step
		x := float64(at)
		if p.Loss > 0 {
			lines[p.Stage] = append(lines[p.Stage], plotter.XY{X: x, Y: math.Log10(p.Loss)})
		}
		for name, v := range p.Figures {
			if strings.HasSuffix(name, "_loss") {
				if v > 0 {
					lines[p.Stage+" "+name] = append(lines[p.Stage+" "+name], plotter.XY{X: x, Y: math.Log10(v)})
				}
			} else if !strings.HasPrefix(name, "metres") && !strings.HasSuffix(name, "precision") {
				marks[name] = append(marks[name], plotter.XY{X: x, Y: v})
			}
		}
	}
	const width, height, names = 11 * vg.Inch, 9 * vg.Inch, 2.4 * vg.Inch // of all, and of the names
	img := vgimg.New(width, height)
	canvas := draw.New(img)
	figures.Y.Min, figures.Y.Max = 0, 1
	for _, part := range []struct {
		p            *plot.Plot
		data         map[string]plotter.XYs
		bottom, down vg.Length
	}{{loss, lines, height / 2, 0}, {figures, marks, 0, -height / 2}} {
		legend, err := curves(part.p, part.data)
		if err != nil {
			return err
		}
		part.p.X.Min, part.p.X.Max = 0, 1.02*float64(max(1, at))
		part.p.Add(plotter.NewGrid())
		part.p.Draw(draw.Crop(canvas, 0, -names, part.bottom, part.down))
		legend.Draw(draw.Crop(canvas, width-names+vg.Points(6), 0, part.bottom, part.down-vg.Points(24)))
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}

// curves adds a line for each name, which differ in colour and in their dashes, and gives their legend. Points of short lines are
// marked: a line of one would not be seen.
func curves(p *plot.Plot, data map[string]plotter.XYs) (plot.Legend, error) {
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.TextStyle.Font.Size = 9
	dashes := [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(1.5), vg.Points(2)}}
	for i, name := range slices.Sorted(maps.Keys(data)) {
		line, err := plotter.NewLine(data[name])
		if err != nil {
			return legend, fmt.Errorf("curve %s: %w", name, err)
		}
		line.Color, line.Width, line.Dashes = hue(i, len(data)), vg.Points(1.2), dashes[i%len(dashes)]
		if strings.HasSuffix(name, "group") {
			line.Width = vg.Points(2.5)
		}
		p.Add(line)
		thumbs := []plot.Thumbnailer{line}
		if len(data[name]) <= 30 {
			marks, err := plotter.NewScatter(data[name])
			if err != nil {
				return legend, fmt.Errorf("curve %s: %w", name, err)
			}
			marks.Color, marks.Shape, marks.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2)
			p.Add(marks)
			thumbs = append(thumbs, marks)
		}
		legend.Add(name, thumbs...)
	}
	return legend, nil
}

// hue spreads colours around the circle.
func hue(i, n int) color.Color {
	h := 6 * float64(i) / float64(max(n, 1))
	channel := func(shift float64) uint8 {
		x := h + shift
		for x >= 6 {
			x -= 6
		}
		v := 0.0
		switch {
		case x < 1:
			v = x
		case x < 3:
			v = 1
		case x < 4:
			v = 4 - x
		}
		return uint8(30 + 180*v)
	}
	return color.RGBA{channel(2), channel(0), channel(4), 255}
}
