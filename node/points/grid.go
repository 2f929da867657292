package points

import (
	"fmt"
	"math"
)

// Grid finds the row of a voxel by its coordinates. Cells are kept in dense blocks of 4×4×4, and the blocks in a hash
// table: a kernel's neighbours mostly lie in one block, and empty space costs nothing.
type Grid struct {
	slots []int32    // open-addressed: 1 + number of the block
	where [][3]int32 // of each block: coordinates / 4
	rows  []int32    // 64 per block: row, or −1
}

// NewGrid builds the index of voxel coordinates, three per row; any sign. Of rows with the same coordinates the first
// one is found.
func NewGrid(coords []int32) (*Grid, error) {
	if len(coords)%3 != 0 {
		return nil, fmt.Errorf("voxel grid: %d coordinates, expected three per voxel", len(coords))
	}
	for i, c := range coords {
		if c > maxCells || c < -maxCells {
			return nil, fmt.Errorf("voxel grid: coordinate %c of voxel %d is %d, expected at most ±%d", "xyz"[i%3], i/3, c, maxCells)
		}
	}
	if len(coords)/3 > math.MaxInt32/64 {
		return nil, fmt.Errorf("voxel grid: %d voxels, expected at most %d", len(coords)/3, math.MaxInt32/64)
	}
	size := 16
	for size < len(coords)/6 { // half a block per voxel: surfaces fill about ten cells of a block
		size *= 2
	}
	g := &Grid{slots: make([]int32, size)}
	for i := 0; i < len(coords); i += 3 {
		x, y, z := coords[i], coords[i+1], coords[i+2]
		r := &g.rows[g.add(x>>2, y>>2, z>>2)<<6|cell(x, y, z)]
		if *r < 0 {
			*r = int32(i / 3)
		}
	}
	return g, nil
}

func cell(x, y, z int32) int32 { return z&3<<4 | y&3<<2 | x&3 }

func spread(x, y, z int32) uint64 {
	h := uint64(uint32(x))*0x9E3779B97F4A7C15 ^ uint64(uint32(y))*0xC2B2AE3D27D4EB4F ^ uint64(uint32(z))*0x165667B19E3779F9
	return h ^ h>>32
}

// block returns the number of a block, or −1.
func (g *Grid) block(x, y, z int32) int32 {
	mask := uint64(len(g.slots) - 1)
	for h := spread(x, y, z); ; h++ {
		s := g.slots[h&mask]
		if s == 0 {
			return -1
		}
		if g.where[s-1] == [3]int32{x, y, z} {
			return s - 1
		}
	}
}

func (g *Grid) add(x, y, z int32) int32 {
	if b := g.block(x, y, z); b >= 0 {
		return b
	}
	if 2*(len(g.where)+1) > len(g.slots) {
		g.slots = make([]int32, 2*len(g.slots))
		for i, w := range g.where {
			g.insert(w, int32(i))
		}
	}
	b := int32(len(g.where))
	g.where = append(g.where, [3]int32{x, y, z})
	g.insert(g.where[b], b)
	for range 64 {
		g.rows = append(g.rows, -1)
	}
	return b
}

func (g *Grid) insert(w [3]int32, b int32) {
	mask := uint64(len(g.slots) - 1)
	h := spread(w[0], w[1], w[2])
	for g.slots[h&mask] != 0 {
		h++
	}
	g.slots[h&mask] = b + 1
}

// renumber replaces every row by another number.
func (g *Grid) renumber(to []int32) {
	for i, r := range g.rows {
		if r >= 0 {
			g.rows[i] = to[r]
		}
	}
}

// At returns the row of the voxel at the given coordinates, or −1.
func (g *Grid) At(x, y, z int32) int32 {
	b := g.block(x>>2, y>>2, z>>2)
	if b < 0 {
		return -1
	}
	return g.rows[b<<6|cell(x, y, z)]
}

// Cursor looks up cells near to each other: it remembers the last block. The zero value is not valid; see [Grid.Cursor].
type Cursor struct {
	grid  *Grid
	at    [3]int32
	block int32
}

// Cursor returns a cursor for one goroutine.
func (g *Grid) Cursor() Cursor { return Cursor{grid: g, block: g.block(0, 0, 0)} }

// At is [Grid.At]. empty reports whether the whole 4×4×4 block of the cell has no voxel; blocks begin at multiples of 4 on
// each axis. Ray casting steps over empty blocks.
func (c *Cursor) At(x, y, z int32) (row int32, empty bool) {
	if at := [3]int32{x >> 2, y >> 2, z >> 2}; at != c.at {
		c.at, c.block = at, c.grid.block(at[0], at[1], at[2])
	}
	if c.block < 0 {
		return -1, true
	}
	return c.grid.rows[c.block<<6|cell(x, y, z)], false
}
