/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_frontend.h
 * @brief Log-mel features: equal int16 samples give equal uint16 features on every machine, in any chunking.
 *
 * Integer arithmetic, no allocation, no global state: what depends on the configuration is in constant tables, what
 * changes is in memory of the caller. The steps are those of TensorFlow Lite Micro's "micro frontend", bit for bit.
 */
#ifndef EW_FRONTEND_H
#define EW_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ew_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_FRONTEND_MIN_FFT 64
#define EW_FRONTEND_MAX_FFT 2048
#define EW_FRONTEND_MAX_CHANNELS 128

#define EW_FRONTEND_WINDOW_BITS 12 /**< Fraction bits of the window. */
#define EW_FRONTEND_FILTER_BITS 12 /**< Fraction bits of the mel weights. */
#define EW_FRONTEND_NOISE_BITS 14  /**< Fraction bits of the smoothing factors. */
#define EW_FRONTEND_GAIN_ENTRIES 125
#define EW_FRONTEND_LOG_ENTRIES 129

/** All constants that follow from a FrontendConfig: computed by the toolchain, in flash on the board. */
typedef struct {
    uint64_t hash;           /**< First 64 bits of the SHA-256 of the canonical configuration. */
    uint32_t window_samples; /**< Samples in a frame, 1 to fft_size. */
    uint32_t step_samples;   /**< Hop: samples between frames, 1 to window_samples. */
    uint32_t fft_size;       /**< Power of two, EW_FRONTEND_MIN_FFT to EW_FRONTEND_MAX_FFT. */
    uint32_t channels;       /**< Features in a frame, 1 to EW_FRONTEND_MAX_CHANNELS. */

    /** int16[window_samples], Q12, -1 to 1. */
    const int16_t *window;
    /** uint16[fft_size/32]: frequency of each block when 16 moments are left in it. */
    const uint16_t *fft_order;
    /** int16, Q15, in the order of use: for each radix-4 stage but the first, blocks of [3 powers][re, im][n]. */
    const int16_t *fft_twiddles;
    /** int16[2][fft_size/4], Q15, re then im: bin k is recombined with element k - 1. */
    const int16_t *real_twiddles;

    /** uint16[channels + 2], ascending: band b has the bins bands[b] to bands[b + 1] - 1. */
    const uint16_t *bands;
    /** uint16[bands[channels + 1] - bands[0]], Q12, 0 to 1: share of each bin in the channel that its band rises to. */
    const uint16_t *weights;
    /** Same shape and format: share of each bin in the channel that its band falls from. */
    const uint16_t *unweights;

    uint32_t noise_reduction;      /**< 0: signals pass unchanged; the estimate is still tracked, for PCAN. */
    uint32_t smoothing_bits;       /**< Fraction bits of the noise estimate, 0 to 31. */
    uint32_t even_smoothing;       /**< Q14, 0 to 1. */
    uint32_t odd_smoothing;        /**< Q14, 0 to 1. */
    uint32_t min_signal_remaining; /**< Q14, 0 to 1. */

    uint32_t pcan;      /**< 0: no gain control, and gain_lut may be NULL. */
    uint32_t snr_shift; /**< From signal x gain to an SNR in Q12, 0 to 63. */
    /** int16[EW_FRONTEND_GAIN_ENTRIES]: f(0), f(1), then {y0, a1, a2, 0} of the octaves 2 to 32. */
    const int16_t *gain_lut;

    uint32_t correction_bits; /**< Left shift of a channel before the logarithm, 0 to 31. */
    uint32_t scale_shift;     /**< The logarithm is multiplied by 2^scale_shift, 0 to 10. */
    /** uint16[EW_FRONTEND_LOG_ENTRIES], Q16: log2(1 + i/128) - i/128. */
    const uint16_t *log_lut;
} ew_frontend_tables_t;

/** A frontend in memory of the caller. Its contents are private. */
typedef struct ew_frontend ew_frontend_t;

/**
 * @brief Size query of ew_frontend_init().
 *
 * @param[in] tables  constants of the frontend; may be NULL
 * @return bytes, or 0 when the tables are NULL or out of range
 */
size_t ew_frontend_size(const ew_frontend_tables_t *tables);

/** @brief sizeof(ew_frontend_tables_t), for bindings that mirror the structure. */
size_t ew_frontend_tables_size(void);

/**
 * @brief Creates a frontend in its reset state. It needs no destruction.
 *
 * @param[out] memory    ew_frontend_size(tables) bytes, aligned to EW_ALIGNMENT; must outlive the frontend
 * @param[in]  bytes     size of `memory`
 * @param[in]  tables    constants of the frontend, kept by reference; must outlive the frontend
 * @param[out] frontend  the handle
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_ARGUMENT when the tables are out of range; EW_ERROR_MEMORY; EW_ERROR_ALIGNMENT
 */
ew_status_t ew_frontend_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables, ew_frontend_t **frontend);

/**
 * @brief Restores the state that ew_frontend_init() left.
 *
 * @param[in,out] frontend  the handle
 * @return EW_OK; EW_ERROR_NULL
 */
ew_status_t ew_frontend_reset(ew_frontend_t *frontend);

/**
 * @brief Takes samples until one frame is complete or the samples are used up.
 *
 * The first frame is complete after window_samples samples, each further one after step_samples.
 *
 * @param[in,out] frontend  the handle
 * @param[in]     samples   int16[n], full range, mono; may be NULL when n is 0
 * @param[in]     n         count of samples
 * @param[out]    consumed  how many samples were taken, 0 to n; call again with the rest
 * @param[out]    features  uint16[channels], written when *ready; the real value is 10/256 of the integer
 * @param[out]    ready     whether a frame was completed
 * @return EW_OK; EW_ERROR_NULL
 */
ew_status_t ew_frontend_process(ew_frontend_t *frontend, const int16_t *samples, size_t n, size_t *consumed,
                                uint16_t *features, bool *ready);

/**
 * @brief Takes all samples and writes all frames that they complete, as ew_frontend_process() in a loop does.
 *
 * @param[in,out] frontend  the handle
 * @param[in]     samples   int16[n], full range, mono; may be NULL when n is 0
 * @param[in]     n         count of samples
 * @param[out]    features  uint16[capacity][channels], frames in order; may be NULL when capacity is 0
 * @param[in]     capacity  count of frames for which `features` has room
 * @param[out]    frames    how many frames were written
 * @return EW_OK; EW_ERROR_NULL; EW_ERROR_MEMORY when capacity is too small, and then the frontend is unchanged
 */
ew_status_t ew_frontend_run(ew_frontend_t *frontend, const int16_t *samples, size_t n, uint16_t *features,
                            size_t capacity, size_t *frames);

#ifdef __cplusplus
}
#endif

#endif /* EW_FRONTEND_H */
