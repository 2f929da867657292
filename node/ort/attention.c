#include "operator.h"

#include "panel.h"

#include <float.h>
#include <math.h>
#include <string.h>

// Attention of queries [B,S,heads·d] over keys and values [B,L,heads·d], all to all. A thread takes up to 128 queries of a head and
// goes through the keys 192 at a time: their scores, softmax so far, and what it makes of the values stay in the processor's caches
// (Dao et al., arXiv 2205.14135).
enum { step = 192 };

typedef struct {
	const float *q, *k, *v;
	float *y;
	size_t queries, keys, heads, size; // size: of a head
	int rounded;
} work;

#if defined(__x86_64__) && !defined(STLLM_PLAIN)
BLOCK(add_floats, PANEL_TARGET, multiply_floats)
BLOCK(add_pairs, ROUNDED_TARGET, multiply_pairs)

PANEL __m512i load_floats(const void *m, size_t row, size_t word) {
	const head_rows *r = m;
	return floats_at(r->data + row * r->stride, r->size, word);
}

ROUNDED __m512i load_pairs(const void *m, size_t row, size_t word) {
	const head_rows *r = m;
	return pairs_at(r->data + row * r->stride, r->size, word);
}

PACK(pack_floats, PANEL_TARGET, load_floats)
PACK(pack_pairs, ROUNDED_TARGET, load_pairs)

// state is what a thread works on; queries, probabilities and values are words, as panels are.
typedef struct {
	float panel[most_head * panel_rows], queries[most_queries * most_head], scores[most_queries * step], probabilities[most_queries * step / 2];
	float values[step * most_head], sums[most_queries * most_head], highest[most_queries], total[most_queries];
} state __attribute__((aligned(64)));

// soften makes probabilities of a row of scores, of which so many are seen, as far as the keys up to there say, with zeros to the
// end, and lessens the sums of those before where a higher score has come.
PANEL_TARGET static void soften(state *s, size_t row, size_t keys, float scale, size_t width) {
	float *score = s->scores + row * step, *sums = s->sums + row * width;
	__m512 most = _mm512_set1_ps(s->highest[row]), sum = _mm512_setzero_ps(), scales = _mm512_set1_ps(scale);
	for (size_t i = 0; i < keys; i += 16) most = _mm512_mask_max_ps(most, first_lanes(keys - i), most, _mm512_mul_ps(scales, _mm512_loadu_ps(score + i)));
	float highest = _mm512_reduce_max_ps(most);
	for (size_t i = 0; i < step; i += 16) {
		__mmask16 some = i < keys ? first_lanes(keys - i) : 0;
		__m512 p = _mm512_maskz_mov_ps(some, power(_mm512_fmsub_ps(scales, _mm512_loadu_ps(score + i), _mm512_set1_ps(highest))));
		sum = _mm512_add_ps(sum, p);
		_mm512_storeu_ps(score + i, p);
	}
	__m512 less = power(_mm512_set1_ps(s->highest[row] - highest));
	s->total[row] = s->total[row] * _mm512_cvtss_f32(less) + _mm512_reduce_add_ps(sum);
	s->highest[row] = highest;
	for (size_t c = 0; c < width; c += 16) _mm512_storeu_ps(sums + c, _mm512_mul_ps(less, _mm512_loadu_ps(sums + c)));
}

// kind is what float32 and bfloat16 do each their way. per: numbers in a word.
typedef struct {
	size_t per;
	packer pack;
	void (*add)(size_t columns, const float *x, size_t ldx, const float *w, size_t ldw, size_t words, float *y, size_t ldy, size_t skip);
	void (*queries)(const head_rows *q, size_t count, size_t words, float *to);
	const float *(*probabilities)(state *s, size_t count); // of so many rows
	void (*values)(const head_rows *v, size_t count, size_t width, float *to); // rows, or pairs of them, with zeros to width
} kind;

PANEL_TARGET static void float_queries(const head_rows *q, size_t count, size_t words, float *to) {
	for (size_t j = 0; j < count; j++)
		for (size_t i = 0; i < words; i += 16) _mm512_mask_storeu_epi32(to + j * words + i, first_lanes(words - i), load_floats(q, j, i));
}

ROUNDED_TARGET static void pair_queries(const head_rows *q, size_t count, size_t words, float *to) {
	for (size_t j = 0; j < count; j++)
		for (size_t i = 0; i < words; i += 16) _mm512_mask_storeu_epi32(to + j * words + i, first_lanes(words - i), load_pairs(q, j, i));
}

static const float *float_probabilities(state *s, size_t count) { return s->scores; }

ROUNDED_TARGET static const float *pair_probabilities(state *s, size_t count) {
	for (size_t i = 0; i < count * step / 2; i += 16) _mm512_store_si512(s->probabilities + i, pairs_at(s->scores, count * step, i));
	return s->probabilities;
}

PANEL_TARGET static void float_values(const head_rows *v, size_t count, size_t width, float *to) {
	for (size_t j = 0; j < count; j++)
		for (size_t c = 0; c < width; c += 16) _mm512_store_si512(to + j * width + c, load_floats(v, j, c));
}

// widened are 16 numbers of a row as bfloat16 in words of their own; zeros where there is no row.
ROUNDED __m512i widened(const head_rows *v, size_t row, size_t count, size_t column) {
	return row < count ? _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)load_floats(v, row, column))) : _mm512_setzero_si512();
}

