package checkpoint

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/stllm/stllm/node/mapped"
)

// PTH is an open file of torch.save, in the zip format (torch 1.6 and later) or the stream format before it.
type PTH struct {
	Path string // symbolic links resolved

	root    any
	tensors []*Tensor
	mapping *mapped.File
}

// OpenPTH maps a file and reads its pickle. Only tensors, plain containers, numbers and text are admitted; a pickle that
// names anything else is refused with that name, and nothing in it is ever run.
func OpenPTH(path string) (*PTH, error) {
	m, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open pth: %w", err)
	}
	p, err := ParsePTH(m.Data)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p.Path, p.mapping = m.Path, m
	for _, t := range p.tensors {
		t.File, t.mapped = m.Path, t.Offset >= 0
	}
	return p, nil
}

// ParsePTH reads a file that is in memory. Contiguous tensors are views of data; others are gathered, and all that is
// gathered together is no larger than data.
func ParsePTH(data []byte) (*PTH, error) {
	f := &torchFile{data: data, storages: map[string]region{}, budget: int64(len(data))}
	var err error
	var root any
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		root, err = f.readZip()
	case bytes.HasPrefix(data, legacyMagic):
		root, err = f.readLegacy()
	default:
		return nil, errors.New("pth: neither torch's zip format nor its stream format")
	}
	if err != nil {
		return nil, fmt.Errorf("pth: %w", err)
	}
	p := &PTH{root: root}
	if p.tensors, err = f.stateDict(root); err != nil {
		return nil, fmt.Errorf("pth: %w", err)
	}
	return p, nil
}

// StateDict returns the tensors of the entry "state_dict" (or of the file's dict itself where there is no such entry), with
// the prefix "module." of data-parallel training removed.
func (p *PTH) StateDict() []*Tensor { return p.tensors }

// Close unmaps the file; the views become invalid.
func (p *PTH) Close() error { return p.mapping.Close() }

// region is a storage's place in the file.
type region struct {
	dtype  DType
	offset int64
	numel  int64
}

type torchFile struct {
	data     []byte
	storages map[string]region
	budget   int64 // bytes that may still be gathered
}

func (f *torchFile) readZip() (any, error) {
	r, err := zip.NewReader(bytes.NewReader(f.data), int64(len(f.data)))
	if err != nil {
		return nil, err
	}
	entries := map[string]*zip.File{}
	var pickle *zip.File
	for _, e := range r.File {
		if _, twice := entries[e.Name]; twice {
			return nil, fmt.Errorf("entry %s appears twice", e.Name)
		}
		entries[e.Name] = e
		if path.Base(e.Name) == "data.pkl" && strings.Count(e.Name, "/") == 1 {
			pickle = e
		}
	}
	if pickle == nil {
		return nil, errors.New("no data.pkl in the zip: not written by torch.save")
	}
	dir := path.Dir(pickle.Name)
	if e := entries[dir+"/byteorder"]; e != nil {
		at, n, err := f.entry(e)
		if err != nil {
			return nil, err
		}
		if order := string(f.data[at : at+n]); order != "little" {
			return nil, fmt.Errorf("byte order %.20q, expected little", order)
		}
	}
	at, n, err := f.entry(pickle)
	if err != nil {
		return nil, err
	}
	root, _, err := unpickle(f.data[at:at+n], func(id any) (*storage, error) {
		s, numel, err := persistent(id)
		if err != nil {
			return nil, err
		}
		e := entries[dir+"/data/"+s.key]
		if e == nil {
			return nil, fmt.Errorf("storage %q is not in the file", s.key)
		}
		at, n, err := f.entry(e)
		if err != nil {
			return nil, err
		}
		return s, f.addStorage(s.key, s.dtype, numel, at, n)
	})
	return root, err
}

// entry returns the place of a zip entry's bytes. torch stores them as they are; compressed ones are refused, which also
// keeps an entry from growing when it is read.
func (f *torchFile) entry(e *zip.File) (at, n int64, err error) {
	if e.Method != zip.Store || e.CompressedSize64 != e.UncompressedSize64 {
		return 0, 0, fmt.Errorf("entry %s is compressed, torch.save stores plainly", e.Name)
	}
	if at, err = e.DataOffset(); err != nil {
		return 0, 0, fmt.Errorf("entry %s: %w", e.Name, err)
	}
	if at < 0 || at > int64(len(f.data)) || e.UncompressedSize64 > uint64(int64(len(f.data))-at) {
		return 0, 0, fmt.Errorf("entry %s of %d bytes goes beyond the end of the file", e.Name, e.UncompressedSize64)
	}
	return at, int64(e.UncompressedSize64), nil
}

