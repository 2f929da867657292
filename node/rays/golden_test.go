package rays

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func poses(x testdata.Tensor) []Pose {
	var out []Pose
	for p := range slices.Chunk(x.Float64s(), 16) {
		out = append(out, Pose(p))
	}
	return out
}

// sameBits compares with the golden bits; +0 and −0 differ.
func sameBits(t *testing.T, what string, got []float32, want []uint16) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, expected %d", what, len(got), len(want))
		return
	}
	wrong, first := 0, -1
	for i, v := range got {
		if math.Float32bits(v) != uint32(want[i])<<16 {
			if wrong++; first < 0 {
				first = i
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d differ in bits, first at %d: %v, expected %v", what, wrong, len(got), first, got[first], math.Float32frombits(uint32(want[first])<<16))
	}
}

func TestGoldenCases(t *testing.T) {
	dir := testdata.Golden(t, "core")
	var info struct {
		Image int
		Cases []struct {
			Name      string
			FrameSize [2]int `json:"frame_size"`
			Voxel     float64
		}
	}
	testdata.JSON(t, filepath.Join(dir, "cases.json"), &info)
	if len(info.Cases) == 0 {
		t.Fatal("cases.json has no cases")
	}
	for _, c := range info.Cases {
		t.Run(c.Name, func(t *testing.T) {
			x, _ := testdata.Tensors(t, filepath.Join(dir, "case_"+c.Name+".safetensors"))
			check(t, x, c.FrameSize, c.Voxel, info.Image)
		})
	}
}

func TestGoldenWide(t *testing.T) {
	for _, path := range testdata.GoldenFiles(t, "core", "wide_rays*.safetensors") {
		x, _ := testdata.Tensors(t, path)
		// The file does not say how large the frames were; the two K do.
		const edge = 384
		k, scaled := x["K"].Float64s(), x["K_scaled"].Float64s()
		frame := [2]int{int(math.Round(edge * k[0] / scaled[0])), int(math.Round(edge * k[4] / scaled[4]))}
		check(t, x, frame, 0.06, edge)
	}
}

func check(t *testing.T, x map[string]testdata.Tensor, frame [2]int, voxel float64, edge int) {
	world := poses(x["c2w_world"])
	var low [3]int64
	for i, v := range x["min_coords"].Float64s() {
		low[i] = int64(v)
	}
	voxels := make([]Pose, len(world))
	for i, p := range world {
		voxels[i] = VoxelPose(p, voxel, low)
	}
	if want, ok := x["c2w_voxel"]; ok {
		for i, p := range poses(want) {
			if voxels[i] != p {
				t.Errorf("c2w_voxel %d: %v, expected %v", i, voxels[i], p)
			}
		}
	}
	var rounded []float32
	for _, p := range voxels {
		for _, v := range p {
			rounded = append(rounded, round(float32(v)))
		}
	}
	sameBits(t, "c2w_voxel_bf16", rounded, x["c2w_voxel_bf16"].Uint16s())

	k := [9]float64(x["K"].Float64s())
	scaled := ScaleK(k, frame[0], frame[1], edge)
	if want := [9]float64(x["K_scaled"].Float64s()); scaled != want {
		t.Errorf("K_scaled: %v, expected %v", scaled, want)
	}
	grid := int(math.Round(math.Sqrt(float64(x["ray.patches"].Shape[1]))))
	if want, ok := x["ray.pixels"]; ok {
		var all []float32
		for i := range voxels {
			p, err := PixelRays(voxels, i, scaled, edge)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p...)
		}
		sameBits(t, "ray.pixels", all, want.Uint16s())
	}
	if want, ok := x["ray.pixels.index"]; ok {
		var all, sample []float32
		for i := range voxels {
			p, err := PixelRays(voxels, i, scaled, edge)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p...)
		}
		for _, i := range want.Int32s() {
			sample = append(sample, all[i])
		}
		testdata.Near(t, "ray.pixels", sample, x["ray.pixels.value"].Float64s(), 0)
	}
	patches, err := PatchRays(voxels, scaled, edge, grid)
	if err != nil {
		t.Fatal(err)
	}
	sameBits(t, "ray.patches", patches, x["ray.patches"].Uint16s())
	if want, ok := x["train.ray.patches"]; ok {
		kt := ScaleKBF16(k, frame[0], frame[1], edge)
		var k32 []float32
		for _, v := range kt {
			k32 = append(k32, float32(v))
		}
		sameBits(t, "train.K_scaled", k32, x["train.K_scaled"].Uint16s())
		p, err := PatchRays(voxels, kt, edge, grid)
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, "train.ray.patches", p, want.Uint16s())
	}
	encoding := NewPublishedFourier()
	embedded, err := encoding.Encode(patches, 3)
	if err != nil {
		t.Fatal(err)
	}
	sameBits(t, "ray.embedding", embedded, x["ray.embedding"].Uint16s())

	coords := x["coords"].Int32s()
	camera, direction, err := PointRays(coords, voxels[0])
	if err != nil {
		t.Fatal(err)
	}
	sameBits(t, "point.camera", camera, x["point.camera"].Uint16s())
	sameBits(t, "point.direction", direction, x["point.direction"].Uint16s())
	if embedded, err = encoding.EncodePoints(direction); err != nil {
		t.Fatal(err)
	}
	want := x["point.embedding"]
	rows := want.Shape[0]
	sameBits(t, "point.embedding", embedded[:rows*encoding.Width(3)], want.Uint16s()) // the first rows, or all

	clean, err := CleanPatchRays(voxels, scaled, edge, grid)
	if err != nil {
		t.Fatal(err)
	}
	testdata.Near(t, "clean.ray.patches", clean, x["clean.ray.patches"].Float64s(), 1e-6)
	cleanPoints, err := CleanPointRays(coords, voxels[0])
	if err != nil {
		t.Fatal(err)
	}
	testdata.Near(t, "clean.point.direction", cleanPoints, x["clean.point.direction"].Float64s(), 1e-6)
}
