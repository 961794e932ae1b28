/* Complex FFT of int16 pairs, decimation in time, radix 4 (one radix-2 stage for odd powers), scaled by
 * 1/size.
 *
 * Rounding follows kissfft: before a stage of radix r every value is multiplied by floor(32767/r) in Q15, and
 * twiddle products are rounded once, after their sum. Sums wrap at 16 bits. Layout is free, since bits depend
 * only on the arithmetic: the stages run over contiguous values, first along time, then (after one
 * transposition) along frequency. */
#include "ew_fft_internal.h"

#define QUARTER 8191 /* floor(32767 / 4) */
#define HALF 16383   /* floor(32767 / 2) */

/* The four outputs of a radix-4 butterfly; a is scaled, b, c and d are scaled and twiddled. */
#define BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, r0, i0, r1, i1, r2, i2, r3, i3)                            \
    do {                                                                                                     \
        const int16_t sum_r = (int16_t)((ar) + (cr)), dif_r = (int16_t)((ar) - (cr));                        \
        const int16_t sum_i = (int16_t)((ai) + (ci)), dif_i = (int16_t)((ai) - (ci));                        \
        const int16_t odd_r = (int16_t)((br) + (dr)), cross_r = (int16_t)((br) - (dr));                      \
        const int16_t odd_i = (int16_t)((bi) + (di)), cross_i = (int16_t)((bi) - (di));                      \
        (r0) = (int16_t)(sum_r + odd_r);                                                                     \
        (i0) = (int16_t)(sum_i + odd_i);                                                                     \
        (r1) = (int16_t)(dif_r + cross_i);                                                                   \
        (i1) = (int16_t)(dif_i - cross_r);                                                                   \
        (r2) = (int16_t)(sum_r - odd_r);                                                                     \
        (i2) = (int16_t)(sum_i - odd_i);                                                                     \
        (r3) = (int16_t)(dif_r - cross_i);                                                                   \
        (i3) = (int16_t)(dif_i + cross_r);                                                                   \
    } while (0)

/* First stage, radix 2. The twiddle 32767/32768 is the identity on values this small, so it is left out. */
static void first_radix2(int16_t *re, int16_t *im, uint32_t half) {
    int16_t *restrict r0 = re, *restrict r1 = re + half;
    int16_t *restrict i0 = im, *restrict i1 = im + half;
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
static void first_radix4(int16_t *re, int16_t *im, uint32_t quarter) {
    int16_t *restrict r0 = re, *restrict r1 = re + quarter, *restrict r2 = re + 2 * quarter,
                      *restrict r3 = re + 3 * quarter;
    int16_t *restrict i0 = im, *restrict i1 = im + quarter, *restrict i2 = im + 2 * quarter,
                      *restrict i3 = im + 3 * quarter;
    for (uint32_t j = 0; j < quarter; ++j) {
        const int16_t ar = ew_mul15(r0[j], QUARTER), ai = ew_mul15(i0[j], QUARTER);
        const int16_t br = ew_mul15(r1[j], QUARTER), bi = ew_mul15(i1[j], QUARTER);
        const int16_t cr = ew_mul15(r2[j], QUARTER), ci = ew_mul15(i2[j], QUARTER);
        const int16_t dr = ew_mul15(r3[j], QUARTER), di = ew_mul15(i3[j], QUARTER);
        BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, r0[j], i0[j], r1[j], i1[j], r2[j], i2[j], r3[j], i3[j]);
    }
}

