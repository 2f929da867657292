#include "product.h"

#include <stdlib.h>
#include <string.h>

// A row is summed in four groups of sixteen, in the same order whatever the processor is, however many vectors there are
// and whichever thread does it. It is read in one stream, which is what a processor's prefetchers follow best.
typedef float lanes __attribute__((vector_size(64)));
typedef lanes loose __attribute__((aligned(1), may_alias));
typedef uint32_t bits __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(1), may_alias));

#pragma GCC diagnostic ignored "-Wpsabi" // of functions that are inlined anyway
#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const void *w, size_t i, int bf16) {
	if (!bf16) return *(const loose *)((const float *)w + i);
	bits b = __builtin_convertvector(*(const halves *)((const uint16_t *)w + i), bits) << 16;
	return (lanes)b;
}

INLINE float one(const void *w, size_t i, int bf16) {
	uint32_t b = 0;
	if (bf16) memcpy((char *)&b + 2, (const char *)w + 2 * i, 2); // little endian, as all of this program's files
	else memcpy(&b, (const char *)w + 4 * i, 4);
	float f;
	memcpy(&f, &b, sizeof f);
	return f;
}

INLINE float dot(const void *w, const float *x, size_t k, int bf16) {
	lanes a = {0}, b = {0}, c = {0}, d = {0};
	size_t i = 0;
	for (; i + 64 <= k; i += 64) {
		a += load(w, i, bf16) * *(const loose *)(x + i);
		b += load(w, i + 16, bf16) * *(const loose *)(x + i + 16);
		c += load(w, i + 32, bf16) * *(const loose *)(x + i + 32);
		d += load(w, i + 48, bf16) * *(const loose *)(x + i + 48);
	}
	for (; i + 16 <= k; i += 16) a += load(w, i, bf16) * *(const loose *)(x + i);
	a = (a + b) + (c + d);
	float s = 0, t[16];
	memcpy(t, &a, sizeof t);
	for (size_t n = 8; n > 0; n /= 2)
		for (size_t j = 0; j < n; j++) t[j] += t[j + n];
	for (; i < k; i++) s += one(w, i, bf16) * x[i];
	return t[0] + s;
}

INLINE void rows(const void *w, int bf16, const float *x, float *y, size_t from, size_t to, size_t k, size_t m, size_t ldy) {
	for (size_t r = from; r < to; r++) {
		const void *row = (const char *)w + r * k * (bf16 ? 2 : 4);
		for (size_t j = 0; j < m; j++) y[j * ldy + r] = dot(row, x + j * k, k, bf16);
	}
}

INLINE void widen(const uint16_t *w, float *out, size_t n) {
	size_t i = 0;
	for (; i + 16 <= n; i += 16) *(loose *)(out + i) = load(w, i, 1);
	for (; i < n; i++) out[i] = one(w, i, 1);
}

#define VARIANT(name, target) \
	target static void rows_##name(const void *w, int bf16, const float *x, float *y, size_t from, size_t to, size_t k, size_t m, size_t ldy) { \
		if (bf16) rows(w, 1, x, y, from, to, k, m, ldy); \
		else rows(w, 0, x, y, from, to, k, m, ldy); \
	} \
	target static void widen_##name(const uint16_t *w, float *out, size_t n) { widen(w, out, n); }

#if defined(__x86_64__)
VARIANT(avx512, __attribute__((target("avx512f"))))
VARIANT(avx2, __attribute__((target("avx2,fma"))))
#endif
VARIANT(plain, )

// choose picks what the processor has.
#if defined(__x86_64__)
#define CHOOSE(f) (__builtin_cpu_supports("avx512f") ? f##_avx512 : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? f##_avx2 : f##_plain)
#else
#define CHOOSE(f) f##_plain
#endif

void product_rows(const void *w, int bf16, const float *x, float *y, size_t from, size_t to, size_t k, size_t m, size_t ldy) {
	CHOOSE(rows)(w, bf16, x, y, from, to, k, m, ldy);
}

