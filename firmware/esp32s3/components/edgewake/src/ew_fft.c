/* SPDX-License-Identifier: Apache-2.0 */
/* Real FFT of int16 samples, scaled by 1/size, bit for bit kissfft's 16-bit fixed-point transform.
 *
 * A complex FFT of half the size takes the even samples as real and the odd ones as imaginary parts; it decimates in
 * time with radix 4 (first radix 2 for odd powers of 2). Rounding follows kissfft: before a stage of radix r every
 * value is multiplied by floor(32767/r) in Q15; twiddle products are rounded once, after their sum; sums wrap at 16
 * bits. The layout is free, since bits depend on the arithmetic alone: stages run over contiguous values, first along
 * time, after a transposition along frequency. */
#include "ew_fft.h"

#include "ew_internal.h"

#define HALF 16383   /* floor(32767 / 2) */
#define QUARTER 8191 /* floor(32767 / 4) */

#define POWERS_OF_4 0x55555555u

/* Before a loop whose iterations touch disjoint elements, which a compiler cannot derive for in-place stages. */
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

typedef struct {
    int16_t re, im;
} complex_t;

/* (a * b + 2^14) >> 15; a full-range, b below 32767 in magnitude: the sum stays below 2^31. */
static inline int16_t mul15(int16_t a, int16_t b) {
    return (int16_t)((a * b + (1 << 14)) >> 15);
}

/* The element i of two rows, times a factor in Q15. */
static inline complex_t scaled(const int16_t *re, const int16_t *im, ptrdiff_t i, int16_t factor) {
    const complex_t value = {mul15(re[i], factor), mul15(im[i], factor)};
    return value;
}

/* a b in Q15, rounded once. The sum of the two products stays below 2^31 - 2^14, because a twiddle is at most 32767 in
 * magnitude. The result wraps at 16 bits. */
static inline complex_t cmul15(complex_t a, int16_t re, int16_t im) {
    const complex_t product = {(int16_t)((a.re * re - a.im * im + (1 << 14)) >> 15),
                               (int16_t)((a.re * im + a.im * re + (1 << 14)) >> 15)};
    return product;
}

static inline complex_t add(complex_t a, complex_t b) {
    const complex_t sum = {(int16_t)(a.re + b.re), (int16_t)(a.im + b.im)};
    return sum;
}

static inline complex_t subtract(complex_t a, complex_t b) {
    const complex_t difference = {(int16_t)(a.re - b.re), (int16_t)(a.im - b.im)};
    return difference;
}

/* The four outputs of a radix-4 butterfly, each n values after the one before. */
static inline void butterfly(complex_t a, complex_t b, complex_t c, complex_t d, int16_t *re, int16_t *im,
                             ptrdiff_t n) {
    const complex_t sum = add(a, c), difference = subtract(a, c);
    const complex_t odd = add(b, d), cross = subtract(b, d);
    re[0] = (int16_t)(sum.re + odd.re);
    im[0] = (int16_t)(sum.im + odd.im);
    re[n] = (int16_t)(difference.re + cross.im);
    im[n] = (int16_t)(difference.im - cross.re);
    re[2 * n] = (int16_t)(sum.re - odd.re);
    im[2 * n] = (int16_t)(sum.im - odd.im);
    re[3 * n] = (int16_t)(difference.re - cross.im);
    im[3 * n] = (int16_t)(difference.im + cross.re);
}

/* First stage, radix 2: n butterflies. The twiddle 32767/32768 is the identity on values this small: left out. */
EW_CLONES static void first_radix2(int16_t *re, int16_t *im, ptrdiff_t n) {
    INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) {
        const complex_t a = scaled(re, im, i, HALF), b = scaled(re, im, n + i, HALF);
        const complex_t sum = add(a, b), difference = subtract(a, b);
        re[i] = sum.re;
        im[i] = sum.im;
        re[n + i] = difference.re;
        im[n + i] = difference.im;
    }
}

/* First stage, radix 4: n butterflies; twiddles left out as above. */
EW_CLONES static void first_radix4(int16_t *re, int16_t *im, ptrdiff_t n) {
    INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) {
        butterfly(scaled(re, im, i, QUARTER), scaled(re, im, n + i, QUARTER), scaled(re, im, 2 * n + i, QUARTER),
                  scaled(re, im, 3 * n + i, QUARTER), re + i, im + i, n);
    }
}

/* One block of a radix-4 stage: n butterflies, the i-th with the i-th twiddles, w int16[3 powers][re, im][n]. Along
 * time all twiddles of a block are equal; they are stored n times, since only then do compilers multiply 16 bits by
 * 16. */
