package points

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// plainVoxels is the voxeliser as the reference writes it: one pass, a map and a sort.
func plainVoxels(xyz []float64, size float64) (coords, pointOf, voxelOf []int32) {
	n, inv := len(xyz)/3, 1/size
	lo := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}
	for i, v := range xyz {
		lo[i%3] = min(lo[i%3], math.Floor(v*inv))
	}
	first := map[uint64]int32{}
	keys := make([]uint64, n)
	var order []uint64
	for i := range n {
		k := uint64(14695981039346656037)
		for a := range 3 {
			k = k * 1099511628211
			k ^= uint64(math.Floor(xyz[3*i+a]*inv) - lo[a])
		}
		keys[i] = k
		if _, ok := first[k]; !ok {
			first[k] = int32(i)
			order = append(order, k)
		}
	}
	slices.Sort(order)
	row := map[uint64]int32{}
	for i, k := range order {
		p := first[k]
		row[k], pointOf = int32(i), append(pointOf, p)
		for a := range 3 {
			coords = append(coords, int32(math.Floor(xyz[3*int(p)+a]*inv)-lo[a]))
		}
	}
	for _, k := range keys {
		voxelOf = append(voxelOf, row[k])
	}
	return coords, pointOf, voxelOf
}

func TestVoxelsAgainstThePlainWay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for _, n := range []int{1, 2, 50, 3000, 40000} {
		for _, size := range []float64{0.02, 0.06, 1, 30} {
			xyz := make([]float64, 3*n)
			for i := range xyz {
				xyz[i] = 3 * r.NormFloat64()
				if r.IntN(3) == 0 {
					xyz[i] = math.Round(xyz[i]/size) * size // on a border
				}
			}
			v, err := Voxelize(xyz, size)
			if err != nil {
				t.Fatal(err)
			}
			coords, pointOf, voxelOf := plainVoxels(xyz, size)
			equal(t, "coords", v.Coords, coords)
			equal(t, "point of voxel", v.PointOfVoxel, pointOf)
			equal(t, "voxel of point", v.VoxelOfPoint, voxelOf)
			for i, voxel := range v.VoxelOfPoint {
				x, y, z := v.Center(int(voxel))
				for k, c := range [3]float64{x, y, z} {
					if math.Abs(xyz[3*i+k]-c) > size/2*(1+1e-9) {
						t.Fatalf("point %d is %g from its voxel's centre on axis %d", i, xyz[3*i+k]-c, k)
					}
				}
			}
		}
	}
}

func TestVoxelizeErrors(t *testing.T) {
	for want, c := range map[string]struct {
		xyz  []float64
		size float64
	}{
		"edge is 0":     {[]float64{1, 2, 3}, 0},
		"edge is NaN":   {[]float64{1, 2, 3}, math.NaN()},
		"edge is +Inf":  {[]float64{1, 2, 3}, math.Inf(1)},
		"three per":     {[]float64{1, 2}, 1},
		"no points":     {nil, 1},
		"z of point 1":  {[]float64{1, 2, 3, 4, 5, math.NaN()}, 1},
		"axis x spans":  {[]float64{0, 0, 0, 1e10, 0, 0}, 1},
		"axis y spans":  {[]float64{0, 1e300, 0}, 1},
		"axis x spans ": {[]float64{-1.7e308, 0, 0, 1.7e308, 0, 0}, 1e-5},
	} {
		if _, err := Voxelize(c.xyz, c.size); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
	v, err := Voxelize([]float64{0, 0, 0}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.ColorsF32(make([]uint8, 2)); err == nil {
		t.Error("two bytes were accepted as colours")
	}
	if _, err := Voxelize(nil, 1); !errors.Is(err, ErrEmpty) {
		t.Errorf("error %v, expected ErrEmpty", err)
	}
}

func TestVoxelStats(t *testing.T) {
	xyz := []float64{0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 5.5, 0.5, 0.5}
	rgb := []uint8{0, 100, 255, 255, 200, 255, 51, 51, 51}
	v, err := Voxelize(xyz, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, c, err := v.Stats(xyz, rgb)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range v.PointOfVoxel {
		want, centroid := []float64{0, 150/127.5 - 1, 1, -0.6, -0.8, -0.8, math.Log2(3) / 8}, []float64{0.2, 0.1, 0.1}
		if p == 2 {
			want, centroid = []float64{-0.6, -0.6, -0.6, 0, 0, 0, 1.0 / 8}, []float64{5.5, 0.5, 0.5}
		}
		for k := range want {
			if math.Abs(float64(f[7*i+k])-want[k]) > 1e-6 {
				t.Errorf("voxel %d: feature %d is %g, expected %g", i, k, f[7*i+k], want[k])
			}
		}
		for k := range centroid {
			if math.Abs(c[3*i+k]-centroid[k]) > 1e-12 {
				t.Errorf("voxel %d: centroid %v, expected %v", i, c[3*i:3*i+3], centroid)
			}
		}
	}
}

func TestGridAgainstAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 0))
	for _, spread := range []int{2, 20, 1 << 28} {
		coords := make([]int32, 3*5000)
		for i := range coords {
			coords[i] = int32(r.IntN(2*spread) - spread)
		}
		g, err := NewGrid(coords)
		if err != nil {
			t.Fatal(err)
		}
		first := map[[3]int32]int32{}
		for i := range int32(5000) {
			c := [3]int32(coords[3*i : 3*i+3])
			if _, ok := first[c]; !ok {
				first[c] = i
			}
		}
		cursor := g.Cursor()
		for i := range 20000 {
			c := [3]int32{int32(r.IntN(2*spread) - spread), int32(r.IntN(2*spread) - spread), int32(r.IntN(2*spread) - spread)}
			if i < 5000 {
				c = [3]int32(coords[3*i : 3*i+3])
			}
			want, ok := first[c]
			if !ok {
				want = -1
			}
			if got := g.At(c[0], c[1], c[2]); got != want {
				t.Fatalf("row at %v is %d, expected %d", c, got, want)
			}
			if got, empty := cursor.At(c[0], c[1], c[2]); got != want || empty && want >= 0 {
				t.Fatalf("the cursor finds row %d at %v, expected %d; block empty: %v", got, c, want, empty)
			}
		}
	}
	if _, err := NewGrid([]int32{0, 0, math.MaxInt32}); err == nil || !strings.Contains(err.Error(), "coordinate z of voxel 0") {
		t.Errorf("a coordinate out of range: %v", err)
	}
}

