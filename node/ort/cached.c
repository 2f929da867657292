#include "operator.h"

#include "panel.h"

#include <math.h>
#include <string.h>

// Attention of a language model: queries [1,S,heads·d] of new positions over the keys and values of all positions so far, which lie
// in a cache [1,key heads,room,d] and see what is not after them. Queries and keys are turned by their positions (rotary embedding,
// half-split) on the way. ONNX Runtime's takes thirty microseconds for one row of a small model, this one five.
typedef struct {
	const float *q, *k, *v;   // of the new positions, from one to the next by strides
	const float *cos, *sin;   // [positions,size/2]
	float *keys, *values, *y; // the cache, [key heads,room,size]; [S,heads·size]
	float *turned, *scores;   // queries [S,heads·size]; of one row [heads,total], padded
	size_t q_stride, k_stride, v_stride, new, total, heads, key_heads, size, room;
	int rounded;
} work;

#if defined(__x86_64__) && !defined(STLLM_PLAIN)
// turn turns the head at from to the position's angle.
PANEL void turn(const work *w, size_t position, const float *from, float *to) {
	size_t half = w->size / 2;
	const float *cos = w->cos + position * half, *sin = w->sin + position * half;
	for (size_t i = 0; i < half; i++) {
		float a = from[i], b = from[half + i];
		to[i] = a * cos[i] - b * sin[i], to[half + i] = b * cos[i] + a * sin[i];
	}
}

// take puts a new position into the cache and turns its queries.
PANEL_TARGET static void take(void *p, size_t i) {
	const work *w = p;
	size_t position = w->total - w->new + i;
	for (size_t h = 0; h < w->heads; h++) turn(w, position, w->q + i * w->q_stride + h * w->size, w->turned + (i * w->heads + h) * w->size);
	for (size_t h = 0; h < w->key_heads; h++) {
		size_t at = (h * w->room + position) * w->size;
		turn(w, position, w->k + i * w->k_stride + h * w->size, w->keys + at);
		memcpy(w->values + at, w->v + i * w->v_stride + h * w->size, w->size * sizeof(float));
	}
}

// one is attention of one row's head; size, a multiple of 16, is w's, and known where this is compiled in.
PANEL void one(const work *w, size_t h, size_t size) {
	const float *q = w->turned + h * size, *k = w->keys + h / (w->heads / w->key_heads) * w->room * size, *v = w->values + (k - w->keys);
	size_t padded = (w->total + 15) / 16 * 16;
	float *scores = w->scores + h * padded;
	__m512 most = _mm512_set1_ps(-INFINITY), scale = _mm512_set1_ps(1 / sqrtf(size));
	for (size_t j = 0; j < w->total; j += 4) {
		__m512 sum[4];
		for (size_t i = 0; i < 4; i++) {
			const float *key = k + (j + i < w->total ? j + i : w->total - 1) * size;
			sum[i] = _mm512_setzero_ps();
			for (size_t c = 0; c < size; c += 16) sum[i] = _mm512_fmadd_ps(_mm512_loadu_ps(q + c), _mm512_loadu_ps(key + c), sum[i]);
		}
		_mm_storeu_ps(scores + j, four(sum));
	}
	for (size_t j = 0; j < w->total; j += 16) {
		__m512 s = _mm512_mul_ps(scale, _mm512_loadu_ps(scores + j));
		most = _mm512_mask_max_ps(most, first_lanes(w->total - j), most, s);
	}
	__m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(most)), total = _mm512_setzero_ps(), out[most_head / 16];
	for (size_t j = 0; j < w->total; j += 16) {
		__m512 p = _mm512_maskz_mov_ps(first_lanes(w->total - j), power(_mm512_fmsub_ps(scale, _mm512_loadu_ps(scores + j), highest)));
		total = _mm512_add_ps(total, p);
		_mm512_storeu_ps(scores + j, p);
	}
	for (size_t c = 0; c < size / 16; c++) out[c] = _mm512_setzero_ps();
	for (size_t j = 0; j < w->total; j++)
		for (size_t c = 0; c < size / 16; c++) out[c] = _mm512_fmadd_ps(_mm512_set1_ps(scores[j]), _mm512_loadu_ps(v + j * size + c * 16), out[c]);
	__m512 all = _mm512_set1_ps(_mm512_reduce_add_ps(total));
	for (size_t c = 0; c < size / 16; c++) _mm512_storeu_ps(w->y + h * size + c * 16, _mm512_div_ps(out[c], all));
}

PANEL_TARGET static void one_head(void *p, size_t h) {
	const work *w = p;
	if (w->size == 64) one(w, h, 64);
	else if (w->size == 128) one(w, h, 128);
	else one(w, h, w->size);
}
#else
static void take(void *p, size_t i) {}
static void one_head(void *p, size_t h) {}
#endif

