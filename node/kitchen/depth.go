package kitchen

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/stllm/stllm/msgs"
)

// A depth camera as robots have them, in the numbers of an active stereo camera with a base of 5 cm, whose depth is registered to
// the colour camera.
const (
	depthNear   = 0.3    // metres; nothing nearer is measured
	depthFar    = 6.0    // nor further
	depthBlob   = 0.002  // standard deviation of an error that neighbours share, times the square of the distance in metres
	depthGrain  = 0.0015 // the same of each pixel's own
	depthCell   = 8      // pixels; how far neighbours share an error
	depthLost   = 0.05   // share of cells in which nothing is matched
	depthShadow = 4      // pixels beside a nearer thing that one of the two eyes does not see past it
	depthBase   = 32.0   // focal length times base, pixels · metres, at 640 pixels
)

// ranger is a depth camera's error, the same for the same seed.
type ranger struct {
	seed  uint64
	table []float32 // standard normal numbers
}

func newRanger(seed uint64) *ranger {
	r := rand.New(rand.NewPCG(seed, 0x6465707468))
	g := &ranger{seed: seed, table: make([]float32, 4096)}
	for i := range g.table {
		g.table[i] = float32(r.NormFloat64())
	}
	return g
}

// measure makes a depth image of what is truly there: metres along the optical axis, +Inf where nothing is.
func (g *ranger) measure(frame, width, height int, truth []float32, h msgs.Header) *msgs.Image {
	m := &msgs.Image{Header: h, Width: uint32(width), Height: uint32(height), Encoding: "16UC1", Step: uint32(2 * width), Data: make([]byte, 2*width*height)}
	r := rand.New(rand.NewPCG(g.seed, 0x80000000+uint64(frame)))
	across := width/depthCell + 2
	cells := make([]float32, across*(height/depthCell+2)) // the shared error at the cells' corners
	lost := make([]bool, len(cells))
	for i := range cells {
		cells[i], lost[i] = g.table[r.Uint64()&4095], r.Float64() < depthLost
	}
	base := float32(depthBase) * float32(width) / 640
	shadow := max(1, depthShadow*width/640)
	for y := range height {
		row := truth[y*width : (y+1)*width]
		bits, left := uint64(0), 0
		for x, z := range row {
			if left == 0 {
				bits, left = r.Uint64(), 5
			}
			own := g.table[bits&4095]
			bits, left = bits>>12, left-1
			cx, cy := x/depthCell, y/depthCell
			if !(z >= depthNear && z <= depthFar) || lost[cy*across+cx] || shadowed(row, x, shadow, base) {
				continue
			}
			at := cells[cy*across+cx:]
			fx, fy := float32(x%depthCell)/depthCell, float32(y%depthCell)/depthCell
			shared := (at[0]*(1-fx)+at[1]*fx)*(1-fy) + (at[across]*(1-fx)+at[across+1]*fx)*fy
			z += z * z * (depthBlob*shared + depthGrain*own)
			binary.LittleEndian.PutUint16(m.Data[2*(y*width+x):], uint16(math.Round(1000*float64(z))))
		}
	}
	return m
}

// shadowed tells whether something much nearer stands within a few pixels of one of a row: the two pictures of a stereo camera
// then show different things there.
func shadowed(row []float32, x, reach int, base float32) bool {
	limit := base/row[x] + 1 // a disparity of a pixel more
	for i := max(0, x-reach); i <= min(len(row)-1, x+reach); i++ {
		if base > limit*row[i] {
			return true
		}
	}
	return false
}
