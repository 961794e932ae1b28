/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_status.h
 * @brief The result type of every function of the core that can fail, and the alignment of callers' memory.
 */
#ifndef EW_STATUS_H
#define EW_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EW_OK = 0,
    EW_ERROR_NULL = 1,      /**< A required pointer is NULL. */
    EW_ERROR_ARGUMENT = 2,  /**< A value or table is outside its documented range. */
    EW_ERROR_MEMORY = 3,    /**< The caller's memory is smaller than the size query gives. */
    EW_ERROR_ALIGNMENT = 4, /**< The caller's memory is not aligned to EW_ALIGNMENT. */
    EW_ERROR_INFERENCE = 5  /**< The inference callback failed. */
} ew_status_t;

/** Alignment in bytes of every memory block that a caller gives to an init function. */
#define EW_ALIGNMENT 16

#ifdef __cplusplus
}
#endif

#endif /* EW_STATUS_H */
