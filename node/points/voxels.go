// Package points does the index work of the two point encoders: voxels of a cloud, neighbour tables of the sparse U-Net,
// farthest-point sampling, ball queries and attention masks of the masked transformer. All of it depends on coordinates
// alone, is done once per map, and is exact: the rules are those of the published pipeline, proven on golden vectors.
package points

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/parallel"
)

// ErrEmpty is returned for a cloud without points.
var ErrEmpty = errors.New("no points")

// Voxels are the occupied cells of a cloud on a cubic grid, in ascending order of their 64-bit FNV-1 key (the order of
// OpenScene's sparse_quantize, which a published checkpoint does not depend on but the goldens do).
type Voxels struct {
	Size         float64  // edge in metres
	Min          [3]int64 // what was subtracted: floor(p/Size) of the lowest cell on each axis
	Coords       []int32  // x, y, z of each voxel, from 0 on each axis
	PointOfVoxel []int32  // the lowest point index in each voxel, which gives it its colour
	VoxelOfPoint []int32  // the voxel of each point
}

// maxCells is the largest extent on an axis in cells. It leaves room to add a kernel offset at the coarsest stride.
const maxCells = 1 << 30

// Len is the number of voxels.
func (v *Voxels) Len() int { return len(v.PointOfVoxel) }

