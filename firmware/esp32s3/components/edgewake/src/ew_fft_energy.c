/* Energies of the bins of a real signal, from the half-size complex FFT of its even and odd samples. */
#include <stddef.h>

#include "ew_fft_internal.h"

#define HALF 16383 /* floor(32767 / 2) */

/* The bin k and its mirror n - k, in place of the k-th and (n - k)-th value of the half-size transform.
 * The negation wraps at 16 bits as the reference's does; the halving sees the unwrapped sum. Squares of
 * the results sum to less than 2^31, since the scaled sums are at least -32766. */
static inline void recombine(int16_t *re, int16_t *im, int16_t *mirror_re, int16_t *mirror_im, int16_t wr,
                             int16_t wi) {
    const int16_t pr = ew_mul15(*re, HALF), pi = ew_mul15(*im, HALF);
    const int16_t qr = ew_mul15(*mirror_re, HALF), qi = ew_mul15((int16_t)-*mirror_im, HALF);
    const int16_t sum_r = (int16_t)(pr + qr), sum_i = (int16_t)(pi + qi);
    const int16_t dif_r = (int16_t)(pr - qr), dif_i = (int16_t)(pi - qi);
    const int16_t tr = ew_cmul15_re(dif_r, dif_i, wr, wi), ti = ew_cmul15_im(dif_r, dif_i, wr, wi);
    *re = (int16_t)((sum_r + tr) >> 1);
    *im = (int16_t)((sum_i + ti) >> 1);
    *mirror_re = (int16_t)((sum_r - tr) >> 1);
    *mirror_im = (int16_t)((ti - sum_i) >> 1);
}

EW_CLONES void ew_fft_energy(uint32_t size, const uint16_t *order, const int16_t *twiddles,
                             const int16_t *real_twiddles, int16_t *work, uint32_t *energy, uint32_t first,
                             uint32_t last) {
    const uint32_t n = size / 2, middle = n / 2;
    int16_t *re = work + size, *im = re + n;
    int16_t *mirror_re = re + n, *mirror_im = im + n;
    const int16_t *wr = real_twiddles, *wi = real_twiddles + middle;
    ew_fft_complex(n, order, twiddles, work, re);
    EW_FFT_INDEPENDENT
    for (ptrdiff_t k = 1; k < (ptrdiff_t)middle; ++k) {
        recombine(&re[k], &im[k], &mirror_re[-k], &mirror_im[-k], wr[k - 1], wi[k - 1]);
    }
    /* The middle bin is its own mirror, and the mirror's value is the one that stays. */
    recombine(&re[middle], &im[middle], &re[middle], &im[middle], wr[middle - 1], wi[middle - 1]);
    for (size_t bin = first; bin < (size_t)last + 1; ++bin) {
        energy[bin] = (uint32_t)(re[bin] * re[bin] + im[bin] * im[bin]);
    }
}
