#include "operator.h"

#include "panel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Matrices of 4- or 8-bit codes as MatMulNBits has them: codes [N, blocks, bytes], low nibble first, less 8 or 128; scales
// [N, blocks]; offsets [N, blocks] or nothing, which are added to code·scale.
//
// A few rows of x are rounded to 8 bits a block, as MatMulNBits (accuracy level 4) and llama.cpp round them, and multiplied in
// integers; with many, x stays as it is and meets panels of the numbers that the codes stand for (many.c).
typedef struct {
	const uint8_t *codes;
	const loose_float *scales, *offsets;
	size_t rows, k, blocks, block, bytes; // of a block: numbers, bytes
	int bits;
} matrix;

#if defined(__x86_64__) && !defined(STLLM_PLAIN)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

int code_product_supported(void) {
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// rounded is one row of x for a matrix whose codes are read 64 bytes (a group) at a time: what the low nibbles (or bytes) and
// the high ones meet, what the codes' zero takes away, and scales, all in the order of the lanes.
typedef struct {
	int8_t *low, *high;
	int32_t *less; // [groups·16]
	float *scale;  // [groups·16]
	float *sums;   // [blocks], of what x was rounded to
} rounded;

TARGET static void round_row(const matrix *w, const float *x, rounded *r, size_t groups) {
	memset(r->low, 0, groups * 256); // all of it: the last group may be partly there
	for (size_t b = 0; b < w->blocks; b++) {
		const float *v = x + b * w->block;
		__m512 most = _mm512_setzero_ps();
		__mmask16 unordered = 0; // not a number: neither the highest nor a rounding would show it
		for (size_t i = 0; i < w->block; i += 16) {
			__m512 size = _mm512_abs_ps(_mm512_loadu_ps(v + i));
			unordered |= _mm512_cmp_ps_mask(size, size, _CMP_UNORD_Q);
			most = _mm512_max_ps(most, size);
		}
		float highest = _mm512_reduce_max_ps(most), scale = unordered ? NAN : highest / 127;
		__m512 inverse = _mm512_set1_ps(highest > 0 ? 127 / highest : 0);
		__m512i sum = _mm512_setzero_si512();
		for (size_t i = 0; i < w->block; i += 16) {
			__m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(v + i), inverse));
			sum = _mm512_add_epi32(sum, q);
			if (w->bits == 4) {
				_mm_storel_epi64((__m128i *)(r->low + b * w->bytes + i / 2), _mm512_cvtepi64_epi8(q)); // of each pair the first
				_mm_storel_epi64((__m128i *)(r->high + b * w->bytes + i / 2), _mm512_cvtepi64_epi8(_mm512_srli_epi64(q, 32)));
			} else {
				_mm_storeu_si128((__m128i *)(r->low + b * w->bytes + i), _mm512_cvtepi32_epi8(q));
			}
		}
		for (size_t l = b * w->bytes / 4; l < (b + 1) * w->bytes / 4; l++) r->scale[l] = scale;
		r->sums[b] = scale * _mm512_reduce_add_epi32(sum);
	}
	__m512i zero = _mm512_set1_epi8((char)(w->bits == 4 ? 8 : 128)), none = _mm512_setzero_si512();
	for (size_t g = 0; g < groups; g++) {
		__m512i less = _mm512_dpbusd_epi32(none, zero, _mm512_loadu_si512(r->low + g * 64));
		less = _mm512_dpbusd_epi32(less, zero, _mm512_loadu_si512(r->high + g * 64)); // zeros where there are 8 bits
		_mm512_storeu_si512(r->less + g * 16, _mm512_sub_epi32(none, less));
	}
}

#define INLINE static inline __attribute__((always_inline)) TARGET

// together are the rows that are multiplied at a time: they share what is read of x. A processor's prefetchers do not follow that
// many streams, so what is needed next is asked for, as many bytes ahead.
enum { together = 4, ahead = 8192 };

// scales_of spreads the scales of a group's blocks over its lanes.
INLINE __m512 scales_of(const loose_float *scales, size_t bytes, __m512i place, size_t here) {
	if (bytes >= 64) return _mm512_set1_ps(*scales);
	if (here * bytes == 64 && bytes == 16) return _mm512_permutexvar_ps(place, _mm512_castps128_ps512(_mm_loadu_ps(scales)));
	return _mm512_permutexvar_ps(place, _mm512_maskz_loadu_ps((1u << here) - 1, scales));
}

