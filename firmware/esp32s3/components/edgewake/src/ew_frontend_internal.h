/* The frontend's state and its steps, one function per step; private to the frontend's files. */
#ifndef EW_FRONTEND_INTERNAL_H
#define EW_FRONTEND_INTERNAL_H

#include "ew_frontend.h"

struct ew_frontend {
    const ew_frontend_tables_t *tables;
    uint32_t used;      /* samples in `input` */
    int16_t *input;     /* [window_samples] */
    int16_t *work;      /* [2 fft_size], scratch */
    uint32_t *energy;   /* [fft_size/2 + 1], scratch */
    uint64_t *power;    /* [channels], scratch */
    uint32_t *signal;   /* [channels], scratch */
    uint32_t *estimate; /* [channels], noise estimate, smoothing_bits fraction bits */
};

/* Position of the highest set bit, counted from 1; 0 for 0. */
static inline uint32_t ew_msb32(uint32_t x) {
#if defined(__GNUC__)
    return x == 0 ? 0 : 32u - (uint32_t)__builtin_clz(x);
#else
    uint32_t bits = 0;
    for (; x != 0; x >>= 1) {
        ++bits;
    }
    return bits;
#endif
}

/* Step 1: windowed[i] = (input[i] * window[i]) >> 12. Returns the msb of the largest magnitude; -32768 counts
 * as 0, since the reference takes the magnitude in 16 bits. */
uint32_t ew_frontend_window(const int16_t *input, const int16_t *window, uint32_t n, int16_t *windowed);

/* Step 2: shift left (wrapping at 16 bits), zero-pad to fft_size, split into even and odd samples.
 *   split int16[fft_size]: even samples, then odd samples */
void ew_frontend_scale(const int16_t *windowed, uint32_t n, uint32_t shift, uint32_t fft_size,
                       int16_t *split);

/* Step 5: power[c] = sum of energy x weight over the two bands of the channel c. */
void ew_frontend_filterbank(const ew_frontend_tables_t *tables, const uint32_t *energy, uint64_t *power);

/* Step 6: square root rounded to nearest; below 2^32 it saturates at 65535. Full uint64 range. */
uint32_t ew_frontend_sqrt(uint64_t x);

/* Step 7: update the noise estimate and, where configured, subtract it from the signal in place. */
void ew_frontend_noise(const ew_frontend_tables_t *tables, uint32_t *signal, uint32_t *estimate);

/* Step 8: per-channel automatic gain control of the signal in place. */
void ew_frontend_pcan(const ew_frontend_tables_t *tables, uint32_t *signal, const uint32_t *estimate);

/* Step 9: natural logarithm in Q(scale_shift), saturated to uint16. */
void ew_frontend_log(const ew_frontend_tables_t *tables, const uint32_t *signal, uint16_t *features);

#endif /* EW_FRONTEND_INTERNAL_H */