// many_heads attends from some of many rows, of one head.
static void many_heads(void *p, size_t i) {
	const work *w = p;
	size_t h = i % w->heads, first = i / w->heads * most_queries, wide = w->heads * w->size;
	size_t cache = h / (w->heads / w->key_heads) * w->room * w->size;
	head_rows q = {w->turned + first * wide + h * w->size, wide, w->size}, k = {w->keys + cache, w->size, w->size}, v = {w->values + cache, w->size, w->size};
	size_t queries = w->new - first < most_queries ? w->new - first : most_queries;
	attend(w->rounded, &q, &k, &v, queries, w->total - w->new + first + 1, w->total, w->y + first * wide + h * w->size);
}

// alone is how many multiplications one thread does before it would have woken another.
enum { alone = 1 << 18 };

static Status *run(const kernel *n, void *context, work *w) {
	if (w->new > 1) {
		Status *s = for_all(n, context, take, w->new, w);
		return s ? s : for_all(n, context, many_heads, w->heads * ((w->new + most_queries - 1) / most_queries), w);
	}
	take(w, 0);
	if (w->heads * w->total * w->size * 2 > alone) return for_all(n, context, one_head, w->heads, w);
	for (size_t h = 0; h < w->heads; h++) one_head(w, h);
	return NULL;
}

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	const void *const *api = n->api;
	if (!many_supported(n->rounded)) return failed(api, "CachedAttention: this processor has no AVX-512, or not that of bfloat16");
	enum { past_key, past_value, last_key, cosines, sines, query, key, value, most };
	tensor in[most];
	size_t count;
	Status *s = inputs(n, context, query + 1, most, in, &count);
	if (s) return s;
	const tensor *cache = in, *x = in + query;
	if (cache->rank != 4 || cache->shape[0] != 1 || in[past_value].rank != 4 || memcmp(cache->shape, in[past_value].shape, 4 * sizeof *cache->shape) || in[past_value].type != float32)
		return failed(api, "CachedAttention: expected keys and values [1,key heads,room,d] of float32");
	work w = {.heads = n->heads, .key_heads = cache->shape[1], .room = cache->shape[2], .size = cache->shape[3], .rounded = n->rounded};
	if (w.size < 16 || w.size % 16 || w.size > most_head || w.key_heads < 1 || n->heads < 1 || w.heads % w.key_heads)
		return failed(api, "CachedAttention: heads are not of 16 to 128 numbers, a multiple of 16, or do not share keys evenly");
	size_t wide = w.heads * w.size, narrow = w.key_heads * w.size, widths[] = {count == most ? wide : wide + 2 * narrow, narrow, narrow};
	if (count != most && count != query + 1) return failed(api, "CachedAttention: expected queries, keys and values in one, or three");
	for (size_t i = 0; i + query < count; i++)
		if (x[i].type != float32 || x[i].rank != 3 || x[i].shape[0] != 1 || x[i].shape[1] != x->shape[1] || x[i].shape[2] != (int64_t)widths[i])
			return failed(api, "CachedAttention: queries, keys and values are not as many heads of float32");
	const tensor *last = in + last_key;
	if (last->type != int32 || last->rank != 1 || last->shape[0] != 1) return failed(api, "CachedAttention: the last key's place is not one int32");
	int64_t total = (int64_t)*(const int32_t *)last->data + 1;
	w.new = x->shape[1];
	for (size_t i = cosines; i <= sines; i++)
		if (in[i].type != float32 || in[i].rank != 2 || in[i].shape[1] * 2 != (int64_t)w.size || in[i].shape[0] < total) return failed(api, "CachedAttention: the tables of angles are too short, or of other heads");
	if (total < x->shape[1] || total > cache->shape[2] || total < 1) return failed(api, "CachedAttention: the new positions do not fit into the cache");
	w.total = total, w.cos = in[cosines].data, w.sin = in[sines].data;
	w.q = x->data, w.q_stride = widths[0], w.k_stride = w.v_stride = count == most ? narrow : widths[0];
	w.k = count == most ? in[key].data : w.q + wide, w.v = count == most ? in[value].data : w.k + narrow;
	void *ignored;
	if ((s = output(n, context, 0, x, wide, &ignored, &w.y))) return s;
	if ((s = output(n, context, 1, cache, w.size, &ignored, &w.keys))) return s;
	if ((s = output(n, context, 2, cache, w.size, &ignored, &w.values))) return s;
	for (size_t h = 0; h < w.key_heads; h++) { // of a cache that is not to be written in place
		size_t at = h * w.room * w.size, bytes = (w.total - w.new) * w.size * sizeof(float);
		if (w.keys != in[past_key].data) memcpy(w.keys + at, (const float *)in[past_key].data + at, bytes);
		if (w.values != in[past_value].data) memcpy(w.values + at, (const float *)in[past_value].data + at, bytes);
	}
	if (w.new == 0) return NULL;
	scratch room = {NULL};
	size_t scores = w.new == 1 ? w.heads * ((w.total + 15) / 16 * 16) : 0;
	s = scratch_get(n, context, (w.new * wide + scores) * sizeof(float), &room);
	if (!s) {
		w.turned = room.data, w.scores = w.turned + w.new * wide;
		s = run(n, context, &w);
	}
	scratch_release(n, &room);
	return s;
}

static const char *name(const void *op) { return "CachedAttention"; }

const operator cached_attention_operator = OPERATOR(name, attention_create, compute);
