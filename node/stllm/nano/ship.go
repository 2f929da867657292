package nano

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
)

// trained is the shipped model, as `stllm train` and [Export] made it; its model card says how.
//
//go:embed trained
var trained embed.FS

// Trained gives the shipped model's files.
func Trained() (fs.FS, error) { return fs.Sub(trained, "trained") }

// Hash names the shipped model's content.
func Hash() (string, error) {
	files, err := Trained()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", path, len(data))
		h.Write(data)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

// Write puts the shipped model into a folder that is empty or absent.
func Write(dir string) error {
	files, err := Trained()
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, files); err != nil {
		return fmt.Errorf("write the built-in model: %w", err)
	}
	return nil
}

// Export writes a trained model folder in half precision under a name of its own: what is shipped. Fields of the config that are
// set (as in [config.Config.With]) get other values; the weights must still fit.
func Export(ctx context.Context, from, to, name string, set map[string]string) error {
	if err := checkpoint.Vacant(to); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	c, err := config.Load(from)
	if err != nil {
		return err
	}
	if c, err = c.With(set); err != nil {
		return fmt.Errorf("export %s: %w", from, err)
	}
	f, err := checkpoint.OpenFolder(from)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := layout.Check(f, c)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", from, err)
	}
	return fill(to, func() error { return halve(ctx, f, c, from, to, name) })
}

// halve writes the files of [Export].
func halve(ctx context.Context, f *checkpoint.Folder, c *config.Config, from, to, name string) error {
	c.TorchDtype = "float16"
	if err := writeJSON(filepath.Join(to, "config.json"), c, map[string]any{"_name_or_path": name}); err != nil {
		return err
	}
	for _, file := range []string{"tokenizer.json", "generation_config.json"} {
		if err := checkpoint.CopyFile(file, from, to); err != nil {
			return err
		}
	}
	var list []*checkpoint.Tensor
	specs, err := layout.Tensors(c)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		t, ok := f.Tensor(spec.Name)
		if !ok {
			continue // stored and unused
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		values, err := t.Float32()
		if err != nil {
			return err
		}
		data, err := checkpoint.EncodeFloat32(checkpoint.F16, values)
		if err != nil {
			return fmt.Errorf("export %s: %w", spec.Name, err)
		}
		list = append(list, &checkpoint.Tensor{Name: spec.Name, DType: checkpoint.F16, Shape: spec.Shape, Length: int64(len(data)), Data: data})
	}
	if len(list) == 0 {
		return errors.New("export: the model has no tensors")
	}
	return checkpoint.WriteSafetensors(filepath.Join(to, "model.safetensors"), map[string]string{"format": "pt"}, list)
}
