/* Q15 products of the FFT, rounded as kissfft rounds; private to the FFT's files. */
#ifndef EW_FFT_INTERNAL_H
#define EW_FFT_INTERNAL_H

#include <stdint.h>

#include "ew_fft.h"

/* Before the functions with the hot loops. A host build may define it to compile them for several instruction
 * sets, of which the machine picks one at load time; the bits do not depend on which. */
#ifndef EW_CLONES
#define EW_CLONES
#endif

/* Before a loop whose iterations touch disjoint elements, which a compiler cannot know for in-place
 * stages. */
#if defined(__GNUC__) && !defined(__clang__)
#define EW_FFT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define EW_FFT_INDEPENDENT
#endif

#define EW_FFT_POWERS_OF_4 0x55555555u

/* (a * b + 2^14) >> 15; a full-range, b below 32767 in magnitude: the sum stays below 2^31. */
static inline int16_t ew_mul15(int16_t a, int16_t b) {
    return (int16_t)((a * b + (1 << 14)) >> 15);
}

/* Real and imaginary part of (ar + i ai)(br + i bi) in Q15, rounded once. The sum of the two products stays
 * below 2^31 - 2^14, because a twiddle is at most 32767 in magnitude. The result wraps at 16 bits. */
static inline int16_t ew_cmul15_re(int16_t ar, int16_t ai, int16_t br, int16_t bi) {
    return (int16_t)((ar * br - ai * bi + (1 << 14)) >> 15);
}

static inline int16_t ew_cmul15_im(int16_t ar, int16_t ai, int16_t br, int16_t bi) {
    return (int16_t)((ar * bi + ai * br + (1 << 14)) >> 15);
}

/* Complex FFT of `size` values (a power of two, 32 to 1024).
 *   in  int16[2 size]: real parts, then imaginary parts, in time order; destroyed
 *   out int16[2 size]: real parts, then imaginary parts, in frequency order */
void ew_fft_complex(uint32_t size, const uint16_t *order, const int16_t *twiddles, int16_t *in, int16_t *out);

#endif /* EW_FFT_INTERNAL_H */
