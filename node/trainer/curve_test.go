package trainer

import (
	"bytes"
	"image/png"
	"testing"
)

// A run of one line a stage has curves that can be seen, left of their names.
func TestCurveOfOnePoint(t *testing.T) {
	log := []Point{{Stage: StagePoints, Step: 2, Loss: 3}, {Stage: StageJoint, Step: 4, Loss: 0.5, Figures: map[string]float64{"now group": 0.4}}}
	var b bytes.Buffer
	if err := Curve(&b, log); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	size := img.Bounds().Size()
	for name, y := range map[string]int{"loss": 0, "figures": size.Y / 2} {
		coloured := 0
		for j := range size.Y / 2 {
			for i := range size.X * 78 / 100 {
				if r, g, b, _ := img.At(i, y+j).RGBA(); max(r, g, b)-min(r, g, b) > 0x4000 {
					coloured++
				}
			}
		}
		if coloured < 20 {
			t.Errorf("%s: %d coloured pixels", name, coloured)
		}
	}
	if err := Curve(&b, nil); err != nil {
		t.Errorf("a log without lines: %v", err)
	}
}
