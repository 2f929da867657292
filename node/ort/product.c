#include "operator.h"

#include <string.h>

// A row is summed in four groups of sixteen, in the same order however many vectors there are and whichever thread does it: the
// bytes are the same on one machine. On another they may not be: where the processor multiplies and adds in one instruction, and
// the compiler takes it, a product is not rounded before it is added. A row is read in one stream, which is what a processor's
// prefetchers follow best.
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

enum { most_matrices = 4 };

// work is a product in pieces that threads take one after another.
typedef struct {
	const float *x;
	size_t k, m, count;
	struct part {
		const tensor *w;
		const loose_float *bias; // or NULL
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
	if (a->bias)
		for (size_t j = 0; j < w->m; j++)
			for (size_t r = from; r < to; r++) a->y[j * a->rows + r] += a->bias[r];
}

static void widen_rows(const void *matrix, size_t first, size_t rows, float *to) {
	const tensor *w = matrix;
	size_t k = w->shape[1];
	CHOOSE(widen)((const uint16_t *)w->data + first * k, to, rows * k);
}

// few is how many rows of x are multiplied here; with more, weights are used often enough that blocks of them pay.
enum { few = 8, piece_bytes = 128 << 10 };

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	const void *const *api = n->api;
	tensor in[1 + 2 * most_matrices];
	work w = {.count = 0};
	size_t given;
	Status *s = inputs(n, context, 2, 1 + 2 * most_matrices, in, &given);
	if (!s) s = FUNCTION(KernelContext_GetOutputCount, const void *, size_t *)(context, &w.count);
	if (s) return s;
	int biased = given == 1 + 2 * w.count;
	if (w.count > most_matrices || (!biased && given != 1 + w.count)) return failed(api, "Product: expected x, one to four matrices, as many biases or none, and as many outputs");
	const tensor *x = &in[0];
	rows_of(x, &w.k, &w.m);
	w.x = x->data;
	w.rows = piece_bytes / sizeof(float) / (w.k ? w.k : 1) + 1;
	size_t pieces = 0;
	for (size_t i = 0; i < w.count; i++) {
		const tensor *t = &in[1 + i], *bias = biased ? &in[1 + w.count + i] : NULL;
		if (t->rank != 2 || t->shape[1] != (int64_t)w.k || (t->type != float32 && t->type != bfloat16))
			return failed(api, "Product: a matrix is not float32 or bfloat16 with rows as long as x");
		if (biased && (bias->type != float32 || bias->rank != 1 || bias->shape[0] != t->shape[0])) return failed(api, "Product: a bias is not float32, one for each row");
		w.parts[i] = (struct part){t, biased ? bias->data : NULL, NULL, t->shape[0], pieces};
		void *value;
		if ((s = output(n, context, i, x, t->shape[0], &value, &w.parts[i].y))) return s;
		pieces += (w.parts[i].rows + w.rows - 1) / w.rows;
	}
	if (w.m == 0 || pieces == 0) return NULL;
	if (w.m <= few || w.k == 0) return for_all(n, context, piece, pieces, &w);
	for (size_t i = 0; i < w.count && !s; i++) {
		const struct part *a = &w.parts[i];
		if (a->w->type == bfloat16) s = tiles(n, context, x, a->rows, widen_rows, a->w, a->bias, a->y);
		else s = multiply(n, context, w.x, a->w->data, a->bias, a->y, w.m, w.k, a->rows);
	}
	return s;
}

static const char *name(const void *op) { return "Product"; }

const operator product_operator = OPERATOR(name, compute);