// Every table must say what the rules of the README say, on coordinates of both signs and with repeated rows.
func TestTablesAgainstTheRules(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	for range 5 {
		coords := make([]int32, 3*400)
		for i := range coords {
			coords[i] = int32(r.IntN(15) - 7)
		}
		tab, err := NewTables(coords, Levels{Count: 4, Kernel: 5})
		if err != nil {
			t.Fatal(err)
		}
		at := func(level int) map[[3]int32]int32 {
			m := map[[3]int32]int32{}
			for i := range tab.Rows(level) {
				c := [3]int32(tab.Coords[level][3*i : 3*i+3])
				if _, ok := m[c]; ok {
					t.Fatalf("level %d has %v twice", level, c)
				}
				m[c] = int32(i)
			}
			return m
		}
		row := func(m map[[3]int32]int32, c []int32, dx, dy, dz int32) int32 {
			if i, ok := m[[3]int32{c[0] + dx, c[1] + dy, c[2] + dz}]; ok {
				return i
			}
			return Missing
		}
		for l := range 4 {
			m, s := at(l), int32(1)<<l
			for i := range tab.Rows(l) {
				c := tab.Coords[l][3*i : 3*i+3]
				for k := range int32(27) {
					if want := row(m, c, (k%3-1)*s, (k/3%3-1)*s, (k/9-1)*s); tab.K3[l][27*i+int(k)] != want {
						t.Fatalf("level %d row %d: K3 entry %d is %d, expected %d", l, i, k, tab.K3[l][27*i+int(k)], want)
					}
				}
				if l == 0 {
					for k := range int32(125) {
						if want := row(m, c, k%5-2, k/5%5-2, k/25-2); tab.Stem[125*i+int(k)] != want {
							t.Fatalf("row %d: first kernel's entry %d is %d, expected %d", i, k, tab.Stem[125*i+int(k)], want)
						}
					}
				}
				if l == 3 {
					continue
				}
				up := tab.Up[l][i]
				parent := tab.Coords[l+1][3*(up>>3) : 3*(up>>3)+3]
				for a := range 3 {
					if floor := int32(math.Floor(float64(c[a])/float64(2*s))) * 2 * s; parent[a] != floor || c[a] != parent[a]+(up>>a&1)*s {
						t.Fatalf("level %d row %d at %v: parent %v by offset %d", l, i, c, parent, up&7)
					}
				}
			}
			if l == 3 {
				break
			}
			for i := range tab.Rows(l + 1) {
				c := tab.Coords[l+1][3*i : 3*i+3]
				for k := range int32(8) {
					if want := row(m, c, k&1*s, k>>1&1*s, k>>2&1*s); tab.Down[l][8*i+int(k)] != want {
						t.Fatalf("level %d row %d: Down entry %d is %d, expected %d", l, i, k, tab.Down[l][8*i+int(k)], want)
					}
				}
			}
		}
		for i, v := range tab.VoxelOfRow {
			if !slices.Equal(coords[3*i:3*i+3], tab.Coords[0][3*v:3*v+3]) || int(tab.KeptRows[v]) > i {
				t.Fatalf("input row %d goes to row %d of another voxel or of a later row", i, v)
			}
		}
	}
}

