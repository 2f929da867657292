package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

func (f *torchFile) stateDict(root any) ([]*Tensor, error) {
	d, ok := root.(*dict)
	if !ok {
		return nil, fmt.Errorf("the file holds %T, expected a dict of tensors", root)
	}
	if inner, ok := d.get("state_dict").(*dict); ok {
		d = inner
	}
	var out []*Tensor
	seen := map[string]bool{}
	for i, k := range d.keys {
		p, ok := d.values[i].(*pickledTensor)
		if !ok {
			continue
		}
		name, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("the tensor number %d has the name %s, expected text", i, describe(k))
		}
		name = strings.TrimPrefix(name, "module.")
		if seen[name] {
			return nil, fmt.Errorf("tensor %s appears with and without the prefix module", name)
		}
		seen[name] = true
		t, err := f.tensor(p)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", name, err)
		}
		t.Name = name
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, errors.New("no tensor in it")
	}
	return out, nil
}

// tensor checks a view against its storage and returns its bytes in row-major order.
func (f *torchFile) tensor(p *pickledTensor) (*Tensor, error) {
	s := p.storage
	place, ok := f.storages[s.key]
	if !ok {
		return nil, fmt.Errorf("storage %q is not in the file", s.key)
	}
	total, err := s.dtype.Bytes(p.shape)
	if err != nil {
		return nil, err
	}
	size := int64(s.dtype.Size())
	t := &Tensor{DType: s.dtype, Shape: p.shape, Length: total, Offset: place.offset + (s.first+p.offset)*size}
	if p.offset < 0 || p.offset > s.numel {
		return nil, fmt.Errorf("offset %d in a storage of %d elements", p.offset, s.numel)
	}
	if total == 0 {
		t.Data = f.data[:0:0]
		return t, nil
	}
	last := p.offset // the view's last element
	for i, n := range p.shape {
		if p.stride[i] < 0 || n > 1 && p.stride[i] > (s.numel-1-last)/(n-1) {
			return nil, fmt.Errorf("shape %v with stride %v at %d goes beyond its storage of %d elements", p.shape, p.stride, p.offset, s.numel)
		}
		last += (n - 1) * p.stride[i]
	}
	if last >= s.numel {
		return nil, fmt.Errorf("shape %v at %d goes beyond its storage of %d elements", p.shape, p.offset, s.numel)
	}
	if contiguous(p.shape, p.stride) {
		t.Data = f.data[t.Offset : t.Offset+total : t.Offset+total]
		return t, nil
	}
	if total > f.budget {
		return nil, fmt.Errorf("shape %v with stride %v repeats more data than the file holds", p.shape, p.stride)
	}
	f.budget -= total
	t.Data = gather(f.data[t.Offset:], p.shape, p.stride, size, total)
	t.Offset = -1
	return t, nil
}

func contiguous(shape, stride []int64) bool {
	want := int64(1)
	for i, n := range slices.Backward(shape) {
		if n != 1 && stride[i] != want {
			return false
		}
		want *= n
	}
	return true
}

func gather(src []byte, shape, stride []int64, size, total int64) []byte {
	out := make([]byte, 0, total)
	index := make([]int64, len(shape))
	at := int64(0)
	for {
		out = append(out, src[at*size:(at+1)*size]...)
		d := len(shape) - 1
		for ; d >= 0; d-- {
			index[d]++
			at += stride[d]
			if index[d] < shape[d] {
				break
			}
			at -= stride[d] * shape[d]
			index[d] = 0
		}
		if d < 0 {
			return out
		}
	}
}
