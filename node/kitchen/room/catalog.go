package room

import (
	"math/rand/v2"
	"slices"
)

// kind is a category of furniture: its ranges of width, depth and height in metres, how it is built and what can stand on it.
type kind struct {
	w, d, h  [2]float32
	build    func(k *kit, t *Thing)
	doors    func(t *Thing)
	surfaces func(t *Thing) []Surface
	solids   func(t *Thing) []box
}

// catalog returns the kinds by category.
func catalog() map[string]kind {
	type f = [2]float32
	base := f{0.86, 0.93}
	deep := f{0.58, 0.62}
	return map[string]kind{
		"counter":         {f{0.4, 1.2}, deep, base, buildCounter, nil, whole(0.05), nil},
		"corner":          {deep, deep, base, buildCorner, nil, whole(0.05), nil},
		"sink":            {f{0.8, 1.2}, deep, base, buildSink, nil, nil, sinkSolids},
		"hob":             {f{0.58, 0.8}, deep, base, buildHob, nil, hobTop, nil},
		"oven":            {f{0.58, 0.62}, deep, base, buildOven, doorsOven, ovenTop, nil},
		"dishwasher":      {f{0.58, 0.62}, deep, base, buildDishwasher, doorsDishwasher, whole(0.05), nil},
		"fridge":          {f{0.58, 0.78}, f{0.60, 0.70}, f{1.55, 2.0}, buildFridge, doorsFridge, nil, nil},
		"cupboard":        {f{0.5, 1.0}, f{0.45, 0.60}, f{1.8, 2.15}, buildCupboard, doorsCupboard, nil, nil},
		"cabinet":         {f{0.6, 2.0}, f{0.32, 0.38}, f{0.55, 0.75}, buildCabinet, doorsCabinet, nil, nil},
		"washing machine": {f{0.58, 0.62}, f{0.55, 0.62}, f{0.83, 0.88}, buildWasher, nil, whole(0.05), nil},
		"island":          {f{1.2, 1.8}, f{0.7, 0.95}, base, buildIsland, nil, whole(0.05), nil},
		"table":           {f{0.9, 1.5}, f{0.7, 0.9}, f{0.72, 0.77}, buildTable, nil, whole(0.08), slabTop},
		"chair":           {f{0.40, 0.46}, f{0.42, 0.48}, f{0.82, 0.98}, buildChair, nil, seat, seatSolids},
		"stool":           {f{0.32, 0.40}, f{0.32, 0.40}, f{0.48, 0.70}, buildStool, nil, whole(0.08), slabTop},
		"sofa":            {f{1.4, 1.9}, f{0.78, 0.9}, f{0.76, 0.88}, buildSofa, nil, sofaSeat, sofaSolids},
		"shelf":           {f{0.7, 1.1}, f{0.28, 0.36}, f{1.5, 1.95}, buildShelf, nil, shelfBoards, shelfSolids},
		"bin":             {f{0.28, 0.38}, f{0.28, 0.38}, f{0.5, 0.72}, buildBin, nil, nil, nil},
		"plant":           {f{0.4, 0.6}, f{0.4, 0.6}, f{0.8, 1.4}, buildPlant, nil, nil, plantSolids},
		"lamp":            {f{0.34, 0.44}, f{0.34, 0.44}, f{1.4, 1.75}, buildLamp, nil, nil, lampSolids},
		"tv":              {f{0.9, 1.3}, f{0.36, 0.44}, f{1.0, 1.25}, buildTV, nil, nil, tvSolids},
		"radiator":        {f{0.6, 1.1}, f{0.10, 0.14}, f{0.6, 0.75}, buildRadiator, nil, nil, nil},
		"bench":           {f{0.9, 1.3}, f{0.32, 0.40}, f{0.43, 0.48}, buildBench, nil, whole(0.05), slabTop},
		"microwave":       {f{0.44, 0.54}, f{0.34, 0.42}, f{0.26, 0.32}, buildMicrowave, doorsMicrowave, nil, nil},
		"kettle":          {f{0.22, 0.26}, f{0.20, 0.22}, f{0.24, 0.30}, buildKettle, nil, nil, nil},
		"toaster":         {f{0.28, 0.36}, f{0.18, 0.24}, f{0.18, 0.22}, buildToaster, nil, nil, nil},
		"coffee machine":  {f{0.22, 0.30}, f{0.28, 0.34}, f{0.34, 0.42}, buildCoffee, nil, nil, nil},
		"blender":         {f{0.18, 0.22}, f{0.18, 0.22}, f{0.38, 0.46}, buildBlender, nil, nil, nil},
		"dish rack":       {f{0.38, 0.48}, f{0.30, 0.36}, f{0.14, 0.20}, buildRack, nil, nil, nil},
		"bread box":       {f{0.34, 0.44}, f{0.24, 0.30}, f{0.18, 0.24}, buildBread, nil, nil, nil},
	}
}

// Categories are the names of furniture that a map can hold, in a fixed order: the class numbers of dense labels.
func Categories() []string {
	return []string{"counter", "sink", "hob", "oven", "dishwasher", "fridge", "cupboard", "cabinet", "washing machine", "island",
		"table", "chair", "stool", "sofa", "shelf", "bin", "plant", "lamp", "tv", "radiator", "bench",
		"microwave", "kettle", "toaster", "coffee machine", "blender", "dish rack", "bread box"}
}

