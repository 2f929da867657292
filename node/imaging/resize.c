#include "resize.h"

// Sums are of 32 bits, of whole numbers: they are the same in whatever order, so that the compiler may take as many at a time as the
// processor can.
enum { precision = 22, nearest = 1 << (precision - 1) };

typedef uint8_t bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t shorts __attribute__((vector_size(32))); // on the way: GCC is slow from bytes to numbers at once
typedef int32_t numbers __attribute__((vector_size(64), aligned(4), may_alias));

#pragma GCC diagnostic ignored "-Wpsabi" // of functions that are inlined anyway
#define INLINE static inline __attribute__((always_inline))

INLINE uint8_t clamp(int32_t v) {
	v >>= precision;
	return v < 0 ? 0 : v > 255 ? 255 : v;
}

// ROTATE moves lane i to where lane i-n was.
#define LANE(i, n) ((i) + (n)) % 16
#define LANES(n) LANE(0, n), LANE(1, n), LANE(2, n), LANE(3, n), LANE(4, n), LANE(5, n), LANE(6, n), LANE(7, n), LANE(8, n), LANE(9, n), LANE(10, n), LANE(11, n), LANE(12, n), LANE(13, n), LANE(14, n), LANE(15, n)
#if defined(__clang__)
#define ROTATE(v, n) __builtin_shufflevector(v, v, LANES(n))
#else
#define ROTATE(v, n) __builtin_shuffle(v, (numbers){LANES(n)})
#endif

// across takes five pixels at a time, 15 bytes and one that meets a zero, and adds up by colour at the end. Near the end of the picture
// it takes one byte after another.
INLINE void across(uint8_t *dst, const uint8_t *src, size_t in, size_t out, size_t rows, const int32_t *start, const int32_t *count, const int32_t *weights, size_t stride) {
	const uint8_t *end = src + 3 * in * rows;
	for (size_t y = 0; y < rows; y++)
		for (size_t x = 0; x < out; x++) {
			const uint8_t *p = src + 3 * (y * in + start[x]);
			const int32_t *w = weights + x * stride;
			int32_t left = count[x];
			numbers sum = {0};
			for (; left > 0 && end - p >= 16; left -= 5, p += 15, w += 16) sum += __builtin_convertvector(__builtin_convertvector(*(const bytes *)p, shorts), numbers) * *(const numbers *)w;
			int32_t rest[3] = {nearest, nearest, nearest};
			for (int32_t i = 0; i < left; i++)
				for (int32_t c = 0; c < 3; c++) rest[c] += p[3 * i + c] * w[i / 5 * 16 + i % 5 * 3 + c];
			numbers most = sum + ROTATE(sum, 3);
			most += ROTATE(most, 6);
			most += ROTATE(sum, 12);
			uint8_t *to = dst + 3 * (y * out + x);
			to[0] = clamp(most[0] + rest[0]), to[1] = clamp(most[1] + rest[1]), to[2] = clamp(most[2] + rest[2]);
		}
}

INLINE void down(uint8_t *dst, const uint8_t *src, size_t size, size_t count, const int32_t *weights) {
	size_t i = 0;
	for (; i + 64 <= size; i += 64) {
		int32_t sum[64];
		for (size_t j = 0; j < 64; j++) sum[j] = nearest;
		for (size_t k = 0; k < count; k++)
			for (size_t j = 0; j < 64; j++) sum[j] += src[k * size + i + j] * weights[k];
		for (size_t j = 0; j < 64; j++) dst[i + j] = clamp(sum[j]);
	}
	for (; i < size; i++) {
		int32_t sum = nearest;
		for (size_t k = 0; k < count; k++) sum += src[k * size + i] * weights[k];
		dst[i] = clamp(sum);
	}
}

#define VARIANT(name, target) \
	target static void across_##name(uint8_t *dst, const uint8_t *src, size_t in, size_t out, size_t rows, const int32_t *start, const int32_t *count, const int32_t *weights, size_t stride) { \
		across(dst, src, in, out, rows, start, count, weights, stride); \
	} \
	target static void down_##name(uint8_t *dst, const uint8_t *src, size_t size, size_t count, const int32_t *weights) { down(dst, src, size, count, weights); }

#if defined(__x86_64__)
VARIANT(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,prefer-vector-width=512"))))
VARIANT(avx2, __attribute__((target("avx2"))))
#define CHOOSE(f) (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") ? f##_avx512 : __builtin_cpu_supports("avx2") ? f##_avx2 : f##_plain)
#else
#define CHOOSE(f) f##_plain
#endif
VARIANT(plain, )

void resize_across(uint8_t *dst, const uint8_t *src, size_t in, size_t out, size_t rows, const int32_t *start, const int32_t *count, const int32_t *weights, size_t stride) {
	CHOOSE(across)(dst, src, in, out, rows, start, count, weights, stride);
}

void resize_down(uint8_t *dst, const uint8_t *src, size_t size, size_t count, const int32_t *weights) { CHOOSE(down)(dst, src, size, count, weights); }
