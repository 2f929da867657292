package trainer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/checkpoint"
)

// origin is what a run was begun from, kept in OUT/start.json: the same command with another --init must not go on from a model
// that it does not name.
type origin struct {
	From  string `json:"from"` // for people
	Files string `json:"files"`
}

// originEdge is how much of either end of a file counts; a file of weights begins with the names and shapes of its tensors.
const originEdge = 1 << 20

// originOf describes a model folder by the names, sizes and ends of its files: 15 GB are not read for it.
func originOf(folder string) (origin, error) {
	dir, err := checkpoint.ResolveFolder(folder)
	if err != nil {
		return origin{}, err
	}
	h := sha256.New()
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path) // of a cache, files are links
		if err != nil || info.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d\n", name, info.Size())
		return ends(h, path, info.Size())
	})
	if err != nil {
		return origin{}, fmt.Errorf("read %s: %w", folder, err)
	}
	return origin{From: folder, Files: hex.EncodeToString(h.Sum(nil)[:16])}, nil
}

// ends writes the first and the last originEdge bytes of a file.
func ends(w io.Writer, path string, size int64) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := min(size, originEdge)
	tail := max(head, size-originEdge)
	for _, part := range []*io.SectionReader{io.NewSectionReader(f, 0, head), io.NewSectionReader(f, tail, size-tail)} {
		if _, err := io.Copy(w, part); err != nil {
			return err
		}
	}
	return nil
}

// begun notes what a run begins from, before there is a model in its folder.
func (k *keeper) begun(from string) error {
	s, err := originOf(from)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(k.originFile(), append(data, '\n'), 0o644)
}

// sameOrigin refuses to go on with a run that was begun from another folder than the one named. Where none is named, or the
// folder of an early version has no note, there is nothing to compare.
func (k *keeper) sameOrigin(from string) error {
	data, err := os.ReadFile(k.originFile())
	if errors.Is(err, os.ErrNotExist) || from == "" {
		return nil
	}
	if err != nil {
		return err
	}
	var was origin
	if err := json.Unmarshal(data, &was); err != nil {
		return fmt.Errorf("%s: %w", k.originFile(), err)
	}
	now, err := originOf(from)
	if err != nil {
		return fmt.Errorf("%s holds a run that was begun from %s; name that folder or none to go on: %w", k.out, was.From, err)
	}
	if now.Files != was.Files {
		return fmt.Errorf("%s holds a run that was begun from %s, and %s is another model (or was changed since); name another folder for the result, or delete this one", k.out, was.From, from)
	}
	return nil
}

func (k *keeper) originFile() string { return filepath.Join(k.out, "start.json") }
