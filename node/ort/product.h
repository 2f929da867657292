// Operators of our own for ONNX Runtime; see product.go.
#ifndef STLLM_PRODUCT_H
#define STLLM_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

// Places in ONNX Runtime's table of functions (onnxruntime_c_api.h, struct OrtApi).
enum {
	CreateStatus = 0, CreateCustomOpDomain = 26, CustomOpDomain_Add = 27, AddCustomOpDomain = 28, CreateTensorWithDataAsOrtValue = 49,
	GetTensorMutableData = 51, CreateCpuMemoryInfo = 69, AllocatorAlloc = 75, AllocatorFree = 76, KernelInfoGetAttribute_float = 85, KernelInfoGetAttribute_int64 = 86, KernelContext_GetInputCount = 88,
	KernelContext_GetOutputCount = 89, KernelContext_GetInput = 90, KernelContext_GetOutput = 91, ReleaseStatus = 93, ReleaseMemoryInfo = 94,
	ReleaseValue = 96, ReleaseCustomOpDomain = 101, ReleaseAllocator = 132, AddInitializer = 150,
	CreateOpAttr = 211, ReleaseOpAttr = 212, CreateOp = 213, InvokeOp = 214, ReleaseOp = 215, KernelContext_GetAllocator = 253,
	KernelContext_ParallelFor = 274, GetTensorElementTypeAndShapeDataReference = 414,
};

// product_register adds the operators to a session's options; domain, which must outlive the session, is the caller's to
// release. It returns an OrtStatus, or NULL.
void *product_register(const void *const *api, void *options, void **domain);
void product_release(const void *const *api, void *domain);

// product_rows computes rows from to to of w [*,k] times m vectors: y[j*ldy+row] = w[row]·x[j*k:]. bf16 says that w is of
// bfloat16 rather than float32.
void product_rows(const void *w, int bf16, const float *x, float *y, size_t from, size_t to, size_t k, size_t m, size_t ldy);

// many_supported tells whether the processor has what products of many rows need that are not ONNX Runtime's: in float32, or, where
// rounded is not 0, with numbers rounded to bfloat16.
int many_supported(int rounded);

// code_product_supported tells whether the processor has what CodeProduct needs.
int code_product_supported(void);

// weight_add gives a session's options data as the initializer of a name; value, which must outlive the session, is the
// caller's to release, also where there is an error. It returns an OrtStatus, or NULL.
void *weight_add(const void *const *api, void *options, const char *name, void *data, size_t size, const int64_t *shape, size_t rank, int type, void **value);
void weight_release(const void *const *api, void *value);

#endif
