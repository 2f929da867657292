// The two passes of a resize; see resize.go.
#ifndef STLLM_RESIZE_H
#define STLLM_RESIZE_H

#include <stddef.h>
#include <stdint.h>

// resize_across makes rows of out pixels from rows of in pixels, three bytes each. A pixel is a sum over count of them from start on;
// each byte of these has its weight in a line of weights, stride from one to the next: 15 for five pixels, then a zero.
void resize_across(uint8_t *dst, const uint8_t *src, size_t in, size_t out, size_t rows, const int32_t *start, const int32_t *count, const int32_t *weights, size_t stride);

// resize_down makes size bytes from as many of each of count rows, one below the other.
void resize_down(uint8_t *dst, const uint8_t *src, size_t size, size_t count, const int32_t *weights);

#endif
