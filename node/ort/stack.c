#include "stack.h"

#include <pthread.h>

static void *begin(void *f) {
	stllm_ort_run((uintptr_t)f);
	return NULL;
}

int on_stack(size_t bytes, uintptr_t f) {
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);
	if (err != 0) return err;
	if ((err = pthread_attr_setstacksize(&attr, bytes)) == 0) err = pthread_create(&thread, &attr, begin, (void *)f);
	pthread_attr_destroy(&attr);
	return err != 0 ? err : pthread_join(thread, NULL);
}
