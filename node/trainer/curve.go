package trainer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"sort"
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
// steps of all stages in the order in which they were run. Steps that a killed run did twice count once.
func Curve(w io.Writer, log []Point) error {
	loss, figures := plot.New(), plot.New()
	loss.Title.Text, figures.Title.Text = "loss by stage", "figures"
	loss.X.Label.Text, figures.X.Label.Text = "steps", "steps"
	loss.Y.Label.Text = "log10"
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
	for _, part := range []struct {
		p    *plot.Plot
		data map[string]plotter.XYs
	}{{loss, lines}, {figures, marks}} {
		var names []string
		for name := range part.data {
			names = append(names, name)
		}
		sort.Strings(names)
		for i, name := range names {
			line, err := plotter.NewLine(part.data[name])
			if err != nil {
				return fmt.Errorf("curve %s: %w", name, err)
			}
			line.Color = hue(i, len(names))
			line.Width = vg.Points(1.2)
			if strings.HasSuffix(name, "group") {
				line.Width = vg.Points(2.5)
			}
			part.p.Add(line)
			part.p.Legend.Add(name, line)
		}
		part.p.Legend.Top = true
		part.p.X.Max = 1.25 * float64(at) // room for the names
		part.p.Add(plotter.NewGrid())
	}
	figures.Y.Min, figures.Y.Max = 0, 1
	const width, height = 9 * vg.Inch, 9 * vg.Inch
	img := vgimg.New(width, height)
	canvas := draw.New(img)
	loss.Draw(draw.Crop(canvas, 0, 0, height/2, 0))
	figures.Draw(draw.Crop(canvas, 0, 0, 0, -height/2))
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
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
