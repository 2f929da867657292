package placecode

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/rays"
)

// camera stands at a place of the map and looks levelly along a heading, radians from x.
func camera(x, y, z, heading float64) geometry.Transform {
	// The optical frame (z ahead, x right, y down) turned to look along +x, then about the map's z.
	look := quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5}
	turn := quat.Number{Real: math.Cos(heading / 2), Kmag: math.Sin(heading / 2)}
	return geometry.Transform{Translation: r3.Vec{X: x, Y: y, Z: z}, Rotation: quat.Mul(turn, look)}
}

// With start_frame every row also says where its place was as seen from the first camera, by hand-made geometry.
func TestStartFrame(t *testing.T) {
	o := config.Nano(512, 1).RobotConfig
	o.StartFrame = true
	code, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	k := [9]float64{50, 0, 48, 0, 50, 48, 0, 0, 1}
	w := Window{
		Frames: []Frame{
			{Stamp: 0, Pose: camera(0, 0, 1.5, 0), K: k, Width: 96, Height: 96},           // looks along +x
			{Stamp: 3e9, Pose: camera(2, 0, 1.5, math.Pi/2), K: k, Width: 96, Height: 96}, // looks along +y
			{Stamp: 5e9, Pose: camera(2, 1, 1.5, math.Pi), K: k, Width: 96, Height: 96},   // looks along -x
		},
		Centroids: []float64{3, 2, 0.5},
		Grid:      2,
	}
	rows, err := code.Encode(w)
	if err != nil {
		t.Fatal(err)
	}
	positions := 4 * (1 + 2*o.PositionOctaves.Count)
	now := 3 * (1 + 2*o.DirectionOctaves.Count)
	then := now + positions
	if got, want := code.Width(), o.Columns(); got != want {
		t.Fatalf("rows of %d columns, the config counts %d", got, want)
	}
	check := func(name string, row []float32, at int, right, ahead, up float64) {
		t.Helper()
		want := []float64{right, ahead, up, math.Sqrt(right*right + ahead*ahead + up*up)}
		for i, v := range want {
			if math.Abs(float64(row[at+i])-v) > 1e-5 {
				t.Errorf("%s: column %d is %v, expected %v", name, i, row[at+i], v)
			}
		}
	}
	voxel := rows.Voxels
	check("voxel now", voxel, now, 1, -1, -1)   // from (2, 1), looking along -x: right is +y
	check("voxel then", voxel, then, -2, 3, -1) // from (0, 0), looking along +x: right is -y
	first, last := rows.Cameras, rows.Cameras[2*code.Width():]
	check("first camera then", first, then, 0, 0, 0)
	check("first camera now", first, now, -1, 2, 0)
	check("last camera now", last, now, 0, 0, 0)
	check("last camera then", last, then, -1, 2, 0)
	if len(rows.Patches) != 3*4*code.Width() {
		t.Errorf("%d numbers of patches, expected 3 frames of 4 rows", len(rows.Patches))
	}
	if age := first[then+positions]; math.Abs(float64(age)-0.5) > 1e-6 {
		t.Errorf("age of the first frame is %v, expected 0.5 tens of seconds", age)
	}

	// Without it the rows are the same but for those columns.
	without := *o
	without.StartFrame = false
	plain, err := New(&without)
	if err != nil {
		t.Fatal(err)
	}
	short, err := plain.Encode(w)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		long, row := rows.Cameras[i*code.Width():(i+1)*code.Width()], short.Cameras[i*plain.Width():(i+1)*plain.Width()]
		cut := append(append([]float32(nil), long[:then]...), long[then+positions:]...)
		for j := range row {
			if row[j] != cut[j] {
				t.Fatalf("camera %d: column %d is %v without start_frame and %v with it", i, j, row[j], cut[j])
			}
		}
	}
}

// Each patch_place puts patches where it says: into the map, where they are measured, or at the end of a ray that hits nothing.
func TestPatchPlaces(t *testing.T) {
	v, err := points.Voxelize([]float64{3.1, 0.1, 1.5, 3.1, -0.1, 1.5}, 0.2) // ahead of the camera, a little left and right
	if err != nil {
		t.Fatal(err)
	}
	caster, err := rays.NewCaster(v, nil, rays.CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	frame := Frame{Pose: camera(0, 0, 1.5, 0), K: [9]float64{96, 0, 48, 0, 96, 48, 0, 0, 1}, Width: 96, Height: 96}
	for _, c := range []struct {
		place  config.PatchPlace
		depth  []float32
		caster *rays.Caster
		ahead  float64 // of the only patch
	}{
		{"", nil, caster, 3.1},
		{config.MapPlace, []float32{1}, caster, 3.1},
		{config.RayPlace, []float32{1}, caster, 2.5},
		{config.DepthPlace, []float32{1}, caster, 1},
		{config.DepthPlace, []float32{0}, caster, 3.1},
		{config.DepthPlace, nil, caster, 3.1},
		{config.DepthPlace, []float32{9}, caster, 3.1}, // further than far
		{config.DepthPlace, []float32{0.2}, caster, 3.1},
		{config.DepthPlace, []float32{1}, nil, 1}, // no map is needed for what is measured
		{config.MapPlace, nil, nil, 2.5},
	} {
		o := *config.Nano(512, 1).RobotConfig
		o.PatchPlace = c.place
		code, err := New(&o)
		if err != nil {
			t.Fatal(err)
		}
		f := frame
		f.Depth = c.depth
		rows, err := code.Encode(Window{Frames: []Frame{f}, Caster: c.caster, Grid: 1})
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(rows.Patches[3*(1+2*o.DirectionOctaves.Count)+1]); math.Abs(got-c.ahead) > 0.11 {
			t.Errorf("%q with depth %v: the patch is %g m ahead, expected %g", c.place, c.depth, got, c.ahead)
		}
	}
}
