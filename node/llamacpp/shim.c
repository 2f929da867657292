#include "shim.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A structure that is larger than any parameter structure of the library and goes by value in memory, as they do.
typedef struct {
	_Alignas(8) char bytes[512];
} block;

// Fields of llama_context_params in the version that is fetched.
enum { at_context = 0, at_batch = 4, at_ubatch = 8, at_flash = 52, at_type_k = 104, at_type_v = 108 };
// Fields of llama_model_quantize_params.
enum { at_nthread = 0, at_ftype = 4, at_requantize = 16 };
// ggml_type.
enum { type_f32 = 0, type_f16 = 1 };

struct peer {
	block (*model_defaults)(void);
	block (*context_defaults)(void);
	block (*quantize_defaults)(void);
	void *(*load)(const char *, block);
	void *(*init)(void *, block);
	void (*set_threads)(void *, int32_t, int32_t);
	block (*batch)(int32_t *, int32_t);
	int32_t (*decode)(void *, block);
	float *(*logits)(void *, int32_t);
	void *(*memory)(void *);
	void (*clear)(void *, bool);
	const void *(*vocab)(const void *);
	int32_t (*vocab_size)(const void *);
	int32_t (*tokenize)(const void *, const char *, int32_t, int32_t *, int32_t, bool, bool);
	uint32_t (*quantize)(const char *, const char *, const block *);
	void (*free_context)(void *);
	void (*free_model)(void *);
};

struct run {
	void *model, *context;
};

static int32_t get(const block *b, int at) {
	int32_t v;
	memcpy(&v, b->bytes + at, sizeof v);
	return v;
}

static void set(block *b, int at, int32_t v) { memcpy(b->bytes + at, &v, sizeof v); }

static void quiet(int level, const char *text, void *data) {
	(void)level, (void)text, (void)data;
}

struct peer *peer_open(const char *path, const char *dir, char **message) {
	void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (!lib) {
		*message = dlerror();
		return NULL;
	}
	struct peer *p = calloc(1, sizeof *p);
	void (*backends)(const char *) = NULL;
	void (*init)(void) = NULL;
	void (*log)(void (*)(int, const char *, void *), void *) = NULL;
	const struct {
		const char *name;
		void **to;
	} symbols[] = {
		{"llama_model_default_params", (void **)&p->model_defaults},
		{"llama_context_default_params", (void **)&p->context_defaults},
		{"llama_model_quantize_default_params", (void **)&p->quantize_defaults},
		{"llama_model_load_from_file", (void **)&p->load},
		{"llama_init_from_model", (void **)&p->init},
		{"llama_set_n_threads", (void **)&p->set_threads},
		{"llama_batch_get_one", (void **)&p->batch},
		{"llama_decode", (void **)&p->decode},
		{"llama_get_logits_ith", (void **)&p->logits},
		{"llama_get_memory", (void **)&p->memory},
		{"llama_memory_clear", (void **)&p->clear},
		{"llama_model_get_vocab", (void **)&p->vocab},
		{"llama_vocab_n_tokens", (void **)&p->vocab_size},
		{"llama_tokenize", (void **)&p->tokenize},
		{"llama_model_quantize", (void **)&p->quantize},
		{"llama_free", (void **)&p->free_context},
		{"llama_model_free", (void **)&p->free_model},
		{"llama_backend_init", (void **)&init},
		{"llama_log_set", (void **)&log},
		{"ggml_backend_load_all_from_path", (void **)&backends},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		if (!(*symbols[i].to = dlsym(lib, symbols[i].name))) {
			*message = dlerror();
			free(p);
			return NULL;
		}
	}
	block c = p->context_defaults();
	if (get(&c, at_batch) != 2048 || get(&c, at_ubatch) != 512 || get(&c, at_flash) != -1 || get(&c, at_type_k) != type_f16 || get(&c, at_type_v) != type_f16) {
		*message = "its context parameters lie elsewhere than in the version that is known";
		free(p);
		return NULL;
	}
	log(quiet, NULL);
	backends(dir);
	init();
	return p;
}

int peer_expand(struct peer *p, const char *from, const char *to, int threads) {
	block q = p->quantize_defaults();
	set(&q, at_nthread, threads);
	set(&q, at_ftype, 0); // all float32
	q.bytes[at_requantize] = 1;
	return (int)p->quantize(from, to, &q);
}

struct run *peer_load(struct peer *p, const char *path, int threads, int context, int exact, char **message) {
	struct run *r = calloc(1, sizeof *r);
	r->model = p->load(path, p->model_defaults());
	if (!r->model) {
		*message = "the model was refused";
		free(r);
		return NULL;
	}
	block c = p->context_defaults();
	set(&c, at_context, context);
	set(&c, at_batch, 512);
	if (exact) {
		set(&c, at_flash, 0); // off
		set(&c, at_type_k, type_f32);
		set(&c, at_type_v, type_f32);
	}
	r->context = p->init(r->model, c);
	if (!r->context) {
		*message = "no context could be made";
		p->free_model(r->model);
		free(r);
		return NULL;
	}
	p->set_threads(r->context, threads, threads);
	return r;
}

int peer_vocab(struct peer *p, struct run *r) { return p->vocab_size(p->vocab(r->model)); }

void peer_reset(struct peer *p, struct run *r) { p->clear(p->memory(r->context), true); }

int peer_eval(struct peer *p, struct run *r, int32_t *tokens, int n) { return p->decode(r->context, p->batch(tokens, n)); }

float *peer_logits(struct peer *p, struct run *r) { return p->logits(r->context, -1); }

int peer_tokens(struct peer *p, struct run *r, const char *text, int length, int32_t *out, int room) {
	return p->tokenize(p->vocab(r->model), text, length, out, room, false, false);
}

void peer_free(struct peer *p, struct run *r) {
	p->free_context(r->context);
	p->free_model(r->model);
	free(r);
}
