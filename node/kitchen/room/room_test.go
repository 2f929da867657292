package room

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stllm/stllm/node/kitchen/render"
)

func TestLayouts(t *testing.T) {
	made := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		rm, err := New(r, Layouts()[seed%5])
		if err != nil {
			continue
		}
		made++
		for _, th := range rm.Things {
			ex, ey := th.Extent()
			if th.Pos[0]-ex < -0.001 || th.Pos[1]-ey < -0.001 || th.Pos[0]+ex > rm.W+0.001 || th.Pos[1]+ey > rm.D+0.001 {
				t.Errorf("seed %d: the %s stands in a wall", seed, th.Category)
			}
			k := catalog()[th.Category]
			if th.W < 0.1 || th.D < 0.08 || th.H < 0.1 || k.build == nil {
				t.Errorf("seed %d: %s of %g × %g × %g m", seed, th.Category, th.W, th.D, th.H)
			}
			if !slices.Contains(Categories(), th.Category) {
				t.Errorf("category %q is not in the list", th.Category)
			}
			if th.On >= 0 {
				on := rm.Things[th.On]
				if d := th.Pos[2] - on.Pos[2] - on.H; d < -0.001 || d > 0.001 {
					t.Errorf("seed %d: the %s floats %g m over the %s", seed, th.Category, d, on.Category)
				}
			}
		}
		m := rm.Static(nil)
		for i, v := range m.Verts {
			if n := v.N.Norm(); n < 0.99 || n > 1.01 {
				t.Fatalf("seed %d: normal %d has length %g", seed, i, n)
			}
			for _, l := range v.Light {
				if !(l >= 0 && l < 20) {
					t.Fatalf("seed %d: light %v at %v", seed, v.Light, v.P)
				}
			}
		}
		for _, tri := range m.Tris {
			if int(tri.Material) >= len(m.Materials) {
				t.Fatal("a material that is not there")
			}
		}
	}
	if made < 36 {
		t.Errorf("only %d of 40 rooms could be furnished", made)
	}
	if _, err := New(rand.New(rand.NewPCG(1, 1)), "round"); err == nil {
		t.Error("a round kitchen was made")
	}
}

// Doors turn about their hinge: outwards, in front of the thing, and closed they lie within it.
func TestDoors(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(12) {
		rm, err := New(rand.New(rand.NewPCG(seed, 2)), "L")
		if err != nil {
			continue
		}
		for i, th := range rm.Things {
			for j := range th.Doors {
				seen[th.Category] = true
				d := &th.Doors[j]
				front := th.Front()
				ahead := func(p render.Vec) float32 { return p.Sub(th.Center()).Dot(front) - th.D/2 }
				closed, open := th.Grip(d, 0), th.Grip(d, 1)
				if a, b := ahead(closed), ahead(open); a > 0.06 || b < 0.1 {
					t.Errorf("%s: the handle is %.2f m before the front when closed, %.2f m when open", th.Category, a, b)
				}
				_, _, _, o := th.DoorFrame(d, 0.5)
				if a, b := closed.Sub(o).Norm(), open.Sub(o).Norm(); math.Abs(float64(a-b)) > 1e-4 {
					t.Errorf("%s: the door changes its size when it opens", th.Category)
				}
				if m := rm.DoorMesh(i, j, 0.7, true); len(m.Tris) < 12 {
					t.Errorf("%s: a door of %d triangles", th.Category, len(m.Tris))
				}
			}
		}
	}
	for _, c := range []string{"fridge", "oven", "dishwasher", "cupboard", "cabinet"} {
		if !seen[c] {
			t.Errorf("no %s with a door in 12 rooms", c)
		}
	}
}

// Items have their size: what is drawn fits the box that collisions are computed with, apart from handles.
func TestItems(t *testing.T) {
	rm, err := New(rand.New(rand.NewPCG(3, 3)), "island")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range ItemKinds() {
		it := rm.NewItem(rand.New(rand.NewPCG(4, 4)), kind)
		m := rm.ItemMesh(it, FirstItem, render.Vec{1, 1, 1}, 0, true)
		top, low := float32(0), float32(9)
		for _, v := range m.Verts {
			top, low = max(top, v.P[2]), min(low, v.P[2])
		}
		if low < 0.99 || low > 1.03 || top < 1+0.6*it.H || top > 1+1.35*it.H {
			t.Errorf("%s: from %.3f to %.3f m, expected 1 to %.3f", kind, low, top, 1+it.H)
		}
	}
	if len(ItemKinds()) < 10 || len(Categories()) < 20 {
		t.Errorf("%d kinds of items, %d categories of furniture", len(ItemKinds()), len(Categories()))
	}
}
