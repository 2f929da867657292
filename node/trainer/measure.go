package trainer

import (
	"context"

	"github.com/stllm/stllm/node/trainer/lookup"
)

// products are those of a feature with directions.
func products(feature []float32, directions [][]float32) []float32 {
	out := make([]float32, len(directions))
	for k, u := range directions {
		for i, v := range u {
			out[k] += v * feature[i]
		}
	}
	return out
}

func largest(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// measurePoints is the share of furniture voxels whose class is named, by the encoder as the node runs it.
func (t *Trainer) measurePoints(ctx context.Context) (map[string]float64, error) {
	e, err := newEncoders(t.env, t.cfg, t.w, t.runs())
	if err != nil {
		return nil, err
	}
	defer e.close()
	right, all := 0, 0
	items, _ := itemClasses()
	n := len(t.space.Direction)
	for _, seed := range t.recipe.heldOut()[:min(10, t.recipe.HeldOut)] {
		rec, err := t.store.Get(seed)
		if err != nil {
			return nil, err
		}
		f, err := e.voxels(ctx, &rec.Map)
		if err != nil {
			return nil, err
		}
		for i := range rec.Map.Len() {
			top := 0
			share := rec.Map.Share[i*n : (i+1)*n]
			for k, v := range share {
				if v > share[top] {
					top = k
				}
			}
			if top < items {
				all++
				if largest(products(f[i*t.cfg.PcdFeatureDim:], t.space.Direction)) == top {
					right++
				}
			}
		}
	}
	return map[string]float64{"furniture_voxels": float64(right) / float64(max(1, all))}, nil
}

// measureVision is how well a patch tells which small things and which furniture are in it, and whether something is in use:
// recall and precision at a logit of 0.
func (t *Trainer) measureVision(ctx context.Context) (map[string]float64, error) {
	e, err := newEncoders(t.env, t.cfg, t.w, t.runs())
	if err != nil {
		return nil, err
	}
	defer e.close()
	first, last := itemClasses()
	n := len(t.space.Direction)
	seen := t.space.Seen()
	var hit, said, there [3]int // furniture, items, in use
	for _, seed := range t.recipe.heldOut()[:min(10, t.recipe.HeldOut)] {
		rec, err := t.store.Get(seed)
		if err != nil {
			return nil, err
		}
		f, err := e.patches(ctx, rec.Frames)
		if err != nil {
			return nil, err
		}
		d := t.cfg.HiddenSize
		for i, frame := range rec.Frames {
			for p := range frame.InUse {
				z := products(f[i][p*d:], seen)
				for k, share := range appendSeen(nil, &frame, p, t.space.UsedClass) {
					group := 0
					if k >= n {
						group = 2
					}
					switch {
					case k >= last && k < n:
						continue // floor, walls, clutter and hands
					case k >= first && k < last:
						group = 1
					}
					if share > 0 && share < least {
						continue
					}
					yes := z[k]*lookup.Scale+lookup.Shift > 0
					if yes {
						said[group]++
					}
					if share > 0 {
						there[group]++
						if yes {
							hit[group]++
						}
					}
				}
			}
		}
	}
	ratio := func(a, b int) float64 { return float64(a) / float64(max(1, b)) }
	return map[string]float64{
		"furniture_recall": ratio(hit[0], there[0]), "furniture_precision": ratio(hit[0], said[0]),
		"item_recall": ratio(hit[1], there[1]), "item_precision": ratio(hit[1], said[1]),
		"in_use_recall": ratio(hit[2], there[2]), "in_use_precision": ratio(hit[2], said[2]),
	}, nil
}
