package ort

/*
#include <stdlib.h>
#include "product.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/unix"

	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/mapped"
)

// ONNX Runtime maps each weight of a file by itself. mappedWeights maps a file as a whole, so that the system can use large pages
// throughout: they are read a tenth faster. A session is given its weights as views of that. A file that is cut short while it is
// mapped ends the process (SIGBUS) when the lost part is read, as it would if ONNX Runtime mapped it; one that is replaced by
// another of its name stays as it was.
type mappedWeights struct {
	api    *unsafe.Pointer
	files  map[string]*mapped.File
	values []unsafe.Pointer // OrtValue
}

// addWeights gives a session the weights that its model has in files. They must outlive the session.
func addWeights(so *ort.SessionOptions, library string, external []*graph.Value) (*mappedWeights, error) {
	api, err := apiOf(library)
	if err != nil {
		return nil, err
	}
	w := &mappedWeights{api: api, files: map[string]*mapped.File{}}
	for _, v := range external {
		if err := w.add(so, v); err != nil {
			w.close()
			return nil, fmt.Errorf("weight %s: %w", v.Name, err)
		}
	}
	return w, nil
}

func (w *mappedWeights) add(so *ort.SessionOptions, v *graph.Value) error {
	data, err := w.file(v.Init.File)
	if err != nil {
		return err
	}
	at, length := v.Init.Offset, v.Init.Length
	if at < 0 || length <= 0 || at > int64(len(data)) || length > int64(len(data))-at {
		return fmt.Errorf("bytes %d to %d are not in %s, which has %d", at, at+length, v.Init.File, len(data))
	}
	shape := make([]C.int64_t, len(v.Shape))
	for i, d := range v.Shape {
		shape[i] = C.int64_t(d.Size)
	}
	name := C.CString(v.Name)
	defer C.free(unsafe.Pointer(name))
	var value unsafe.Pointer
	status := C.weight_add(w.api, pointerIn(unsafe.Pointer(so)), name, unsafe.Pointer(&data[at]), C.size_t(length), unsafe.SliceData(shape),
		C.size_t(len(shape)), C.int(v.DType), &value)
	if value != nil {
		w.values = append(w.values, value)
	}
	if status != nil {
		return errors.New(messageOf(w.api, status))
	}
	return nil
}

func (w *mappedWeights) file(path string) ([]byte, error) {
	if f, ok := w.files[path]; ok {
		return f.Data, nil
	}
	f, err := mapped.Open(path)
	if err != nil {
		return nil, err
	}
	if len(f.Data) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	_ = unix.Madvise(f.Data, unix.MADV_HUGEPAGE) // a system that has none does without
	w.files[path] = f
	return f.Data, nil
}

func (w *mappedWeights) close() {
	if w == nil {
		return
	}
	for _, v := range w.values {
		C.weight_release(w.api, v)
	}
	for _, f := range w.files {
		_ = f.Close() // of an address that Mmap gave
	}
	w.values, w.files = nil, nil
}
