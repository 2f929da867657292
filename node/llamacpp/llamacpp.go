// Package llamacpp runs models by llama.cpp, as the peer that ours is compared with: same weights, same process, same threads.
// The library is the prebuilt one of the npm package @node-llama-cpp (`stllm setup --llm` fetches it); it is opened at run
// time and nothing else of the program needs it.
package llamacpp

/*
#cgo LDFLAGS: -ldl
#include "shim.h"
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"github.com/stllm/stllm/node/ort"
)

// Version is the npm package whose llama.cpp is fetched and tested (llama.cpp v0.5.0).
const Version = "3.22.1"

// Dir is where set-up unpacks the library.
func Dir() (string, error) {
	cache, err := ort.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "llama.cpp", Version, ort.Platform()), nil
}

// MissingError says that the library is not there and how to get it.
type MissingError struct{ Dir string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("llama.cpp is not in %s; run `stllm setup --llm` (or make llm)", e.Dir)
}

// opened is the process's library: it has global state, so there can be only one.
var opened struct {
	sync.Mutex
	lib *Library
}

// Library is llama.cpp, loaded.
type Library struct{ c *C.struct_peer }

// Open loads the library from where set-up puts it.
func Open() (*Library, error) {
	opened.Lock()
	defer opened.Unlock()
	if opened.lib != nil {
		return opened.lib, nil
	}
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(dir, "libllama.v*.so"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, &MissingError{dir}
	}
	cPath, cDir := C.CString(found[0]), C.CString(dir)
	defer C.free(unsafe.Pointer(cPath))
	defer C.free(unsafe.Pointer(cDir))
	var message *C.char
	lib := &Library{C.peer_open(cPath, cDir, &message)}
	if lib.c == nil {
		return nil, fmt.Errorf("load llama.cpp from %s: %s", dir, C.GoString(message))
	}
	opened.lib = lib
	return lib, nil
}

// Expand writes a GGUF file with all its matrices as float32.
func (l *Library) Expand(from, to string) error {
	cFrom, cTo := C.CString(from), C.CString(to)
	defer C.free(unsafe.Pointer(cFrom))
	defer C.free(unsafe.Pointer(cTo))
	if code := C.peer_expand(l.c, cFrom, cTo, C.int(runtime.NumCPU())); code != 0 {
		return fmt.Errorf("llama.cpp: expand %s: code %d", from, int(code))
	}
	return nil
}

// Options of a loaded model.
type Options struct {
	Threads int // at least 1
	Context int // tokens
	// Exact keeps keys and values as float32 instead of float16 and computes attention in the plain way; by default llama.cpp
	// rounds both to float16, which moves logits by some 3e-3.
	Exact bool
}

// Model is a loaded model with one sequence.
type Model struct {
	c     *C.struct_run
	lib   *Library
	vocab int
	chunk int
}

// Load loads a GGUF file.
func (l *Library) Load(path string, o Options) (*Model, error) {
	if o.Threads < 1 || o.Context < 1 {
		return nil, fmt.Errorf("llama.cpp: %d threads and a context of %d, expected both above 0", o.Threads, o.Context)
	}
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	exact := C.int(0)
	if o.Exact {
		exact = 1
	}
	var message *C.char
	m := &Model{lib: l, c: C.peer_load(l.c, cPath, C.int(o.Threads), C.int(o.Context), exact, &message), chunk: chunk}
	if m.c == nil {
		return nil, fmt.Errorf("llama.cpp: load %s: %s", path, C.GoString(message))
	}
	m.vocab = int(C.peer_vocab(l.c, m.c))
	return m, nil
}

// chunk is llama.cpp's own batch size.
const chunk = 512

// Reset empties the sequence.
func (m *Model) Reset() { C.peer_reset(m.lib.c, m.c) }

// Eval appends tokens and returns the logits [V] after the last, valid until the next call.
func (m *Model) Eval(tokens []int32) ([]float32, error) {
	if len(tokens) == 0 {
		return nil, errors.New("llama.cpp: no tokens")
	}
	for len(tokens) > 0 {
		n := min(len(tokens), m.chunk)
		if code := C.peer_eval(m.lib.c, m.c, (*C.int32_t)(unsafe.SliceData(tokens)), C.int(n)); code != 0 {
			return nil, fmt.Errorf("llama.cpp: decode: code %d", int(code))
		}
		tokens = tokens[n:]
	}
	p := C.peer_logits(m.lib.c, m.c)
	if p == nil {
		return nil, errors.New("llama.cpp: no logits")
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(p)), m.vocab), nil
}

// Tokens splits a text as the model's own tokenizer does, without special tokens.
func (m *Model) Tokens(text string) ([]int32, error) {
	cText := C.CString(text)
	defer C.free(unsafe.Pointer(cText))
	out := make([]int32, len(text)+8)
	n := int(C.peer_tokens(m.lib.c, m.c, cText, C.int(len(text)), (*C.int32_t)(unsafe.SliceData(out)), C.int(len(out))))
	if n < 0 || n > len(out) {
		return nil, fmt.Errorf("llama.cpp: tokenize: code %d", n)
	}
	return out[:n], nil
}

// Close frees the model.
func (m *Model) Close() {
	if m.c != nil {
		C.peer_free(m.lib.c, m.c)
		m.c = nil
	}
}
