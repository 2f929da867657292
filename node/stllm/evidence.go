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

// evidence reads the attention weights of the spatial queries and, where the words of the question become spatial tokens too,
// of those.
func (n *Network) evidence(out ort.Values, frames, words int, m *mapFeatures) (*Evidence, error) {
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
	if last := out["evidence_last"]; last != nil {
		w, err := last.Floats()
		if err == nil {
			ev.Regions, err = wordRegions(w, len(voxels)+len(seen), words, m)
		}
		if err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
		return ev, nil
	}
	ev.Regions = regions(voxels, m, topRegions)
	return ev, nil
}

// wordRegions is where single words looked most: of every word its strongest region, weighed by the share of the word's
// attention that it has, and of these the strongest that are not the same place. last holds a row of weights for every token of
// the sequence, whose last ones are the words; voxels come first in a row [S·memory]. A word that names a thing looks at little
// else; in the sum over all tokens, most of which look nowhere in particular, it would drown.
func wordRegions(last []float32, memory, words int, m *mapFeatures) ([]RegionEvidence, error) {
	voxels := m.Voxels()
	if memory < 1 || len(last)%memory != 0 || words < 0 || words > len(last)/memory || voxels > memory {
		return nil, fmt.Errorf("%d weights for %d words and a memory of %d with %d voxels", len(last), words, memory, voxels)
	}
	var all []RegionEvidence
	for row := range slices.Chunk(last[len(last)-words*memory:], memory) {
		onMap, total := 0.0, 0.0
		for i, w := range row {
			if total += float64(w); i < voxels {
				onMap += float64(w)
			}
		}
		for _, r := range regions(row[:voxels], m, 1) {
			r.Weight *= onMap / total
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b RegionEvidence) int { return falling(a.Weight, b.Weight) })
	var out []RegionEvidence
	for _, r := range all {
		same := slices.ContainsFunc(out, func(o RegionEvidence) bool {
			return (o.X-r.X)*(o.X-r.X)+(o.Y-r.Y)*(o.Y-r.Y)+(o.Z-r.Z)*(o.Z-r.Z) <= regionSize*regionSize
		})
		if !same && len(out) < topRegions {
			out = append(out, r)
		}
	}
	return out, nil
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

// regions gathers voxels around the strongest ones until enough regions are found; their weights are shares of all.
func regions(weights []float32, m *mapFeatures, enough int) []RegionEvidence {
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
		if len(out) == enough || total <= 0 {
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
