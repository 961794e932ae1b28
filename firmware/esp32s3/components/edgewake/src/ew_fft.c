/* SPDX-License-Identifier: Apache-2.0 */
/* Real FFT of int16 samples, scaled by 1/size, bit for bit kissfft's 16-bit fixed-point transform.
 *
 * A complex FFT of half the size takes the even samples as real and the odd ones as imaginary parts; it decimates in
 * time with radix 4 (first radix 2 for odd powers of 2). Rounding follows kissfft: before a stage of radix r every
 * value is multiplied by floor(32767/r) in Q15; twiddle products are rounded once, after their sum; sums wrap at 16
 * bits. The order of work is free, since bits depend on the arithmetic alone. */
#include "ew_fft.h"

#include "ew_internal.h"

#define HALF opaque(16383)   /* floor(32767 / 2) */
#define QUARTER opaque(8191) /* floor(32767 / 4) */

#define POWERS_OF_4 0x55555555u

/* Sums keep 32 bits, and wrap when they are stored: to wrap in between costs an instruction each time. */
typedef struct {
    int32_t re, im;
} complex_t;

/* The same value, unknown to the compiler: a product with it is one instruction, and three where compilers for Xtensa make
 * it of shifts. */
static inline int32_t opaque(int32_t x) {
#if defined(__GNUC__)
    __asm__("" : "+r"(x));
#endif
    return x;
}

/* (a b + 2^14) >> 15; the product is below 2^31 - 2^14 in magnitude. */
static inline int32_t mul15(int32_t a, int32_t b) {
    return (a * b + (1 << 14)) >> 15;
}

static inline complex_t scaled(int16_t re, int16_t im, int32_t factor) {
    const complex_t value = {mul15(re, factor), mul15(im, factor)};
    return value;
}

/* a w in Q15, rounded once. a is of 16 bits; the sum of the two products stays below 2^31 - 2^14, because a twiddle is
 * at most 32767 in magnitude. */
static inline complex_t turned(complex_t a, const ew_twiddle_t *w) {
    const complex_t product = {(a.re * w->re - a.im * w->im + (1 << 14)) >> 15,
                               (a.re * w->im + a.im * w->re + (1 << 14)) >> 15};
    return product;
}

static inline complex_t add(complex_t a, complex_t b) {
    const complex_t sum = {a.re + b.re, a.im + b.im};
    return sum;
}

static inline complex_t subtract(complex_t a, complex_t b) {
    const complex_t difference = {a.re - b.re, a.im - b.im};
    return difference;
}

static inline void store(ew_bin_t *bin, int32_t re, int32_t im) {
    bin->value.re = (int16_t)re;
    bin->value.im = (int16_t)im;
}

/* The element i of complex values in the order of time. */
static inline complex_t sample(const int16_t *samples, uint32_t i, int32_t factor) {
    return scaled(samples[2 * i], samples[2 * i + 1], factor);
}

/* Where the group of outputs after that at `place` goes, of n places, n a power of 4 times `first`: counting with the
 * digits of base 4 in reverse. */
static inline uint32_t next_place(uint32_t place, uint32_t n) {
    uint32_t digit = n / 4;
    while (digit != 0 && (place & 3 * digit) == 3 * digit) {
        place -= 3 * digit;
        digit /= 4;
    }
    return place + digit;
}

/* First stage, radix 2; the twiddle 32767/32768 is the identity on values this small: left out. */
EW_CLONES static void first_radix2(const int16_t *samples, uint32_t shift, ew_bin_t *bins, uint32_t n) {
    const int32_t factor = HALF << shift;
    const uint32_t rest = n / 2;
    for (uint32_t i = 0, place = 0; i < rest; ++i, place = next_place(place, rest)) {
        const complex_t a = sample(samples, i, factor), b = sample(samples, i + rest, factor);
        store(&bins[2 * place], a.re + b.re, a.im + b.im);
        store(&bins[2 * place + 1], a.re - b.re, a.im - b.im);
    }
}

