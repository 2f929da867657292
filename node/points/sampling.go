package points

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/stllm/stllm/node/parallel"
)

// nearOrigin is |p|² at or below which the published kernel never picks a point: it takes it for padding.
const nearOrigin = 1e-3

// FarthestPoints picks count of the points (float32, three coordinates each) as the published CUDA kernel does: index 0
// first, then always the point whose squared distance to those picked is largest, in float32. Points within 3.2 cm of the
// origin are never picked (index 0 is). Equal distances: with B = min(512, 2^⌊log₂ n⌋) threads and t = k mod B, the
// smallest bit-reversed t wins, then the smallest k.
//
// Points are kept in small boxes; a box that no new point can change is passed over, so the work grows with the picked
// neighbourhood and not with the cloud. The result is the same as that of the plain loop.
func FarthestPoints(xyz []float32, count int) ([]int32, error) {
	n := len(xyz) / 3
	if err := checkPoints("farthest points", xyz); err != nil {
		return nil, err
	}
	if count < 1 || count > n {
		return nil, fmt.Errorf("farthest points: %d asked for of %d points, expected 1 to %d", count, n, n)
	}
	boxes := newFarBoxes(xyz)
	out := make([]int32, 1, count)
	last := int32(0)
	for len(out) < count {
		boxes.add(xyz[3*last : 3*last+3])
		last = boxes.farthest()
		out = append(out, last)
	}
	return out, nil
}

func checkPoints(what string, xyz []float32) error {
	if len(xyz)%3 != 0 {
		return fmt.Errorf("%s: %d coordinates, expected three per point", what, len(xyz))
	}
	if len(xyz) == 0 {
		return fmt.Errorf("%s: %w", what, ErrEmpty)
	}
	for i, v := range xyz {
		if v-v != 0 {
			return fmt.Errorf("%s: coordinate %c of point %d is %v, expected a finite number", what, "xyz"[i%3], i/3, v)
		}
	}
	return nil
}

// squared is the distance as the published kernels compute it. The conversions forbid fused multiply-add, which Go may
// use on some machines.
func squared(dx, dy, dz float32) float32 {
	return float32(float32(dx*dx)+float32(dy*dy)) + float32(dz*dz)
}

// farBox is a leaf of points in place, from begin to end of farBoxes.points.
type farBox struct {
	lo, hi     [3]float32
	begin, end int
	far        float32 // largest distance in the box
	rank       int32   // of the point at that distance
	at         int32   // its index
}

type farPoint struct {
	p     [3]float32
	dist  float32 // squared, to the nearest picked point
	rank  int32   // place in the order of ties
	index int32
}

type farBoxes struct {
	points []farPoint
	boxes  []farBox
}

func newFarBoxes(xyz []float32) *farBoxes {
	n := len(xyz) / 3
	block := min(512, 1<<(bits.Len(uint(n))-1))
	width := bits.Len(uint(block)) - 1
	f := &farBoxes{points: make([]farPoint, 0, n)}
	for k := range n {
		p := [3]float32(xyz[3*k : 3*k+3])
		if float64(squared(p[0], p[1], p[2])) <= nearOrigin {
			continue
		}
		thread := bits.Reverse32(uint32(k%block)) >> (32 - width) // 0 when width is 0: a shift by 32 gives 0
		f.points = append(f.points, farPoint{p: p, dist: 1e10, rank: int32(int(thread)*((n+block-1)/block) + k/block), index: int32(k)})
	}
	f.split(0, len(f.points))
	return f
}

// split halves a range in the middle of its widest axis until it is small or all in one place.
func (f *farBoxes) split(begin, end int) {
	if begin == end {
		return
	}
	part := f.points[begin:end]
	lo, hi := part[0].p, part[0].p
	for _, q := range part[1:] {
		for k := range 3 {
			lo[k], hi[k] = min(lo[k], q.p[k]), max(hi[k], q.p[k])
		}
	}
	if len(part) <= 64 || lo == hi {
		b := farBox{lo: lo, hi: hi, begin: begin, end: end, far: 1e10, rank: math.MaxInt32}
		for _, q := range part {
			if q.rank < b.rank {
				b.rank, b.at = q.rank, q.index
			}
		}
		f.boxes = append(f.boxes, b)
		return
	}
	axis := 0
	for k := 1; k < 3; k++ {
		if hi[k]-lo[k] > hi[axis]-lo[axis] {
			axis = k
		}
	}
	middle := (float64(lo[axis]) + float64(hi[axis])) / 2 // in float64 it is below hi
	low := 0
	for i := range part {
		if float64(part[i].p[axis]) <= middle {
			part[i], part[low] = part[low], part[i]
			low++
		}
	}
	f.split(begin, begin+low)
	f.split(begin+low, end)
}

// add lowers the distances to the picked points by a new one.
func (f *farBoxes) add(p []float32) {
	x, y, z := p[0], p[1], p[2]
	for i := range f.boxes {
		b := &f.boxes[i]
		// The nearest that the new point can be, less what float32 may round off: when even that is no nearer than the
		// farthest point of the box, nothing in the box changes.
		dx := max(float64(b.lo[0])-float64(x), float64(x)-float64(b.hi[0]), 0)
		dy := max(float64(b.lo[1])-float64(y), float64(y)-float64(b.hi[1]), 0)
		dz := max(float64(b.lo[2])-float64(z), float64(z)-float64(b.hi[2]), 0)
		if (dx*dx+dy*dy+dz*dz)*(1-1e-6)-1e-36 >= float64(b.far) {
			continue
		}
		b.far, b.rank = -1, math.MaxInt32
		part := f.points[b.begin:b.end]
		for j := range part {
			q := &part[j]
			d := squared(q.p[0]-x, q.p[1]-y, q.p[2]-z)
			if d < q.dist {
				q.dist = d
			} else {
				d = q.dist
			}
			if d > b.far || d == b.far && q.rank < b.rank {
				b.far, b.rank, b.at = d, q.rank, q.index
			}
		}
	}
}

