package points

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func name(path string) string { return strings.TrimSuffix(filepath.Base(path), ".safetensors") }

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, expected %d", what, len(got), len(want))
		return
	}
	wrong, first := 0, -1
	for i := range got {
		if got[i] != want[i] {
			if wrong++; first < 0 {
				first = i
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d values differ, first at %d: %v, expected %v", what, wrong, len(got), first, got[first], want[first])
	}
}

func TestGoldenVoxels(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "voxel_*.safetensors") {
		t.Run(name(path), func(t *testing.T) {
			x, meta := testdata.Tensors(t, path)
			size, err := strconv.ParseFloat(meta["voxel_size"], 64)
			if err != nil {
				t.Fatal(err)
			}
			v, err := Voxelize(x["points"].Float64s(), size)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "voxel_coords", v.Coords, x["voxel_coords"].Int32s())
			equal(t, "point_of_voxel", v.PointOfVoxel, x["point_of_voxel"].Int32s())
			equal(t, "voxel_of_point", v.VoxelOfPoint, x["voxel_of_point"].Int32s())
			rigid := v.Rigid()
			equal(t, "rigid", rigid[:], x["rigid"].Float64s())
			for k, want := range x["min_voxel"].Float64s() {
				if float64(v.Min[k]) != want {
					t.Errorf("min_voxel[%d] is %d, expected %v", k, v.Min[k], want)
				}
			}
			bf, err := v.ColorsBF16(x["colors"].Data)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "feats_bf16", bf, x["feats_bf16"].Float32s())
			f32, err := v.ColorsF32(x["colors"].Data)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "feats_f32", f32, x["feats_f32"].Float32s())
		})
	}
}

func TestGoldenTables(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "mink_*.safetensors") {
		t.Run(name(path), func(t *testing.T) {
			x, _ := testdata.Tensors(t, path)
			tab, err := NewTables(x["coords"].Int32s(), MinkUNetLevels)
			if err != nil {
				t.Fatal(err)
			}
			check := func(tensor string, got []int32) {
				t.Helper()
				if want, ok := x[tensor]; ok {
					equal(t, tensor, got, want.Int32s())
				}
			}
			check("table.k5", tab.Stem)
			check("kept_rows", tab.KeptRows)
			check("voxel_of_row", tab.VoxelOfRow)
			for l := range 5 {
				if l > 0 {
					check(fmt.Sprintf("coords%d", l), tab.Coords[l])
				}
				check(fmt.Sprintf("table.k3.%d", l), tab.K3[l])
				if l < 4 {
					check(fmt.Sprintf("table.down.%d", l), tab.Down[l])
					check(fmt.Sprintf("table.up.%d", l), tab.UpTable(l))
				}
			}
		})
	}
}

func TestGoldenSampling(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "encoder_*.safetensors") {
		t.Run(name(path), func(t *testing.T) {
			x, _ := testdata.Tensors(t, path)
			xyz := x["xyz"].Float32s()
			fps0, err := FarthestPoints(xyz, x["fps0"].Shape[0])
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "fps0", fps0, x["fps0"].Int32s())
			tokens := Pick(xyz, fps0)
			fps1, err := FarthestPoints(tokens, x["fps1"].Shape[0])
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "fps1", fps1, x["fps1"].Int32s())
			var inds []int32
			for _, i := range fps1 {
				inds = append(inds, fps0[i])
			}
			equal(t, "inds", inds, x["inds"].Int32s())
			kept := Pick(tokens, fps1)
			ball0, err := BallQuery(xyz, tokens, 0.2, 64)
			if err != nil {
				t.Fatal(err)
			}
			ball1, err := BallQuery(tokens, kept, 0.4, 32)
			if err != nil {
				t.Fatal(err)
			}
			rows := func(ball []int32, width int, which string) []int32 {
				sample, ok := x[which]
				if !ok {
					return ball
				}
				var out []int32
				for _, r := range sample.Int32s() {
					out = append(out, ball[int(r)*width:(int(r)+1)*width]...)
				}
				return out
			}
			equal(t, "ball0", rows(ball0, 64, "rows0"), x["ball0"].Int32s())
			equal(t, "ball1", rows(ball1, 32, "rows1"), x["ball1"].Int32s())
			sums := func(tensor string, ball []int32, width int) {
				want, ok := x[tensor]
				if !ok {
					return
				}
				var got []float64
				for row := range slices.Chunk(ball, width) {
					s := 0.0
					for _, i := range row {
						s += float64(i)
					}
					got = append(got, s)
				}
				equal(t, tensor, got, want.Float64s())
			}
			sums("ball0_sum", ball0, 64)
			sums("ball1_sum", ball1, 32)
			for i, m := range []struct {
				xyz    []float32
				radius float64
			}{{tokens, 0.16}, {kept, 0.64}, {kept, 1.44}} {
				if want, ok := x[fmt.Sprintf("mask%d", i)]; ok {
					equal(t, fmt.Sprintf("mask%d", i), DistanceMask(m.xyz, m.radius), want.Data)
				}
			}
		})
	}
}

func TestGoldenFarthestPointTies(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "points", "fps_*.safetensors") {
		x, _ := testdata.Tensors(t, path)
		for tensor, cloud := range x {
			if n, ok := strings.CutPrefix(tensor, "xyz_"); ok {
				want := x["fps_"+n].Int32s()
				got, err := FarthestPoints(cloud.Float32s(), len(want))
				if err != nil {
					t.Fatal(err)
				}
				equal(t, name(path)+" fps_"+n, got, want)
			}
		}
	}
}
