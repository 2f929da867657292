package rays

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/parallel"
	"github.com/stllm/stllm/node/points"
)

// CastOptions bound a ray, in metres.
type CastOptions struct {
	Near float64 // nothing nearer is hit: the robot itself; default 0.3
	Far  float64 // default 8
	Miss float64 // where a ray that hits nothing is placed; default 2.5
}

func (o CastOptions) withDefaults() (CastOptions, error) {
	for _, f := range []struct {
		name  string
		value *float64
		def   float64
	}{{"near", &o.Near, 0.3}, {"far", &o.Far, 8}, {"miss", &o.Miss, 2.5}} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if !(*f.value > 0) || math.IsInf(*f.value, 0) {
			return o, fmt.Errorf("ray casting: %s is %v m, expected a positive number", f.name, *f.value)
		}
	}
	if o.Near >= o.Far {
		return o, fmt.Errorf("ray casting: near is %v m, expected less than far (%v m)", o.Near, o.Far)
	}
	return o, nil
}

// Caster finds the first occupied voxel along rays. It may be used by several goroutines.
type Caster struct {
	options   CastOptions
	voxels    *points.Voxels
	grid      *points.Grid
	centroids []float64
	high      [3]float64 // extent in cells
}

// NewCaster prepares a map. centroids, three coordinates per voxel in metres, are where a hit is placed beside
// ([points.Voxels.Stats]); without them the voxels' centres are used.
func NewCaster(v *points.Voxels, centroids []float64, o CastOptions) (*Caster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if cells := o.Far / v.Size; cells > 1<<20 {
		return nil, fmt.Errorf("ray casting: far is %v m and voxels %v m, which is %.0f cells, expected at most %d", o.Far, v.Size, cells, 1<<20)
	}
	if centroids != nil && len(centroids) != 3*v.Len() {
		return nil, fmt.Errorf("ray casting: %d coordinates of centroids, expected %d (three per voxel)", len(centroids), 3*v.Len())
	}
	grid, err := points.NewGrid(v.Coords)
	if err != nil {
		return nil, fmt.Errorf("ray casting: %w", err)
	}
	c := &Caster{options: o, voxels: v, grid: grid, centroids: centroids}
	for i, x := range v.Coords {
		c.high[i%3] = max(c.high[i%3], float64(x)+1)
	}
	return c, nil
}

// Hit is where a ray ends.
type Hit struct {
	Voxel    int32   // row, or −1 for a miss
	Distance float64 // along the ray, metres; CastOptions.Miss for a miss
	Place    r3.Vec
}

// Cast follows a ray from origin along a unit direction, both in the frame of the map. A hit is placed beside the voxel's
// centroid, at most half an edge before and an edge behind where the ray enters the voxel.
func (c *Caster) Cast(origin, direction r3.Vec) Hit {
	enter, voxel := c.first(origin, direction)
	if voxel < 0 {
		return Hit{Voxel: -1, Distance: c.options.Miss, Place: r3.Add(origin, r3.Scale(c.options.Miss, direction))}
	}
	var centre r3.Vec
	if c.centroids != nil {
		centre = r3.Vec{X: c.centroids[3*voxel], Y: c.centroids[3*voxel+1], Z: c.centroids[3*voxel+2]}
	} else {
		centre.X, centre.Y, centre.Z = c.voxels.Center(int(voxel))
	}
	t := r3.Dot(r3.Sub(centre, origin), direction)
	t = min(max(t, enter-c.voxels.Size/2, c.options.Near), max(enter+c.voxels.Size, c.options.Near))
	return Hit{Voxel: voxel, Distance: t, Place: r3.Add(origin, r3.Scale(t, direction))}
}

// first returns the distance at which the ray enters the first occupied cell, and its row or −1. It walks from cell to cell,
// and from block to block where blocks are empty.
func (c *Caster) first(origin, direction r3.Vec) (float64, int32) {
	inv := 1 / c.voxels.Size
	o := [3]float64{origin.X*inv - float64(c.voxels.Min[0]), origin.Y*inv - float64(c.voxels.Min[1]), origin.Z*inv - float64(c.voxels.Min[2])}
	d := [3]float64{direction.X * inv, direction.Y * inv, direction.Z * inv} // cells per metre of ray
	begin, end := c.options.Near, c.options.Far
	for k := range 3 { // clip to the map's box
		if d[k] == 0 {
			if o[k] < 0 || o[k] >= c.high[k] {
				return 0, -1
			}
			continue
		}
		t0, t1 := -o[k]/d[k], (c.high[k]-o[k])/d[k]
		begin, end = max(begin, min(t0, t1)), min(end, max(t0, t1))
	}
	if !(begin < end) { // also for a ray that is not a number
		return 0, -1
	}
	t := begin
	var at [3]int32
	for k := range 3 {
		at[k] = int32(min(max(math.Floor(o[k]+t*d[k]), 0), c.high[k]-1))
	}
	cursor := c.grid.Cursor()
	// Every step leaves a cell or a block, so a ray takes no more steps than the map has cells along it.
	for t < end {
		size, low := int32(1), at
		if row, empty := cursor.At(at[0], at[1], at[2]); empty {
			size = 4
			for k := range 3 {
				low[k] &^= 3
			}
		} else if row >= 0 {
			return t, row
		}
		next, axis := math.Inf(1), -1
		for k := range 3 {
			var wall float64
			switch {
			case d[k] > 0:
				wall = (float64(low[k]+size) - o[k]) / d[k]
			case d[k] < 0:
				wall = (float64(low[k]) - o[k]) / d[k]
			default:
				continue
			}
			if wall < next {
				next, axis = wall, k
			}
		}
		if axis < 0 {
			return 0, -1 // a direction of zero length
		}
		t = max(t, next)
		for k := range 3 {
			if k == axis || size == 1 {
				continue
			}
			// Rounding must not turn a step back, or the walk might not end.
			cell := min(max(int32(math.Floor(o[k]+t*d[k])), low[k]), low[k]+size-1)
			if d[k] > 0 {
				at[k] = max(at[k], cell)
			} else {
				at[k] = min(at[k], cell)
			}
		}
		if d[axis] > 0 {
			at[axis] = low[axis] + size
		} else {
			at[axis] = low[axis] - 1
		}
		if at[axis] < 0 || float64(at[axis]) >= c.high[axis] {
			return 0, -1
		}
	}
	return 0, -1
}

