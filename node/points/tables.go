package points

import (
	"fmt"

	"github.com/stllm/stllm/node/parallel"
)

// Missing marks an absent neighbour in a table. ONNX Gather counts negative indices from the end, so a graph that appends
// one row of zeros to its input can use the tables as they are.
const Missing = -1

// Levels describes the levels of a sparse U-Net.
type Levels struct {
	Count  int // resolution levels, 5 for MinkUNet: strides 1, 2, 4, 8, 16
	Kernel int // edge of the first convolution's kernel, 5 for MinkUNet; odd
}

// MinkUNetLevels are those of MinkUNet18A.
var MinkUNetLevels = Levels{Count: 5, Kernel: 5}

func (l Levels) validate() error {
	if l.Count < 1 || l.Count > 16 {
		return fmt.Errorf("neighbour tables: %d levels, expected 1 to 16", l.Count)
	}
	if l.Kernel != 1 && l.Kernel != 3 && l.Kernel != 5 && l.Kernel != 7 {
		return fmt.Errorf("neighbour tables: first kernel %d, expected 1, 3, 5 or 7", l.Kernel)
	}
	return nil
}

// Tables are the neighbour tables of a sparse U-Net over one map. Entries are rows of the input level, or [Missing].
// Kernel offsets run x fastest: k = ix + K·iy + K²·iz, centred for odd K, 0 and 1 for K = 2, times the stride of the finer
// level; the operation is a correlation. Coordinates of level l are multiples of 2^l, in order of first appearance in the
// finer level.
type Tables struct {
	Levels     Levels
	Coords     [][]int32 // [level] three per row
	Stem       []int32   // [rows of level 0][Kernel³], of the first convolution
	K3         [][]int32 // [level] [rows][27]
	Down       [][]int32 // [level] [rows of level+1][8]: rows of level
	Up         [][]int32 // [level] [rows of level]: 8·row of level+1 + k, where k is the one offset that reaches it
	KeptRows   []int32   // of each row of level 0: its row in the input; shorter than the input where voxels repeat
	VoxelOfRow []int32   // of each input row: its row of level 0
}

// Rows is the number of rows of a level.
func (t *Tables) Rows(level int) int { return len(t.Coords[level]) / 3 }

// Bytes is what the tables weigh.
func (t *Tables) Bytes() int {
	n := len(t.Stem) + len(t.KeptRows) + len(t.VoxelOfRow)
	for l := range t.Coords {
		n += len(t.Coords[l]) + len(t.K3[l])
		if l < len(t.Up) {
			n += len(t.Down[l]) + len(t.Up[l])
		}
	}
	return 4 * n
}

// NewTables builds the tables of voxels at the given coordinates, three per row. Where a voxel repeats, its first row
// stays and the others are dropped, as MinkowskiEngine does on the CPU.
func NewTables(coords []int32, levels Levels) (*Tables, error) {
	if err := levels.validate(); err != nil {
		return nil, err
	}
	if len(coords) == 0 {
		return nil, fmt.Errorf("neighbour tables: %w", ErrEmpty)
	}
	grid, err := NewGrid(coords)
	if err != nil {
		return nil, fmt.Errorf("neighbour tables: %w", err)
	}
	t := &Tables{Levels: levels}
	var kept []int32
	t.KeptRows, t.VoxelOfRow, kept = unique(grid, coords)
	if len(kept) != len(coords) {
		if grid, err = NewGrid(kept); err != nil {
			return nil, fmt.Errorf("neighbour tables: %w", err)
		}
	}
	t.Coords = append(t.Coords, kept)
	t.Stem = neighbours(grid, kept, levels.Kernel)
	// cells are the coordinates of a level divided by its stride, so that its grid is dense however coarse it is.
	for l, cells := 0, kept; ; l++ {
		t.K3 = append(t.K3, neighbours(grid, cells, 3))
		if l == levels.Count-1 {
			return t, nil
		}
		halved := make([]int32, len(cells))
		for i, c := range cells {
			halved[i] = c >> 1 // towards −∞
		}
		if grid, err = NewGrid(halved); err != nil {
			return nil, fmt.Errorf("neighbour tables: level %d: %w", l+1, err)
		}
		_, parent, coarse := unique(grid, halved)
		grid.renumber(parent)
		down, up := make([]int32, 8*(len(coarse)/3)), make([]int32, len(parent))
		for i := range down {
			down[i] = Missing
		}
		for i, p := range parent {
			k := cells[3*i]&1 | cells[3*i+1]&1<<1 | cells[3*i+2]&1<<2
			down[8*p+k] = int32(i)
			up[i] = 8*p + k
		}
		coords := make([]int32, len(coarse))
		for i, c := range coarse {
			coords[i] = c << (l + 1)
		}
		t.Coords, t.Down, t.Up = append(t.Coords, coords), append(t.Down, down), append(t.Up, up)
		cells = coarse
	}
}

// unique drops repeated rows.
func unique(grid *Grid, coords []int32) (keptRows, voxelOfRow, kept []int32) {
	n := len(coords) / 3
	voxelOfRow = make([]int32, n)
	keptRows = make([]int32, 0, n)
	for i := range n {
		first := grid.At(coords[3*i], coords[3*i+1], coords[3*i+2])
		if int(first) == i {
			voxelOfRow[i] = int32(len(keptRows))
			keptRows = append(keptRows, int32(i))
		} else {
			voxelOfRow[i] = voxelOfRow[first]
		}
	}
	if len(keptRows) == n {
		return keptRows, voxelOfRow, coords
	}
	kept = make([]int32, 0, 3*len(keptRows))
	for _, i := range keptRows {
		kept = append(kept, coords[3*i:3*i+3]...)
	}
	return keptRows, voxelOfRow, kept
}

// neighbours builds the table of a centred kernel. Rows are independent.
func neighbours(grid *Grid, coords []int32, kernel int) []int32 {
	n, volume, half := len(coords)/3, kernel*kernel*kernel, int32(kernel/2)
	table := make([]int32, n*volume)
	parallel.Ranges(n, 512, func(lo, hi int) {
		cursor := grid.Cursor()
		for i := lo; i < hi; i++ {
			x, y, z := coords[3*i], coords[3*i+1], coords[3*i+2]
			row := table[i*volume : i*volume : (i+1)*volume]
			for dz := -half; dz <= half; dz++ {
				for dy := -half; dy <= half; dy++ {
					for dx := -half; dx <= half; dx++ {
						r, _ := cursor.At(x+dx, y+dy, z+dz)
						row = append(row, r)
					}
				}
			}
		}
	})
	return table
}

// UpTable returns the table of the transposed convolution from level+1 to level in its plain form, [rows][8] with seven
// of eight entries missing: the form of the published engine. The graph uses Up.
func (t *Tables) UpTable(level int) []int32 {
	out := make([]int32, 8*len(t.Up[level]))
	for i := range out {
		out[i] = Missing
	}
	for i, u := range t.Up[level] {
		out[8*i+int(u&7)] = u >> 3
	}
	return out
}