ROUNDED_TARGET static void pair_values(const head_rows *v, size_t count, size_t width, float *to) {
	for (size_t j = 0; j < count; j += 2)
		for (size_t c = 0; c < width; c += 16)
			_mm512_store_si512(to + j / 2 * width + c, _mm512_or_si512(widened(v, j, count, c), _mm512_slli_epi32(widened(v, j + 1, count, c), 16)));
}

static const kind kinds[] = {
	{1, pack_floats, add_floats, float_queries, float_probabilities, float_values},
	{2, pack_pairs, add_pairs, pair_queries, pair_probabilities, pair_values},
};

PANEL_TARGET void attend(int rounded, const head_rows *q, const head_rows *keys, const head_rows *values, size_t queries, size_t seen, size_t count, float *y) {
	const kind *k = &kinds[rounded];
	state s;
	size_t words = (q->size + k->per - 1) / k->per, width = (q->size + 15) / 16 * 16, blocks = (queries + block_rows - 1) / block_rows * block_rows;
	memset(s.queries, 0, blocks * words * sizeof(float));
	memset(s.sums, 0, blocks * width * sizeof(float));
	for (size_t j = 0; j < blocks; j++) s.highest[j] = -FLT_MAX, s.total[j] = 0;
	k->queries(q, queries, words, s.queries);
	if (seen + queries - 1 < count) count = seen + queries - 1;
	for (size_t first = 0; first < count; first += step) {
		size_t some = count - first < step ? count - first : step;
		memset(s.scores, 0, blocks * step * sizeof(float));
		for (size_t c = 0; c < some; c += panel_rows) {
			size_t columns = some - c < panel_rows ? some - c : panel_rows;
			k->pack(keys, first + c, columns, 0, words, s.panel);
			for (size_t j = 0; j < blocks; j += block_rows) k->add(columns, s.queries + j * words, words, s.panel, panel_rows, words, s.scores + j * step + c, step, 0);
		}
		for (size_t j = 0; j < blocks; j++) {
			size_t to = seen + j < first + some ? seen + j : first + some;
			soften(&s, j, to > first ? to - first : 0, 1 / sqrtf(q->size), width);
		}
		const float *probabilities = k->probabilities(&s, blocks);
		head_rows here = {values->data + first * values->stride, values->stride, values->size};
		k->values(&here, some, width, s.values);
		for (size_t c = 0; c < width; c += panel_rows)
			for (size_t j = 0; j < blocks; j += block_rows)
				k->add(width - c < panel_rows ? width - c : panel_rows, probabilities + j * (step / k->per), step / k->per, s.values + c, width, (some + k->per - 1) / k->per,
					s.sums + j * width + c, width, 0);
	}
	for (size_t j = 0; j < queries; j++)
		for (size_t c = 0; c < q->size; c++) y[j * q->stride + c] = s.sums[j * width + c] / s.total[j];
}
#else
void attend(int rounded, const head_rows *q, const head_rows *keys, const head_rows *values, size_t queries, size_t seen, size_t count, float *y) {}
#endif

static void piece(void *p, size_t i) {
	const work *w = p;
	size_t shares = (w->queries + most_queries - 1) / most_queries, wide = w->heads * w->size;
	size_t first = i % shares * most_queries, head = i / shares % w->heads, b = i / shares / w->heads;
	size_t at = (b * w->queries + first) * wide + head * w->size, from = b * w->keys * wide + head * w->size;
	head_rows q = {w->q + at, wide, w->size}, k = {w->k + from, wide, w->size}, v = {w->v + from, wide, w->size};
	attend(w->rounded, &q, &k, &v, w->queries - first < most_queries ? w->queries - first : most_queries, w->keys, w->keys, w->y + at);
}

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	const void *const *api = n->api;
	if (!many_supported(n->rounded)) return failed(api, "Attention: this processor has no AVX-512, or not that of bfloat16");
	tensor in[3];
	size_t count;
	Status *s = inputs(n, context, 3, 3, in, &count);
	if (s) return s;
	for (size_t i = 0; i < 3; i++)
		if (in[i].type != float32 || in[i].rank != 3 || in[i].shape[0] != in[0].shape[0] || in[i].shape[2] != in[0].shape[2] || (i == 2 && in[2].shape[1] != in[1].shape[1]))
			return failed(api, "Attention: expected queries [B,S,D], keys and values [B,L,D] of float32");
	size_t wide = in[0].shape[2];
	if (n->heads < 1 || wide % n->heads || wide / n->heads > most_head || wide == 0) return failed(api, "Attention: heads are not of 1 to 128 numbers");
	work w = {in[0].data, in[1].data, in[2].data, NULL, in[0].shape[1], in[1].shape[1], n->heads, wide / n->heads, n->rounded};
	void *value;
	if ((s = output(n, context, 0, &in[0], wide, &value, &w.y))) return s;
	if (w.keys == 0) return failed(api, "Attention: there are no keys");
	return for_all(n, context, piece, in[0].shape[0] * n->heads * ((w.queries + most_queries - 1) / most_queries), &w);
}

static const char *name(const void *op) { return "Attention"; }

const operator attention_operator = OPERATOR(name, attention_create, compute);
