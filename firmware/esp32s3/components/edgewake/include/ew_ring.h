/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_ring.h
 * @brief Ring buffer of samples between one writer and one reader, without a lock; lost samples are counted.
 *
 * Writer and reader may be tasks on two cores. What does not fit is not written.
 */
#ifndef EW_RING_H
#define EW_RING_H

#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Private to the functions below; public so that it can be static. Positions run on and wrap at 2^32. */
typedef struct {
    int16_t *samples;
    uint32_t capacity;
    uint32_t written; /**< Changed by the writer only. */
    uint32_t read;    /**< Changed by the reader only. */
    uint32_t lost;    /**< Changed by the writer only. */
} ew_ring_t;

/**
 * @brief Makes an empty ring.
 *
 * @param[out] ring      the ring
 * @param[in]  samples   int16[capacity], owned by the caller; must outlive the ring
 * @param[in]  capacity  samples, a power of two, 2 to 2^31
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when capacity is out of range
 */
ew_status_t ew_ring_init(ew_ring_t *ring, int16_t *samples, size_t capacity);

/**
 * @brief Appends samples; for the writer only. Samples that do not fit are the last ones, and count as lost.
 *
 * @param[in,out] ring     the ring
 * @param[in]     samples  int16[n]; may be NULL when n is 0
 * @param[in]     n        count of samples
 * @return how many were appended, 0 to n
 */
size_t ew_ring_write(ew_ring_t *ring, const int16_t *samples, size_t n);

/**
 * @brief Takes samples, oldest first; for the reader only.
 *
 * @param[in,out] ring     the ring
 * @param[out]    samples  int16[n]
 * @param[in]     n        largest count of samples
 * @return how many were taken, 0 to n
 */
size_t ew_ring_read(ew_ring_t *ring, int16_t *samples, size_t n);

/** @brief Samples that can be read now; for either side. */
size_t ew_ring_available(const ew_ring_t *ring);

/** @brief Samples lost since ew_ring_init(), modulo 2^32; for either side. */
uint32_t ew_ring_lost(const ew_ring_t *ring);

#ifdef __cplusplus
}
#endif

#endif /* EW_RING_H */
