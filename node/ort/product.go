package ort

/*
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "product.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// ONNX Runtime's products are made for many rows: it repacks a matrix into a copy for them, and of one row they then read that
// copy at four fifths of what the memory gives; without the copy, at three fifths. graph.Product is an operator of our own
// (product.c): a few rows are multiplied with the matrix as it lies in its file, in float32 or bfloat16, as fast as memory
// is read.

// Its products with 4-bit codes repack them as well. graph.CodeProduct (code_product.c) multiplies a few rows with the codes as
// they lie in their file.

// Many rows are multiplied a panel of the matrix at a time (many.c), made on the way of whatever the matrix is stored as: in float32,
// or, where the graph says so, of numbers rounded to bfloat16, at twice the speed. Processors without AVX-512 leave many rows to
// ONNX Runtime's product of matrices that are not repacked (gemm.c).

// CodeProducts tells whether this processor can run graph.CodeProduct: it needs products of bytes (AVX-512 VNNI).
func CodeProducts() bool { return C.code_product_supported() != 0 }

// RoundedProducts tells whether this processor can multiply many rows of numbers rounded to bfloat16 (AVX-512 BF16).
func RoundedProducts() bool { return C.many_supported(1) != 0 }

// Panels tells whether many rows are multiplied by many.c on this processor (AVX-512), and attention of our own
// (attention.c, cached.c) and what stands between products (rowwise.c) run on it.
func Panels() bool { return C.many_supported(0) != 0 }

// products are the registered operators; they must outlive the session that uses them.
type products struct {
	api    *unsafe.Pointer
	domain unsafe.Pointer
}

// addProducts lets a session run graph.Product, graph.CodeProduct and the others of its domain.
func addProducts(so *ort.SessionOptions, library string) (*products, error) {
	api, err := apiOf(library)
	if err != nil {
		return nil, err
	}
	p := &products{api: api}
	if status := C.product_register(api, pointerIn(unsafe.Pointer(so)), &p.domain); status != nil {
		err := errors.New(messageOf(api, status))
		p.close()
		return nil, fmt.Errorf("operators of our own: %w", err)
	}
	return p, nil
}

func (p *products) close() {
	if p != nil && p.domain != nil {
		C.product_release(p.api, p.domain)
		p.domain = nil
	}
}

// productPlaces are the places in the table that operator.c and product.c rely on.
func productPlaces() map[string]int {
	return map[string]int{"CreateStatus": C.CreateStatus, "CreateCustomOpDomain": C.CreateCustomOpDomain, "CustomOpDomain_Add": C.CustomOpDomain_Add,
		"AddCustomOpDomain": C.AddCustomOpDomain, "CreateTensorWithDataAsOrtValue": C.CreateTensorWithDataAsOrtValue, "GetTensorMutableData": C.GetTensorMutableData,
		"GetTensorElementTypeAndShapeDataReference": C.GetTensorElementTypeAndShapeDataReference, "CreateCpuMemoryInfo": C.CreateCpuMemoryInfo, "ReleaseMemoryInfo": C.ReleaseMemoryInfo,
		"ReleaseValue": C.ReleaseValue, "ReleaseCustomOpDomain": C.ReleaseCustomOpDomain,
		"KernelContext_GetInputCount": C.KernelContext_GetInputCount, "KernelContext_GetOutputCount": C.KernelContext_GetOutputCount,
		"KernelContext_GetInput": C.KernelContext_GetInput, "KernelContext_GetOutput": C.KernelContext_GetOutput, "CreateOpAttr": C.CreateOpAttr,
		"ReleaseOpAttr": C.ReleaseOpAttr, "CreateOp": C.CreateOp, "InvokeOp": C.InvokeOp, "ReleaseOp": C.ReleaseOp,
		"AddInitializer": C.AddInitializer, "AllocatorAlloc": C.AllocatorAlloc, "AllocatorFree": C.AllocatorFree, "ReleaseAllocator": C.ReleaseAllocator,
		"KernelInfoGetAttribute_float": C.KernelInfoGetAttribute_float, "KernelInfoGetAttribute_int64": C.KernelInfoGetAttribute_int64, "KernelContext_GetAllocator": C.KernelContext_GetAllocator, "KernelContext_ParallelFor": C.KernelContext_ParallelFor}
}
