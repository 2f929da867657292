package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/smallfile"
)

// maxIndex bounds model.safetensors.index.json; the published one has 0.1 MB.
const maxIndex = 64 << 20

// Folder is an open model folder in the Hugging Face layout: model.safetensors, or shards with
// model.safetensors.index.json, and possibly OpenScene's .pth for the point encoder.
type Folder struct {
	Dir     string    // as resolved: the snapshot folder where a cache folder was given
	Files   []string  // files with tensors, symbolic links resolved, in the order they were opened
	Tensors []*Tensor // of all files, by name

	byName map[string]*Tensor
	names  map[string]string // by resolved path, the name that the file was opened by
	close  []func() error
}

// Name is what a file of the folder is called there; a Hugging Face cache has it as a link to a blob of another name.
func (f *Folder) Name(file string) string {
	if name, ok := f.names[file]; ok {
		return name
	}
	return filepath.Base(file)
}

// opened keeps a file that is open.
func (f *Folder) opened(path, resolved string, closeFile func() error) {
	f.close = append(f.close, closeFile)
	f.Files = append(f.Files, resolved)
	if f.names == nil {
		f.names = map[string]string{}
	}
	f.names[resolved] = filepath.Base(path)
}

// OpenFolder opens the weights of a model folder. dir may be the folder itself, a snapshot of the Hugging Face cache (links
// into blobs/), or the cache's models--… folder, whose refs/main is then followed. extra are further files (.safetensors or
// .pth) that hold tensors kept apart, such as OpenScene's weights; "" is none. Without any, a single .pth in the folder is taken.
func OpenFolder(dir string, extra ...string) (*Folder, error) {
	dir, err := ResolveFolder(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{Dir: dir, byName: map[string]*Tensor{}}
	if err := f.open(extra); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	slices.SortFunc(f.Tensors, func(a, b *Tensor) int { return strings.Compare(a.Name, b.Name) })
	return f, nil
}

// ResolveFolder returns the folder that holds config.json: dir, or the snapshot that refs/main of a Hugging Face cache
// folder names.
func ResolveFolder(dir string) (string, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("open model folder: %w", err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("open model folder: %s is a file", dir)
	}
	ref, err := os.ReadFile(filepath.Join(dir, "refs", "main"))
	if err != nil {
		return dir, nil
	}
	revision := strings.TrimSpace(string(ref))
	if !filepath.IsLocal(revision) {
		return "", fmt.Errorf("%s: refs/main names %q, expected a revision", dir, revision)
	}
	return filepath.Join(dir, "snapshots", revision), nil
}

// Vacant refuses a folder that holds something already: nothing is written over.
func Vacant(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("folder %s is not empty; name a new one", dir)
	}
	return nil
}

// CopyFile copies a small file of a model folder, such as its tokenizer.json, into another folder.
func CopyFile(name, from, to string) error {
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, name), data, 0o644)
}

func (f *Folder) open(extra []string) error {
	if err := f.openWeights(); err != nil {
		return err
	}
	extra = slices.DeleteFunc(slices.Clone(extra), func(path string) bool { return path == "" })
	if len(extra) == 0 {
		found, err := f.findPTH()
		if err != nil {
			return err
		}
		extra = found
	}
	for _, path := range extra {
		if err := f.openExtra(path); err != nil {
			return err
		}
	}
	return nil
}

func (f *Folder) openWeights() error {
	index := filepath.Join(f.Dir, "model.safetensors.index.json")
	if _, err := os.Stat(index); err == nil {
		return f.openShards(index)
	}
	single := filepath.Join(f.Dir, "model.safetensors")
	if _, err := os.Stat(single); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open model folder: %w", err)
		}
		return fmt.Errorf("%s: neither model.safetensors nor model.safetensors.index.json is there", f.Dir)
	}
	s, err := f.openSafetensors(single)
	if err != nil {
		return err
	}
	return f.add(s.Tensors)
}