// ONNX Runtime's functions, by their places.
typedef void Status;
#define FUNCTION(place, ...) ((Status *(*)(__VA_ARGS__))api[place])
#define RELEASE(place, what) ((void (*)(void *))api[place])(what)

static Status *failed(const void *const *api, const char *message) {
	return FUNCTION(CreateStatus, int, const char *)(2, message); // ORT_INVALID_ARGUMENT
}

enum { most_matrices = 4, most_dimensions = 8, float32 = 1, bfloat16 = 16 };

// tensor is what there is to know of an OrtValue.
typedef struct {
	const void *value;
	void *data;
	int type;
	size_t rank;
	int64_t shape[most_dimensions];
} tensor;

static Status *look(const void *const *api, const void *value, tensor *t) {
	void *info;
	t->value = value;
	Status *s = FUNCTION(GetTensorTypeAndShape, const void *, void **)(value, &info);
	if (s) return s;
	s = FUNCTION(GetTensorElementType, const void *, int *)(info, &t->type);
	if (!s) s = FUNCTION(GetDimensionsCount, const void *, size_t *)(info, &t->rank);
	if (!s && t->rank > most_dimensions) s = failed(api, "Product: too many dimensions");
	if (!s) s = FUNCTION(GetDimensions, const void *, int64_t *, size_t)(info, t->shape, t->rank);
	RELEASE(ReleaseTensorTypeAndShapeInfo, info);
	if (!s) s = FUNCTION(GetTensorMutableData, const void *, void **)(value, &t->data);
	return s;
}

// kernel is one node. many multiplies what has many rows: ONNX Runtime's own product, of matrices that are not repacked.
typedef struct {
	const void *const *api;
	void *many, *memory;
} kernel;

static void destroy(void *p) {
	kernel *n = p;
	const void *const *api = n->api;
	if (n->many) RELEASE(ReleaseOp, n->many);
	if (n->memory) RELEASE(ReleaseMemoryInfo, n->memory);
	free(n);
}

static Status *create(const void *op, const void *const *api, const void *info, void **out) {
	kernel *n = calloc(1, sizeof *n);
	if (!n) return failed(api, "Product: no memory");
	n->api = api;
	int64_t yes = 1;
	void *attribute = NULL;
	const char *constraint = "T";
	int type = float32;
	Status *s = FUNCTION(CreateOpAttr, const char *, const void *, int, int, void **)("transB", &yes, 1, 1, &attribute); // ORT_OP_ATTR_INT
	if (!s)
		s = FUNCTION(CreateOp, const void *, const char *, const char *, int, const char **, const int *, int, void *const *, int, int, int, void **)(
			info, "FusedMatMul", "com.microsoft", 1, &constraint, &type, 1, &attribute, 1, 2, 1, &n->many);
	if (attribute) RELEASE(ReleaseOpAttr, attribute);
	if (!s) s = FUNCTION(CreateCpuMemoryInfo, int, int, void **)(0, 0, &n->memory); // OrtDeviceAllocator, OrtMemTypeDefault
	if (s) destroy(n);
	else *out = n;
	return s;
}

// work is a product in pieces that threads take one after another.
typedef struct {
	const float *x;
	size_t k, m, count;
	struct part {
		const tensor *w;
		float *y;
		size_t rows, first; // first: the number of its first piece
	} parts[most_matrices];
	size_t rows; // of a piece
} work;

static void piece(void *p, size_t i) {
	const work *w = p;
	size_t c = w->count - 1;
	while (i < w->parts[c].first) c--;
	const struct part *a = &w->parts[c];
	size_t from = (i - a->first) * w->rows, to = from + w->rows < a->rows ? from + w->rows : a->rows;
	product_rows(a->w->data, a->w->type == bfloat16, w->x, a->y, from, to, w->k, w->m, a->rows);
}

// wide is a stretch of a matrix of bfloat16 that is written out as float32.
typedef struct {
	const uint16_t *from;
	float *to;
	size_t k, rows, step;
} wide;

