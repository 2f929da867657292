package checkpoint

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Init says how an untrained tensor starts.
type Init struct {
	Kind  InitKind
	Value float64 // Constant: the value. Normal: the standard deviation about 0. Uniform: the bound, [-Value, Value).
}

// InitKind is a distribution.
type InitKind int

// The kinds of Init. The zero Init is a tensor of zeros.
const (
	Constant InitKind = iota
	Normal
	Uniform
)

// FolderOptions are the options of WriteRandomFolder and CreateFolder.
type FolderOptions struct {
	ShardBytes int64             // largest shard, unless one tensor alone is larger; 0 is 5 GB
	Metadata   map[string]string // of every file; "format": "pt" is added
}

// WriteRandomFolder writes the weights of an untrained model: model.safetensors, or shards and an index. The bytes depend on
// seed, names, types and inits only. Every element comes from a hash of its place, so tensors are written by all processors
// at the speed of the disk; 65,536 different values a tensor are enough for a start. progress, which may be nil, is called
// with the bytes done.
func WriteRandomFolder(ctx context.Context, dir string, seed uint64, specs []TensorSpec, options FolderOptions, progress func(done, total int64)) error {
	w, err := CreateFolder(dir, specs, options)
	if err != nil {
		return err
	}
	done := int64(0)
	for _, s := range w.order {
		if err := w.shards[w.shardOf[s.Name]].Random(ctx, s.Name, seed); err != nil {
			w.Abort()
			return err
		}
		n, _ := s.DType.Bytes(s.Shape)
		if done += n; progress != nil {
			progress(done, w.total)
		}
	}
	return w.Close()
}

// FolderWriter writes the weights of a model folder.
type FolderWriter struct {
	dir     string
	names   []string // of the shards
	shards  []*Writer
	shardOf map[string]int
	order   []TensorSpec
	total   int64
}

// CreateFolder starts the weights of a model folder. Tensors go to shards in the order of specs.
func CreateFolder(dir string, specs []TensorSpec, options FolderOptions) (*FolderWriter, error) {
	limit := options.ShardBytes
	if limit <= 0 {
		limit = 5_000_000_000
	}
	w := &FolderWriter{dir: dir, shardOf: map[string]int{}, order: slices.Clone(specs)}
	var parts [][]TensorSpec
	room := int64(0)
	for _, s := range specs {
		n, err := s.DType.Bytes(s.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", s.Name, err)
		}
		if _, twice := w.shardOf[s.Name]; twice {
			return nil, fmt.Errorf("tensor %s is given twice", s.Name)
		}
		if len(parts) == 0 || n > room {
			parts, room = append(parts, nil), limit
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], s)
		room -= n
		w.total += n
		w.shardOf[s.Name] = len(parts) - 1
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("create %s: no tensors", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create model folder: %w", err)
	}
	metadata := map[string]string{"format": "pt"}
	for k, v := range options.Metadata {
		metadata[k] = v
	}
	for i, part := range parts {
		name := "model.safetensors"
		if len(parts) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(parts))
		}
		shard, err := CreateSafetensors(filepath.Join(dir, name), metadata, part)
		if err != nil {
			w.Abort()
			return nil, err
		}
		w.names, w.shards = append(w.names, name), append(w.shards, shard)
	}
	return w, nil
}

// Shard returns the writer of the file that a tensor goes to.
func (w *FolderWriter) Shard(name string) (*Writer, error) {
	i, ok := w.shardOf[name]
	if !ok {
		return nil, fmt.Errorf("%s: tensor %s was not announced", w.dir, name)
	}
	return w.shards[i], nil
}

