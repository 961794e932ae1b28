/* The mel frontend: the same int16 samples give the same uint16 log-mel features on every machine, in any
 * chunking.
 *
 * Integer arithmetic only, no allocation, no global state: everything that depends on the configuration is in
 * constant tables, everything that changes is in memory that the caller owns. The steps are those of the
 * "micro frontend" of TensorFlow Lite Micro, reproduced bit for bit. */
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

#define EW_FRONTEND_WINDOW_BITS 12 /* fraction bits of the window */
#define EW_FRONTEND_FILTER_BITS 12 /* fraction bits of the mel weights */
#define EW_FRONTEND_NOISE_BITS 14  /* fraction bits of the smoothing factors */
#define EW_FRONTEND_GAIN_ENTRIES 125
#define EW_FRONTEND_LOG_ENTRIES 129

/* Everything that follows from a FrontendConfig: computed by the toolchain, constant in the firmware. */
typedef struct {
    uint64_t hash;           /* first 64 bits of the SHA-256 of the canonical configuration */
    uint32_t window_samples; /* samples in a frame, at most fft_size */
    uint32_t step_samples;   /* samples between frames, 1 to window_samples */
    uint32_t fft_size;       /* power of two, EW_FRONTEND_MIN_FFT to EW_FRONTEND_MAX_FFT */
    uint32_t channels;       /* features in a frame, 1 to EW_FRONTEND_MAX_CHANNELS */

    /* int16[window_samples], Q12. */
    const int16_t *window;
    /* uint16[fft_size/32]: frequency of each block when 16 moments are left in it. */
    const uint16_t *fft_order;
    /* int16, Q15, in the order of use: for each radix-4 stage but the first, blocks of [3 powers][re,
     * im][n]. */
    const int16_t *fft_twiddles;
    /* int16[re, im][fft_size/4], Q15: the recombination of bin k is at k - 1. */
    const int16_t *real_twiddles;

    /* uint16[channels + 2], ascending: band b holds the bins bands[b] to bands[b + 1] - 1. */
    const uint16_t *bands;
    /* uint16[bands[channels + 1] - bands[0]], Q12: share of each bin in the channel that its band rises
     * to. */
    const uint16_t *weights;
    /* Same shape and format: share of each bin in the channel that its band falls from. */
    const uint16_t *unweights;

    uint32_t noise_reduction;      /* 0: signals pass unchanged; the estimate is still tracked, for PCAN */
    uint32_t smoothing_bits;       /* fraction bits of the noise estimate */
    uint32_t even_smoothing;       /* Q14 */
    uint32_t odd_smoothing;        /* Q14 */
    uint32_t min_signal_remaining; /* Q14 */

    uint32_t pcan;      /* 0: no gain control, and gain_lut may be NULL */
    uint32_t snr_shift; /* from signal x gain to an SNR in Q12 */
    /* int16[EW_FRONTEND_GAIN_ENTRIES]: f(0), f(1), then {y0, a1, a2, 0} of the octaves 2 to 32. */
    const int16_t *gain_lut;

    uint32_t correction_bits; /* left shift of a channel before the logarithm */
    uint32_t scale_shift;     /* the logarithm is multiplied by 2^scale_shift */
    /* uint16[EW_FRONTEND_LOG_ENTRIES], Q16: log2(1 + i/128) - i/128. */
    const uint16_t *log_lut;
} ew_frontend_tables_t;

/* A frontend in the caller's memory. Its contents are private. */
typedef struct ew_frontend ew_frontend_t;

/* Bytes that ew_frontend_init needs for `tables`, or 0 when the tables are NULL or out of range. */
size_t ew_frontend_size(const ew_frontend_tables_t *tables);

/* sizeof(ew_frontend_tables_t), for bindings that mirror the structure. */
size_t ew_frontend_tables_size(void);

/* Create a frontend in its reset state.
 *   memory   at least ew_frontend_size(tables) bytes, aligned to EW_ALIGNMENT; the caller's, must outlive it
 *   tables   kept by reference, must outlive it
 *   frontend receives the handle, which needs no destruction
 * Returns EW_OK, EW_ERROR_NULL, EW_ERROR_ARGUMENT (tables), EW_ERROR_MEMORY or EW_ERROR_ALIGNMENT. */
ew_status_t ew_frontend_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables,
                             ew_frontend_t **frontend);

/* Restore exactly the state that ew_frontend_init left. Returns EW_OK or EW_ERROR_NULL. */
ew_status_t ew_frontend_reset(ew_frontend_t *frontend);

/* Take samples until one frame is complete or the samples are used up.
 *   samples  int16[n], full range, mono; may be NULL when n is 0
 *   consumed receives how many samples were taken, 0 to n; call again with the rest
 *   features uint16[channels], written when *ready; the real value of a feature is 10/256 of it
 *   ready    receives whether a frame was completed
 * The first frame completes after window_samples samples, each further one after step_samples.
 * Returns EW_OK or EW_ERROR_NULL. */
ew_status_t ew_frontend_process(ew_frontend_t *frontend, const int16_t *samples, size_t n, size_t *consumed,
                                uint16_t *features, bool *ready);

/* Take all samples and write all frames that they complete.
 *   features uint16[capacity][channels]
 *   frames   receives how many frames were written
 * Returns EW_OK, EW_ERROR_NULL, or EW_ERROR_MEMORY when `capacity` frames are too few for the samples; then
 * the frontend is as before the call. */
ew_status_t ew_frontend_run(ew_frontend_t *frontend, const int16_t *samples, size_t n, uint16_t *features,
                            size_t capacity, size_t *frames);

#ifdef __cplusplus
}
#endif

#endif /* EW_FRONTEND_H */
