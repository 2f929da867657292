package rays

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestPublishedErrors(t *testing.T) {
	ok := Pose{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}
	bad := ok
	bad[7] = math.NaN()
	k := [9]float64{100, 0, 35, 0, 100, 35, 0, 0, 1}
	for want, f := range map[string]func() error{
		"no poses":               func() error { _, err := PatchRays(nil, k, 70, 3); return err },
		"pose 1: element [1][3]": func() error { _, err := PatchRays([]Pose{ok, bad}, k, 70, 3); return err },
		"fx 0":                   func() error { _, err := CleanPatchRays([]Pose{ok}, [9]float64{0, 0, 1, 0, 5}, 70, 3); return err },
		"cx NaN":                 func() error { _, err := PatchRays([]Pose{ok}, [9]float64{9, 0, math.NaN(), 0, 5}, 70, 3); return err },
		"grid of 71":             func() error { _, err := PatchRays([]Pose{ok}, k, 70, 71); return err },
		"picture of 0 pixels":    func() error { _, err := PixelRays([]Pose{ok}, 0, k, 0); return err },
		"frame 1":                func() error { _, err := PixelRays([]Pose{ok}, 1, k, 70); return err },
		"2 coordinates":          func() error { _, _, err := PointRays([]int32{1, 2}, ok); return err },
		"element [1][3] is NaN":  func() error { _, _, err := PointRays([]int32{1, 2, 3}, bad); return err },
		"not a bfloat16":         func() error { _, err := NewPublishedFourier().Encode([]float32{0.1}, 1); return err },
		"expected 3 per vector":  func() error { _, err := NewFourier(nil).Encode(make([]float32, 4), 3); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
}

// A camera that stands in a voxel has no direction to it: zeros, as the reference, and no NaN.
func TestPointAtTheCamera(t *testing.T) {
	pose := Pose{1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 1, 7, 0, 0, 0, 1}
	_, d, err := PointRays([]int32{5, 6, 7}, pose)
	if err != nil || d[0] != 0 || d[1] != 0 || d[2] != 0 {
		t.Errorf("direction %v (%v)", d, err)
	}
	c, err := CleanPointRays([]int32{5, 6, 7}, pose)
	if err != nil || c[0] != 0 || c[1] != 0 || c[2] != 0 {
		t.Errorf("clean direction %v (%v)", c, err)
	}
}

// The published quirk of the columns: of 381 sines 189 are zero, and their cosines are 1.
func TestZeroColumns(t *testing.T) {
	e, err := NewPublishedFourier().Encode([]float32{0.5, -0.25, 0.75}, 3)
	if err != nil {
		t.Fatal(err)
	}
	zeros, ones := 0, 0
	for i := range 381 {
		if i%127 >= 64 {
			if e[3+i] == 0 {
				zeros++
			}
			if e[384+i] == 1 {
				ones++
			}
		}
	}
	if len(e) != 765 || zeros != 189 || ones != 189 {
		t.Errorf("%d columns, %d zero sines and %d cosines of 1", len(e), zeros, ones)
	}
	if want := round(float32(math.Sin(-0.5 * math.Ldexp(1, 63)))); e[3+63] != want {
		t.Errorf("sine at −2^63 is %v, expected %v", e[3+63], want)
	}
}

func TestRoundIsNearestEven(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 0))
	for range 10000 {
		v := float32(r.NormFloat64() * math.Pow(2, float64(r.IntN(200)-100)))
		got := round(v)
		lo := math.Float32frombits(math.Float32bits(v) &^ 0xFFFF)
		hi := math.Float32frombits(math.Float32bits(v)&^0xFFFF + 0x10000)
		want := lo
		switch a, b := math.Abs(float64(v)-float64(lo)), math.Abs(float64(hi)-float64(v)); {
		case b < a, b == a && math.Float32bits(hi)>>16&1 == 0:
			want = hi
		}
		if got != want {
			t.Fatalf("%v rounds to %v, expected %v", v, got, want)
		}
	}
	if !math.IsNaN(float64(round(float32(math.NaN())))) || !math.IsInf(float64(round(math.MaxFloat32)), 1) {
		t.Error("NaN or the largest number rounds to something else")
	}
	if b := Bits([]float32{1, -2}); b[0] != 0x3F80 || b[1] != 0xC000 {
		t.Errorf("bits %x", b)
	}
}
