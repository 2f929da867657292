package tf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/testdata"
)

type event struct {
	Op            string
	Parent, Child string
	Stamp         int64
	Static        bool
	T             [3]float64
	Q             [4]float64
	Target        string
	Source        string
	Fixed         *string
	TargetStamp   int64 `json:"target_stamp"`
	SourceStamp   int64 `json:"source_stamp"`
	Error         string
	Message       string
	Result        *struct {
		Stamp int64
		T     [3]float64
		Q     [4]float64
	}
}

func pose(t [3]float64, q [4]float64) geometry.Transform {
	return geometry.FromXYZW(r3.Vec{X: t[0], Y: t[1], Z: t[2]}, q[0], q[1], q[2], q[3])
}

// kind names an error as the goldens do.
func kind(err error) string {
	var invalid *InvalidError
	var lookup *LookupError
	var connect *ConnectivityError
	var extra *ExtrapolationError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &invalid):
		return "invalid_argument"
	case errors.As(err, &lookup):
		return "lookup"
	case errors.As(err, &connect):
		return "connectivity"
	case errors.As(err, &extra):
		return "extrapolation"
	}
	return err.Error()
}

func TestGoldenTF2(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testdata.Golden(t, "tf"), "random.json"))
	if err != nil {
		t.Fatal(err)
	}
	var scenarios []struct {
		Name         string
		CacheSeconds float64 `json:"cache_seconds"`
		Events       []event
	}
	if err := json.Unmarshal(data, &scenarios); err != nil || len(scenarios) == 0 {
		t.Fatalf("%d scenarios, %v", len(scenarios), err)
	}
	lookups := 0
	for _, s := range scenarios {
		b := New(time.Duration(s.CacheSeconds * float64(time.Second)))
		for i, e := range s.Events {
			if e.Op == "insert" {
				_ = b.Set(e.Parent, e.Child, e.Stamp, pose(e.T, e.Q), e.Static) // tf2 refuses some of them, too
				continue
			}
			lookups++
			var got geometry.Transform
			var stamp int64
			if e.Fixed != nil {
				got, stamp, err = b.LookupFixed(e.Target, e.TargetStamp, e.Source, e.SourceStamp, *e.Fixed)
			} else {
				got, stamp, err = b.Lookup(e.Target, e.Source, e.Stamp)
			}
			if kind(err) != e.Error {
				t.Errorf("%s event %d: error %q (%v), expected %q: %s", s.Name, i, kind(err), err, e.Error, e.Message)
				continue
			}
			if e.Result == nil {
				continue
			}
			want := pose(e.Result.T, e.Result.Q).Normalized()
			if d := r3.Norm(r3.Sub(got.Translation, want.Translation)); !(d <= 1e-9) {
				t.Errorf("%s event %d: translation off by %g m", s.Name, i, d)
			}
			if a := geometry.Angle(got, want); !(a <= 1e-9) {
				t.Errorf("%s event %d: rotation off by %g rad", s.Name, i, a)
			}
			if stamp != e.Result.Stamp {
				t.Errorf("%s event %d: stamp %d, expected %d", s.Name, i, stamp, e.Result.Stamp)
			}
		}
	}
	if lookups < 100 {
		t.Errorf("only %d look-ups", lookups)
	}
}

func random(r *rand.Rand) geometry.Transform {
	return geometry.Transform{
		Translation: r3.Vec{X: r.NormFloat64(), Y: r.NormFloat64(), Z: r.NormFloat64()},
		Rotation:    quat.Number{Real: r.NormFloat64(), Imag: r.NormFloat64(), Jmag: r.NormFloat64(), Kmag: r.NormFloat64()},
	}.Normalized()
}

