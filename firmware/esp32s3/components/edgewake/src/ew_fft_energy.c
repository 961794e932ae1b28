/* Energies of the bins of a real signal, from the half-size complex FFT of its even and odd samples. */
#include "ew_fft_internal.h"

#define HALF 16383 /* floor(32767 / 2) */

static inline uint32_t square_sum(int16_t re, int16_t im) {
    return (uint32_t)(re * re) + (uint32_t)(im * im);
}

/* The bin k and its mirror n - k. `a` is the k-th, `b` the (n - k)-th value of the half-size transform. The
 * negation wraps at 16 bits as the reference's does; the halving sees the unwrapped sum. */
static inline void recombine(int16_t ar, int16_t ai, int16_t br, int16_t bi, int16_t wr, int16_t wi,
                             uint32_t *low, uint32_t *high) {
    const int16_t pr = ew_mul15(ar, HALF), pi = ew_mul15(ai, HALF);
    const int16_t qr = ew_mul15(br, HALF), qi = ew_mul15((int16_t)-bi, HALF);
    const int16_t sum_r = (int16_t)(pr + qr), sum_i = (int16_t)(pi + qi);
    const int16_t dif_r = (int16_t)(pr - qr), dif_i = (int16_t)(pi - qi);
    const int16_t tr = ew_cmul15_re(dif_r, dif_i, wr, wi), ti = ew_cmul15_im(dif_r, dif_i, wr, wi);
    *low = square_sum((int16_t)((sum_r + tr) >> 1), (int16_t)((sum_i + ti) >> 1));
    *high = square_sum((int16_t)((sum_r - tr) >> 1), (int16_t)((ti - sum_i) >> 1));
}

void ew_fft_energy(uint32_t size, const uint16_t *order, const int16_t *twiddles,
                   const int16_t *real_twiddles, int16_t *work, uint32_t *energy, uint32_t first,
                   uint32_t last) {
    const uint32_t n = size / 2, middle = size / 4;
    const uint32_t mirrored = n - last;
    const uint32_t begin = first < mirrored ? first : mirrored;
    const int16_t *restrict re = work + size, *restrict im = work + size + n;
    const int16_t *restrict wr = real_twiddles - 1, *restrict wi = real_twiddles + middle - 1;
    uint32_t *restrict low = energy, *restrict high = energy + n;
    uint32_t unused;
    ew_fft_complex(n, order, twiddles, work, work + size);
    for (uint32_t k = begin; k < middle; ++k) {
        recombine(re[k], im[k], re[n - k], im[n - k], wr[k], wi[k], &low[k], high - k);
    }
    /* The middle bin is its own mirror, and the mirror's formula is the one that counts. */
    recombine(re[middle], im[middle], re[middle], im[middle], wr[middle], wi[middle], &unused,
              &energy[middle]);
}