// Close finishes all shards and writes the index. Files of an earlier model in the folder that would contradict it (another
// number of shards) are removed.
func (w *FolderWriter) Close() error {
	for i, s := range w.shards {
		if err := s.Close(); err != nil {
			for _, rest := range w.shards[i+1:] {
				rest.Abort()
			}
			return err
		}
	}
	old, err := filepath.Glob(filepath.Join(w.dir, "model*.safetensors*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		name := filepath.Base(path)
		isShard := strings.HasPrefix(name, "model-") && strings.HasSuffix(name, ".safetensors")
		if (isShard || name == "model.safetensors" || name == "model.safetensors.index.json") && !slices.Contains(w.names, name) {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove the earlier model: %w", err)
			}
		}
	}
	if len(w.shards) == 1 {
		return nil
	}
	shardOf := map[string]string{}
	for name, i := range w.shardOf {
		shardOf[name] = w.names[i]
	}
	return WriteIndex(w.dir, w.total, shardOf)
}

// WriteIndex writes the index of a folder with shards: the bytes of all tensors, and which file each of them is in.
func WriteIndex(dir string, total int64, shardOf map[string]string) error {
	index := struct {
		Metadata  map[string]int64  `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{map[string]int64{"total_size": total}, shardOf}
	data, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), append(data, '\n'), 0o644)
}

// Abort gives up and removes what was written.
func (w *FolderWriter) Abort() {
	for _, s := range w.shards {
		s.Abort()
	}
}

// Random stores a tensor as its Init says.
func (w *Writer) Random(ctx context.Context, name string, seed uint64) error {
	w.mu.Lock()
	s := w.spans[name]
	w.mu.Unlock()
	if s == nil {
		return fmt.Errorf("%s: tensor %s was not announced", w.path, name)
	}
	init, d := s.spec.Init, s.spec.DType
	if init.Kind == Constant && init.Value == 0 {
		return w.Zero(name)
	}
	if d != F32 && d != BF16 && d != F16 {
		return fmt.Errorf("tensor %s: cannot start a %s tensor with anything but zeros", name, d)
	}
	table, err := init.table(d)
	if err != nil {
		return fmt.Errorf("tensor %s: %w", name, err)
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	state := splitmix(h.Sum64() ^ splitmix(seed))
	size := int64(d.Size())
	return w.Generate(ctx, name, func(offset int64, piece []byte) {
		// One hash gives four table indices of 16 bits; a piece begins at a multiple of four elements.
		group := uint64(offset / (4 * size))
		le := binary.LittleEndian
		for ; size == 2 && len(piece) >= 8; piece = piece[8:] { // four at a time: most of a model is bf16
			z := splitmix(state + group)
			group++
			le.PutUint64(piece, uint64(table[z&0xffff])|uint64(table[z>>16&0xffff])<<16|uint64(table[z>>32&0xffff])<<32|uint64(table[z>>48])<<48)
		}
		for len(piece) > 0 {
			z := splitmix(state + group)
			group++
			for k := 0; k < 4 && len(piece) > 0; k++ {
				if v := table[z&0xffff]; size == 2 {
					le.PutUint16(piece, uint16(v))
				} else {
					le.PutUint32(piece, v)
				}
				piece = piece[size:]
				z >>= 16
			}
		}
	})
}

// table lists the values of a distribution at 65,536 equally likely places, as bits of the type.
func (i Init) table(d DType) (*[1 << 16]uint32, error) {
	t := &[1 << 16]uint32{}
	for k := range t {
		p := (float64(k) + 0.5) / (1 << 16)
		var v float64
		switch i.Kind {
		case Constant:
			v = i.Value
		case Normal:
			v = i.Value * math.Sqrt2 * math.Erfinv(2*p-1)
		case Uniform:
			v = i.Value * (2*p - 1)
		default:
			return nil, fmt.Errorf("init kind %d is not known", i.Kind)
		}
		switch f := float32(v); d {
		case F32:
			t[k] = math.Float32bits(f)
		case BF16:
			t[k] = uint32(Float32ToBFloat(f))
		default:
			t[k] = uint32(Float32ToHalf(f))
		}
	}
	return t, nil
}

// splitmix is one output of splitmix64 for a state.
func splitmix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