EW_CLONES static void block_radix4(int16_t *re, int16_t *im, ptrdiff_t n, const int16_t *w) {
    INDEPENDENT
    for (ptrdiff_t i = 0; i < n; ++i) {
        const complex_t a = scaled(re, im, i, QUARTER);
        const complex_t b = cmul15(scaled(re, im, n + i, QUARTER), w[i], w[n + i]);
        const complex_t c = cmul15(scaled(re, im, 2 * n + i, QUARTER), w[2 * n + i], w[3 * n + i]);
        const complex_t d = cmul15(scaled(re, im, 3 * n + i, QUARTER), w[4 * n + i], w[5 * n + i]);
        butterfly(a, b, c, d, re + i, im + i, n);
    }
}

/* From one block of 16 moments for each frequency to one row of m frequencies for each moment, the rows in base-4
 * reversed order of the moments, as decimation in time needs them. */
EW_CLONES static void transpose(const int16_t *restrict from, int16_t *restrict to, const uint16_t *restrict order,
                                uint32_t m) {
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

/* Complex FFT of n values, a power of two, 32 to 1024.
 *   in   int16[2][n], re then im, in time order; overwritten
 *   out  int16[2][n], re then im, in frequency order */
static void complex_fft(const ew_fft_tables_t *tables, uint32_t n, int16_t *in, int16_t *out) {
    const int16_t *twiddles = tables->twiddles;
    int16_t *re = in, *im = in + n;
    const uint32_t rows = n / 16;
    uint32_t m, rest;
    if ((n & POWERS_OF_4) == 0) {
        rest = n / 2;
        m = 2;
        first_radix2(re, im, (ptrdiff_t)rest);
    } else {
        rest = n / 4;
        m = 4;
        first_radix4(re, im, (ptrdiff_t)rest);
    }
    for (; rest > 16; rest /= 4, m *= 4) {
        for (uint32_t block = 0; block < m; ++block, twiddles += 6 * (rest / 4)) {
            block_radix4(re + block * rest, im + block * rest, (ptrdiff_t)(rest / 4), twiddles);
        }
    }
    transpose(re, out, tables->order, rows);
    transpose(im, out + n, tables->order, rows);
    re = out;
    im = out + n;
    for (; m < n; twiddles += 6 * m, m *= 4) {
        for (uint32_t base = 0; base < n; base += 4 * m) {
            block_radix4(re + base, im + base, (ptrdiff_t)m, twiddles);
        }
    }
}

/* Bin k and its mirror n - k of the real signal, in place of the values k and n - k of the half-size transform. The
 * negation wraps at 16 bits as the reference's does; the halving takes the unwrapped sum. Squares of the results sum to
 * less than 2^31, since the scaled sums are at least -32766. */
static inline void recombine(int16_t *re, int16_t *im, int16_t *mirror_re, int16_t *mirror_im, int16_t wr, int16_t wi) {
    const complex_t p = {mul15(*re, HALF), mul15(*im, HALF)};
    const complex_t q = {mul15(*mirror_re, HALF), mul15((int16_t)-*mirror_im, HALF)};
    const complex_t sum = add(p, q), turned = cmul15(subtract(p, q), wr, wi);
    *re = (int16_t)((sum.re + turned.re) >> 1);
    *im = (int16_t)((sum.im + turned.im) >> 1);
    *mirror_re = (int16_t)((sum.re - turned.re) >> 1);
    *mirror_im = (int16_t)((turned.im - sum.im) >> 1);
}

EW_CLONES void ew_fft_energy(const ew_fft_tables_t *tables, int16_t *work, uint32_t *energy, uint32_t first,
                             uint32_t last) {
    const uint32_t n = tables->size / 2, middle = n / 2;
    int16_t *re = work + tables->size, *im = re + n;
    int16_t *mirror_re = re + n, *mirror_im = im + n;
    const int16_t *wr = tables->real_twiddles, *wi = wr + middle;
    complex_fft(tables, n, work, re);
    INDEPENDENT
    for (ptrdiff_t k = 1; k < (ptrdiff_t)middle; ++k) {
        recombine(&re[k], &im[k], &mirror_re[-k], &mirror_im[-k], wr[k - 1], wi[k - 1]);
    }
    /* The middle bin is its own mirror, and the mirror's value is the one that stays. */
    recombine(&re[middle], &im[middle], &re[middle], &im[middle], wr[middle - 1], wi[middle - 1]);
    for (size_t bin = first; bin < (size_t)last + 1; ++bin) {
        energy[bin] = (uint32_t)(re[bin] * re[bin] + im[bin] * im[bin]);
    }
}