// Going there and back is the identity, and a detour changes nothing.
func TestConsistency(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := New(0)
	names := []string{"map", "odom", "base", "camera", "optical", "arm"}
	parents := []int{0, 0, 1, 2, 3, 2}
	for stamp := int64(1e9); stamp <= 5e9; stamp += 1e8 {
		for i := 1; i < len(names); i++ {
			if err := b.Set(names[parents[i]], names[i], stamp, random(r), i >= 4); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 300 {
		x, y, z := names[r.IntN(6)], names[r.IntN(6)], names[r.IntN(6)]
		stamp := int64(1e9) + r.Int64N(4e9)
		a, _, err1 := b.Lookup(x, y, stamp)
		c, _, err2 := b.Lookup(y, x, stamp)
		d, _, err3 := b.Lookup(x, z, stamp)
		e, _, err4 := b.Lookup(z, y, stamp)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]geometry.Transform{"there and back": a.Mul(c), "detour": d.Mul(e).Mul(c)} {
			if geometry.Angle(got, geometry.Identity()) > 1e-7 || r3.Norm(got.Translation) > 1e-9 {
				t.Fatalf("%s between %s and %s by %s: %v", what, x, y, z, got)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	b := New(0)
	ok := geometry.Identity()
	bad := map[string]error{
		"self":      b.Set("a", "a", 1, ok, false),
		"slash":     b.Set("/a", "a", 1, ok, false),
		"no child":  b.Set("a", "", 1, ok, false),
		"no parent": b.Set("", "a", 1, ok, false),
		"nan":       b.Set("a", "b", 1, geometry.Transform{Translation: r3.Vec{X: math.NaN()}, Rotation: ok.Rotation}, false),
		"length":    b.Set("a", "b", 1, geometry.Transform{Rotation: quat.Number{Real: 1.01}}, false),
		"zero":      b.Set("a", "b", 1, geometry.Transform{}, false),
	}
	for name, err := range bad {
		if kind(err) != "invalid_argument" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Set("/map", "/base", 100e9, ok, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Set("map", "base", 89e9, ok, false); err == nil {
		t.Error("data older than the cache was taken")
	}
	if _, _, err := b.Lookup("map", "base", 100e9); err != nil {
		t.Errorf("a leading slash was not dropped: %v", err)
	}
	for name, tc := range map[string]struct {
		target, source string
		stamp          int64
		kind           string
		wait           bool
	}{
		"unknown":    {"map", "nowhere", 0, "lookup", true},
		"empty":      {"map", "", 0, "invalid_argument", false},
		"slash":      {"/map", "base", 0, "invalid_argument", false},
		"too new":    {"map", "base", 101e9, "extrapolation", true},
		"one sample": {"map", "base", 99e9, "extrapolation", false},
	} {
		_, _, err := b.Lookup(tc.target, tc.source, tc.stamp)
		if kind(err) != tc.kind || MayCome(err) != tc.wait {
			t.Errorf("%s: %v (may come: %v), expected %s, %v", name, err, MayCome(err), tc.kind, tc.wait)
		}
	}
}

// Publishers that make up names or stamps find an end, and what goes is counted.
func TestBounds(t *testing.T) {
	at := func(x float64) geometry.Transform {
		p := geometry.Identity()
		p.Translation.X = x
		return p
	}
	b := New(0)
	var full *FullError
	var old *OldError
	for i := range 2 * maxFrames {
		if err := b.Set("map", fmt.Sprint("frame", i), 1e9, at(0), i%2 == 0); (i < maxFrames-1) != (err == nil) || err != nil && !errors.As(err, &full) {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if n := len(b.Frames()); n != maxFrames {
		t.Errorf("%d frames, expected %d", n, maxFrames)
	}
	if err := b.Set("map", "frame7", 2e9, at(1), false); err != nil {
		t.Errorf("a known frame: %v", err)
	}
	if err := b.Set("map", "frame7", 1, at(1), false); err != nil {
		t.Errorf("not too old: %v", err)
	}
	if err := b.Set("map", "frame7", 12e9, at(1), false); err != nil {
		t.Fatal(err)
	}
	if err := b.Set("map", "frame7", 1e9, at(1), false); !errors.As(err, &old) {
		t.Errorf("too old: %v", err)
	}
	b.Clear(false)
	if err := b.Set("map", strings.Repeat("x", maxName+1), 1e9, at(0), false); kind(err) != "invalid_argument" {
		t.Errorf("a long name: %v", err)
	}

	// Many transforms of one stamp: the first and the last count, between neighbours as without a bound.
	for _, stamp := range []int64{1e9, 2e9, 3e9} {
		for i := range 100 {
			if err := b.Set("map", "base", stamp, at(float64(stamp)/1e9+float64(i)/1000), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(b.frames["base"].samples); n != 3*maxSameStamp || b.samples != n || b.Dropped() != uint64(300-n) {
		t.Errorf("%d samples, %d counted, %d dropped", n, b.samples, b.Dropped())
	}
	for stamp, want := range map[int64]float64{1e9: 1, 1.5e9: (1.099 + 2) / 2, 2e9: 2.099, 2.5e9: (2.099 + 3) / 2, 3e9: 3.099} {
		if got, _, err := b.Lookup("map", "base", stamp); err != nil || math.Abs(got.Translation.X-want) > 1e-12 {
			t.Errorf("at %d: x is %g, expected %g (%v)", stamp, got.Translation.X, want, err)
		}
	}

	// As many transforms as there is room for: a frame goes on with fewer, a new one does not fit.
	dropped := b.Dropped()
	for i := b.samples; i < maxSamples+1000; i++ {
		if err := b.Set("map", "base", 4e9+int64(i), at(0), false); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.frames["base"].samples); n != maxSamples || b.Dropped() != dropped+1000 {
		t.Errorf("%d samples, %d dropped", n, b.Dropped()-dropped)
	}
	if err := b.Set("map", "late", 4e9, at(0), false); !errors.As(err, &full) || b.Has("late") {
		t.Errorf("a frame more: %v, known: %v", err, b.Has("late"))
	}
	if err := b.Set("map", "base", 60e9, at(0), false); err != nil || b.samples != 1 {
		t.Errorf("%d samples after what was old has gone, %v", b.samples, err)
	}
	if err := b.Set("map", "late", 4e9, at(0), false); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	if err := b.Set("map", "base", 60e9, at(0), true); err != nil || b.samples != 2 {
		t.Errorf("static now: %d samples, %v", b.samples, err)
	}
}

func TestLoopAndClear(t *testing.T) {
	b := New(0)
	for _, link := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"x", "y"}} {
		if err := b.Set(link[0], link[1], 1, geometry.Identity(), true); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.Lookup("x", "a", 1); kind(err) != "lookup" {
		t.Errorf("a loop gave %v", err)
	}
	if err := b.Set("y", "z", 5, geometry.Identity(), false); err != nil {
		t.Fatal(err)
	}
	b.Clear(true)
	if _, _, err := b.Lookup("x", "y", 5); err != nil {
		t.Errorf("a static transform is gone: %v", err)
	}
	if b.Has("z") {
		t.Error("a moving frame is still there")
	}
	b.Clear(false)
	if len(b.Frames()) != 0 {
		t.Errorf("left: %v", b.Frames())
	}
}

func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 1, 10, 1, 2, 20, 255, 0, 2})
	f.Fuzz(func(_ *testing.T, script []byte) {
		names := []string{"a", "b", "c", "d", "/a", ""}
		b := New(time.Microsecond)
		for i := 0; i+3 < len(script); i += 4 {
			p, c, s := names[int(script[i])%6], names[int(script[i+1])%6], int64(script[i+2])*100
			if script[i+3]&1 == 0 {
				_ = b.Set(p, c, s, geometry.Identity(), script[i+3]&2 != 0)
			} else {
				_, _, _ = b.Lookup(p, c, s)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	buf := New(0)
	for stamp := int64(1e9); stamp <= 11e9; stamp += 33e6 {
		_ = buf.Set("map", "odom", stamp, geometry.Identity(), false)
		_ = buf.Set("odom", "base_link", stamp, geometry.Identity(), false)
	}
	_ = buf.Set("base_link", "camera_link", 0, geometry.Identity(), true)
	_ = buf.Set("camera_link", "optical", 0, geometry.Identity(), true)
	b.ResetTimer()
	for i := range b.N {
		if _, _, err := buf.Lookup("map", "optical", 2e9+int64(i%8)*1e9+7); err != nil {
			b.Fatal(err)
		}
	}
}
