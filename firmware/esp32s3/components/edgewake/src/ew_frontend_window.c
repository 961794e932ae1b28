/* Steps 1 and 2 of the frontend: window and block floating point. */
#include <string.h>

#include "ew_fft_internal.h"
#include "ew_frontend_internal.h"

EW_CLONES uint32_t ew_frontend_window(const int16_t *restrict input, const int16_t *restrict window,
                                      uint32_t n, int16_t *restrict windowed) {
    /* The msb of the maximum is the msb of the union of bits. */
    uint16_t bits = 0;
    for (uint32_t i = 0; i < n; ++i) {
        const int16_t y = (int16_t)((input[i] * window[i]) >> EW_FRONTEND_WINDOW_BITS);
        windowed[i] = y;
        bits = (uint16_t)(bits | (uint16_t)(y < 0 ? -y : y));
    }
    return ew_msb32(bits & 0x7FFFu);
}

EW_CLONES void ew_frontend_scale(const int16_t *restrict windowed, uint32_t n, uint32_t shift,
                                 uint32_t fft_size, int16_t *restrict split) {
    const uint32_t half = fft_size / 2, pairs = n / 2;
    int16_t *restrict even = split, *restrict odd = split + half;
    for (uint32_t i = 0; i < pairs; ++i) {
        even[i] = (int16_t)(uint16_t)((uint32_t)(uint16_t)windowed[2 * i] << shift);
        odd[i] = (int16_t)(uint16_t)((uint32_t)(uint16_t)windowed[2 * i + 1] << shift);
    }
    memset(even + pairs, 0, (half - pairs) * sizeof(*even));
    memset(odd + pairs, 0, (half - pairs) * sizeof(*odd));
    if (n % 2 != 0) {
        even[pairs] = (int16_t)(uint16_t)((uint32_t)(uint16_t)windowed[n - 1] << shift);
    }
}
