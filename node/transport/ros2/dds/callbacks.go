//go:build fastdds

package dds

/*
#include "shim.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// listeners are a participant's.
type listeners struct {
	discovered func(Discovery)
	garbage    func(from string, size int)
}

//export stllm_dds_discovered
func stllm_dds_discovered(handle C.uintptr_t, d *C.dds_discovery) {
	out := Discovery{
		Kind: Kind(d.kind), Removed: d.removed != 0, GUID: guidOf(&d.guid), Vendor: Vendor{byte(d.vendor[0]), byte(d.vendor[1])},
		Reliable: d.reliable != 0, TransientLocal: d.transient_local != 0,
	}
	if d.topic != nil {
		out.Topic, out.Type = C.GoString(d.topic), C.GoString(d._type)
	}
	if d.user_data_size > 0 {
		out.UserData = string(unsafe.Slice((*byte)(d.user_data), int(d.user_data_size)))
	}
	cgo.Handle(handle).Value().(listeners).discovered(out)
}

//export stllm_dds_garbage
func stllm_dds_garbage(handle C.uintptr_t, from *C.char, size C.size_t) {
	if f := cgo.Handle(handle).Value().(listeners).garbage; f != nil {
		f(C.GoString(from), int(size))
	}
}

//export stllm_dds_data
func stllm_dds_data(handle C.uintptr_t) {
	select {
	case cgo.Handle(handle).Value().(*endpoint).wake <- struct{}{}:
	default: // awake already: it takes until nothing is left
	}
}

//export stllm_dds_status
func stllm_dds_status(handle C.uintptr_t, kind, count, policy C.int) {
	if f := cgo.Handle(handle).Value().(*endpoint).status; f != nil {
		f(Status{Kind: StatusKind(kind), Count: int(count), Policy: int(policy)})
	}
}
