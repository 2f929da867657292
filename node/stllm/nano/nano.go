// Package nano makes model folders from nothing: the small model that the program ships (the whole graph at a size for a
// laptop), and the full published layout with generated numbers, for trials of loading and speed.
package nano

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/tokenizer"
)

// vocabulary is the number of ordinary tokens of the nano tokenizer: 256 bytes and the words of its questions.
const vocabulary = 1600

// specials are the template's tokens, in the order of their ids after the ordinary ones.
func specials() []string { return []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} }

// Options say what [Init] writes.
type Options struct {
	// Config is "nano", "published", "published-tenth" (a tenth of its depth), "published-tiny" (its graph at a size for
	// trials), or "so400m-0.5b" (with the shape of Qwen2-0.5B for a language model).
	Config   string
	Set      map[string]string // fields with other values, see [config.Config.With]
	Seed     uint64            // of the weights
	Progress func(done, total int64)
}

// Init writes a model folder. Its weights are generated and untrained, which its id says.
func Init(ctx context.Context, dir string, o Options) error {
	if err := checkpoint.Vacant(dir); err != nil {
		return fmt.Errorf("model %w", err)
	}
	return fill(dir, func() error { return generate(ctx, dir, o) })
}

// fill writes a folder that was vacant before. Where that fails (a full disk, a signal) the folder is again as it was.
func fill(dir string, write func() error) error {
	_, err := os.Stat(dir)
	there := err == nil
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("model folder: %w", err)
	}
	if err = write(); err == nil {
		return nil
	}
	if !there {
		return errors.Join(err, os.RemoveAll(dir))
	}
	entries, readErr := os.ReadDir(dir)
	err = errors.Join(err, readErr)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// generate writes the files of [Init].
func generate(ctx context.Context, dir string, o Options) error {
	texts, err := corpus()
	if err != nil {
		return err
	}
	tok, err := tokenizer.Train(texts, vocabulary, specials())
	if err != nil {
		return err
	}
	t, err := tokenizer.Parse(tok)
	if err != nil {
		return err
	}
	end, err := t.Special("<|im_end|>")
	if err != nil {
		return err
	}
	var c *config.Config
	switch o.Config {
	case "nano":
		c = config.Nano((t.Size()+63)/64*64, end)
	case "published-tiny":
		c = config.PublishedTiny((t.Size()+63)/64*64, end)
	case "published", "published-tenth", "so400m-0.5b":
		// No published tokenizer can be shipped; the small one stands in, and the vocabulary keeps its published size.
		c = config.Default()
		c.EOSTokenID = config.IDs{end}
		switch o.Config {
		case "published-tenth": // a tenth of the depth, at full width
			c.NumHiddenLayers, c.VisionConfig.NumHiddenLayers, c.QFormerConfig.NumHiddenLayers = 3, 4, 1
		case "so400m-0.5b": // Qwen2-0.5B's shape behind the published tower and aligner
			c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize, c.NumAttentionHeads, c.NumKeyValueHeads = 24, 896, 4864, 14, 2
			c.ImgEncoderFeatureDim = c.HiddenSize
		}
	default:
		return fmt.Errorf("config is %q, expected nano, published, published-tenth, published-tiny or so400m-0.5b", o.Config)
	}
	if c, err = c.With(o.Set); err != nil {
		return err
	}
	specs, err := layout.Tensors(c)
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "config.json"), c, map[string]any{"_name_or_path": o.Config + "-untrained"}); err != nil {
		return err
	}
	generation := map[string]any{"eos_token_id": end, "do_sample": false, "max_new_tokens": 64}
	if err := writeJSON(filepath.Join(dir, "generation_config.json"), generation, nil); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), tok, 0o644); err != nil {
		return fmt.Errorf("model folder: %w", err)
	}
	return checkpoint.WriteRandomFolder(ctx, dir, o.Seed, specs, checkpoint.FolderOptions{}, o.Progress)
}

// writeJSON writes a value's fields together with some of their own.
func writeJSON(path string, v any, more map[string]any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	for k, f := range more {
		fields[k] = f
	}
	if data, err = json.MarshalIndent(fields, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
