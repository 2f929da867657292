package stllm

import (
	"fmt"
	"math"
	"slices"

	"github.com/stllm/stllm/node/ort"
)

// How much evidence is given: the strongest frames, and balls that gather the strongest voxels.
const (
	topFrames  = 5
	topRegions = 5
	regionSize = 0.5 // metres: voxels this near the strongest one of a region belong to it
)

// evidence reads the attention weights of the spatial queries.
func (n *Network) evidence(out ort.Values, frames int, m *mapFeatures) (*Evidence, error) {
	images, err := out["evidence_images"].Floats()
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	voxels, err := out["evidence_points"].Floats()
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	patches := n.cfg.PooledGrid() * n.cfg.PooledGrid()
	// Behind the voxels come the patches of the memory and its empty token.
	seen := voxels[min(max(1, m.Voxels()), len(voxels)):]
	voxels = voxels[:min(m.Voxels(), len(voxels)-len(seen))]
	memory := 0
	if o := n.cfg.RobotConfig; o != nil && o.PatchMemory && len(seen) >= frames {
		memory = n.cfg.VisionConfig.Grid() * n.cfg.VisionConfig.Grid()
	}
	if len(images) < frames*patches || len(voxels) != m.Voxels() || len(seen) < frames*memory {
		return nil, fmt.Errorf("evidence: %d weights for %d patches, %d for %d voxels", len(images), frames*patches, len(voxels), m.Voxels())
	}
	ev := &Evidence{}
	total := 0.0
	for i := range frames { // what follows the patches is text
		w := 0.0
		for _, v := range images[i*patches : (i+1)*patches] {
			w += float64(v)
		}
		for _, v := range seen[i*memory : (i+1)*memory] {
			w += float64(v)
		}
		total += w
		ev.Frames = append(ev.Frames, FrameEvidence{i, w})
	}
	for i := range ev.Frames {
		ev.Frames[i].Weight /= math.Max(total, math.SmallestNonzeroFloat64)
	}
	slices.SortStableFunc(ev.Frames, func(a, b FrameEvidence) int { return falling(a.Weight, b.Weight) })
	ev.Frames = ev.Frames[:min(topFrames, len(ev.Frames))]
	ev.Regions = regions(voxels, m)
	return ev, nil
}

func falling(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// regions gathers voxels around the strongest ones until enough regions are found.
func regions(weights []float32, m *mapFeatures) []RegionEvidence {
	order := make([]int, len(weights))
	total := 0.0
	for i, w := range weights {
		order[i] = i
		total += float64(w)
	}
	slices.SortStableFunc(order, func(a, b int) int { return falling(float64(weights[a]), float64(weights[b])) })
	used := make([]bool, len(weights))
	var out []RegionEvidence
	for _, seed := range order {
		if len(out) == topRegions || total <= 0 {
			break
		}
		if used[seed] {
			continue
		}
		sx, sy, sz := m.place(seed)
		var r RegionEvidence
		var members []int
		for i, w := range weights {
			x, y, z := m.place(i)
			if used[i] || (x-sx)*(x-sx)+(y-sy)*(y-sy)+(z-sz)*(z-sz) > regionSize*regionSize {
				continue
			}
			used[i] = true
			members = append(members, i)
			r.Weight += float64(w)
			r.X += float64(w) * x
			r.Y += float64(w) * y
			r.Z += float64(w) * z
		}
		if r.Weight <= 0 {
			break
		}
		r.X, r.Y, r.Z = r.X/r.Weight, r.Y/r.Weight, r.Z/r.Weight
		for _, i := range members {
			x, y, z := m.place(i)
			d := math.Sqrt((x-r.X)*(x-r.X) + (y-r.Y)*(y-r.Y) + (z-r.Z)*(z-r.Z))
			r.Radius += float64(weights[i]) * d / r.Weight
		}
		r.Weight /= total
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b RegionEvidence) int { return falling(a.Weight, b.Weight) })
	return out
}
