// A thread whose stack has a size of our choice. See stack.go.
#ifndef STLLM_STACK_H
#define STLLM_STACK_H

#include <stddef.h>
#include <stdint.h>

// on_stack runs a function of Go's in a thread of its own and waits for it. It returns 0 or an errno.
int on_stack(size_t bytes, uintptr_t f);

void stllm_ort_run(uintptr_t f);

#endif
