package ort

/*
#include "stack.h"
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"syscall"
)

// openingStack is what ONNX Runtime needs of a stack, at most, to make its environment: it searches the process's command line with
// a regular expression that takes 256 bytes for each character, and Linux admits 2 MiB of them (a quarter of 8 MiB of stack). The
// usual 8 MiB end at 32 thousand. What is not used is never there.
const openingStack = 1 << 30

// onStack runs f in a thread with a stack of that many bytes.
func onStack(bytes int, f func() error) (err error) {
	h := cgo.NewHandle(func() { err = f() })
	defer h.Delete()
	if failed := C.on_stack(C.size_t(bytes), C.uintptr_t(h)); failed != 0 {
		return fmt.Errorf("a thread with %d MiB of stack: %w", bytes>>20, syscall.Errno(failed))
	}
	return err
}

//export stllm_ort_run
func stllm_ort_run(f C.uintptr_t) { cgo.Handle(f).Value().(func())() }