/* One block of a stage along time: all butterflies have the frequency k, hence the same three twiddles. */
static void time_block(int16_t *re, int16_t *im, uint32_t quarter, const int16_t *tw, uint32_t m,
                       uint32_t k) {
    const int16_t w1r = tw[k], w1i = tw[m + k];
    const int16_t w2r = tw[2 * m + k], w2i = tw[3 * m + k];
    const int16_t w3r = tw[4 * m + k], w3i = tw[5 * m + k];
    int16_t *restrict r0 = re, *restrict r1 = re + quarter, *restrict r2 = re + 2 * quarter,
                      *restrict r3 = re + 3 * quarter;
    int16_t *restrict i0 = im, *restrict i1 = im + quarter, *restrict i2 = im + 2 * quarter,
                      *restrict i3 = im + 3 * quarter;
    for (uint32_t j = 0; j < quarter; ++j) {
        const int16_t ar = ew_mul15(r0[j], QUARTER), ai = ew_mul15(i0[j], QUARTER);
        const int16_t xr = ew_mul15(r1[j], QUARTER), xi = ew_mul15(i1[j], QUARTER);
        const int16_t yr = ew_mul15(r2[j], QUARTER), yi = ew_mul15(i2[j], QUARTER);
        const int16_t zr = ew_mul15(r3[j], QUARTER), zi = ew_mul15(i3[j], QUARTER);
        const int16_t br = ew_cmul15_re(xr, xi, w1r, w1i), bi = ew_cmul15_im(xr, xi, w1r, w1i);
        const int16_t cr = ew_cmul15_re(yr, yi, w2r, w2i), ci = ew_cmul15_im(yr, yi, w2r, w2i);
        const int16_t dr = ew_cmul15_re(zr, zi, w3r, w3i), di = ew_cmul15_im(zr, zi, w3r, w3i);
        BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, r0[j], i0[j], r1[j], i1[j], r2[j], i2[j], r3[j], i3[j]);
    }
}

/* One block of a stage along frequency: the butterfly k has the k-th twiddles. */
static void frequency_block(int16_t *re, int16_t *im, uint32_t m, const int16_t *restrict tw) {
    const int16_t *restrict w1r = tw, *restrict w1i = tw + m, *restrict w2r = tw + 2 * m,
                            *restrict w2i = tw + 3 * m, *restrict w3r = tw + 4 * m,
                            *restrict w3i = tw + 5 * m;
    int16_t *restrict r0 = re, *restrict r1 = re + m, *restrict r2 = re + 2 * m, *restrict r3 = re + 3 * m;
    int16_t *restrict i0 = im, *restrict i1 = im + m, *restrict i2 = im + 2 * m, *restrict i3 = im + 3 * m;
    for (uint32_t k = 0; k < m; ++k) {
        const int16_t ar = ew_mul15(r0[k], QUARTER), ai = ew_mul15(i0[k], QUARTER);
        const int16_t xr = ew_mul15(r1[k], QUARTER), xi = ew_mul15(i1[k], QUARTER);
        const int16_t yr = ew_mul15(r2[k], QUARTER), yi = ew_mul15(i2[k], QUARTER);
        const int16_t zr = ew_mul15(r3[k], QUARTER), zi = ew_mul15(i3[k], QUARTER);
        const int16_t br = ew_cmul15_re(xr, xi, w1r[k], w1i[k]), bi = ew_cmul15_im(xr, xi, w1r[k], w1i[k]);
        const int16_t cr = ew_cmul15_re(yr, yi, w2r[k], w2i[k]), ci = ew_cmul15_im(yr, yi, w2r[k], w2i[k]);
        const int16_t dr = ew_cmul15_re(zr, zi, w3r[k], w3i[k]), di = ew_cmul15_im(zr, zi, w3r[k], w3i[k]);
        BUTTERFLY(ar, ai, br, bi, cr, ci, dr, di, r0[k], i0[k], r1[k], i1[k], r2[k], i2[k], r3[k], i3[k]);
    }
}

/* From blocks of 16 moments by frequency to rows of `m` frequencies by moment, moments in base-4 reversed
 * order. */
static void transpose(const int16_t *restrict from, int16_t *restrict to, const uint16_t *restrict order,
                      uint32_t m) {
    for (uint32_t block = 0; block < m; ++block) {
        const int16_t *restrict row = from + 16 * block;
        int16_t *restrict column = to + order[block];
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
    for (; rest > 16; rest /= 4, twiddles += 6 * m, m *= 4) {
        for (uint32_t block = 0; block < m; ++block) {
            time_block(re + block * rest, im + block * rest, rest / 4, twiddles, m,
                       order[block * (rows / m)]);
        }
    }
    transpose(re, out, order, rows);
    transpose(im, out + size, order, rows);
    re = out;
    im = out + size;
    for (; m < size; twiddles += 6 * m, m *= 4) {
        for (uint32_t base = 0; base < size; base += 4 * m) {
            frequency_block(re + base, im + base, m, twiddles);
        }
    }
}
