package rays

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/points"
	"github.com/stllm/stllm/node/testdata"
)

var up = r3.Vec{Z: 1}

func randomPose(r *rand.Rand, spread float64) geometry.Transform {
	q := quat.Number{Real: r.NormFloat64(), Imag: r.NormFloat64(), Jmag: r.NormFloat64(), Kmag: r.NormFloat64()}
	return geometry.Transform{
		Translation: r3.Vec{X: spread * r.NormFloat64(), Y: spread * r.NormFloat64(), Z: spread * r.NormFloat64()},
		Rotation:    q,
	}.Normalized()
}

func TestEgoIsLevelAndAhead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for range 200 {
		pose := randomPose(r, 3)
		ego, err := Ego(pose, up)
		if err != nil {
			t.Fatal(err)
		}
		if d := r3.Norm(ego.Apply(pose.Translation)); d > 1e-9 {
			t.Fatalf("the camera is %g m from its own origin", d)
		}
		if d := r3.Norm(r3.Sub(ego.Rotate(up), up)); d > 1e-9 {
			t.Fatalf("up is off by %g", d)
		}
		if f := ego.Rotate(pose.Rotate(r3.Vec{Z: 1})); math.Abs(f.X) > 1e-9 || f.Y < -1e-9 {
			t.Fatalf("the camera looks along %v, expected x = 0 and y > 0", f)
		}
	}
}

