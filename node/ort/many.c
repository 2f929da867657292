#include "operator.h"

#include "panel.h"

// Products of many rows of x. A thread takes 48 rows of the matrix at a time, makes a panel of them on its stack, from whatever the
// matrix is stored as, and multiplies it by eight rows of x at a time: 24 sums stay in registers, each word that is read of x meets
// 48 numbers, and each register that is read of the panel eight.

enum { rows_rounded = 16 };

// rounding makes pairs of bfloat16 of x, 16 rows at a time.
typedef struct {
	const float *x;
	const factor *f;
} rounding;

// STLLM_PLAIN is for tests of what runs on processors without AVX-512.
#if defined(__x86_64__) && !defined(STLLM_PLAIN)
BLOCK(add_floats, PANEL_TARGET, multiply_floats)
BLOCK(add_pairs, ROUNDED_TARGET, multiply_pairs)

int many_supported(int rounded) {
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && (!rounded || __builtin_cpu_supports("avx512bf16"));
}

// work is a product in pieces that threads take one after another: a panel, and rows of x for it.
typedef struct {
	const factor *x;
	const stored *w;
	float *y;
	size_t panels, rows; // rows: of x in a piece, a multiple of eight
	int rounded;
} work;

static void piece(void *p, size_t i) {
	const work *k = p;
	const factor *x = k->x;
	const stored *w = k->w;
	size_t column = i % k->panels * panel_rows, columns = w->rows - column < panel_rows ? w->rows - column : panel_rows;
	size_t from = i / k->panels * k->rows, to = from + k->rows < x->m ? from + k->rows : x->m;
	float panel[panel_words * panel_rows] __attribute__((aligned(64)));
	for (size_t j = from; j < to; j++)
		for (size_t c = 0; c < columns; c++) k->y[j * w->rows + column + c] = w->bias ? w->bias[column + c] : 0;
	for (size_t word = 0; word < x->count; word += panel_words) {
		size_t words = x->count - word < panel_words ? x->count - word : panel_words;
		w->pack[k->rounded](w->matrix, column, columns, word, words, panel);
		for (size_t j = from; j < to; j += block_rows) {
			size_t at = j + block_rows <= x->m ? j : x->m - block_rows; // the last rows may have been there before
			(k->rounded ? add_pairs : add_floats)(columns, x->words + at * x->count + word, x->count, panel, panel_rows, words, k->y + at * w->rows + column, w->rows, j - at);
		}
	}
}

// A product of few panels is shared out by rows of x as well, down to 64: a panel is made for each such piece. Of many rows, no more
// are gone through at a time than the processor's caches hold.
enum { least_rows = 64, most_rows = 1024, least_pieces = 16 };

Status *many(const kernel *n, void *context, const factor *x, const stored *w, float *y) {
	work k = {x, w, y, (w->rows + panel_rows - 1) / panel_rows, 0, n->rounded};
	size_t shares = (x->m + most_rows - 1) / most_rows;
	while (k.panels * shares < least_pieces && x->m / shares > 2 * least_rows) shares *= 2;
	k.rows = ((x->m + shares - 1) / shares + block_rows - 1) / block_rows * block_rows;
	return for_all(n, context, piece, k.panels * ((x->m + k.rows - 1) / k.rows), &k);
}

ROUNDED_TARGET static void round_rows(void *p, size_t i) {
	const rounding *r = p;
	const factor *f = r->f;
	size_t to = (i + 1) * rows_rounded < f->m ? (i + 1) * rows_rounded : f->m;
	for (size_t j = i * rows_rounded; j < to; j++)
		for (size_t word = 0; word < f->count; word += 16)
			_mm512_mask_storeu_epi32((float *)f->words + j * f->count + word, first_lanes(f->count - word), pairs_at(r->x + j * f->k, f->k, word));
}
#else
int many_supported(int rounded) { return 0; }
Status *many(const kernel *n, void *context, const factor *x, const stored *w, float *y) { return failed(n->api, "no products of many rows"); }
static void round_rows(void *p, size_t i) {}
#endif

Status *factor_make(const kernel *n, void *context, const float *x, size_t m, size_t k, factor *f) {
	*f = (factor){.words = x, .m = m, .k = k, .count = k};
	if (!n->rounded) return NULL;
	if (!many_supported(1)) return failed(n->api, "this processor has no products of bfloat16 (AVX-512 BF16)");
	f->count = (k + 1) / 2;
	Status *s = scratch_get(n, context, m * f->count * sizeof *f->words, &f->rounded);
	if (s) return s;
	f->words = f->rounded.data;
	rounding r = {x, f};
	return for_all(n, context, round_rows, (m + rows_rounded - 1) / rows_rounded, &r);
}

void factor_release(const kernel *n, factor *f) { scratch_release(n, &f->rounded); }