func TestTablesErrors(t *testing.T) {
	for want, l := range map[string]Levels{"0 levels": {Count: 0, Kernel: 3}, "first kernel 4": {Count: 3, Kernel: 4}} {
		if _, err := NewTables([]int32{0, 0, 0}, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
	if _, err := NewTables(nil, MinkUNetLevels); !errors.Is(err, ErrEmpty) {
		t.Errorf("no voxels: %v", err)
	}
	if _, err := NewTables([]int32{0, 0}, MinkUNetLevels); err == nil {
		t.Error("two coordinates were accepted")
	}
}

// plainFarthest is the published kernel, thread by thread.
func plainFarthest(xyz []float32, count int) []int32 {
	n := len(xyz) / 3
	block := 1
	for block*2 <= min(n, 512) {
		block *= 2
	}
	dist := make([]float32, n)
	for i := range dist {
		dist[i] = 1e10
	}
	out, old := []int32{0}, 0
	best, at := make([]float32, block), make([]int, block)
	for len(out) < count {
		for thread := range block {
			best[thread], at[thread] = -1, 0
			for k := thread; k < n; k += block {
				x, y, z := xyz[3*k], xyz[3*k+1], xyz[3*k+2]
				if float64(squared(x, y, z)) <= 1e-3 {
					continue
				}
				dist[k] = min(dist[k], squared(x-xyz[3*old], y-xyz[3*old+1], z-xyz[3*old+2]))
				if dist[k] > best[thread] {
					best[thread], at[thread] = dist[k], k
				}
			}
		}
		for half := block / 2; half > 0; half /= 2 {
			for thread := range half {
				if best[thread+half] > best[thread] {
					best[thread], at[thread] = best[thread+half], at[thread+half]
				}
			}
		}
		old = at[0]
		out = append(out, int32(old))
	}
	return out
}

func TestFarthestPointsAgainstTheKernel(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	for _, n := range []int{1, 2, 3, 65, 512, 700, 2500} {
		for _, step := range []float64{0, 0.25, 0.02} { // multiples of a step make ties
			xyz := make([]float32, 3*n)
			for i := range xyz {
				v := r.NormFloat64()
				if step > 0 {
					v = math.Round(v/step) * step
				}
				xyz[i] = float32(v)
			}
			got, err := FarthestPoints(xyz, min(n, 200))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "farthest points", got, plainFarthest(xyz, min(n, 200)))
		}
	}
	near := make([]float32, 3*10) // all within 3 cm of the origin: index 0 again and again
	got, err := FarthestPoints(near, 4)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "points near the origin", got, make([]int32, 4))
}

func TestBallQueryAgainstEveryPoint(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	xyz := make([]float32, 3*2000)
	for i := range xyz {
		xyz[i] = float32(r.NormFloat64())
	}
	centers := append(slices.Clone(xyz[:300]), 50, 50, 50, 1e30, 0, 0)
	for _, radius := range []float32{0.05, 0.2, 0.7, 5} {
		const nsample = 16
		got, err := BallQuery(xyz, centers, radius, nsample)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int32, len(centers)/3*nsample)
		for i := range len(centers) / 3 {
			found := 0
			for k := range len(xyz) / 3 {
				if found < nsample && squared(centers[3*i]-xyz[3*k], centers[3*i+1]-xyz[3*k+1], centers[3*i+2]-xyz[3*k+2]) < radius*radius {
					for j := found; j < nsample && (found == 0 || j == found); j++ {
						want[i*nsample+j] = int32(k)
					}
					found++
				}
			}
		}
		equal(t, "ball", got, want)
	}
}

func TestSamplingErrors(t *testing.T) {
	ok := []float32{1, 2, 3, 4, 5, 6}
	bad := []float32{1, 2, 3, 4, float32(math.NaN()), 6}
	for want, f := range map[string]func() error{
		"3 asked for of 2": func() error { _, err := FarthestPoints(ok, 3); return err },
		"0 asked for":      func() error { _, err := FarthestPoints(ok, 0); return err },
		"farthest points: coordinate y of point 1": func() error { _, err := FarthestPoints(bad, 1); return err },
		"farthest points: no points":               func() error { _, err := FarthestPoints(nil, 1); return err },
		"radius is -1":                             func() error { _, err := BallQuery(ok, ok, -1, 4); return err },
		"0 samples":                                func() error { _, err := BallQuery(ok, ok, 1, 0); return err },
		"centres: coordina":                        func() error { _, err := BallQuery(ok, bad, 1, 1); return err },
		"axis x spans more":                        func() error { _, err := BallQuery([]float32{-1e30, 0, 0, 1e30, 0, 0}, ok, 1, 1); return err },
		"three per":                                func() error { _, err := FarthestPoints(ok[:4], 1); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
}
