package scene

import (
	"fmt"
	"math"
)

// Thin returns the cloud with at most max points, and the edge of the cells that it was thinned with in metres (0 when
// nothing had to be done; c itself is returned then). Every occupied cell of a cubic grid keeps its first point, so the
// whole extent stays covered; nothing is cut off. The result depends on the content and on max alone. The edge is searched
// so that between 80 % and 100 % of max are kept where the cloud allows it.
func (c *Cloud) Thin(max int) (*Cloud, float64, error) {
	if max < 1 {
		return nil, 0, fmt.Errorf("thin cloud: at most %d points asked for, expected 1 or more", max)
	}
	n := c.Len()
	if n <= max {
		return c, 0, nil
	}
	box, _ := c.Bounds()
	size := box.Size()
	extent := math.Max(size.X, math.Max(size.Y, size.Z))
	if math.IsNaN(extent) || math.IsInf(extent, 0) {
		return nil, 0, fmt.Errorf("thin cloud: its extent is %v m, expected a finite number", extent)
	}
	t := newThinner(c)
	if extent < 1e-100 { // one place as far as arithmetic can tell
		return c.pick([]int32{0}), 0, nil
	}
	// Counts fall as the edge grows, though not strictly: the search keeps a known good edge (hi) and stops when the
	// count is close below max. Finer than 2^-20 of the extent the cells no longer have distinct numbers.
	lo, hi := extent/(1<<20), extent*1.0000001
	best, edge := t.occupied(hi), hi
	for range 40 {
		if len(best) >= max*8/10 || hi-lo <= lo*1e-3 {
			break
		}
		mid := math.Sqrt(lo * hi)
		if kept := t.occupied(mid); len(kept) <= max {
			hi = mid
			if len(kept) >= len(best) {
				best, edge = append(best[:0], kept...), mid
			}
		} else {
			lo = mid
		}
	}
	return c.pick(best), edge, nil
}

// pick returns a new cloud of the given points.
func (c *Cloud) pick(index []int32) *Cloud {
	out := &Cloud{XYZ: make([]float64, 0, 3*len(index)), RGB: make([]uint8, 0, 3*len(index)), HasColor: c.HasColor}
	for _, i := range index {
		out.XYZ = append(out.XYZ, c.XYZ[3*i:3*i+3]...)
		out.RGB = append(out.RGB, c.RGB[3*i:3*i+3]...)
	}
	return out
}

// thinner finds occupied cells again and again for one cloud, with buffers that it keeps.
type thinner struct {
	c    *Cloud
	org  [3]float64
	slot []int32  // open-addressed table of 1 + index of the cell's first point
	key  []uint64 // of the slot
	keep []int32
}

func newThinner(c *Cloud) *thinner {
	size := 1
	for size < 2*c.Len() {
		size *= 2
	}
	box, _ := c.Bounds()
	return &thinner{c: c, org: [3]float64{box.Min.X, box.Min.Y, box.Min.Z}, slot: make([]int32, size), key: make([]uint64, size)}
}

// occupied returns the first point of each occupied cell in the order of the cloud; it is valid until the next call.
func (t *thinner) occupied(edge float64) []int32 {
	clear(t.slot)
	keep, mask, inv := t.keep[:0], uint64(len(t.slot)-1), 1/edge
	for i := range int32(t.c.Len()) {
		p := t.c.XYZ[3*i : 3*i+3]
		k := uint64((p[0]-t.org[0])*inv)<<42 | uint64((p[1]-t.org[1])*inv)<<21 | uint64((p[2]-t.org[2])*inv)
		h := k * 0x9E3779B97F4A7C15
		for h = h ^ h>>29; ; h++ {
			s := h & mask
			if t.slot[s] == 0 {
				t.slot[s], t.key[s] = i+1, k
				keep = append(keep, i)
				break
			}
			if t.key[s] == k {
				break
			}
		}
	}
	t.keep = keep
	return keep
}
