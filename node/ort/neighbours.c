#include "operator.h"

#include "panel.h"

// A sparse convolution: y [places,out] of x [rows,in], where each place has so many neighbours, rows of x by number or -1 for none,
// and a matrix [in,out] for each neighbour; they lie one below the other, [neighbours·in,out]. A thread takes 256 places and up to 48
// columns of y, and for one neighbour after another those places that have it, eight at a time. Neighbours that are not there, two of
// three on a surface, cost nothing, and no row is copied.
enum { tile = 256 };

typedef struct {
	const float *x, *w, *bias;
	const int32_t *table;
	float *y;
	size_t rows, places, neighbours, in, out, panels;
	int wrong; // a number is no row's
} work;

#if defined(__x86_64__) && !defined(STLLM_PLAIN)
// add adds to eight rows of y what their rows of x give by a matrix, in up to 48 columns.
PANEL void add_of(size_t registers, const float *const *x, size_t words, const float *w, size_t ldw, float *const *y, __mmask16 last) {
	__m512 sum[block_rows][panel_rows / 16];
	for (size_t r = 0; r < block_rows; r++)
		for (size_t c = 0; c < registers; c++) sum[r][c] = _mm512_setzero_ps();
	for (size_t i = 0; i < words; i++) {
		__m512 column[panel_rows / 16];
		for (size_t c = 0; c < registers; c++) column[c] = _mm512_maskz_loadu_ps(c + 1 < registers ? 0xffff : last, w + i * ldw + c * 16);
		for (size_t r = 0; r < block_rows; r++) {
			__m512 same = _mm512_set1_ps(x[r][i]);
			for (size_t c = 0; c < registers; c++) sum[r][c] = _mm512_fmadd_ps(column[c], same, sum[r][c]);
		}
	}
	for (size_t r = 0; r < block_rows; r++)
		for (size_t c = 0; c < registers; c++) {
			__mmask16 some = c + 1 < registers ? 0xffff : last;
			_mm512_mask_storeu_ps(y[r] + c * 16, some, _mm512_add_ps(_mm512_maskz_loadu_ps(some, y[r] + c * 16), sum[r][c]));
		}
}

PANEL_TARGET static void add(size_t columns, const float *const *x, size_t words, const float *w, size_t ldw, float *const *y) {
	__mmask16 last = 0xffff >> (15 - (columns - 1) % 16);
	if (columns > 32) add_of(3, x, words, w, ldw, y, last);
	else if (columns > 16) add_of(2, x, words, w, ldw, y, last);
	else add_of(1, x, words, w, ldw, y, last);
}

static void piece(void *p, size_t i) {
	work *k = p;
	size_t column = i % k->panels * panel_rows, columns = k->out - column < panel_rows ? k->out - column : panel_rows;
	size_t first = i / k->panels * tile, places = k->places - first < tile ? k->places - first : tile;
	float none[panel_rows] = {0};
	for (size_t j = 0; j < places; j++)
		for (size_t c = 0; c < columns; c++) k->y[(first + j) * k->out + column + c] = k->bias[column + c];
	for (size_t n = 0; n < k->neighbours; n++) {
		uint32_t row[tile];
		uint16_t place[tile];
		size_t count = 0;
		for (size_t j = 0; j < places; j++) {
			int32_t r = k->table[(first + j) * k->neighbours + n];
			int there = r >= 0 && (size_t)r < k->rows;
			if (!there && r != -1) __atomic_store_n(&k->wrong, 1, __ATOMIC_RELAXED);
			row[count] = there ? r : 0, place[count] = j;
			count += there;
		}
		for (size_t j = 0; j < count; j += block_rows) {
			const float *x[block_rows];
			float *y[block_rows];
			for (size_t r = 0; r < block_rows; r++) { // what fills up a block goes nowhere
				x[r] = k->x + (size_t)row[j + r < count ? j + r : j] * k->in;
				y[r] = j + r < count ? k->y + (first + place[j + r]) * k->out + column : none;
			}
			add(columns, x, k->in, k->w + n * k->in * k->out + column, k->out, y);
		}
	}
}
#else
static void piece(void *p, size_t i) {}
#endif

static Status *compute(void *p, void *context) {
	const kernel *n = p;
	const void *const *api = n->api;
	enum { x, table, matrices, bias, all };
	tensor in[all];
	size_t count;
	Status *s = inputs(n, context, all, all, in, &count);
	if (s) return s;
	if (!many_supported(0)) return failed(api, "Neighbours: this processor has no AVX-512");
	if (in[x].rank != 2 || in[table].rank != 2 || in[table].type != int32 || in[matrices].rank != 2 || in[matrices].type != float32 || in[bias].rank != 1 || in[bias].type != float32)
		return failed(api, "Neighbours: expected x [rows,in] and matrices [neighbours·in,out] of float32, numbers of rows [places,neighbours] of int32 and a bias [out]");
	work w = {in[x].data, in[matrices].data, in[bias].data, in[table].data, NULL, in[x].shape[0], in[table].shape[0], in[table].shape[1], in[x].shape[1], in[matrices].shape[1], 0, 0};
	if (in[matrices].shape[0] != in[table].shape[1] * in[x].shape[1] || in[bias].shape[0] != in[matrices].shape[1])
		return failed(api, "Neighbours: there is not a matrix for each neighbour, or not a bias for each column");
	void *ignored;
	if ((s = output(n, context, 0, &in[table], w.out, &ignored, &w.y))) return s;
	if (w.places == 0 || w.out == 0) return NULL;
	w.panels = (w.out + panel_rows - 1) / panel_rows;
	s = for_all(n, context, piece, (w.places + tile - 1) / tile * w.panels, &w);
	if (!s && w.wrong) s = failed(api, "Neighbours: a number in the table is neither a row's nor -1");
	return s;
}

static const char *name(const void *op) { return "Neighbours"; }

const operator neighbours_operator = OPERATOR(name, kernel_create, compute);
