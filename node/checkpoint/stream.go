package checkpoint

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Convert gives the tensor's elements as another float type (F32, F16 or BF16), a piece at a time: write is given the bytes
// that begin at offset of the converted tensor, from several goroutines and roughly in order, and must not keep them. The
// tensor's pages are given back as it goes, so that neither form is ever in memory as a whole.
func (t *Tensor) Convert(to DType, write func(offset int64, data []byte) error) error {
	size := int64(to.Size())
	if to != F32 && to != F16 && to != BF16 {
		return fmt.Errorf("%s: convert to %s: expected F32, F16 or BF16", t.Name, to)
	}
	per, bytes := t.DType.Block()
	if per == 0 {
		return fmt.Errorf("%s: dtype %q is not known", t.Name, string(t.DType))
	}
	n := t.Elements() // a multiple of per, as is groupSize
	return inOrder(int((n+groupSize-1)/groupSize), func() func(int) error {
		values := make([]float32, min(groupSize, n))
		return func(group int) error {
			first := int64(group) * groupSize
			count := min(groupSize, n-first)
			from, until := first/int64(per)*int64(bytes), (first+count)/int64(per)*int64(bytes)
			if err := decode(t.DType, t.Data[from:until], values[:count]); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
			t.forget(from, until)
			if to == F32 {
				return write(first*size, asBytes(values[:count]))
			}
			data, err := EncodeFloat32(to, values[:count])
			if err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
			return write(first*size, data)
		}
	})
}

// asBytes views values as they are stored: this program runs on little-endian machines alone (amd64, arm64).
func asBytes(values []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
}

// Release gives the pages that the tensor's data has in this process's memory back, where it is a view of a file: they are
// read again from the file when they are looked at. What the system keeps of the file is not touched.
func (t *Tensor) Release() { t.forget(0, t.Length) }

// release is Release for some rows.
func (t *Tensor) release(first, rows int64) {
	if t.Shape[0] > 0 {
		size := t.Length / t.Shape[0]
		t.forget(first*size, (first+rows)*size)
	}
}

// forget gives back the pages of bytes from until until. A neighbour's bytes on the first page go as well, which does no
// harm; the last page stays for whoever reads on.
func (t *Tensor) forget(from, until int64) {
	if !t.mapped || from >= until {
		return
	}
	page := uintptr(os.Getpagesize())
	p := unsafe.Pointer(&t.Data[from])
	skew := uintptr(p) % page
	length := (skew + uintptr(until-from)) / page * page
	if length == 0 {
		return
	}
	// Advice: a system that does not take it keeps the pages until it needs them.
	_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(p, -int(skew))), length), unix.MADV_DONTNEED)
}

// inOrder runs the pieces 0…n−1 on all processors, each the next one that nobody has begun, so that a file is read from its
// beginning to its end. worker makes what one of them needs.
func inOrder(n int, worker func() func(piece int) error) error {
	var next atomic.Int64
	var group errgroup.Group
	for range min(runtime.GOMAXPROCS(0), n) {
		group.Go(func() error {
			f := worker()
			for {
				piece := int(next.Add(1)) - 1
				if piece >= n {
					return nil
				}
				if err := f(piece); err != nil {
					next.Store(int64(n)) // nobody begins another
					return err
				}
			}
		})
	}
	return group.Wait()
}