func (f *Folder) openShards(index string) error {
	data, err := smallfile.Read(index, maxIndex)
	if err != nil {
		return err
	}
	var head struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s: %w", index, err)
	}
	if len(head.WeightMap) == 0 {
		return fmt.Errorf("%s: weight_map is empty", index)
	}
	shards := map[string]*Safetensors{}
	var names, absent []string
	for _, shard := range head.WeightMap {
		if _, seen := shards[shard]; seen {
			continue
		}
		if !filepath.IsLocal(shard) {
			return fmt.Errorf("%s: weight_map names %q, expected a file in the folder", index, shard)
		}
		shards[shard] = nil
		names = append(names, shard)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(f.Dir, name)); err != nil {
			absent = append(absent, name)
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("%s: %d of %d shards are missing: %s", f.Dir, len(absent), len(names), ListNames(absent))
	}
	for _, name := range names {
		if shards[name], err = f.openSafetensors(filepath.Join(f.Dir, name)); err != nil {
			return err
		}
	}
	var missing []string
	for tensor, shard := range head.WeightMap {
		if _, ok := shards[shard].Tensor(tensor); !ok {
			missing = append(missing, tensor+" (expected in "+shard+")")
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%s: %d tensors of the index are in no shard: %s", f.Dir, len(missing), ListNames(missing))
	}
	for _, name := range names {
		if err := f.add(shards[name].Tensors); err != nil {
			return err
		}
	}
	return nil
}

func (f *Folder) openSafetensors(path string) (*Safetensors, error) {
	s, err := OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	f.opened(path, s.Path, s.Close)
	return s, nil
}

// findPTH returns the one .pth of the folder. The trainer's random states have that ending too and are passed over.
func (f *Folder) findPTH() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(f.Dir, "*.pth"))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p string) bool { return strings.HasPrefix(filepath.Base(p), "rng_state") })
	if len(all) > 1 {
		return nil, fmt.Errorf("%s: %d .pth files (%s): say which one holds the point encoder", f.Dir, len(all), ListNames(all))
	}
	return all, nil
}

func (f *Folder) openExtra(path string) error {
	if strings.HasSuffix(path, ".safetensors") {
		s, err := f.openSafetensors(path)
		if err != nil {
			return err
		}
		return f.add(s.Tensors)
	}
	p, err := OpenPTH(path)
	if err != nil {
		return err
	}
	f.opened(path, p.Path, p.Close)
	return f.add(p.StateDict())
}

func (f *Folder) add(tensors []*Tensor) error {
	for _, t := range tensors {
		if old := f.byName[t.Name]; old != nil {
			return fmt.Errorf("tensor %s is both in %s and in %s", t.Name, old.File, t.File)
		}
		f.byName[t.Name] = t
		f.Tensors = append(f.Tensors, t)
	}
	return nil
}

// Tensor returns the tensor of the first of the given names that is stored.
func (f *Folder) Tensor(names ...string) (*Tensor, bool) {
	for _, name := range names {
		if t := f.byName[name]; t != nil {
			return t, true
		}
	}
	return nil, false
}

// Compare returns the names of want that are not stored, and the stored names that are not in want. Both are sorted.
func (f *Folder) Compare(want []string) (missing, unexpected []string) {
	wanted := make(map[string]bool, len(want))
	for _, name := range want {
		if wanted[name] = true; f.byName[name] == nil {
			missing = append(missing, name)
		}
	}
	for _, t := range f.Tensors {
		if !wanted[t.Name] {
			unexpected = append(unexpected, t.Name)
		}
	}
	slices.Sort(missing)
	return missing, unexpected
}

// Parameters returns the number of elements of the tensors whose name has one of the prefixes, or of all without any.
func (f *Folder) Parameters(prefixes ...string) int64 {
	n := int64(0)
	for _, t := range f.Tensors {
		if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(t.Name, p) }) {
			n += t.Elements()
		}
	}
	return n
}

// CommonDir returns the deepest folder above all files, symbolic links resolved. ONNX Runtime takes external data only from
// below one folder and by a path without links.
func (f *Folder) CommonDir() string {
	if len(f.Files) == 0 {
		return f.Dir
	}
	dir := filepath.Dir(f.Files[0])
	for _, file := range f.Files[1:] {
		for {
			rel, err := filepath.Rel(dir, file)
			if err == nil && filepath.IsLocal(rel) {
				break
			}
			dir = filepath.Dir(dir)
		}
	}
	return dir
}

// Close unmaps all files; the views become invalid.
func (f *Folder) Close() error {
	var errs []error
	for _, c := range f.close {
		errs = append(errs, c())
	}
	f.close = nil
	return errors.Join(errs...)
}
