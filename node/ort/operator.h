// What operators of our own share: ONNX Runtime's functions, and the life of a node. See product.go.
#ifndef STLLM_OPERATOR_H
#define STLLM_OPERATOR_H

#include "product.h"

typedef void Status;

// loose_float is one in a mapped file, which need not begin at a multiple of its size.
typedef float loose_float __attribute__((aligned(1), may_alias));

#define FUNCTION(place, ...) ((Status *(*)(__VA_ARGS__))api[place])
#define RELEASE(place, what) ((void (*)(void *))api[place])(what)

enum { most_dimensions = 8, float32 = 1, uint8 = 2, int32 = 6, bfloat16 = 16 };

// tensor is what there is to know of an OrtValue.
typedef struct {
	const void *value;
	void *data;
	int type;
	size_t rank;
	int64_t shape[most_dimensions];
} tensor;

// kernel is one node. rounded says that products of many rows round numbers to bfloat16. gemm is ONNX Runtime's own product, without
// a bias and with one, of matrices that are not repacked: for processors that have nothing for many.
typedef struct {
	const void *const *api;
	void *gemm[2], *memory;
	int rounded;
	int64_t heads; // of an attention
	float epsilon; // of a norm
} kernel;

// operator is struct OrtCustomOp.
typedef struct {
	uint32_t version;
	void *create_old;
	const char *(*name)(const void *);
	const char *(*provider)(const void *);
	int (*input_type)(const void *, size_t);
	size_t (*inputs)(const void *);
	int (*output_type)(const void *, size_t);
	size_t (*outputs)(const void *);
	void *compute_old;
	void (*destroy)(void *);
	int (*input_kind)(const void *, size_t);
	int (*output_kind)(const void *, size_t);
	int (*memory_kind)(const void *, size_t);
	int (*least_inputs)(const void *);
	int (*same_inputs)(const void *);
	int (*least_outputs)(const void *);
	int (*same_outputs)(const void *);
	Status *(*create)(const void *, const void *const *, const void *, void **);
	Status *(*compute)(void *, void *);
	void *infer_shape;
	int (*first_version)(const void *);
	int (*last_version)(const void *);
	void *in_place, *release_in_place, *alias, *release_alias;
} operator;

// OPERATOR is one whose first input is float32 and whose others are as many tensors as there are, of any type; what comes out
// is float32. compute checks them. What follows compute overrides the rest.
#define OPERATOR(its_name, its_create, its_compute, ...) { \
	.version = 29, .name = its_name, .provider = op_provider, .inputs = op_two, .input_type = op_input_type, .input_kind = op_input_kind, \
	.memory_kind = op_memory_kind, .least_inputs = op_least, .same_inputs = op_no, .outputs = op_one, .output_type = op_float32, \
	.output_kind = op_variadic, .least_outputs = op_least, .same_outputs = op_least, .create = its_create, .compute = its_compute, \
	.destroy = kernel_destroy, .first_version = op_least, .last_version = op_last_version, __VA_ARGS__}
const char *op_provider(const void *op);
int op_input_type(const void *op, size_t i), op_float32(const void *op, size_t i), op_input_kind(const void *op, size_t i);
int op_variadic(const void *op, size_t i), op_memory_kind(const void *op, size_t i);
size_t op_two(const void *op), op_one(const void *op);
int op_least(const void *op), op_no(const void *op), op_last_version(const void *op);

extern const operator product_operator, code_product_operator, attention_operator, cached_attention_operator, sum_norm_operator, gate_operator, neighbours_operator;

Status *failed(const void *const *api, const char *message);
Status *look(const void *const *api, const void *value, tensor *t);
Status *kernel_create(const void *op, const void *const *api, const void *info, void **out);
void kernel_destroy(void *kernel);

// inputs looks at what a node is given, least to most tensors.
Status *inputs(const kernel *n, void *context, size_t least, size_t most, tensor *in, size_t *count);

// rows_of is how long a row of x is, and how many rows it has.
void rows_of(const tensor *x, size_t *k, size_t *m);

// output makes output i, of x's shape but for the last dimension.
Status *output(const kernel *n, void *context, size_t i, const tensor *x, int64_t last, void **value, float **data);

// for_all calls f for 0 to n-1, in the session's threads.
Status *for_all(const kernel *n, void *context, void (*f)(void *, size_t), size_t count, void *data);

// scratch is memory of the session's, for a node while it computes.
typedef struct {
	void *allocator, *data;
} scratch;
Status *scratch_get(const kernel *n, void *context, size_t bytes, scratch *s);
void scratch_release(const kernel *n, scratch *s);

// A packer makes a panel (panel.h) of words from to from+words of rows first to first+rows of a matrix, at most 48.
typedef void (*packer)(const void *matrix, size_t first, size_t rows, size_t from, size_t words, float *panel);

// stored is a matrix [rows,k] in whatever form: pack[0] packs its numbers as float32, pack[1] rounded to bfloat16.
typedef struct {
	const void *matrix;
	packer pack[2];
	size_t rows, k;
	const loose_float *bias; // [rows], or NULL
} stored;

// factor is what matrices are multiplied by, x [m,k]: as it is, or rounded to bfloat16, two to a word.
typedef struct {
	const float *words;
	size_t m, k, count; // count: of words in a row
	scratch rounded;
} factor;
Status *factor_make(const kernel *n, void *context, const float *x, size_t m, size_t k, factor *f);
void factor_release(const kernel *n, factor *f);

// many is y [m,rows] = x [m,k] times the transpose of a matrix, plus its bias, for eight rows of x or more, where many_supported.
Status *many(const kernel *n, void *context, const factor *x, const stored *w, float *y);

// head_rows are rows of one head: [n,size], stride from one to the next.
typedef struct {
	const float *data;
	size_t stride, size;
} head_rows;

enum { most_queries = 128, most_head = 128 };

// attend gives what up to most_queries queries of a head make of count keys and values, to y with q's stride: the first sees the first
// keys, seen of them, and each that follows one more. size is at most most_head.
void attend(int rounded, const head_rows *q, const head_rows *k, const head_rows *v, size_t queries, size_t seen, size_t count, float *y);

// attention_create is kernel_create for an operator that has heads.
Status *attention_create(const void *op, const void *const *api, const void *info, void **out);

// gemm_make and gemm_multiply are ONNX Runtime's product: y [m,rows] = x [m,k] times the transpose of w [rows,k], plus a bias [rows]
// or NULL.
Status *gemm_make(kernel *n, const void *info);
Status *gemm_multiply(const kernel *n, void *context, const float *x, const float *w, const loose_float *bias, float *y, size_t m, size_t k, size_t rows);

#endif
