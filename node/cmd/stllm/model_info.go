package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/stllm"
)

// modelInfo shows what a model folder holds: its parts, with all every tensor, and what is missing or unexpected. Where the model
// could not be loaded, be it for its tokenizer, that is an error.
func (a *app) modelInfo(dir, points string, all bool) error {
	c, f, err := openModel(dir, points)
	if err != nil {
		return err
	}
	defer f.Close()
	parts, err := layout.Parts(c)
	if err != nil {
		return err
	}
	report, err := layout.Check(f, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "folder   %s\nprofile  %s\nmodel    %d frames, %d×%d pixels, voxels of %g m, %d positions, vocabulary %d\n\n",
		f.Dir, c.Profile, c.NumFrames, c.VisionConfig.ImageSize, c.VisionConfig.ImageSize, c.VoxelSize, c.MaxPositionEmbeddings, c.VocabSize)
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "part\tshape\ttensors\tparameters\tdtype\tfile")
	var tensors, needed int
	var parameters int64
	for _, p := range parts {
		found := stored(f, p)
		var params int64
		dtypes, files := map[string]bool{}, map[string]bool{}
		for _, t := range found {
			params += t.Elements()
			dtypes[string(t.DType)], files[f.Name(t.File)] = true, true
		}
		if !p.Unused {
			tensors, needed, parameters = tensors+len(found), needed+len(p.Tensors), parameters+params
		}
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s\t%s\n", p.Name, partShape(c, p.Name), len(found), len(p.Tensors), millions(params), keys(dtypes), keys(files))
	}
	fmt.Fprintf(w, "all that is used\t\t%d of %d\t%s\t\t\n", tensors, needed, millions(parameters))
	if all {
		fmt.Fprintln(w, "\ntensor\tshape\t\tparameters\tdtype\tfile")
		for _, p := range parts {
			for _, t := range stored(f, p) {
				fmt.Fprintf(w, "%s\t%v\t\t%d\t%s\t%s\n", t.Name, t.Shape, t.Elements(), t.DType, f.Name(t.File))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"missing", report.Missing}, {"unexpected", report.Unexpected}, {"of another shape", report.Wrong}} {
		if len(list.names) > 0 {
			fmt.Fprintf(a.out, "\n%s: %s\n", list.what, checkpoint.ListNames(list.names))
		}
	}
	return errors.Join(report.Err(), stllm.CheckText(f.Dir, c))
}

// stored lists the tensors of a part that a folder has, those with 4-bit codes by the names and shapes that they stand for.
func stored(f *checkpoint.Folder, p layout.Part) []*checkpoint.Tensor {
	var out []*checkpoint.Tensor
	for _, spec := range p.Tensors {
		t, ok := f.Tensor(spec.Name, trimPoint(spec.Name))
		if !ok {
			if t, ok = layout.Codes(f, spec.Name); !ok {
				continue
			}
			// The codes of several matrices may be together.
			t = &checkpoint.Tensor{Name: spec.Name, DType: "4-bit codes", Shape: spec.Shape, File: t.File}
		}
		out = append(out, t)
	}
	return out
}

// partShape says what a part is built like, from the config.
func partShape(c *config.Config, part string) string {
	v, q, p := c.VisionConfig, c.QFormerConfig, c.PointEncoderConfig
	switch part {
	case "language model":
		return fmt.Sprintf("%d layers of %d, %d heads (%d of keys), MLP %d, vocabulary %d", c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads,
			c.NumKeyValueHeads, c.IntermediateSize, c.VocabSize)
	case "vision tower":
		return fmt.Sprintf("%d layers of %d, %d heads, MLP %d, %d×%d patches of %d pixels", v.Layers(), v.HiddenSize, v.NumAttentionHeads,
			v.IntermediateSize, v.Grid(), v.Grid(), v.PatchSize)
	case "projector":
		return fmt.Sprintf("%d → %d → %d", c.MMHiddenSize, c.HiddenSize, c.HiddenSize)
	case "point projector":
		return fmt.Sprintf("%d → %d", c.PcdFeatureDim, c.HiddenSize)
	case "ray encoders":
		return fmt.Sprintf("pictures %d → %d, points %d → %d", c.ImageColumns(), q.HiddenSize, c.PointColumns(), c.PcdFeatureDim)
	case "empty memory":
		return fmt.Sprint(c.PcdFeatureDim)
	case "Q-Former":
		return fmt.Sprintf("%d layers of %d, %d heads, MLP %d, over %d", q.NumHiddenLayers, q.HiddenSize, q.NumAttentionHeads, q.IntermediateSize, q.EncoderHiddenSize)
	case "aligner projections":
		return fmt.Sprintf("%d queries of %d, pictures and text %d → %d, out → %d", q.NumQueryTokens, q.HiddenSize, c.HiddenSize, q.HiddenSize, c.HiddenSize)
	case "point encoder":
		if p.Type == config.MinkUNet {
			return fmt.Sprintf("sparse U-Net %d → %d, %v, %v → %d", c.VoxelColumns(), p.Stem, p.Encoder, p.Decoder, c.PcdFeatureDim)
		}
		return fmt.Sprintf("transformer, %d layers of %d, %d heads, MLP %d, %d points → %d → %d tokens", p.Layers, p.HiddenSize, p.Heads, p.FFN, p.Points, p.Tokens, p.Kept)
	}
	return ""
}
