package points

import (
	"encoding/binary"
	"math"
	"testing"
)

func FuzzVoxelize(f *testing.F) {
	f.Add(0.06, make([]byte, 48))
	f.Add(1e-300, binary.LittleEndian.AppendUint64(make([]byte, 16), math.Float64bits(1e300)))
	f.Fuzz(func(t *testing.T, size float64, data []byte) {
		var xyz []float64
		for ; len(data) >= 8 && len(xyz) < 300; data = data[8:] {
			xyz = append(xyz, math.Float64frombits(binary.LittleEndian.Uint64(data)))
		}
		v, err := Voxelize(xyz, size)
		if err != nil {
			return
		}
		for i, c := range v.Coords {
			if c < 0 || c > maxCells {
				t.Fatalf("coordinate %d is %d", i, c)
			}
		}
		for i, voxel := range v.VoxelOfPoint {
			if int(voxel) >= v.Len() || int(v.PointOfVoxel[voxel]) > i {
				t.Fatalf("point %d is in voxel %d", i, voxel)
			}
		}
		if _, err := NewTables(v.Coords, MinkUNetLevels); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add(make([]byte, 24))
	f.Add([]byte{0, 0, 0, 0x40, 0, 0, 0, 0xC0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		var coords []int32
		for ; len(data) >= 4 && len(coords) < 300; data = data[4:] {
			coords = append(coords, int32(binary.LittleEndian.Uint32(data)))
		}
		tab, err := NewTables(coords, Levels{Count: 5, Kernel: 3})
		if err != nil {
			return
		}
		for l, up := range tab.Up {
			for i, u := range up {
				if tab.Down[l][u] != int32(i) {
					t.Fatalf("level %d row %d goes up by entry %d, which comes down to row %d", l, i, u, tab.Down[l][u])
				}
			}
		}
	})
}
