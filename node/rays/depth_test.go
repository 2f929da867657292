package rays

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// A wall that the camera looks at aslant: its depth, known in closed form, must put every patch on the wall where its ray ends.
func TestDepthPlacesOnAWall(t *testing.T) {
	pose := geometry.Transform{Translation: r3.Vec{X: 1, Y: -2, Z: 1.5}, Rotation: quat.Number{Real: 0.5, Imag: -0.5, Jmag: 0.5, Kmag: -0.5}} // looks along +x
	view := View{Pose: pose, K: [9]float64{460, 0, 319.5, 0, 455, 239.5, 0, 0, 1}, Width: 640, Height: 480}
	const side = 8
	normal, at := r3.Unit(r3.Vec{X: 1, Y: 0.4, Z: 0.2}), r3.Vec{X: 4, Y: -2, Z: 1.5}
	var depth []float32
	var want []r3.Vec
	for a := range side {
		for b := range side {
			ray := pose.Rotate(r3.Vec{X: ((float64(b)+0.5)*80 - 319.5) / 460, Y: ((float64(a)+0.5)*60 - 239.5) / 455, Z: 1}) // of depth 1
			z := r3.Dot(normal, r3.Sub(at, pose.Translation)) / r3.Dot(normal, ray)
			depth = append(depth, float32(math.Round(1000*z)/1000)) // as cameras give it: whole millimetres
			want = append(want, r3.Add(pose.Translation, r3.Scale(z, ray)))
		}
	}
	got, err := Grid{Side: side, Options: CastOptions{Far: 20}}.Places([]View{view}, [][]float32{depth})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		g := r3.Vec{X: got[3*i], Y: got[3*i+1], Z: got[3*i+2]}
		if off := r3.Norm(r3.Sub(g, w)); off > 1e-3 {
			t.Errorf("patch %d is at %v, %.2f mm from the wall's %v", i, g, 1000*off, w)
		}
	}
}

// Depth that equals what the map's rays give changes nothing, whatever the scene; what is not measured, or beyond the bounds,
// is where the map says.
func TestDepthEqualToTheMapChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 0))
	for range 20 {
		v, _ := randomVoxels(t, r, 400, 6, 0.2)
		o := CastOptions{Near: 0.3, Far: 5, Miss: 2.5}
		c, err := NewCaster(v, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		const side = 6
		views := make([]View, 3)
		depth := make([][]float32, len(views))
		for i := range views {
			views[i] = View{Pose: randomPose(r, 1), K: [9]float64{300, 0, 320, 0, 310, 240, 0, 0, 1}, Width: 640, Height: 480}
		}
		g := Grid{Side: side, Caster: c, Options: o}
		cast, err := g.Places(views, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, view := range views[:2] { // the last one has none
			back := view.Pose.Inverse()
			for j := range side * side {
				p := cast[3*(i*side*side+j):]
				z := float32(back.Apply(r3.Vec{X: p[0], Y: p[1], Z: p[2]}).Z)
				if odd := []float32{0, float32(math.NaN()), float32(math.Inf(1)), -1, 0.01, 100}; r.IntN(3) == 0 {
					z = odd[r.IntN(len(odd))]
				}
				depth[i] = append(depth[i], z)
			}
		}
		got, err := g.Places(views, depth)
		if err != nil {
			t.Fatal(err)
		}
		for i := range cast {
			if math.Abs(got[i]-cast[i]) > 1e-5 {
				t.Fatalf("coordinate %d is %g with depth, %g from the map", i, got[i], cast[i])
			}
		}
	}
}

// Measured depth goes before the map: a thing that the map lacks is where it is seen.
func TestDepthGoesBeforeTheMap(t *testing.T) {
	view := View{Pose: geometry.Identity(), K: [9]float64{10, 0, 10, 0, 10, 10, 0, 0, 1}, Width: 20, Height: 20}
	v, _ := randomVoxels(t, rand.New(rand.NewPCG(10, 0)), 2000, 8, 0.4)
	c, err := NewCaster(v, nil, CastOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Grid{Side: 2, Caster: c}.Places([]View{view}, [][]float32{{1, 2, 0.5, 3}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{-0.5, -0.5, 1, 1, -1, 2, -0.25, 0.25, 0.5, 1.5, 1.5, 3} {
		if math.Abs(got[i]-want) > 1e-6 {
			t.Errorf("coordinate %d is %g, expected %g", i, got[i], want)
		}
	}
	if _, err := (Grid{Side: 2}).Places([]View{view}, [][]float32{{1}}); err == nil {
		t.Error("one depth was taken for four patches")
	}
	if _, err := (Grid{Side: 2}).Places([]View{view}, [][]float32{nil, nil}); err == nil {
		t.Error("depths of two views were taken for one")
	}
}
