// Blocks of products for processors with AVX-512, of which operators for many rows are made; see many.c and attention.c.
#ifndef STLLM_PANEL_H
#define STLLM_PANEL_H

#include <stddef.h>
#include <stdint.h>

// A word is what a lane of a register multiplies: a float32, or two bfloat16 of which the first is the lower half. A panel is up to
// 48 rows of a matrix with their words one below the other, [words][48]: then a word of x meets the same word of 48 rows.
enum { panel_rows = 48, panel_words = 512, block_rows = 8 };

#if defined(__x86_64__)
#include <immintrin.h>

#define PANEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define ROUNDED_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define PANEL static inline __attribute__((always_inline)) PANEL_TARGET
#define ROUNDED static inline __attribute__((always_inline)) ROUNDED_TARGET

PANEL __m512 multiply_floats(__m512 w, __m512 x, __m512 sum) { return _mm512_fmadd_ps(w, x, sum); }
ROUNDED __m512 multiply_pairs(__m512 w, __m512 x, __m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x); }

// BLOCK defines name: y [8,columns] += x [8,words] times w [words,columns], for up to 48 columns, with ldx, ldw and ldy from one row
// to the next. Of y, the first rows may be skipped. w is read to the end of its last register, and that need not be of any use.
#define BLOCK(name, target, multiply) \
	static inline __attribute__((always_inline)) target void name##_of(size_t registers, const float *x, size_t ldx, const float *w, size_t ldw, size_t words, \
		float *y, size_t ldy, size_t skip, __mmask16 last) { \
		__m512 sum[block_rows][panel_rows / 16]; \
		for (size_t r = 0; r < block_rows; r++) \
			for (size_t c = 0; c < registers; c++) sum[r][c] = _mm512_setzero_ps(); \
		for (size_t i = 0; i < words; i++) { \
			__m512 column[panel_rows / 16]; \
			for (size_t c = 0; c < registers; c++) column[c] = _mm512_loadu_ps(w + i * ldw + c * 16); \
			for (size_t r = 0; r < block_rows; r++) { \
				__m512 same = _mm512_set1_ps(x[r * ldx + i]); \
				for (size_t c = 0; c < registers; c++) sum[r][c] = multiply(column[c], same, sum[r][c]); \
			} \
		} \
		for (size_t r = 0; r < block_rows; r++) \
			for (size_t c = 0; c < registers && r >= skip; c++) { \
				__mmask16 some = c + 1 < registers ? 0xffff : last; \
				float *to = y + r * ldy + c * 16; \
				_mm512_mask_storeu_ps(to, some, _mm512_add_ps(_mm512_maskz_loadu_ps(some, to), sum[r][c])); \
			} \
	} \
	target static void name(size_t columns, const float *x, size_t ldx, const float *w, size_t ldw, size_t words, float *y, size_t ldy, size_t skip) { \
		__mmask16 last = 0xffff >> (15 - (columns - 1) % 16); \
		if (columns > 32) name##_of(3, x, ldx, w, ldw, words, y, ldy, skip, last); \
		else if (columns > 16) name##_of(2, x, ldx, w, ldw, words, y, ldy, skip, last); \
		else name##_of(1, x, ldx, w, ldw, words, y, ldy, skip, last); \
	}

// transpose exchanges rows and columns of 16 registers of words.
PANEL void transpose(__m512i *v) {
	__m512i t[16];
	for (int i = 0; i < 16; i += 2) { // pairs of words
		t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) { // fours
		v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) { // v[i] to v[12+i] have the words i, 4+i, 8+i and 12+i of four rows each
		__m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88), b = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
		__m512i c = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd), d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
		t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
		t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
		t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
		t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
	}
	for (int i = 0; i < 16; i++) v[i] = t[i];
}

// power is e to the x for x that is not above 0: of r = x - n·ln 2 a polynomial, times 2 to the n.
PANEL __m512 power(__m512 x) {
	x = _mm512_max_ps(_mm512_set1_ps(-104), x); // in this order NaN stays
	__m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
	__m512 p = _mm512_set1_ps(1.f / 720);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 120));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 24));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 6));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	return _mm512_scalef_ps(p, n);
}

// four adds up the lanes of four sums.
PANEL __m128 four(const __m512 *s) {
	__m256 t[4];
	for (int i = 0; i < 4; i++) t[i] = _mm256_add_ps(_mm512_castps512_ps256(s[i]), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(s[i]), 1)));
	__m256 u = _mm256_hadd_ps(_mm256_hadd_ps(t[0], t[1]), _mm256_hadd_ps(t[2], t[3]));
	return _mm_add_ps(_mm256_castps256_ps128(u), _mm256_extractf128_ps(u, 1));
}

// first_lanes masks the lanes that hold one of count.
PANEL __mmask16 first_lanes(size_t count) { return count < 16 ? (1u << count) - 1 : 0xffff; }

// floats_at are words of a row of so many float32, from a word on: 16, or what there is and zeros.
PANEL __m512i floats_at(const float *row, size_t size, size_t word) { return (__m512i)_mm512_maskz_loadu_ps(first_lanes(size - word), row + word); }

// pairs_at are words of the same row rounded to bfloat16. The last word of an odd number is half zero.
ROUNDED __m512i pairs_at(const float *row, size_t size, size_t word) {
	size_t left = size - 2 * word;
	const float *from = row + 2 * word;
	return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(left > 16 ? first_lanes(left - 16) : 0, from + 16), _mm512_maskz_loadu_ps(first_lanes(left), from));
}

// A packer reads 16 rows at once, more than a processor's prefetchers follow: what is needed next of each is asked for.
PANEL void soon(const void *row) { _mm_prefetch((const char *)row + 256, _MM_HINT_T0); }

// PACK defines name, a packer (operator.h): load gives 16 words of a row from a word on, or what there is and zeros.
#define PACK(name, target, load) \
	target static void name(const void *matrix, size_t first, size_t rows, size_t from, size_t words, float *panel) { \
		for (size_t c = 0; c < panel_rows; c += 16) \
			for (size_t i = 0; i < words; i += 16) { \
				size_t some = words - i < 16 ? words - i : 16; \
				__m512i v[16]; \
				for (size_t r = 0; r < 16; r++) v[r] = c + r < rows ? load(matrix, first + c + r, from + i) : _mm512_setzero_si512(); \
				transpose(v); \
				for (size_t r = 0; r < some; r++) _mm512_store_si512(panel + (i + r) * panel_rows + c, v[r]); \
			} \
	}
#endif

#endif
