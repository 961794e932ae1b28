/* SPDX-License-Identifier: Apache-2.0 */
/* Ring buffer of samples between one writer and one reader, without a lock; lost samples are counted. */
#include "ew_ring.h"

#include <string.h>

#include "ew_internal.h"

/* C99 has no atomics. These compile to a plain 32-bit access with a barrier on every target of GCC and Clang.
 */
#define LOAD(value) __atomic_load_n(&(value), __ATOMIC_ACQUIRE)
#define STORE(value, new_value) __atomic_store_n(&(value), (new_value), __ATOMIC_RELEASE)

ew_status_t ew_ring_init(ew_ring_t *ring, int16_t *samples, size_t capacity) {
    if (ring == NULL || samples == NULL) {
        return EW_ERROR_NULL;
    }
    if (capacity < 2 || capacity > ((size_t)1 << 31) || (capacity & (capacity - 1)) != 0) {
        return EW_ERROR_ARGUMENT;
    }
    ring->samples = samples;
    ring->capacity = (uint32_t)capacity;
    STORE(ring->written, 0);
    STORE(ring->read, 0);
    STORE(ring->lost, 0);
    return EW_OK;
}

size_t ew_ring_write(ew_ring_t *ring, const int16_t *samples, size_t n) {
    const uint32_t written = ring->written;
    const uint32_t room = ring->capacity - (written - LOAD(ring->read));
    const size_t count = ew_min(n, room);
    const size_t start = written & (ring->capacity - 1);
    const size_t first = ew_min(count, ring->capacity - start);
    if (count > 0) {
        memcpy(ring->samples + start, samples, first * sizeof *samples);
        memcpy(ring->samples, samples + first, (count - first) * sizeof *samples);
    }
    if (n > count) {
        STORE(ring->lost, ring->lost + (uint32_t)(n - count));
    }
    /* Released last: a reader that sees the new position also sees the samples before it. */
    STORE(ring->written, written + (uint32_t)count);
    return count;
}

size_t ew_ring_read(ew_ring_t *ring, int16_t *samples, size_t n) {
    const uint32_t read = ring->read;
    const size_t count = ew_min(n, LOAD(ring->written) - read);
    const size_t start = read & (ring->capacity - 1);
    const size_t first = ew_min(count, ring->capacity - start);
    if (count > 0) {
        memcpy(samples, ring->samples + start, first * sizeof *samples);
        memcpy(samples + first, ring->samples, (count - first) * sizeof *samples);
    }
    STORE(ring->read, read + (uint32_t)count);
    return count;
}

size_t ew_ring_available(const ew_ring_t *ring) {
    /* The reader's position first: it is never ahead of the writer's, so that the difference is not negative. */
    const uint32_t read = LOAD(ring->read);
    return LOAD(ring->written) - read;
}

uint32_t ew_ring_lost(const ew_ring_t *ring) {
    return LOAD(ring->lost);
}