INLINE __m512 group(__m512i c, int bits, const rounded *r, size_t g, __m512 scale, __m512 sum) {
	__m512i acc = _mm512_loadu_si512(r->less + g * 16), nibble = _mm512_set1_epi8(15);
	if (bits == 4) {
		acc = _mm512_dpbusd_epi32(acc, _mm512_and_si512(c, nibble), _mm512_loadu_si512(r->low + g * 64));
		acc = _mm512_dpbusd_epi32(acc, _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble), _mm512_loadu_si512(r->high + g * 64));
	} else {
		acc = _mm512_dpbusd_epi32(acc, c, _mm512_loadu_si512(r->low + g * 64));
	}
	return _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_mul_ps(scale, _mm512_loadu_ps(r->scale + g * 16)), sum);
}

// rows multiplies rows from to to; bits and bytes are w's, and known where this is compiled in.
INLINE void rows(const matrix *w, int bits, size_t bytes, const rounded *r, size_t m, float *y, size_t from, size_t to) {
	size_t row = w->blocks * bytes, whole = row / 64, left = row % 64, per = bytes < 64 ? 64 / bytes : 1; // per: blocks in a group
	uint32_t places[16];
	for (size_t i = 0; i < 16; i++) places[i] = per > 1 ? 4 * i / bytes : 0;
	__m512i place = _mm512_loadu_si512(places);
	for (size_t n = from; n < to; n += together) {
		const uint8_t *codes[together];
		const loose_float *scales[together], *offsets[together];
		for (size_t i = 0; i < together; i++) {
			size_t at = n + i < to ? n + i : to - 1; // the last rows may be there twice
			codes[i] = w->codes + at * row, scales[i] = w->scales + at * w->blocks, offsets[i] = w->offsets + (w->offsets ? at * w->blocks : 0);
		}
		for (size_t j = 0; j < m; j++) {
			__m512 sum[together] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
			for (size_t g = 0; g < whole; g++) {
				size_t block = bytes < 64 ? g * per : g / (bytes / 64);
				if (j == 0) {
					for (size_t i = 0; i < together; i++) _mm_prefetch((const char *)codes[0] + ahead + (g * together + i) * 64, _MM_HINT_T0);
					_mm_prefetch((const char *)scales[0] + ahead / 8 + block * together * sizeof(float), _MM_HINT_T0);
					if (w->offsets) _mm_prefetch((const char *)offsets[0] + ahead / 8 + block * together * sizeof(float), _MM_HINT_T0);
				}
				for (size_t i = 0; i < together; i++)
					sum[i] = group(_mm512_loadu_si512(codes[i] + g * 64), bits, &r[j], g, scales_of(scales[i] + block, bytes, place, per), sum[i]);
			}
			if (left)
				for (size_t i = 0; i < together; i++)
					sum[i] = group(_mm512_maskz_loadu_epi8(((uint64_t)1 << left) - 1, codes[i] + whole * 64), bits, &r[j], whole,
						scales_of(scales[i] + whole * per, bytes, place, left / bytes), sum[i]);
			if (w->offsets)
				for (size_t b = 0; b < w->blocks; b += 16) {
					__mmask16 some = w->blocks - b < 16 ? (1u << (w->blocks - b)) - 1 : 0xffff;
					__m512 x = _mm512_maskz_loadu_ps(some, r[j].sums + b);
					for (size_t i = 0; i < together; i++) sum[i] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, offsets[i] + b), x, sum[i]);
				}
			float out[together];
			_mm_storeu_ps(out, four(sum));
			for (size_t i = 0; i < together && n + i < to; i++) y[j * w->rows + n + i] = out[i];
		}
	}
}

TARGET static void code_rows(const matrix *w, const rounded *r, size_t m, float *y, size_t from, size_t to) {
	if (w->bits == 4 && w->bytes == 16) rows(w, 4, 16, r, m, y, from, to);
	else if (w->bits == 4 && w->bytes == 64) rows(w, 4, 64, r, m, y, from, to);
	else if (w->bits == 8 && w->bytes == 32) rows(w, 8, 32, r, m, y, from, to);
	else rows(w, w->bits, w->bytes, r, m, y, from, to);
}

// numbers are 16 of a row that codes stand for, from a multiple of 16 on.
PANEL __m512 numbers(const matrix *w, size_t row, size_t at) {
	size_t b = row * w->blocks + at / w->block;
	const uint8_t *codes = w->codes + b * w->bytes + at % w->block * w->bits / 8;
	soon(codes);
	__m128i c = w->bits == 4 ? _mm_loadl_epi64((const __m128i *)codes) : _mm_loadu_si128((const __m128i *)codes), nibble = _mm_set1_epi8(15);
	if (w->bits == 4) c = _mm_unpacklo_epi8(_mm_and_si128(c, nibble), _mm_and_si128(_mm_srli_epi16(c, 4), nibble));
	float zero = (w->offsets ? w->offsets[b] : 0) - (w->bits == 4 ? 8 : 128) * w->scales[b];
	return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(c)), _mm512_set1_ps(w->scales[b]), _mm512_set1_ps(zero));
}

