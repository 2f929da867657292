// Calls into llama.cpp's C interface through functions that are looked up at run time. Parameter structures are opaque blocks
// larger than the real ones: they are returned and passed by value in memory, so their content need not be known but for the
// few fields that shim.c sets.
#pragma once
#include <stdint.h>

struct peer;
struct run;

struct peer *peer_open(const char *path, const char *dir, char **message);
int peer_expand(struct peer *p, const char *from, const char *to, int threads);
struct run *peer_load(struct peer *p, const char *path, int threads, int context, int exact, char **message);
int peer_vocab(struct peer *p, struct run *r);
void peer_reset(struct peer *p, struct run *r);
int peer_eval(struct peer *p, struct run *r, int32_t *tokens, int n);
float *peer_logits(struct peer *p, struct run *r);
int peer_tokens(struct peer *p, struct run *r, const char *text, int length, int32_t *out, int room);
void peer_free(struct peer *p, struct run *r);
