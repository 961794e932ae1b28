/* Complex FFT of int16 pairs, decimation in time, radix 4 (first radix 2 for odd powers of 2), scaled by
 * 1/size.
 *
 * Rounding follows kissfft: before a stage of radix r every value is multiplied by floor(32767/r) in Q15;
 * twiddle products are rounded once, after their sum; sums wrap at 16 bits. The layout is free, since bits
 * depend only on the arithmetic: stages run over contiguous values, first along time, after a
 * transposition along frequency. */
#include "ew_fft_internal.h"

#define QUARTER 8191 /* floor(32767 / 4) */
#define HALF 16383   /* floor(32767 / 2) */

/* Radix-4 butterfly of a, b, c, d (already scaled and twiddled) into four places. */
static inline void butterfly(int16_t ar, int16_t ai, int16_t br, int16_t bi, int16_t cr, int16_t ci,
                             int16_t dr, int16_t di, int16_t *r0, int16_t *i0, int16_t *r1, int16_t *i1,
                             int16_t *r2, int16_t *i2, int16_t *r3, int16_t *i3) {
    const int16_t sum_r = (int16_t)(ar + cr), sum_i = (int16_t)(ai + ci);
    const int16_t dif_r = (int16_t)(ar - cr), dif_i = (int16_t)(ai - ci);
    const int16_t odd_r = (int16_t)(br + dr), odd_i = (int16_t)(bi + di);
    const int16_t cross_r = (int16_t)(br - dr), cross_i = (int16_t)(bi - di);
    *r0 = (int16_t)(sum_r + odd_r);
    *i0 = (int16_t)(sum_i + odd_i);
    *r1 = (int16_t)(dif_r + cross_i);
    *i1 = (int16_t)(dif_i - cross_r);
    *r2 = (int16_t)(sum_r - odd_r);
    *i2 = (int16_t)(sum_i - odd_i);
    *r3 = (int16_t)(dif_r - cross_i);
    *i3 = (int16_t)(dif_i + cross_r);
}

/* First stage, radix 2. The twiddle 32767/32768 is the identity on values this small, so it is left out. */
EW_CLONES static void first_radix2(int16_t *re, int16_t *im, uint32_t half) {
    int16_t *r0 = re, *r1 = re + half;
    int16_t *i0 = im, *i1 = im + half;
    EW_FFT_INDEPENDENT
    for (uint32_t j = 0; j < half; ++j) {
        const int16_t ar = ew_mul15(r0[j], HALF), ai = ew_mul15(i0[j], HALF);
        const int16_t br = ew_mul15(r1[j], HALF), bi = ew_mul15(i1[j], HALF);
        r0[j] = (int16_t)(ar + br);
        i0[j] = (int16_t)(ai + bi);
        r1[j] = (int16_t)(ar - br);
        i1[j] = (int16_t)(ai - bi);
    }
}

/* First stage, radix 4, twiddles left out as above. */
EW_CLONES static void first_radix4(int16_t *re, int16_t *im, uint32_t quarter) {
    int16_t *r0 = re, *r1 = r0 + quarter, *r2 = r1 + quarter, *r3 = r2 + quarter;
    int16_t *i0 = im, *i1 = i0 + quarter, *i2 = i1 + quarter, *i3 = i2 + quarter;
    EW_FFT_INDEPENDENT
    for (uint32_t j = 0; j < quarter; ++j) {
        const int16_t ar = ew_mul15(r0[j], QUARTER), ai = ew_mul15(i0[j], QUARTER);
        const int16_t br = ew_mul15(r1[j], QUARTER), bi = ew_mul15(i1[j], QUARTER);
        const int16_t cr = ew_mul15(r2[j], QUARTER), ci = ew_mul15(i2[j], QUARTER);
        const int16_t dr = ew_mul15(r3[j], QUARTER), di = ew_mul15(i3[j], QUARTER);
        butterfly(ar, ai, br, bi, cr, ci, dr, di, &r0[j], &i0[j], &r1[j], &i1[j], &r2[j], &i2[j], &r3[j],
                  &i3[j]);
    }
}