// addStorage remembers a storage's place; available is what the file has for it.
func (f *torchFile) addStorage(key string, d DType, numel, at, available int64) error {
	need, err := d.Bytes([]int64{numel})
	if err != nil {
		return fmt.Errorf("storage %q: %w", key, err)
	}
	if need > available {
		return fmt.Errorf("storage %q needs %d bytes (%d × %s), but the file has %d", key, need, numel, d, available)
	}
	if old, ok := f.storages[key]; ok && old.dtype != d {
		return fmt.Errorf("storage %q is both %s and %s", key, old.dtype, d)
	}
	f.storages[key] = region{d, at, numel}
	return nil
}

// persistent reads ('storage', class, key, device, numel[, view]); view is (key, first, numel) in the legacy format. numel
// counts the whole storage, s.numel the view.
func persistent(id any) (s *storage, numel int64, err error) {
	t, ok := id.(tuple)
	if !ok || len(t) < 5 || t[0] != "storage" {
		return nil, 0, errors.New("a persistent id is not a storage")
	}
	class, ok1 := t[1].(global)
	key, ok2 := t[2].(string)
	var ok3 bool
	numel, ok3 = t[4].(int64)
	d, ok4 := storageTypes[class]
	if !ok1 || !ok2 || !ok3 || !ok4 || numel < 0 {
		return nil, 0, fmt.Errorf("storage %s of class %s with %s elements", describe(t[2]), describe(t[1]), describe(t[4]))
	}
	s = &storage{dtype: d, key: key, numel: numel}
	if len(t) > 5 && t[5] != nil {
		view, ok := t[5].(tuple)
		if !ok || len(view) != 3 {
			return nil, 0, fmt.Errorf("storage %q has an odd view", key)
		}
		first, ok1 := view[1].(int64)
		size, ok2 := view[2].(int64)
		if !ok1 || !ok2 || first < 0 || size < 0 || first > numel || size > numel-first {
			return nil, 0, fmt.Errorf("storage %q has a view from %s of %s among %d elements", key, describe(view[1]), describe(view[2]), numel)
		}
		s.first, s.numel = first, size
	}
	return s, numel, nil
}

// legacyMagic is the first pickle of the stream format: the number 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

// readLegacy reads: magic, protocol 1001, system facts, the object, the list of storage keys, then each storage as an
// element count (int64) and its bytes.
func (f *torchFile) readLegacy() (any, error) {
	at := len(legacyMagic)
	next := func(what string, load func(any) (*storage, error)) (any, error) {
		v, used, err := unpickle(f.data[at:], load)
		if err != nil {
			return nil, fmt.Errorf("%s at byte %d: %w", what, at, err)
		}
		at += used
		return v, nil
	}
	version, err := next("protocol", nil)
	if err != nil {
		return nil, err
	}
	if version != int64(1001) {
		return nil, fmt.Errorf("protocol %s, expected 1001", describe(version))
	}
	system, err := next("system facts", nil)
	if err != nil {
		return nil, err
	}
	if d, ok := system.(*dict); !ok || d.get("little_endian") != true {
		return nil, errors.New("not written on a little-endian machine")
	}
	wanted := map[string]region{} // offset unused yet
	root, err := next("object", func(id any) (*storage, error) {
		s, numel, err := persistent(id)
		if err != nil {
			return nil, err
		}
		if old, ok := wanted[s.key]; ok && (old.dtype != s.dtype || old.numel != numel) {
			return nil, fmt.Errorf("storage %q is both %d × %s and %d × %s", s.key, old.numel, old.dtype, numel, s.dtype)
		}
		wanted[s.key] = region{dtype: s.dtype, numel: numel}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	keys, err := next("storage keys", nil)
	if err != nil {
		return nil, err
	}
	order, ok := keys.(*list)
	if !ok {
		return nil, fmt.Errorf("storage keys are %T, expected a list", keys)
	}
	return root, f.legacyStorages(order.items, wanted, int64(at))
}

func (f *torchFile) legacyStorages(keys []any, wanted map[string]region, at int64) error {
	for _, k := range keys {
		key, ok := k.(string)
		w, used := wanted[key]
		if !ok || !used {
			return fmt.Errorf("storage %s is listed but used by no tensor", describe(k))
		}
		if int64(len(f.data))-at < 8 {
			return fmt.Errorf("storage %q: the file ends before it (truncated?)", key)
		}
		u := &unpickler{data: f.data[at : at+8]}
		n, _ := u.number(8)
		if int64(n) != w.numel {
			return fmt.Errorf("storage %q has %d elements, but the object says %d", key, n, w.numel)
		}
		at += 8
		if err := f.addStorage(key, w.dtype, w.numel, at, int64(len(f.data))-at); err != nil {
			return err
		}
		size, err := w.dtype.Bytes([]int64{w.numel})
		if err != nil {
			return err
		}
		at += size
		delete(wanted, key)
	}
	for key := range wanted {
		return fmt.Errorf("storage %q is used but not in the file", key)
	}
	return nil
}