// Usable lists the categories that have doors, a tap or a ring.
func Usable() []string {
	cat := catalog()
	return slices.DeleteFunc(Categories(), func(c string) bool { return cat[c].doors == nil && c != "sink" && c != "hob" })
}

// countertop are the categories that stand on something.
func countertop() []string {
	return []string{"microwave", "kettle", "toaster", "coffee machine", "blender", "dish rack", "bread box"}
}

func whole(margin float32) func(t *Thing) []Surface {
	return func(t *Thing) []Surface {
		return []Surface{{-t.W/2 + margin, -t.D/2 + margin, t.W/2 - margin, t.D/2 - margin, t.H}}
	}
}

func hobTop(t *Thing) []Surface {
	c := hobRings(t)[2]
	return []Surface{{c[0] - 0.12, c[1] - 0.12, c[0] + 0.12, c[1] + 0.12, t.H + 0.045}}
}

func ovenTop(t *Thing) []Surface {
	if t.H > 1.2 {
		return nil
	}
	return whole(0.05)(t)
}

func seat(t *Thing) []Surface {
	return []Surface{{-t.W/2 + 0.05, -t.D/2 + 0.04, t.W/2 - 0.05, t.D/2 - 0.08, 0.47}}
}

func sofaSeat(t *Thing) []Surface {
	return []Surface{{-t.W/2 + 0.2, -t.D/2 + 0.05, t.W/2 - 0.2, t.D/2 - 0.36, 0.42}}
}

func shelfBoards(t *Thing) []Surface {
	s := Surface{-t.W/2 + 0.05, -t.D/2 + 0.02, t.W/2 - 0.05, t.D/2 - 0.03, shelfAt(t, shelfFree)}
	return []Surface{s}
}

func shelfSolids(t *Thing) []box {
	out := []box{{v3(-t.W/2, t.D/2-0.02, 0), v3(t.W/2, t.D/2, t.H)}}
	for i := range shelfLevels {
		z := shelfAt(t, i)
		out = append(out, box{v3(-t.W/2, -t.D/2, z-0.02), v3(t.W/2, t.D/2, z)})
	}
	return out
}

// sinkSolids leave the bowl open.
func sinkSolids(t *Thing) []box {
	return []box{{v3(-t.W/2, -t.D/2, 0), v3(t.W/2, t.D/2, t.H-0.165)}}
}

func slabTop(t *Thing) []box {
	return []box{{v3(-t.W/2, -t.D/2, t.H-0.05), v3(t.W/2, t.D/2, t.H)}}
}

func seatSolids(t *Thing) []box {
	return []box{{v3(-t.W/2, -t.D/2, 0.40), v3(t.W/2, t.D/2, 0.46)}, {v3(-t.W/2, t.D/2-0.04, 0.46), v3(t.W/2, t.D/2, t.H)}}
}

func sofaSolids(t *Thing) []box {
	return []box{{v3(-t.W/2, -t.D/2, 0.08), v3(t.W/2, t.D/2, 0.42)}, {v3(-t.W/2, t.D/2-0.25, 0.42), v3(t.W/2, t.D/2, t.H)}}
}

func plantSolids(t *Thing) []box {
	r := t.W * 0.3
	return []box{{v3(-r, -r, 0), v3(r, r, t.H*0.3)}}
}

func lampSolids(t *Thing) []box {
	return []box{{v3(-0.02, -0.02, 0), v3(0.02, 0.02, t.H-0.3)}}
}

func tvSolids(t *Thing) []box {
	return []box{{v3(-t.W/2, -t.D/2, 0), v3(t.W/2, t.D/2, 0.45)}, {v3(-t.W*0.47, 0, 0.52), v3(t.W*0.47, 0.05, t.H)}}
}

// newThing draws a piece of a category; its place is not set.
func newThing(r *rand.Rand, cat map[string]kind, category string) *Thing {
	k := cat[category]
	t := &Thing{Category: category, On: -1, build: k.build, variant: r.IntN(24), seed: r.Uint64(),
		W: between(r, k.w[0], k.w[1]), D: between(r, k.d[0], k.d[1]), H: between(r, k.h[0], k.h[1])}
	if category == "corner" {
		t.Category = "counter"
	}
	if category == "stool" || category == "bin" || category == "plant" || category == "lamp" {
		t.D = t.W
	}
	if category == "oven" && chance(r, 0.4) {
		t.H = between(r, 1.8, 2.1)
	}
	return t
}

// finish adds what follows from the size: doors, surfaces, places of tap and ring.
func (t *Thing) finish(k kind) {
	if k.doors != nil {
		k.doors(t)
	}
	if k.surfaces != nil {
		t.Surfaces = k.surfaces(t)
	}
	if k.solids != nil {
		t.solids = k.solids(t)
	}
	switch t.Category {
	case "sink":
		t.Tap = tapPoint(t)
	case "hob":
		p := hobRings(t)[1]
		p[2] = t.H + 0.012
		t.Ring = &p
	}
}