func TestEgoOfVerticalCameras(t *testing.T) {
	// Looking straight down with the picture's upper edge to the east (+x): ahead is east, right is south.
	down, err := geometry.FromMatrix([16]float64{0, -1, 0, 1, -1, 0, 0, 2, 0, 0, -1, 3, 0, 0, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	ego, err := Ego(down, up)
	if err != nil {
		t.Fatal(err)
	}
	if p := ego.Apply(r3.Vec{X: 2, Y: 2, Z: 3}); r3.Norm(r3.Sub(p, r3.Vec{Y: 1})) > 1e-9 {
		t.Errorf("a metre east is %v, expected a metre ahead", p)
	}
	if _, err := Ego(geometry.Transform{Translation: r3.Vec{X: math.NaN()}, Rotation: quat.Number{Real: 1}}, up); err == nil {
		t.Error("a pose that is not a number was accepted")
	}
	if _, err := Ego(down, r3.Vec{}); err == nil {
		t.Error("an upward direction of zero length was accepted")
	}
}

// Turning and moving the whole world about its upward axis must not change anything that the model sees.
func TestEncodingDoesNotDependOnTheFixedFrame(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 0))
	enc, err := NewEncoding(EncodingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if enc.Width() != 91 {
		t.Fatalf("width is %d, expected 91", enc.Width())
	}
	for range 20 {
		pose := randomPose(r, 2)
		half := r.Float64() * 3
		world := geometry.Transform{Translation: r3.Vec{X: 5 * r.NormFloat64(), Y: r.NormFloat64(), Z: r.NormFloat64()},
			Rotation: quat.Number{Real: math.Cos(half), Kmag: math.Sin(half)}}
		var a, b []float64
		for range 30 {
			p := r3.Vec{X: 4 * r.NormFloat64(), Y: 4 * r.NormFloat64(), Z: r.NormFloat64()}
			q := world.Apply(p)
			a, b = append(a, p.X, p.Y, p.Z), append(b, q.X, q.Y, q.Z)
		}
		encode := func(pose geometry.Transform, xyz []float64) []float32 {
			ego, err := Ego(pose, up)
			if err != nil {
				t.Fatal(err)
			}
			out, err := enc.Places(xyz, ego)
			if err != nil {
				t.Fatal(err)
			}
			cams, err := enc.Cameras([]geometry.Transform{pose}, ego)
			if err != nil {
				t.Fatal(err)
			}
			return append(out, cams...)
		}
		x, y := encode(pose, a), encode(world.Mul(pose), b)
		for i := range x {
			if math.Abs(float64(x[i]-y[i])) > 2e-5 {
				t.Fatalf("column %d of place %d changes from %g to %g when the world is turned", i%91, i/91, x[i], y[i])
			}
		}
	}
}

func TestEncodingColumns(t *testing.T) {
	enc, err := NewEncoding(EncodingOptions{Directions: []float64{1}, Positions: []float64{0.5, 1}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := enc.Places([]float64{3, 0, 4}, geometry.Identity())
	if err != nil {
		t.Fatal(err)
	}
	want := []float64{0.6, 0, 0.8, math.Sin(0.6), 0, math.Sin(0.8), math.Cos(0.6), 1, math.Cos(0.8), 3, 0, 4, 5}
	for _, f := range []func(float64) float64{math.Sin, math.Cos} {
		for _, v := range []float64{3, 0, 4, 5} {
			want = append(want, f(v/2), f(v))
		}
	}
	testdata.Near(t, "row", got, want, 1e-6)
	if _, err := NewEncoding(EncodingOptions{Directions: []float64{1, -2}}); err == nil {
		t.Error("a negative frequency was accepted")
	}
	if _, err := enc.Places([]float64{1, 2}, geometry.Identity()); err == nil {
		t.Error("two coordinates were accepted as a place")
	}
}

func TestPatchDirectionsProjectToPatchCentres(t *testing.T) {
	v := View{Pose: geometry.Identity(), K: [9]float64{585, 0, 320, 0, 570, 240, 0, 0, 1}, Width: 640, Height: 480}
	d, err := v.PatchDirections(14)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 14 * 14 {
		x, y, z := d[3*i], d[3*i+1], d[3*i+2]
		u, w := v.K[0]*x/z+v.K[2], v.K[4]*y/z+v.K[5]
		if wu, ww := (float64(i%14)+0.5)*640/14, (float64(i/14)+0.5)*480/14; math.Abs(u-wu)+math.Abs(w-ww) > 1e-9 {
			t.Fatalf("patch %d is seen at (%g, %g), expected (%g, %g)", i, u, w, wu, ww)
		}
	}
	v.K[0] = 0
	if _, err := v.PatchDirections(14); err == nil {
		t.Error("a focal length of 0 was accepted")
	}
}

func randomVoxels(t testing.TB, r *rand.Rand, n int, spread, size float64) (*points.Voxels, []float64) {
	xyz := make([]float64, 3*n)
	for i := range xyz {
		xyz[i] = spread * (r.Float64() - 0.5)
	}
	v, err := points.Voxelize(xyz, size)
	if err != nil {
		t.Fatal(err)
	}
	return v, xyz
}

// The walk through the grid must find the same voxel as trying every voxel's box.
func TestCastAgainstAllBoxes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	for _, n := range []int{1, 20, 400} {
		v, _ := randomVoxels(t, r, n, 4, 0.2)
		c, err := NewCaster(v, nil, CastOptions{Near: 0.3, Far: 6, Miss: 2})
		if err != nil {
			t.Fatal(err)
		}
		hits := 0
		for range 2000 {
			o := r3.Vec{X: 6 * (r.Float64() - 0.5), Y: 6 * (r.Float64() - 0.5), Z: 6 * (r.Float64() - 0.5)}
			d := r3.Unit(r3.Vec{X: r.NormFloat64(), Y: r.NormFloat64(), Z: r.NormFloat64()})
			if r.IntN(4) == 0 { // along an axis
				d = [...]r3.Vec{{X: 1}, {X: -1}, {Y: 1}, {Z: -1}}[r.IntN(4)]
			}
			want, row := math.Inf(1), int32(-1)
			for i := range v.Len() {
				x, y, z := v.Center(i)
				in, out := 0.3, 6.0
				for k := range 3 {
					cc, oo, dd := [3]float64{x, y, z}[k], [3]float64{o.X, o.Y, o.Z}[k], [3]float64{d.X, d.Y, d.Z}[k]
					if dd == 0 {
						if math.Abs(oo-cc) > 0.1 {
							in = math.Inf(1)
						}
						continue
					}
					a, b := (cc-0.1-oo)/dd, (cc+0.1-oo)/dd
					in, out = math.Max(in, math.Min(a, b)), math.Min(out, math.Max(a, b))
				}
				if in < out-1e-9 && in < want { // grazing by less than a nanometre may go either way
					want, row = in, int32(i)
				}
			}
			got, voxel := c.first(o, d)
			if voxel >= 0 {
				hits++
			}
			if (voxel < 0) != (row < 0) || voxel >= 0 && math.Abs(got-want) > 1e-7 {
				t.Fatalf("n=%d ray %v %v: voxel %d at %g m, expected %d at %g m", n, o, d, voxel, got, row, want)
			}
			hit := c.Cast(o, d)
			if row < 0 && (hit.Voxel != -1 || hit.Distance != 2) {
				t.Fatalf("a miss is placed at %v", hit)
			}
			if row >= 0 && (hit.Distance < want-0.1001 && hit.Distance > 0.3 || hit.Distance > want+0.2001) {
				t.Fatalf("a hit at %g m is placed at %g m", want, hit.Distance)
			}
		}
		if n == 400 && hits < 100 {
			t.Fatalf("only %d of 2000 rays hit anything", hits)
		}
	}
}

func TestCastOddRays(t *testing.T) {
	v, _ := randomVoxels(t, rand.New(rand.NewPCG(4, 0)), 50, 2, 0.1)
	c, err := NewCaster(v, nil, CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []r3.Vec{{}, {X: math.NaN()}, {X: math.Inf(1)}, {X: 1e300}, {X: 1e-300, Y: 1e-300}} {
		for _, o := range []r3.Vec{{}, {X: 1e18}, {Y: math.NaN()}} {
			c.Cast(o, d) // must come back
		}
	}
	for _, o := range []CastOptions{{Near: -1}, {Near: 9}, {Far: math.Inf(1)}, {Miss: math.NaN()}, {Far: 1e9}} {
		if _, err := NewCaster(v, nil, o); err == nil {
			t.Errorf("options %+v were accepted", o)
		}
	}
	if _, err := NewCaster(v, make([]float64, 5), CastOptions{}); err == nil {
		t.Error("five coordinates of centroids were accepted")
	}
}

// In a box room the patches of a level camera must lie on its walls, and measured depth must give the same places.
func TestPatchPlacesInARoom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	var xyz []float64
	rgb := []uint8{}
	for range 200000 { // walls, floor and ceiling of 4 × 4 × 3 m
		p := [3]float64{4*r.Float64() - 2, 4*r.Float64() - 2, 3 * r.Float64()}
		switch r.IntN(6) {
		case 0:
			p[0] = -2
		case 1:
			p[0] = 2
		case 2:
			p[1] = -2
		case 3:
			p[1] = 2
		case 4:
			p[2] = 0
		case 5:
			p[2] = 3
		}
		xyz, rgb = append(xyz, p[:]...), append(rgb, 9, 9, 9)
	}
	v, err := points.Voxelize(xyz, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	_, centroids, err := v.Stats(xyz, rgb)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCaster(v, centroids, CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pose, err := geometry.FromMatrix([16]float64{1, 0, 0, 0.3, 0, 0, 1, -0.4, 0, -1, 0, 1.5, 0, 0, 0, 1}) // looks along +y
	if err != nil {
		t.Fatal(err)
	}
	view := View{Pose: pose, K: [9]float64{300, 0, 320, 0, 300, 240, 0, 0, 1}, Width: 640, Height: 480}
	places, voxels, err := c.PatchPlaces([]View{view, view}, 8)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := view.PatchDirections(8)
	depth := make([][]float32, 2)
	for i := range 128 {
		if voxels[i] < 0 {
			t.Fatalf("patch %d hits nothing", i)
		}
		x, y, z := places[3*i], places[3*i+1], places[3*i+2]
		off := min(math.Abs(x-2), math.Abs(x+2), math.Abs(y-2), math.Abs(z), math.Abs(z-3))
		if off > 0.11 {
			t.Errorf("patch %d is at (%g, %g, %g), %g m from any wall", i, x, y, z, off)
		}
		dist := r3.Norm(r3.Sub(r3.Vec{X: x, Y: y, Z: z}, pose.Translation))
		depth[i/64] = append(depth[i/64], float32(dist*d[3*(i%64)+2]))
	}
	measured, err := Grid{Side: 8}.Places([]View{view, view}, depth)
	if err != nil {
		t.Fatal(err)
	}
	for i := range places {
		if math.Abs(places[i]-measured[i]) > 1e-5 {
			t.Fatalf("coordinate %d is %g from depth, %g from the map", i, measured[i], places[i])
		}
	}
}

func BenchmarkEmbedding(b *testing.B) {
	r := rand.New(rand.NewPCG(6, 0))
	coords := make([]int32, 3*15000)
	for i := range coords {
		coords[i] = int32(r.IntN(120))
	}
	_, d, err := PointRays(coords, Pose{1, 0, 0, 60.3, 0, 0, 1, 60.1, 0, -1, 0, 50.2, 0, 0, 0, 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("published-cold", func(b *testing.B) {
		for b.Loop() {
			if _, err := NewPublishedFourier().EncodePoints(d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("published-warm", func(b *testing.B) {
		f := NewPublishedFourier()
		for b.Loop() {
			if _, err := f.EncodePoints(d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("every-sine", func(b *testing.B) { // the peer: the same numbers without the cache
		f := NewFourier(PublishedFrequencies())
		for b.Loop() {
			if _, err := f.Encode(d, 3); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPatchRays(b *testing.B) {
	poses := make([]Pose, 32)
	for i := range poses {
		poses[i] = Pose{1, 0, 0, float64(i), 0, 0, 1, 60.1, 0, -1, 0, 50.2, 0, 0, 0, 1}
	}
	for b.Loop() {
		if _, err := PatchRays(poses, [9]float64{351, 0, 192, 0, 468, 192, 0, 0, 1}, 384, 14); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchPlaces(b *testing.B) { // a window of 32 frames of 14×14 patches
	r := rand.New(rand.NewPCG(8, 0))
	v, _ := randomVoxels(b, r, 20000, 6, 0.06)
	c, err := NewCaster(v, nil, CastOptions{})
	if err != nil {
		b.Fatal(err)
	}
	views := make([]View, 32)
	for i := range views {
		views[i] = View{Pose: randomPose(r, 0.5), K: [9]float64{300, 0, 320, 0, 300, 240, 0, 0, 1}, Width: 640, Height: 480}
	}
	for b.Loop() {
		if _, _, err := c.PatchPlaces(views, 14); err != nil {
			b.Fatal(err)
		}
	}
}