static void widening(void *p, size_t i) {
	const wide *w = p;
	size_t first = i * w->step, n = first + w->step < w->rows ? w->step : w->rows - first;
	CHOOSE(widen)(w->from + first * w->k, w->to + first * w->k, n * w->k);
}

static Status *for_all(const void *const *api, void *context, void (*f)(void *, size_t), size_t n, void *data) {
	return FUNCTION(KernelContext_ParallelFor, const void *, void (*)(void *, size_t), size_t, size_t, void *)(context, f, n, 0, data);
}

static Status *value(const kernel *n, float *data, const int64_t *shape, size_t rank, void **out) {
	const void *const *api = n->api;
	size_t size = sizeof *data;
	for (size_t i = 0; i < rank; i++) size *= shape[i];
	return FUNCTION(CreateTensorWithDataAsOrtValue, const void *, void *, size_t, const int64_t *, size_t, int, void **)(n->memory, data, size, shape, rank, float32, out);
}

// tiles multiplies many rows by a matrix of bfloat16, a stretch of it at a time.
static Status *tiles(const kernel *n, void *context, const tensor *x, const tensor *w, float *y, size_t m, size_t rows) {
	const void *const *api = n->api;
	size_t k = w->shape[1], step = (8 << 20) / sizeof(float) / k / 64 * 64;
	if (step < 64) step = 64;
	if (step > rows) step = rows;
	float *out = malloc(m * step * sizeof *out), *buffer = malloc(step * k * sizeof *buffer);
	Status *s = out && buffer ? NULL : failed(api, "Product: no memory");
	for (size_t first = 0; !s && first < rows; first += step) {
		size_t some = first + step < rows ? step : rows - first;
		wide d = {(const uint16_t *)w->data + first * k, buffer, k, some, 64};
		if ((s = for_all(api, context, widening, (some + d.step - 1) / d.step, &d))) break;
		int64_t shape[] = {some, k}, result[] = {m, some}, flat[] = {m, k};
		void *a = NULL, *b = NULL, *c = NULL;
		s = value(n, x->data, flat, 2, &a);
		if (!s) s = value(n, buffer, shape, 2, &b);
		if (!s) s = value(n, out, result, 2, &c);
		const void *in[] = {a, b};
		if (!s) s = FUNCTION(InvokeOp, const void *, const void *, const void *const *, int, void *const *, int)(context, n->many, in, 2, &c, 1);
		void *made[] = {a, b, c};
		for (int i = 0; i < 3; i++)
			if (made[i]) RELEASE(ReleaseValue, made[i]);
		if (!s)
			for (size_t j = 0; j < m; j++) memcpy(y + j * rows + first, out + j * some, some * sizeof *y);
	}
	free(out);
	free(buffer);
	return s;
}

