package trainer

import (
	"errors"
	"fmt"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/stllm/prompt"
)

// seen is an item behind the frozen parts.
type seen struct {
	frames    int
	features  []float32 // the vision tower's [frames, g², D]
	imageRays []float32 // [frames·P, columns]
	points    []float32 // [N, D]
	pointRays []float32 // [N, columns]
}

// batch is the step of one item with its text. Token embeddings come from table, a row at a time.
func (s seen) batch(c *config.Config, table *checkpoint.Tensor, text prompt.Training) (Batch, error) {
	b := Batch{}
	grid := c.VisionConfig.Grid() * c.VisionConfig.Grid()
	for _, in := range []struct {
		name  string
		data  []float32
		shape []int
	}{
		{"features", s.features, []int{s.frames, grid, c.MMHiddenSize}},
		{"image_rays", s.imageRays, []int{s.frames * c.PooledGrid() * c.PooledGrid(), c.ImageColumns()}},
		{"points", s.points, []int{len(s.points) / c.PcdFeatureDim, c.PcdFeatureDim}},
		{"point_rays", s.pointRays, []int{len(s.points) / c.PcdFeatureDim, c.PointColumns()}},
	} {
		n := 1
		for _, d := range in.shape {
			n *= d
		}
		if n == 0 || n != len(in.data) {
			return nil, fmt.Errorf("%s has %d numbers, expected the shape %v", in.name, len(in.data), in.shape)
		}
		b[in.name] = Feed{Shape: in.shape, Float32s: in.data}
	}
	embed := func(name string, ids []int32) error {
		if len(ids) == 0 {
			return fmt.Errorf("no text in %s", name)
		}
		d := c.HiddenSize
		rows := make([]float32, len(ids)*d)
		for i, id := range ids {
			if err := table.Float32Rows(int64(id), 1, rows[i*d:(i+1)*d]); err != nil {
				return fmt.Errorf("embedding of token %d: %w", id, err)
			}
		}
		b[name] = Feed{Shape: []int{len(ids), d}, Float32s: rows}
		return nil
	}
	blocks := prompt.Splice(text.IDs, c.QFormerConfig.NumQueryTokens, s.frames*c.PooledGrid()*(c.PooledGrid()+1))
	kinds := []prompt.Kind{prompt.Text, prompt.Spatial, prompt.Text, prompt.VideoTokens, prompt.Text}
	if len(blocks) != len(kinds) {
		return nil, errors.New("the text has not both placeholders with text around them")
	}
	for i, k := range kinds {
		if blocks[i].Kind != k {
			return nil, errors.New("the placeholders stand in another order than the published one")
		}
	}
	if n := prompt.Length(blocks); n > c.MaxPositionEmbeddings {
		return nil, fmt.Errorf("the sequence has %d tokens, the model takes %d (config field max_position_embeddings)", n, c.MaxPositionEmbeddings)
	}
	if err := errors.Join(embed("text", text.QFormer), embed("head", blocks[0].IDs), embed("middle", blocks[2].IDs), embed("tail", blocks[4].IDs)); err != nil {
		return nil, err
	}
	var at, label []int64
	next := 0 // in text.Labels
	for i, block := range blocks {
		if i > 0 && i%2 == 1 {
			next++ // a placeholder, which nobody has to say
			continue
		}
		for j := range block.IDs {
			l := text.Labels[next]
			next++
			// The row before a token says it; nobody says the first.
			if row := block.Start + j - 1; l != prompt.Ignored && row >= 0 {
				at, label = append(at, int64(row)), append(label, int64(l))
			}
		}
	}
	b["at"] = Feed{Shape: []int{len(at)}, Int64s: at}
	b["label"] = Feed{Shape: []int{len(label)}, Int64s: label}
	return b, nil
}