PANEL __m512i load_numbers(const void *w, size_t row, size_t word) { return (__m512i)numbers(w, row, word); }

ROUNDED __m512i load_rounded(const void *w, size_t row, size_t word) {
	size_t at = 2 * word;
	return (__m512i)_mm512_cvtne2ps_pbh(at + 16 < ((const matrix *)w)->k ? numbers(w, row, at + 16) : _mm512_setzero_ps(), numbers(w, row, at));
}

PACK(pack_numbers, PANEL_TARGET, load_numbers)
PACK(pack_rounded, ROUNDED_TARGET, load_rounded)

static Status *large(const kernel *n, void *context, const tensor *x, const matrix *w, size_t m, float *y) {
	factor f;
	stored all = {w, {pack_numbers, pack_rounded}, w->rows, w->k, NULL};
	Status *s = factor_make(n, context, x->data, m, w->k, &f);
	if (!s) s = many(n, context, &f, &all, y);
	factor_release(n, &f);
	return s;
}

// few is how many rows of x are multiplied in integers.
enum { few = 8, piece_bytes = 64 << 10 };

typedef struct {
	const matrix *w;
	rounded x[few];
	float *y;
	size_t m, rows; // rows: of a piece
} work;

static void piece(void *p, size_t i) {
	const work *k = p;
	size_t from = i * k->rows, to = from + k->rows < k->w->rows ? from + k->rows : k->w->rows;
	code_rows(k->w, k->x, k->m, k->y, from, to);
}

static Status *small(const kernel *n, void *context, const tensor *x, const matrix *w, size_t m, float *y) {
	size_t groups = (w->blocks * w->bytes + 63) / 64, size = groups * 256 + (w->blocks * 4 + 63) / 64 * 64;
	char *room = malloc(m * size);
	if (!room) return failed(n->api, "no memory for a product");
	work k = {w, {{0}}, y, m, (piece_bytes / (w->blocks * w->bytes) / together + 1) * together};
	for (size_t j = 0; j < m; j++) {
		char *at = room + j * size;
		k.x[j] = (rounded){(int8_t *)at, (int8_t *)at + groups * 64, (int32_t *)(at + groups * 128), (float *)(at + groups * 192), (float *)(at + groups * 256)};
		round_row(w, (const float *)x->data + j * w->k, &k.x[j], groups);
	}
	Status *s = for_all(n, context, piece, (w->rows + k.rows - 1) / k.rows, &k);
	free(room);
	return s;
}
#else
enum { few = 0 };
int code_product_supported(void) { return 0; }
static Status *small(const kernel *n, void *context, const tensor *x, const matrix *w, size_t m, float *y) { return NULL; }
static Status *large(const kernel *n, void *context, const tensor *x, const matrix *w, size_t m, float *y) { return NULL; }
#endif

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	if (!code_product_supported()) return failed(n->api, "CodeProduct: this processor has no products of bytes (AVX-512 VNNI)");
	tensor in[4];
	size_t count, m;
	matrix w = {.codes = NULL};
	Status *s = inputs(n, context, 3, 4, in, &count);
	if (s) return s;
	const tensor *x = &in[0], *codes = &in[1], *scales = &in[2];
	rows_of(x, &w.k, &m);
	int64_t rows = codes->rank == 3 ? codes->shape[0] : 0, blocks = rows ? codes->shape[1] : 0, bytes = rows ? codes->shape[2] : 0;
	if (codes->type != uint8 || rows < 1 || blocks < 1 || bytes < 4 || w.k < 1 || w.k % blocks) return failed(n->api, "CodeProduct: codes are not uint8 [N, blocks, bytes] for x");
	w = (matrix){codes->data, scales->data, count == 4 ? in[3].data : NULL, rows, w.k, blocks, w.k / blocks, bytes, 0};
	w.bits = bytes * 8 / w.block;
	if ((w.bits != 4 && w.bits != 8) || w.block * w.bits != 8 * w.bytes || (w.bytes < 64 ? 64 % w.bytes : w.bytes % 64) || w.block % 16)
		return failed(n->api, "CodeProduct: codes are not of 4 or 8 bits in blocks of 16 to 256");
	for (size_t i = 2; i < count; i++) {
		int64_t elements = 1;
		for (size_t j = 0; j < in[i].rank; j++) elements *= in[i].shape[j];
		if (in[i].type != float32 || elements != rows * blocks) return failed(n->api, "CodeProduct: scales or offsets are not float32 [N, blocks]");
	}
	void *value;
	float *y;
	if ((s = output(n, context, 0, x, rows, &value, &y)) || m == 0) return s;
	return m <= few ? small(n, context, x, &w, m, y) : large(n, context, x, &w, m, y);
}

static const char *name(const void *op) { return "CodeProduct"; }

const operator code_product_operator = OPERATOR(name, kernel_create, compute);