// few is how many rows of x are multiplied here; with more, weights are used often enough that blocks of them pay.
enum { few = 8, piece_bytes = 128 << 10 };

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	const void *const *api = n->api;
	size_t inputs, outputs;
	Status *s = FUNCTION(KernelContext_GetInputCount, const void *, size_t *)(context, &inputs);
	if (!s) s = FUNCTION(KernelContext_GetOutputCount, const void *, size_t *)(context, &outputs);
	if (s) return s;
	size_t count = inputs - 1;
	if (count < 1 || count > most_matrices || outputs != count) return failed(api, "Product: expected x, one to four matrices, and as many outputs");
	tensor in[1 + most_matrices];
	for (size_t i = 0; i < inputs; i++) {
		const void *v;
		s = FUNCTION(KernelContext_GetInput, const void *, size_t, const void **)(context, i, &v);
		if (!s) s = look(api, v, &in[i]);
		if (s) return s;
	}
	const tensor *x = &in[0];
	if (x->type != float32 || x->rank < 1) return failed(api, "Product: x is no float32 tensor");
	size_t k = x->shape[x->rank - 1], m = 1;
	for (size_t i = 0; i + 1 < x->rank; i++) m *= x->shape[i];
	work w = {x->data, k, m, count};
	w.rows = piece_bytes / sizeof(float) / (k ? k : 1) + 1;
	size_t pieces = 0;
	void *values[most_matrices];
	for (size_t i = 0; i < count; i++) {
		const tensor *t = &in[1 + i];
		if (t->rank != 2 || t->shape[1] != (int64_t)k || (t->type != float32 && t->type != bfloat16))
			return failed(api, "Product: a matrix is not float32 or bfloat16 with rows as long as x");
		int64_t shape[most_dimensions];
		memcpy(shape, x->shape, sizeof shape);
		shape[x->rank - 1] = t->shape[0];
		tensor y;
		s = FUNCTION(KernelContext_GetOutput, void *, size_t, const int64_t *, size_t, void **)(context, i, shape, x->rank, &values[i]);
		if (!s) s = look(api, values[i], &y);
		if (s) return s;
		w.parts[i] = (struct part){t, y.data, t->shape[0], pieces};
		pieces += (w.parts[i].rows + w.rows - 1) / w.rows;
	}
	if (m == 0 || pieces == 0) return NULL;
	if (m <= few) return for_all(api, context, piece, pieces, &w);
	for (size_t i = 0; i < count && !s; i++) {
		const tensor *t = &in[1 + i];
		if (t->type == bfloat16) {
			s = tiles(n, context, x, t, w.parts[i].y, m, w.parts[i].rows);
			continue;
		}
		const void *pair[] = {x->value, t->value};
		s = FUNCTION(InvokeOp, const void *, const void *, const void *const *, int, void *const *, int)(context, n->many, pair, 2, &values[i], 1);
	}
	return s;
}

static const char *name(const void *op) { return "Product"; }
static const char *provider(const void *op) { return NULL; }
static int input_type(const void *op, size_t i) { return i == 0 ? float32 : 0; } // 0: any, which compute looks at
static int output_type(const void *op, size_t i) { return float32; }
static size_t two(const void *op) { return 2; }
static size_t single(const void *op) { return 1; }
static int input_kind(const void *op, size_t i) { return i == 0 ? 0 : 2; } // required, variadic
static int output_kind(const void *op, size_t i) { return 2; }
static int memory_kind(const void *op, size_t i) { return 0; }
static int least(const void *op) { return 1; }
static int first_version(const void *op) { return 1; }
static int last_version(const void *op) { return 0x7fffffff; }

// operator_table is struct OrtCustomOp.
static const struct {
	uint32_t version;
	void *create_old;
	const char *(*name)(const void *);
	const char *(*provider)(const void *);
	int (*input_type)(const void *, size_t);
	size_t (*inputs)(const void *);
	int (*output_type)(const void *, size_t);
	size_t (*outputs)(const void *);
	void *compute_old;
	void (*destroy)(void *);
	int (*input_kind)(const void *, size_t);
	int (*output_kind)(const void *, size_t);
	int (*memory_kind)(const void *, size_t);
	int (*least_inputs)(const void *);
	int (*same_inputs)(const void *);
	int (*least_outputs)(const void *);
	int (*same_outputs)(const void *);
	Status *(*create)(const void *, const void *const *, const void *, void **);
	Status *(*compute)(void *, void *);
	void *infer_shape;
	int (*first_version)(const void *);
	int (*last_version)(const void *);
	void *in_place, *release_in_place, *alias, *release_alias;
} operator_table = {29, NULL, name, provider, input_type, two, output_type, single, NULL, destroy, input_kind, output_kind, memory_kind, least, least, least, least,
	create, compute, NULL, first_version, last_version, NULL, NULL, NULL, NULL};

void *product_register(const void *const *api, void *options, void **domain) {
	Status *s = FUNCTION(CreateCustomOpDomain, const char *, void **)("stllm", domain);
	if (!s) s = FUNCTION(CustomOpDomain_Add, void *, const void *)(*domain, &operator_table);
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
