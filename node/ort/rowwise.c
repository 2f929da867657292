#include "operator.h"

#include "panel.h"

// What is done to each row between a language model's products: SumNorm is x + delta, and that over its root mean square, times
// weights; Gate is silu(gate)·up, of two inputs, or of one whose rows hold both. For one row a node's own cost is most of it, so each
// is one node where ONNX Runtime has two or three.
typedef struct work {
	const float *a, *b, *weight; // x and delta, or gate and up
	float *out, *sum;
	size_t stride, size, rows; // stride: from a row of a or b to the next
	float epsilon;
	void (*row)(const struct work *, size_t);
} work;

#if defined(__x86_64__) && !defined(STLLM_PLAIN)
PANEL_TARGET static void sum_norm(const work *w, size_t row) {
	const float *a = w->a + row * w->stride, *b = w->b + row * w->stride;
	float *sum = w->sum + row * w->size, *out = w->out + row * w->size;
	__m512 squares = _mm512_setzero_ps();
	for (size_t i = 0; i < w->size; i += 16) {
		__mmask16 some = first_lanes(w->size - i);
		__m512 s = _mm512_add_ps(_mm512_maskz_loadu_ps(some, a + i), _mm512_maskz_loadu_ps(some, b + i));
		_mm512_mask_storeu_ps(sum + i, some, s);
		squares = _mm512_fmadd_ps(s, s, squares);
	}
	__m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(squares) / w->size + w->epsilon);
	__m512 scale = _mm512_div_ps(_mm512_set1_ps(1), _mm512_sqrt_ps(mean));
	for (size_t i = 0; i < w->size; i += 16) {
		__mmask16 some = first_lanes(w->size - i);
		__m512 weights = _mm512_maskz_loadu_ps(some, w->weight + i);
		_mm512_mask_storeu_ps(out + i, some, _mm512_mul_ps(weights, _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(some, sum + i))));
	}
}

PANEL_TARGET static void gate(const work *w, size_t row) {
	const float *a = w->a + row * w->stride, *b = w->b + row * w->stride;
	float *out = w->out + row * w->size;
	__m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
	for (size_t i = 0; i < w->size; i += 16) {
		__mmask16 some = first_lanes(w->size - i);
		__m512 x = _mm512_maskz_loadu_ps(some, a + i), e = power(_mm512_sub_ps(zero, _mm512_abs_ps(x)));
		__m512 share = _mm512_div_ps(_mm512_mask_mov_ps(one, _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ), e), _mm512_add_ps(one, e)); // without overflow
		_mm512_mask_storeu_ps(out + i, some, _mm512_mul_ps(_mm512_mul_ps(x, share), _mm512_maskz_loadu_ps(some, b + i)));
	}
}
#else
static void sum_norm(const work *w, size_t row) {}
static void gate(const work *w, size_t row) {}
#endif

enum { rows_together = 8 };

static void some_rows(void *p, size_t i) {
	const work *w = p;
	for (size_t j = i * rows_together; j < w->rows && j < (i + 1) * rows_together; j++) w->row(w, j);
}

// run goes through the rows: a few in the thread that asks.
static Status *run(const kernel *n, void *context, work *w) {
	if (w->rows > rows_together) return for_all(n, context, some_rows, (w->rows + rows_together - 1) / rows_together, w);
	some_rows(w, 0);
	return NULL;
}

static int same_shape(const tensor *a, const tensor *b) {
	int same = a->rank == b->rank && a->type == b->type;
	for (size_t i = 0; i < a->rank && same; i++) same = a->shape[i] == b->shape[i];
	return same;
}

static Status *compute_sum_norm(void *p, void *context) {
	const kernel *n = p;
	tensor in[3];
	size_t count;
	Status *s = inputs(n, context, 3, 3, in, &count);
	if (s) return s;
	if (!many_supported(0)) return failed(n->api, "SumNorm: this processor has no AVX-512");
	work w = {.a = in[0].data, .b = in[1].data, .weight = in[2].data, .epsilon = n->epsilon, .row = sum_norm};
	rows_of(&in[0], &w.size, &w.rows);
	w.stride = w.size;
	if (!same_shape(&in[0], &in[1]) || in[2].type != float32 || in[2].rank != 1 || in[2].shape[0] != (int64_t)w.size || w.size == 0)
		return failed(n->api, "SumNorm: expected x and delta of one shape, and as many weights as a row has numbers, of float32");
	void *ignored;
	if ((s = output(n, context, 0, &in[0], w.size, &ignored, &w.out)) || (s = output(n, context, 1, &in[0], w.size, &ignored, &w.sum))) return s;
	return run(n, context, &w);
}

static Status *compute_gate(void *p, void *context) {
	const kernel *n = p;
	tensor in[2];
	size_t count;
	Status *s = inputs(n, context, 1, 2, in, &count);
	if (s) return s;
	if (!many_supported(0)) return failed(n->api, "Gate: this processor has no AVX-512");
	work w = {.a = in[0].data, .row = gate};
	rows_of(&in[0], &w.stride, &w.rows);
	w.size = count == 1 ? w.stride / 2 : w.stride;
	w.b = count == 1 ? w.a + w.size : in[1].data;
	if (count == 1 ? w.stride % 2 : !same_shape(&in[0], &in[1])) return failed(n->api, "Gate: expected gate and up of one shape, or rows of both, of float32");
	void *ignored;
	if ((s = output(n, context, 0, &in[0], w.size, &ignored, &w.out))) return s;
	return run(n, context, &w);
}

static Status *create_sum_norm(const void *op, const void *const *api, const void *info, void **out) {
	Status *s = kernel_create(op, api, info, out);
	if (s) return s;
	kernel *n = *out;
	s = FUNCTION(KernelInfoGetAttribute_float, const void *, const char *, float *)(info, "epsilon", &n->epsilon);
	if (s) kernel_destroy(n);
	return s;
}

static const char *sum_norm_name(const void *op) { return "SumNorm"; }
static const char *gate_name(const void *op) { return "Gate"; }

const operator sum_norm_operator = OPERATOR(sum_norm_name, create_sum_norm, compute_sum_norm);
const operator gate_operator = OPERATOR(gate_name, kernel_create, compute_gate, .inputs = op_one, .input_type = op_float32, .input_kind = op_variadic);