/* One block of a radix-4 stage: n butterflies, the i-th with the i-th twiddles. Along time all twiddles of
 * a block are equal; they are stored n times all the same, since only then do compilers multiply 16 bits
 * by 16. */
EW_CLONES static void block_radix4(int16_t *re, int16_t *im, uint32_t n, const int16_t *w1r) {
    const int16_t *w1i = w1r + n, *w2r = w1i + n, *w2i = w2r + n, *w3r = w2i + n, *w3i = w3r + n;
    int16_t *r0 = re, *r1 = r0 + n, *r2 = r1 + n, *r3 = r2 + n;
    int16_t *i0 = im, *i1 = i0 + n, *i2 = i1 + n, *i3 = i2 + n;
    EW_FFT_INDEPENDENT
    for (uint32_t i = 0; i < n; ++i) {
        const int16_t ar = ew_mul15(r0[i], QUARTER), ai = ew_mul15(i0[i], QUARTER);
        const int16_t xr = ew_mul15(r1[i], QUARTER), xi = ew_mul15(i1[i], QUARTER);
        const int16_t yr = ew_mul15(r2[i], QUARTER), yi = ew_mul15(i2[i], QUARTER);
        const int16_t zr = ew_mul15(r3[i], QUARTER), zi = ew_mul15(i3[i], QUARTER);
        const int16_t br = ew_cmul15_re(xr, xi, w1r[i], w1i[i]), bi = ew_cmul15_im(xr, xi, w1r[i], w1i[i]);
        const int16_t cr = ew_cmul15_re(yr, yi, w2r[i], w2i[i]), ci = ew_cmul15_im(yr, yi, w2r[i], w2i[i]);
        const int16_t dr = ew_cmul15_re(zr, zi, w3r[i], w3i[i]), di = ew_cmul15_im(zr, zi, w3r[i], w3i[i]);
        butterfly(ar, ai, br, bi, cr, ci, dr, di, &r0[i], &i0[i], &r1[i], &i1[i], &r2[i], &i2[i], &r3[i],
                  &i3[i]);
    }
}

/* From one block of 16 moments for each frequency to one row of m frequencies for each moment, the rows in
 * base-4 reversed order of the moments, as decimation in time wants them. */
EW_CLONES static void transpose(const int16_t *restrict from, int16_t *restrict to,
                                const uint16_t *restrict order, uint32_t m) {
    for (uint32_t block = 0; block < m; ++block) {
        const int16_t *row = from + 16 * block;
        int16_t *column = to + order[block];
        for (uint32_t low = 0; low < 4; ++low) {
            for (uint32_t high = 0; high < 4; ++high) {
                column[(4 * low + high) * m] = row[4 * high + low];
            }
        }
    }
}

void ew_fft_complex(uint32_t size, const uint16_t *order, const int16_t *twiddles, int16_t *in,
                    int16_t *out) {
    int16_t *re = in, *im = in + size;
    const uint32_t rows = size / 16;
    uint32_t m, rest;
    if ((size & EW_FFT_POWERS_OF_4) == 0) {
        rest = size / 2;
        m = 2;
        first_radix2(re, im, rest);
    } else {
        rest = size / 4;
        m = 4;
        first_radix4(re, im, rest);
    }
    for (; rest > 16; rest /= 4, m *= 4) {
        for (uint32_t block = 0; block < m; ++block, twiddles += 6 * (rest / 4)) {
            block_radix4(re + block * rest, im + block * rest, rest / 4, twiddles);
        }
    }
    transpose(re, out, order, rows);
    transpose(im, out + size, order, rows);
    re = out;
    im = out + size;
    for (; m < size; twiddles += 6 * m, m *= 4) {
        for (uint32_t base = 0; base < size; base += 4 * m) {
            block_radix4(re + base, im + base, m, twiddles);
        }
    }
}
