package trainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/trainer/weights"
	"github.com/stllm/stllm/node/wholefile"
)

// The two files of a fine-tuned model: what stays is copied once, what is trained is written with every checkpoint.
const (
	frozenShard  = "model-00001-of-00002.safetensors"
	trainedShard = "model-00002-of-00002.safetensors"
)

// tunesProfile refuses models that the published recipe is not for.
func tunesProfile(dir string, c *config.Config) error {
	switch {
	case c.Profile != config.Published:
		return fmt.Errorf("%s is of the profile %s; items fine-tune models of the published profile (`stllm train --data` trains nano)", dir, c.Profile)
	case c.STLLM3D:
		return fmt.Errorf("%s is STLLM-3D (config field stllm_3d), which has no aligner to fine-tune", dir)
	}
	return nil
}

// beginTuned makes the folder model of a fine-tune: the small files of the folder from, what stays of its weights byte by byte in one
// file, what is trained as float32 in another, and their index. No tensor that stays is converted or held in memory. The folder
// appears under its name when all of it is there.
func beginTuned(ctx context.Context, from, points, model string, freeze []string, progress func(done, total int64)) (err error) {
	if from, err = checkpoint.ResolveFolder(from); err != nil {
		return err
	}
	c, err := config.Load(from)
	if err != nil {
		return err
	}
	if err := tunesProfile(from, c); err != nil {
		return err
	}
	names, err := tunable(c, freeze)
	if err != nil {
		return err
	}
	f, err := layout.Open(from, points, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if i := slices.IndexFunc(f.Tensors, func(t *checkpoint.Tensor) bool { return strings.HasSuffix(t.Name, checkpoint.CodesSuffix) }); i >= 0 {
		return fmt.Errorf("%s has quantised weights (%s), which have no gradient; name the folder that it was made from", from, f.Tensors[i].Name)
	}
	report, err := layout.Check(f, c)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return assemble(model, func(made string) error {
		if err := copySmall(from, made); err != nil {
			return err
		}
		if err := markTuned(from, made); err != nil {
			return err
		}
		return splitWeights(ctx, f, made, names, progress)
	})
}

// assemble has a folder made, which appears under its name when all of it is there; a folder that holds something is left alone.
func assemble(dir string, make func(made string) error) error {
	if err := checkpoint.Vacant(dir); err != nil {
		return fmt.Errorf("it has no config.json, but %w", err)
	}
	return wholefile.Make(dir, func(made string) error {
		if err := errors.Join(os.RemoveAll(made), os.MkdirAll(made, 0o755)); err != nil {
			return err
		}
		return make(made)
	})
}

// copySmall copies a model's files that are not weights.
func copySmall(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".index.json") || !slices.Contains([]string{".json", ".txt", ".jinja", ".md", ".model"}, filepath.Ext(name)) {
			continue
		}
		if info, err := os.Stat(filepath.Join(from, name)); err != nil || info.IsDir() { // of a cache, files are links
			if err != nil {
				return err
			}
			continue
		}
		if err := checkpoint.CopyFile(name, from, to); err != nil {
			return err
		}
	}
	return nil
}

// markTuned marks the model's own name in the copy of its config.
func markTuned(from, to string) error {
	path := filepath.Join(to, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	var name string
	if raw, ok := fields["_name_or_path"]; ok {
		if err := json.Unmarshal(raw, &name); err != nil {
			return fmt.Errorf("config.json: field _name_or_path: %w", err)
		}
	}
	if name == "" {
		name = filepath.Base(from)
	}
	if fields["_name_or_path"], err = json.Marshal(strings.TrimSuffix(name, "-tuned") + "-tuned"); err != nil {
		return err
	}
	if data, err = json.MarshalIndent(fields, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// splitWeights writes the two files and the index.
func splitWeights(ctx context.Context, f *checkpoint.Folder, to string, trained []string, progress func(done, total int64)) error {
	shardOf := map[string]string{}
	var specs []checkpoint.TensorSpec
	var total, stays, done int64
	for _, t := range f.Tensors {
		if _, ok := slices.BinarySearch(trained, t.Name); ok {
			shardOf[t.Name] = trainedShard
			total += 4 * t.Elements()
			continue
		}
		shardOf[t.Name] = frozenShard
		total, stays = total+t.Length, stays+t.Length
		specs = append(specs, checkpoint.TensorSpec{Name: t.Name, DType: t.DType, Shape: t.Shape})
	}
	w, err := checkpoint.CreateSafetensors(filepath.Join(to, frozenShard), map[string]string{"format": "pt"}, specs)
	if err != nil {
		return err
	}
	for _, s := range specs {
		t, _ := f.Tensor(s.Name) // specs are of the folder
		if err := errors.Join(ctx.Err(), w.WriteTensor(t.Name, t.Data)); err != nil {
			w.Abort()
			return fmt.Errorf("copy weights: %w", err)
		}
		t.Release()
		if done += t.Length; progress != nil {
			progress(done, stays)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	set, err := weights.Pick(f, trained)
	if err != nil {
		return err
	}
	if err := set.WriteFile(filepath.Join(to, trainedShard), checkpoint.F32, trained); err != nil {
		return err
	}
	return checkpoint.WriteIndex(to, total, shardOf)
}
