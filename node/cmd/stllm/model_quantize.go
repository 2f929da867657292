package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/layout"
)

// logQuantised says how far matrices that were quantised on load are from the originals: a line a layer of what is worst in it.
func (a *app) logQuantised(made []checkpoint.QuantisedMatrix) {
	for _, l := range layersOf(made) {
		a.log.Info().Str("layer", l.name).Int("matrices", l.matrices).Str("worst", l.worst).Float64("relative", l.relative).
			Float64("largest", l.largest).Msg("quantised to 4 bits: error against what is stored")
	}
}

// quantisedLayer sums up the matrices of one layer.
type quantisedLayer struct {
	name     string
	matrices int
	worst    string  // the matrix that is relatively furthest off
	relative float64 // root mean square of its differences over that of the original
	largest  float64 // largest difference in any matrix
}

// layersOf groups matrices by layer (model.layers.7), in their order; what is in no layer stands for itself.
func layersOf(made []checkpoint.QuantisedMatrix) (layers []quantisedLayer) {
	for _, q := range made {
		name := strings.TrimSuffix(q.Name, ".weight")
		if parts := strings.SplitN(name, ".", 4); len(parts) == 4 && parts[1] == "layers" {
			name = strings.Join(parts[:3], ".")
		}
		if len(layers) == 0 || layers[len(layers)-1].name != name {
			layers = append(layers, quantisedLayer{name: name})
		}
		l := &layers[len(layers)-1]
		l.matrices++
		l.largest = max(l.largest, q.Error.MaxAbs)
		if l.worst == "" || q.Error.Relative > l.relative {
			l.worst, l.relative = q.Name, q.Error.Relative
		}
	}
	return layers
}

func (a *app) modelQuantizeCommand() *cobra.Command {
	var block int
	var points, rest string
	cmd := &cobra.Command{
		Use:   "quantize DIR OUT",
		Short: "Write a model folder with the language model's matrices as 4-bit codes, and say how far they are from the original",
		Long: `quantize does once what --dtype int4 does at every load. The codes are those of MatMulNBits: symmetric, in blocks along each
row with a float32 scale of their own. The rest of the model is copied as it is stored, or converted once (--rest).`,
		Args: exactly(2, "a model folder, or nano, and a new one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.quantize(cmd.Context(), args[0], args[1], points, block, rest)
		},
	}
	cmd.Flags().IntVar(&block, "block", 32, "32, 64 or 128 weights to a scale")
	cmd.Flags().StringVar(&rest, "rest", "stored", "type of the other weights: stored, fp32 (larger; a CPU maps it and converts nothing at load), bf16, fp16")
	cmd.Flags().StringVar(&points, "point-weights", "", "point encoder file where it lies outside the folder; it is taken in")
	return cmd
}

func (a *app) quantize(ctx context.Context, from, to, points string, block int, rest string) error {
	types := map[string]checkpoint.DType{"stored": "", "fp32": checkpoint.F32, "bf16": checkpoint.BF16, "fp16": checkpoint.F16}
	if _, ok := types[rest]; !ok {
		return usageError{fmt.Errorf("--rest is %q, expected stored, fp32, bf16 or fp16", rest)}
	}
	if !slices.Contains([]int{32, 64, 128}, block) {
		return usageError{fmt.Errorf("--block is %d, expected 32, 64 or 128", block)}
	}
	if err := checkpoint.Vacant(to); err != nil {
		return fmt.Errorf("quantize: %w", err)
	}
	m := modelFlags{dir: from}
	dir, err := m.folder(ctx)
	if err != nil {
		return err
	}
	if dir, err = checkpoint.ResolveFolder(dir); err != nil {
		return err
	}
	c, f, err := openModel(dir, points)
	if err != nil {
		return err
	}
	defer f.Close()
	bar := a.progress("quantize")
	made, err := layout.Quantise(ctx, f, c, to, layout.QuantiseOptions{Block: block, Rest: types[rest]}, func(done, total int64) { bar.set(int(done>>20), int(total>>20)) })
	bar.done()
	if err != nil {
		return fmt.Errorf("quantize %s: %w", from, err)
	}
	for _, name := range []string{"generation_config.json", "tokenizer.json", "tokenizer_config.json", "config.json"} {
		if err := checkpoint.CopyFile(name, dir, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "matrix\tlargest error\troot mean square\trelative")
	for _, q := range made {
		fmt.Fprintf(w, "%s\t%.3g\t%.3g\t%.4f\n", q.Name, q.Error.MaxAbs, q.Error.RMS, q.Error.Relative)
	}
	return w.Flush()
}