/* First stage, radix 4; twiddles left out as above. */
EW_CLONES static void first_radix4(const int16_t *samples, uint32_t shift, ew_bin_t *bins, uint32_t n) {
    const int32_t factor = QUARTER << shift;
    const uint32_t rest = n / 4;
    for (uint32_t i = 0, place = 0; i < rest; ++i, place = next_place(place, rest)) {
        const complex_t b = sample(samples, i + rest, factor);
        const complex_t d = sample(samples, i + 3 * rest, factor);
        const complex_t odd = add(b, d), cross = subtract(b, d);
        const complex_t a = sample(samples, i, factor);
        const complex_t c = sample(samples, i + 2 * rest, factor);
        const complex_t even = add(a, c), difference = subtract(a, c);
        ew_bin_t *out = &bins[4 * place];
        store(&out[0], even.re + odd.re, even.im + odd.im);
        store(&out[1], difference.re + cross.im, difference.im - cross.re);
        store(&out[2], even.re - odd.re, even.im - odd.im);
        store(&out[3], difference.re - cross.im, difference.im + cross.re);
    }
}

/* A radix-4 stage in place: blocks of m butterflies, the k-th of each with the twiddles w[3 step k] and the two after.
 * Few values are alive at a time, so that 16 registers hold them. */
EW_CLONES static void radix4(ew_bin_t *bins, uint32_t n, uint32_t m, const ew_twiddle_t *twiddles, uint32_t step) {
    const int32_t quarter = QUARTER;
    const ew_bin_t *end = bins + n;
    while (bins != end) {
        const ew_bin_t *last = bins + m;
        for (const ew_twiddle_t *w = twiddles; bins != last; ++bins, w += 3 * step) {
            ew_bin_t *at = bins + m;
            const complex_t b = turned(scaled(at->value.re, at->value.im, quarter), &w[0]);
            at += 2 * m;
            const complex_t d = turned(scaled(at->value.re, at->value.im, quarter), &w[2]);
            const complex_t odd = add(b, d), cross = subtract(b, d);
            at -= m;
            const complex_t c = turned(scaled(at->value.re, at->value.im, quarter), &w[1]);
            const complex_t a = scaled(bins->value.re, bins->value.im, quarter);
            const complex_t even = add(a, c), difference = subtract(a, c);
            store(bins, even.re + odd.re, even.im + odd.im);
            store(at, even.re - odd.re, even.im - odd.im);
            at -= m;
            store(at, difference.re + cross.im, difference.im - cross.re);
            at += 2 * m;
            store(at, difference.re - cross.im, difference.im + cross.re);
        }
        bins += 3 * m;
    }
}

static inline uint32_t square(int32_t re, int32_t im) {
    return (uint32_t)(re * re + im * im);
}

/* Energies of bin k and its mirror n - k of the real signal, in place of the values k and n - k of the transform of
 * half the size. The negation and the turned difference wrap at 16 bits as the reference's do; the halving takes the
 * unwrapped sum. Squares sum to less than 2^31, since the scaled sums are at least -32766. */
static inline void recombine(ew_bin_t *bin, ew_bin_t *mirror, const ew_twiddle_t *w, int32_t half) {
    const complex_t p = scaled(bin->value.re, bin->value.im, half);
    const complex_t q = scaled(mirror->value.re, (int16_t)-mirror->value.im, half);
    const complex_t sum = add(p, q), turn = turned(subtract(p, q), w);
    const int16_t re = (int16_t)turn.re, im = (int16_t)turn.im;
    bin->energy = square((sum.re + re) >> 1, (sum.im + im) >> 1);
    mirror->energy = square((sum.re - re) >> 1, (im - sum.im) >> 1);
}

void ew_fft_energy(const ew_fft_tables_t *tables, const int16_t *samples, uint32_t shift, ew_bin_t *bins,
                   uint32_t first, uint32_t last) {
    const uint32_t n = tables->size / 2, middle = n / 2;
    const int32_t half = HALF;
    uint32_t m, step;
    EW_PART(transform);
    if ((n & POWERS_OF_4) == 0) {
        m = 2;
        step = n / 8;
        first_radix2(samples, shift, bins, n);
    } else {
        m = 4;
        step = n / 16;
        first_radix4(samples, shift, bins, n);
    }
    for (; m < n; m *= 4, step /= 4) {
        radix4(bins, n, m, tables->twiddles, step);
    }
    EW_PART(bins);
    /* The middle bin is its own mirror, and the mirror's value is the one that stays. */
    for (uint32_t k = first < n - last ? first : n - last; k <= middle; ++k) {
        recombine(&bins[k], &bins[n - k], &tables->real_twiddles[k - 1], half);
    }
}