// Voxelize puts points (three coordinates each, metres) on a grid of the given edge. As published, coordinates are
// multiplied by float64(1/size) and floored: dividing gives another voxel on borders.
func Voxelize(xyz []float64, size float64) (*Voxels, error) {
	if !(size > 0) || math.IsInf(size, 0) {
		return nil, fmt.Errorf("voxelise: edge is %v m, expected a positive number", size)
	}
	if len(xyz)%3 != 0 {
		return nil, fmt.Errorf("voxelise: %d coordinates, expected three per point", len(xyz))
	}
	n := len(xyz) / 3
	if n == 0 {
		return nil, fmt.Errorf("voxelise: %w", ErrEmpty)
	}
	if n > math.MaxInt32 {
		return nil, fmt.Errorf("voxelise: %d points, expected at most %d", n, math.MaxInt32)
	}
	inv := 1 / size
	lo, err := floorBounds(xyz, inv, size)
	if err != nil {
		return nil, err
	}
	v := &Voxels{Size: size, Min: [3]int64{int64(lo[0]), int64(lo[1]), int64(lo[2])}, VoxelOfPoint: make([]int32, n)}
	keys := make([]uint64, n)
	parallel.Ranges(n, 1<<14, func(a, b int) {
		for i := a; i < b; i++ {
			p := xyz[3*i : 3*i+3]
			k := uint64(fnvOffset)
			k = k*fnvPrime ^ uint64(math.Floor(p[0]*inv)-lo[0])
			k = k*fnvPrime ^ uint64(math.Floor(p[1]*inv)-lo[1])
			k = k*fnvPrime ^ uint64(math.Floor(p[2]*inv)-lo[2])
			keys[i] = k
		}
	})
	v.group(keys)
	v.Coords = make([]int32, 3*v.Len())
	for i, p := range v.PointOfVoxel {
		for k := range 3 {
			v.Coords[3*i+k] = int32(math.Floor(xyz[3*int(p)+k]*inv) - lo[k])
		}
	}
	return v, nil
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// floorBounds returns the lowest cell on each axis, after checking that every coordinate is finite and the extent fits.
func floorBounds(xyz []float64, inv, size float64) (lo [3]float64, err error) {
	hi := [3]float64{math.Inf(-1), math.Inf(-1), math.Inf(-1)}
	lo = [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	for i := 0; i+2 < len(xyz); i += 3 {
		for k, c := range xyz[i : i+3] {
			if c-c != 0 { // true for NaN and the infinities only
				return lo, fmt.Errorf("voxelise: coordinate %c of point %d is %v, expected a finite number", "xyz"[k], i/3, c)
			}
			if c < lo[k] {
				lo[k] = c
			}
			if c > hi[k] {
				hi[k] = c
			}
		}
	}
	for k := range 3 {
		// Floor and the product are monotonic: the bounds of the cells are the cells of the bounds.
		lo[k] = math.Floor(lo[k] * inv)
		cells := math.Floor(hi[k]*inv) - lo[k] + 1
		if !(cells <= maxCells) || math.Abs(lo[k]) > 1<<52 {
			return lo, fmt.Errorf("voxelise: axis %c spans %g cells of %g m from cell %g, expected at most %d cells", "xyz"[k], cells, size, lo[k], maxCells)
		}
	}
	return lo, nil
}

// group fills PointOfVoxel and VoxelOfPoint from the points' keys. Points are first dealt into 256 parts by the top byte
// of the key, in order; each part is then small enough for the cache and parts are independent.
func (v *Voxels) group(keys []uint64) {
	type entry struct {
		key   uint64
		point int32
	}
	var start [257]int
	for _, k := range keys {
		start[k>>56+1]++
	}
	for i := range 256 {
		start[i+1] += start[i]
	}
	dealt, next := make([]entry, len(keys)), start
	for i, k := range keys {
		p := &next[k>>56]
		dealt[*p] = entry{k, int32(i)}
		*p++
	}
	var kept [256][]entry // of each part: one entry per voxel, in order of the key
	parallel.Ranges(256, 1, func(a, b int) {
		var slot []int32
		var order, rank []int32
		for part := a; part < b; part++ {
			in := dealt[start[part]:start[part+1]]
			size := 4
			for size < 2*len(in) {
				size *= 2
			}
			if size > len(slot) {
				slot = make([]int32, size)
			}
			table, mask := slot[:size], uint64(size-1)
			clear(table)
			var out []entry
			for _, e := range in {
				// The table is by the key's low bits, spread: the last xor leaves neighbours close together.
				for h := e.key * 0x9E3779B97F4A7C15 >> 20; ; h++ {
					s := &table[h&mask]
					if *s == 0 {
						out = append(out, e) // the lowest index comes first
						*s = int32(len(out))
					}
					if out[*s-1].key == e.key {
						v.VoxelOfPoint[e.point] = *s - 1
						break
					}
				}
			}
			order, rank = order[:0], slices.Grow(rank[:0], len(out))[:len(out)]
			for i := range out {
				order = append(order, int32(i))
			}
			slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(out[a].key, out[b].key) })
			sorted := make([]entry, len(out))
			for i, o := range order {
				sorted[i], rank[o] = out[o], int32(i)
			}
			for _, e := range in {
				v.VoxelOfPoint[e.point] = rank[v.VoxelOfPoint[e.point]]
			}
			kept[part] = sorted
		}
	})
	var first [256]int32
	total := 0
	for part := range kept {
		first[part] = int32(total)
		total += len(kept[part])
	}
	v.PointOfVoxel = make([]int32, total)
	parallel.Ranges(256, 8, func(a, b int) {
		for part := a; part < b; part++ {
			for i, e := range kept[part] {
				v.PointOfVoxel[int(first[part])+i] = e.point
			}
			for _, e := range dealt[start[part]:start[part+1]] {
				v.VoxelOfPoint[e.point] += first[part]
			}
		}
	})
}

// Center returns the centre of voxel i in metres, in the frame of the points.
func (v *Voxels) Center(i int) (x, y, z float64) {
	c := v.Coords[3*i : 3*i+3]
	return (float64(int64(c[0])+v.Min[0]) + 0.5) * v.Size, (float64(int64(c[1])+v.Min[1]) + 0.5) * v.Size, (float64(int64(c[2])+v.Min[2]) + 0.5) * v.Size
}

// Rigid returns the row-major 4×4 matrix from metres to voxel units: 1/Size on the diagonal, −Min in the last column.
func (v *Voxels) Rigid() [16]float64 {
	inv := 1 / v.Size
	return [16]float64{
		inv, 0, 0, -float64(v.Min[0]),
		0, inv, 0, -float64(v.Min[1]),
		0, 0, inv, -float64(v.Min[2]),
		0, 0, 0, 1,
	}
}
