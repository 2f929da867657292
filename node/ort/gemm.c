#include "operator.h"

Status *gemm_make(kernel *n, const void *info) {
	const void *const *api = n->api;
	// An operator by itself wants every attribute; 1 is an integer, 3 a float (OrtOpAttrType).
	static const struct {
		const char *name;
		int type;
		int64_t whole;
		float part;
	} gemm[] = {{"transA", 1, 0, 0}, {"transB", 1, 1, 0}, {"alpha", 3, 0, 1}, {"beta", 3, 0, 1}};
	enum { count = sizeof gemm / sizeof *gemm };
	void *attributes[count] = {NULL};
	const char *constraint = "T";
	int type = float32;
	Status *s = NULL;
	for (int i = 0; i < count && !s; i++) {
		const void *data = gemm[i].type == 1 ? (const void *)&gemm[i].whole : &gemm[i].part;
		s = FUNCTION(CreateOpAttr, const char *, const void *, int, int, void **)(gemm[i].name, data, 1, gemm[i].type, &attributes[i]);
	}
	for (int i = 0; i < 2 && !s; i++)
		s = FUNCTION(CreateOp, const void *, const char *, const char *, int, const char **, const int *, int, void *const *, int, int, int, void **)(
			info, "Gemm", "", 13, &constraint, &type, 1, attributes, count, 2 + i, 1, &n->gemm[i]);
	for (int i = 0; i < count; i++)
		if (attributes[i]) RELEASE(ReleaseOpAttr, attributes[i]);
	return s;
}

static Status *value(const kernel *n, void *data, const int64_t *shape, size_t rank, void **out) {
	const void *const *api = n->api;
	size_t size = sizeof(float);
	for (size_t i = 0; i < rank; i++) size *= shape[i];
	return FUNCTION(CreateTensorWithDataAsOrtValue, const void *, void *, size_t, const int64_t *, size_t, int, void **)(n->memory, data, size, shape, rank, float32, out);
}

Status *gemm_multiply(const kernel *n, void *context, const float *x, const float *w, const loose_float *bias, float *y, size_t m, size_t k, size_t rows) {
	const void *const *api = n->api;
	int64_t shapes[4][2] = {{m, k}, {rows, k}, {rows}, {m, rows}};
	const void *data[4] = {x, w, bias, y};
	void *made[4] = {NULL};
	Status *s = NULL;
	for (int i = 0; i < 4 && !s; i++)
		if (data[i]) s = value(n, (void *)data[i], shapes[i], i == 2 ? 1 : 2, &made[i]);
	if (!s)
		s = FUNCTION(InvokeOp, const void *, const void *, void *const *, int, void *const *, int)(context, n->gemm[bias != NULL], made, bias ? 3 : 2, &made[3], 1);
	for (int i = 0; i < 4; i++)
		if (made[i]) RELEASE(ReleaseValue, made[i]);
	return s;
}
