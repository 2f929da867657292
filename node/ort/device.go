package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// onnxruntime_go makes no tensors in a device's memory. ONNX Runtime's own table of functions does; the place of a function
// in it never changes once it is released (onnxruntime_c_api.h, struct OrtApi). device_test.go compares these with the header.
enum { GetErrorMessage = 2, CreateTensorAsOrtValue = 48, ReleaseStatus = 93, ReleaseValue = 96 };

typedef struct {
	const void *const *(*get_api)(uint32_t version);
	const char *(*version)(void);
} api_base;

static const void *const *api_of(const char *path, uint32_t version) {
	void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	if (library == NULL) return NULL;
	const api_base *(*base)(void) = (const api_base *(*)(void))dlsym(library, "OrtGetApiBase");
	return base == NULL ? NULL : base()->get_api(version);
}

static void *create_tensor(const void *const *api, void *allocator, const int64_t *shape, size_t rank, int type, void **out) {
	return ((void *(*)(void *, const int64_t *, size_t, int, void **))api[CreateTensorAsOrtValue])(allocator, shape, rank, type, out);
}
static const char *message_of(const void *const *api, void *status) {
	return ((const char *(*)(void *))api[GetErrorMessage])(status);
}
static void release(const void *const *api, int function, void *what) { ((void (*)(void *))api[function])(what); }
*/
import "C"

import (
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/stllm/stllm/node/graph"
)

// apiVersion is that of [Version]'s table; later libraries offer it as well.
const apiVersion = 29

// device makes tensors in the memory that a session computes in.
type device struct {
	api       *unsafe.Pointer // the table of functions
	allocator *ort.Allocator
}

// apiOf is the table of functions of a loaded library.
func apiOf(library string) (*unsafe.Pointer, error) {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	api := C.api_of(path, apiVersion)
	if api == nil {
		return nil, fmt.Errorf("%s has no functions of API version %d", library, apiVersion)
	}
	return (*unsafe.Pointer)(unsafe.Pointer(api)), nil
}

// messageOf takes a status's message and frees it.
func messageOf(api *unsafe.Pointer, status unsafe.Pointer) string {
	defer C.release(api, C.ReleaseStatus, status)
	return C.GoString(C.message_of(api, status))
}

// newDevice finds a session's allocator by the name that the provider gives its memory: "Cuda", or "Cpu".
func newDevice(s *ort.DynamicAdvancedSession, library, memory string, index int) (*device, error) {
	api, err := apiOf(library)
	if err != nil {
		return nil, err
	}
	info, err := ort.NewMemoryInfo(memory, ort.AllocatorTypeDevice, index, ort.MemTypeDefault)
	if err != nil {
		return nil, fmt.Errorf("memory of %s %d: %w", memory, index, err)
	}
	defer info.Destroy()
	d := &device{api: api}
	if d.allocator, err = s.CreateAllocator(info); err != nil {
		return nil, fmt.Errorf("memory of %s %d: %w", memory, index, err)
	}
	return d, nil
}

func (d *device) close() error {
	if d == nil {
		return nil
	}
	return d.allocator.Destroy()
}

// blank makes a tensor whose content is not defined.
func (d *device) blank(t graph.DType, shape []int) (*Tensor, error) {
	kind, ok := customTypes[t]
	if !ok {
		return nil, fmt.Errorf("tensor of %s: expected float32, float16 or bfloat16", t)
	}
	s, _ := shapeOf(shape)
	if len(s) == 0 {
		return nil, errors.New("tensor without dimensions in a device's memory")
	}
	one := make([]byte, t.Size())
	like, err := ort.NewCustomDataTensor(ort.Shape{1}, one, kind)
	if err != nil {
		return nil, err
	}
	v := &deviceValue{Value: like, device: d, shape: s}
	status := C.create_tensor(d.api, pointerIn(unsafe.Pointer(d.allocator)), (*C.int64_t)(unsafe.Pointer(&s[0])), C.size_t(len(s)), C.int(kind), &v.value)
	if status != nil {
		err := errors.New(messageOf(d.api, status))
		_ = like.Destroy()
		return nil, fmt.Errorf("tensor of shape %v in a device's memory: %w", shape, err)
	}
	return &Tensor{value: v, dtype: t, shape: append([]int(nil), shape...)}, nil
}

// deviceValue is an ONNX Runtime value that onnxruntime_go did not make. The embedded value of one element lends it the type.
type deviceValue struct {
	ort.Value
	device *device
	value  unsafe.Pointer // OrtValue
	shape  ort.Shape
}

// GetInternals gives onnxruntime_go the value, in a struct whose one field is that pointer.
func (v *deviceValue) GetInternals() *ort.ValueInternalData {
	d := new(ort.ValueInternalData)
	*(*unsafe.Pointer)(unsafe.Pointer(d)) = v.value
	return d
}

// GetShape is that of the device's tensor.
func (v *deviceValue) GetShape() ort.Shape { return v.shape.Clone() }

// ZeroContents is not for a device's memory.
func (v *deviceValue) ZeroContents() {}

// Destroy frees the device's memory.
func (v *deviceValue) Destroy() error {
	if v.value != nil {
		C.release(v.device.api, C.ReleaseValue, v.value)
		v.value = nil
	}
	return v.Value.Destroy()
}

// pointerIn reads the one field of a struct of onnxruntime_go's that wraps a C pointer.
func pointerIn(s unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(s) }

// Blank makes a tensor in the memory that the session computes in: of zeros in the processor's, of undefined content in a
// device's. It must be closed before the session.
func (s *Session) Blank(t graph.DType, shape ...int) (*Tensor, error) {
	if s.device == nil {
		return Blank(t, shape...)
	}
	return s.device.blank(t, shape)
}

// OnDevice tells whether the session computes elsewhere than in the processor's memory.
func (s *Session) OnDevice() bool { return s.device != nil }

func (s *Session) openDevice(env *Environment, index string) error {
	n, err := strconv.Atoi(index)
	if err != nil {
		return fmt.Errorf("device index %q is no number", index)
	}
	s.device, err = newDevice(s.s, env.path, "Cuda", n)
	return err
}

// functionPlaces are the places in the table that are relied on.
func functionPlaces() map[string]int {
	return map[string]int{"GetErrorMessage": C.GetErrorMessage, "CreateTensorAsOrtValue": C.CreateTensorAsOrtValue,
		"ReleaseStatus": C.ReleaseStatus, "ReleaseValue": C.ReleaseValue}
}
