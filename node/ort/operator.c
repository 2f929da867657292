#include "operator.h"

#include <stdlib.h>
#include <string.h>

const char *op_provider(const void *op) { return NULL; } // the CPU's
int op_input_type(const void *op, size_t i) { return i == 0 ? float32 : 0; } // 0: any
int op_float32(const void *op, size_t i) { return float32; }
int op_input_kind(const void *op, size_t i) { return i == 0 ? 0 : 2; } // required, variadic
int op_variadic(const void *op, size_t i) { return 2; }
int op_memory_kind(const void *op, size_t i) { return 0; }
size_t op_two(const void *op) { return 2; }
size_t op_one(const void *op) { return 1; }
int op_least(const void *op) { return 1; }
int op_no(const void *op) { return 0; }
int op_last_version(const void *op) { return 0x7fffffff; }

Status *failed(const void *const *api, const char *message) {
	return FUNCTION(CreateStatus, int, const char *)(2, message); // ORT_INVALID_ARGUMENT
}

Status *look(const void *const *api, const void *value, tensor *t) {
	const int64_t *shape;
	t->value = value;
	if (!value) return failed(api, "a tensor is missing"); // an input without a name
	Status *s = FUNCTION(GetTensorElementTypeAndShapeDataReference, const void *, int *, const int64_t **, size_t *)(value, &t->type, &shape, &t->rank);
	if (s) return s;
	if (t->rank > most_dimensions) return failed(api, "too many dimensions");
	for (size_t i = 0; i < t->rank; i++) t->shape[i] = shape[i];
	return FUNCTION(GetTensorMutableData, const void *, void **)(value, &t->data);
}

void kernel_destroy(void *p) {
	kernel *n = p;
	const void *const *api = n->api;
	for (int i = 0; i < 2; i++)
		if (n->gemm[i]) RELEASE(ReleaseOp, n->gemm[i]);
	if (n->memory) RELEASE(ReleaseMemoryInfo, n->memory);
	free(n);
}

Status *kernel_create(const void *op, const void *const *api, const void *info, void **out) {
	kernel *n = calloc(1, sizeof *n);
	if (!n) return failed(api, "no memory for an operator");
	n->api = api;
	int64_t arithmetic;
	Status *s = FUNCTION(KernelInfoGetAttribute_int64, const void *, const char *, int64_t *)(info, "arithmetic", &arithmetic);
	if (!s) n->rounded = arithmetic == bfloat16;
	if (!s && !many_supported(0)) s = gemm_make(n, info);
	if (!s) s = FUNCTION(CreateCpuMemoryInfo, int, int, void **)(0, 0, &n->memory); // OrtDeviceAllocator, OrtMemTypeDefault
	if (s) kernel_destroy(n);
	else *out = n;
	return s;
}

Status *attention_create(const void *op, const void *const *api, const void *info, void **out) {
	Status *s = kernel_create(op, api, info, out);
	if (s) return s;
	kernel *n = *out;
	s = FUNCTION(KernelInfoGetAttribute_int64, const void *, const char *, int64_t *)(info, "heads", &n->heads);
	if (s) kernel_destroy(n);
	return s;
}

Status *inputs(const kernel *n, void *context, size_t least, size_t most, tensor *in, size_t *count) {
	const void *const *api = n->api;
	Status *s = FUNCTION(KernelContext_GetInputCount, const void *, size_t *)(context, count);
	if (s) return s;
	if (*count < least || *count > most) return failed(api, "too many inputs, or too few");
	for (size_t i = 0; i < *count && !s; i++) {
		const void *v;
		s = FUNCTION(KernelContext_GetInput, const void *, size_t, const void **)(context, i, &v);
		if (!s) s = look(api, v, &in[i]);
	}
	if (!s && (in[0].type != float32 || in[0].rank < 1)) s = failed(api, "the first input is no float32 tensor with dimensions");
	return s;
}

void rows_of(const tensor *x, size_t *k, size_t *m) {
	*k = x->shape[x->rank - 1], *m = 1;
	for (size_t i = 0; i + 1 < x->rank; i++) *m *= x->shape[i];
}

Status *output(const kernel *n, void *context, size_t i, const tensor *x, int64_t last, void **value, float **data) {
	const void *const *api = n->api;
	int64_t shape[most_dimensions];
	memcpy(shape, x->shape, sizeof shape);
	shape[x->rank - 1] = last;
	Status *s = FUNCTION(KernelContext_GetOutput, void *, size_t, const int64_t *, size_t, void **)(context, i, shape, x->rank, value);
	if (!s && !*value) s = failed(api, "an output is missing");
	if (!s) s = FUNCTION(GetTensorMutableData, const void *, float **)(*value, data);
	return s;
}

Status *for_all(const kernel *n, void *context, void (*f)(void *, size_t), size_t count, void *data) {
	const void *const *api = n->api;
	return FUNCTION(KernelContext_ParallelFor, const void *, void (*)(void *, size_t), size_t, size_t, void *)(context, f, count, 0, data);
}

Status *scratch_get(const kernel *n, void *context, size_t bytes, scratch *s) {
	const void *const *api = n->api;
	Status *status = FUNCTION(KernelContext_GetAllocator, const void *, const void *, void **)(context, n->memory, &s->allocator);
	if (!status) status = FUNCTION(AllocatorAlloc, void *, size_t, void **)(s->allocator, bytes, &s->data);
	return status;
}

void scratch_release(const kernel *n, scratch *s) {
	const void *const *api = n->api;
	Status *status = s->data ? FUNCTION(AllocatorFree, void *, void *)(s->allocator, s->data) : NULL;
	if (status) RELEASE(ReleaseStatus, status);
	if (s->allocator) RELEASE(ReleaseAllocator, s->allocator);
	*s = (scratch){NULL};
}

void *product_register(const void *const *api, void *options, void **domain) {
	Status *s = FUNCTION(CreateCustomOpDomain, const char *, void **)("stllm", domain);
	const operator *all[] = {&product_operator, &code_product_operator, &attention_operator, &cached_attention_operator, &sum_norm_operator, &gate_operator, &neighbours_operator};
	for (size_t i = 0; i < sizeof all / sizeof *all && !s; i++) s = FUNCTION(CustomOpDomain_Add, void *, const void *)(*domain, all[i]);
	if (!s) s = FUNCTION(AddCustomOpDomain, void *, void *)(options, *domain);
	return s;
}

void product_release(const void *const *api, void *domain) { RELEASE(ReleaseCustomOpDomain, domain); }

void *weight_add(const void *const *api, void *options, const char *name, void *data, size_t size, const int64_t *shape, size_t rank, int type, void **value) {
	void *memory;
	Status *s = FUNCTION(CreateCpuMemoryInfo, int, int, void **)(0, 0, &memory);
	if (s) return s;
	s = FUNCTION(CreateTensorWithDataAsOrtValue, const void *, void *, size_t, const int64_t *, size_t, int, void **)(memory, data, size, shape, rank, type, value);
	RELEASE(ReleaseMemoryInfo, memory);
	if (!s) s = FUNCTION(AddInitializer, void *, const char *, const void *)(options, name, *value);
	return s;
}

void weight_release(const void *const *api, void *value) { RELEASE(ReleaseValue, value); }
