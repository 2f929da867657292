#include "operator.h"

#include "panel.h"

#include <stdlib.h>
#include <string.h>

// A row is summed in four groups of sixteen, in the same order however many vectors there are and whichever thread does it: the
// bytes are the same on one machine. On another they may not be: where the processor multiplies and adds in one instruction, and
// the compiler takes it, a product is not rounded before it is added. A row is read in one stream, which is what a processor's
// prefetchers follow best.
typedef float lanes __attribute__((vector_size(64)));
typedef lanes loose __attribute__((aligned(1), may_alias));
typedef float half __attribute__((vector_size(32)));
typedef float quarter __attribute__((vector_size(16)));
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
	half h[2];
	memcpy(h, &a, sizeof h);
	h[0] += h[1];
	quarter q[2];
	memcpy(q, h, sizeof q);
	q[0] += q[1];
	float s = 0;
	for (; i < k; i++) s += one(w, i, bf16) * x[i];
	return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]) + s;
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

#if defined(__x86_64__)
PANEL __m512i load_floats(const void *matrix, size_t row, size_t word) {
	const tensor *w = matrix;
	const float *from = (const float *)w->data + row * w->shape[1];
	soon(from + word);
	return floats_at(from, w->shape[1], word);
}

ROUNDED __m512i load_rounded(const void *matrix, size_t row, size_t word) {
	const tensor *w = matrix;
	const float *from = (const float *)w->data + row * w->shape[1];
	soon(from + 2 * word);
	return pairs_at(from, w->shape[1], word);
}

PANEL __m512i load_widened(const void *matrix, size_t row, size_t word) {
	const tensor *w = matrix;
	const uint16_t *from = (const uint16_t *)w->data + row * w->shape[1] + word;
	soon(from);
	return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(w->shape[1] - word), from)), 16);
}

PANEL __m512i load_pairs(const void *matrix, size_t row, size_t word) {
	const tensor *w = matrix;
	size_t left = w->shape[1] - 2 * word;
	const uint16_t *from = (const uint16_t *)w->data + row * w->shape[1] + 2 * word;
	soon(from);
	return _mm512_maskz_loadu_epi16(left < 32 ? (1u << left) - 1 : 0xffffffff, from);
}

PACK(pack_floats, PANEL_TARGET, load_floats)
PACK(pack_widened, PANEL_TARGET, load_widened)
PACK(pack_rounded, ROUNDED_TARGET, load_rounded)
PACK(pack_pairs, PANEL_TARGET, load_pairs)

static Status *multiply(const kernel *n, void *context, const factor *x, const struct part *a) {
	int bf16 = a->w->type == bfloat16;
	stored w = {a->w, {bf16 ? pack_widened : pack_floats, bf16 ? pack_pairs : pack_rounded}, a->rows, x->k, a->bias};
	return many(n, context, x, &w, a->y);
}
#else
static Status *multiply(const kernel *n, void *context, const factor *x, const struct part *a) { return many(n, context, x, NULL, a->y); }
#endif

// widening is a stretch of a matrix of bfloat16 that threads write out as float32.
typedef struct {
	const uint16_t *from;
	float *to;
	size_t rows, k;
} widening;

enum { rows_widened = 64, tile_bytes = 8 << 20 };

static void widen_some(void *p, size_t i) {
	const widening *w = p;
	size_t from = i * rows_widened, rows = from + rows_widened < w->rows ? rows_widened : w->rows - from;
	CHOOSE(widen)(w->from + from * w->k, w->to + from * w->k, rows * w->k);
}

// tiles multiplies by a matrix of bfloat16 where the processor has nothing for many rows: a stretch of it at a time.
static Status *tiles(const kernel *n, void *context, const factor *x, const struct part *a) {
	size_t step = tile_bytes / sizeof(float) / x->k / rows_widened * rows_widened;
	if (step < rows_widened) step = rows_widened;
	if (step > a->rows) step = a->rows;
	float *out = malloc(x->m * step * sizeof *out), *buffer = malloc(step * x->k * sizeof *buffer);
	Status *s = out && buffer ? NULL : failed(n->api, "no memory for a product");
	for (size_t first = 0; !s && first < a->rows; first += step) {
		size_t some = first + step < a->rows ? step : a->rows - first;
		widening w = {(const uint16_t *)a->w->data + first * x->k, buffer, some, x->k};
		if ((s = for_all(n, context, widen_some, (some + rows_widened - 1) / rows_widened, &w))) break;
		s = gemm_multiply(n, context, x->words, buffer, a->bias ? a->bias + first : NULL, out, x->m, x->k, some);
		if (!s)
			for (size_t j = 0; j < x->m; j++) memcpy(a->y + j * a->rows + first, out + j * some, some * sizeof *out);
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
	factor f;
	s = factor_make(n, context, w.x, w.m, w.k, &f);
	for (size_t i = 0; i < w.count && !s; i++) {
		const struct part *a = &w.parts[i];
		if (many_supported(0)) s = multiply(n, context, &f, a);
		else if (a->w->type == bfloat16) s = tiles(n, context, &f, a);
		else s = gemm_multiply(n, context, f.words, a->w->data, a->bias, a->y, f.m, f.k, a->rows);
	}
	factor_release(n, &f);
	return s;
}

static const char *name(const void *op) { return "Product"; }

const operator product_operator = OPERATOR(name, kernel_create, compute);