// farthest returns the point to pick next: index 0 when there is none.
func (f *farBoxes) farthest() int32 {
	best := farBox{far: -1, rank: math.MaxInt32}
	for i := range f.boxes {
		if b := &f.boxes[i]; b.far > best.far || b.far == best.far && b.rank < best.rank {
			best = *b
		}
	}
	return best.at
}

// BallQuery finds, for each centre, the first nsample points in the order of their index that are nearer than radius
// (float32 squared distance < float32 radius²), as [centres][nsample]. The rest of a row repeats its first hit; a row
// without a hit is all 0, as in the published kernel.
func BallQuery(xyz, centers []float32, radius float32, nsample int) ([]int32, error) {
	if err := checkPoints("ball query", xyz); err != nil {
		return nil, err
	}
	if err := checkPoints("ball query: centres", centers); err != nil {
		return nil, err
	}
	if !(radius > 0) || radius > math.MaxFloat32/4 {
		return nil, fmt.Errorf("ball query: radius is %v m, expected a positive number", radius)
	}
	if nsample < 1 {
		return nil, fmt.Errorf("ball query: %d samples asked for, expected 1 or more", nsample)
	}
	cells, err := newCells(xyz, float64(radius)*(1+1e-5))
	if err != nil {
		return nil, err
	}
	n := len(centers) / 3
	out := make([]int32, n*nsample)
	limit := radius * radius
	parallel.Ranges(n, 16, func(lo, hi int) {
		var hits []int32
		for i := lo; i < hi; i++ {
			x, y, z := centers[3*i], centers[3*i+1], centers[3*i+2]
			hits = hits[:0]
			cells.around(float64(x), float64(y), float64(z), func(k int32) {
				if squared(x-xyz[3*k], y-xyz[3*k+1], z-xyz[3*k+2]) < limit {
					hits = append(hits, k)
				}
			})
			if len(hits) == 0 {
				continue
			}
			slices.Sort(hits)
			row := out[i*nsample : (i+1)*nsample]
			for j := copy(row, hits); j < nsample; j++ {
				row[j] = hits[0]
			}
		}
	})
	return out, nil
}

// cells sort points into cubes of one edge.
type cells struct {
	edge  float64
	org   [3]float64
	grid  *Grid
	start []int32 // of each cube in points
	point []int32
}

func newCells(xyz []float32, edge float64) (*cells, error) {
	c := &cells{edge: edge}
	for k := range 3 {
		c.org[k] = math.Inf(1)
		for i := k; i < len(xyz); i += 3 {
			c.org[k] = min(c.org[k], float64(xyz[i]))
		}
	}
	coords := make([]int32, len(xyz))
	for i, v := range xyz {
		f := math.Floor((float64(v) - c.org[i%3]) / edge)
		if f >= maxCells {
			return nil, fmt.Errorf("ball query: axis %c spans more than %d radii", "xyz"[i%3], maxCells)
		}
		coords[i] = int32(f)
	}
	grid, err := NewGrid(coords)
	if err != nil {
		return nil, err
	}
	kept, cube, _ := unique(grid, coords)
	grid.renumber(cube)
	c.grid, c.start, c.point = grid, make([]int32, len(kept)+1), make([]int32, len(cube))
	for _, b := range cube {
		c.start[b+1]++
	}
	for i := range len(kept) {
		c.start[i+1] += c.start[i]
	}
	next := slices.Clone(c.start)
	for i, b := range cube {
		c.point[next[b]] = int32(i)
		next[b]++
	}
	return c, nil
}

// around calls f for every point of the 27 cubes about a place.
func (c *cells) around(x, y, z float64, f func(point int32)) {
	at := [3]int32{}
	for k, v := range [3]float64{x, y, z} {
		// A place far outside has no neighbours; the clamp keeps it outside.
		at[k] = int32(min(max(math.Floor((v-c.org[k])/c.edge), -8), maxCells+8))
	}
	for dz := int32(-1); dz <= 1; dz++ {
		for dy := int32(-1); dy <= 1; dy++ {
			for dx := int32(-1); dx <= 1; dx++ {
				if b := c.grid.At(at[0]+dx, at[1]+dy, at[2]+dz); b >= 0 {
					for _, p := range c.point[c.start[b]:c.start[b+1]] {
						f(p)
					}
				}
			}
		}
	}
}

// DistanceMask returns, for tokens at the given places, 1 where one is hidden from another: the Euclidean distance (float32)
// is radius or more. Shape [n][n].
func DistanceMask(xyz []float32, radius float64) []uint8 {
	n := len(xyz) / 3
	out := make([]uint8, n*n)
	limit := float32(radius)
	parallel.Ranges(n, 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			a, row := xyz[3*i:3*i+3], out[i*n:(i+1)*n]
			for j := range row {
				b := xyz[3*j : 3*j+3]
				if float32(math.Sqrt(float64(squared(a[0]-b[0], a[1]-b[1], a[2]-b[2])))) >= limit {
					row[j] = 1
				}
			}
		}
	})
	return out
}

// Pick returns the points of the given indices.
func Pick(xyz []float32, index []int32) []float32 {
	out := make([]float32, 0, 3*len(index))
	for _, i := range index {
		out = append(out, xyz[3*i:3*i+3]...)
	}
	return out
}