// PatchPlaces casts the centre ray of each patch of each view into the map: places in the fixed frame, [T][grid·grid][3]
// metres, and the voxels hit (−1 for a miss), [T][grid·grid].
func (c *Caster) PatchPlaces(views []View, grid int) (places []float64, voxels []int32, err error) {
	per := grid * grid
	directions := make([][]float64, len(views))
	for i, v := range views {
		if directions[i], err = v.PatchDirections(grid); err != nil {
			return nil, nil, fmt.Errorf("view %d: %w", i, err)
		}
		if !v.Pose.Finite() {
			return nil, nil, fmt.Errorf("view %d: pose has a component that is not finite: %v", i, v.Pose)
		}
	}
	places, voxels = make([]float64, 3*per*len(views)), make([]int32, per*len(views))
	parallel.Ranges(len(voxels), 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			v, d := views[i/per], directions[i/per][3*(i%per):]
			hit := c.Cast(v.Pose.Translation, v.Pose.Rotate(r3.Vec{X: d[0], Y: d[1], Z: d[2]}))
			places[3*i], places[3*i+1], places[3*i+2] = hit.Place.X, hit.Place.Y, hit.Place.Z
			voxels[i] = hit.Voxel
		}
	})
	return places, voxels, nil
}

// Grid is what the patches of views are placed by.
type Grid struct {
	Side int // patches along a side of a picture
	// Caster gives the places of what is not measured; nil: there is no map, and all rays end at Options.Miss.
	Caster  *Caster
	Options CastOptions
}

// Places gives the places of the patches of views in the fixed frame, [T][Side·Side][3] metres. depth, nil or one list a view,
// holds measured distances, one a patch, in metres along the optical axis (as depth cameras give them): a patch is then where
// its centre ray has that depth. A view whose list is empty has none, and a depth that is 0, not finite, or beyond Near and Far
// along the ray is none: the patch is where its ray meets the map.
func (g Grid) Places(views []View, depth [][]float32) ([]float64, error) {
	o, err := g.Options.withDefaults()
	if err != nil {
		return nil, err
	}
	if depth != nil && len(depth) != len(views) {
		return nil, fmt.Errorf("patch places: depths of %d views, expected %d", len(depth), len(views))
	}
	places, err := g.cast(views, o.Miss)
	if err != nil {
		return nil, err
	}
	per := g.Side * g.Side
	for i, list := range depth {
		if len(list) == 0 {
			continue
		}
		if len(list) != per {
			return nil, fmt.Errorf("patch places: view %d has %d depths, expected %d (one a patch)", i, len(list), per)
		}
		if err := views[i].measured(places[3*per*i:3*per*(i+1)], list, g.Side, o); err != nil {
			return nil, fmt.Errorf("patch places: view %d: %w", i, err)
		}
	}
	return places, nil
}

// cast places patches by their rays alone.
func (g Grid) cast(views []View, miss float64) ([]float64, error) {
	if g.Caster != nil {
		places, _, err := g.Caster.PatchPlaces(views, g.Side)
		return places, err
	}
	var places []float64
	for i, v := range views {
		directions, err := v.PatchDirections(g.Side)
		if err != nil {
			return nil, fmt.Errorf("patch places: view %d: %w", i, err)
		}
		for j := 0; j < len(directions); j += 3 {
			p := v.along(directions[j:], miss)
			places = append(places, p.X, p.Y, p.Z)
		}
	}
	return places, nil
}

// along is the place at a distance along a ray of the camera's frame, in the fixed frame.
func (v View) along(direction []float64, distance float64) r3.Vec {
	return v.Pose.Apply(r3.Scale(distance, r3.Vec{X: direction[0], Y: direction[1], Z: direction[2]}))
}

// measured puts the patches of one view that have a depth where it says.
func (v View) measured(places []float64, depth []float32, side int, o CastOptions) error {
	directions, err := v.PatchDirections(side)
	if err != nil {
		return err
	}
	for j, z := range depth {
		t := float64(z) / directions[3*j+2] // from along the axis to along the ray
		if !(t >= o.Near && t <= o.Far) {
			continue
		}
		p := v.along(directions[3*j:], t)
		places[3*j], places[3*j+1], places[3*j+2] = p.X, p.Y, p.Z
	}
	return nil
}
