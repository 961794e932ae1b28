/* One writer and one reader, on two cores and without a lock, share a ring of samples; what does not fit is
 * counted. */
#ifndef EW_RING_H
#define EW_RING_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Private to the functions below; public so that it can be static. Positions run on and wrap at 2^32. */
typedef struct {
    int16_t *samples;
    uint32_t capacity;
    uint32_t written; /* changed by the writer only */
    uint32_t read;    /* changed by the reader only */
    uint32_t lost;    /* changed by the writer only */
} ew_ring_t;

/* Make an empty ring.
 *   samples   int16[capacity], owned by the caller, must outlive the ring
 *   capacity  a power of two, at least 2, at most 2^31
 * Returns EW_OK, EW_ERROR_NULL or EW_ERROR_ARGUMENT. */
ew_status_t ew_ring_init(ew_ring_t *ring, int16_t *samples, size_t capacity);

/* Writer only: append n samples; those that do not fit are the last ones, and are lost and counted.
 * Returns how many were appended. */
size_t ew_ring_write(ew_ring_t *ring, const int16_t *samples, size_t n);

/* Reader only: take up to n samples, oldest first. Returns how many were taken. */
size_t ew_ring_read(ew_ring_t *ring, int16_t *samples, size_t n);

/* Either side: samples that can be read now. */
size_t ew_ring_available(const ew_ring_t *ring);

/* Either side: samples lost since ew_ring_init, modulo 2^32. */
uint32_t ew_ring_lost(const ew_ring_t *ring);

#ifdef __cplusplus
}
#endif

#endif /* EW_RING_H */
