/* SPDX-License-Identifier: Apache-2.0 */
/* Microphone words become the floor of their shift, saturated, also when both share memory. */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "ew_pcm.h"

static int16_t by_division(int32_t word, uint32_t gain_shift) {
    const int64_t unit = (int64_t)1 << (16 - gain_shift);
    const int64_t remainder = ((int64_t)word % unit + unit) % unit;
    const int64_t quotient = ((int64_t)word - remainder) / unit;
    return (int16_t)(quotient > INT16_MAX ? INT16_MAX : quotient < INT16_MIN ? INT16_MIN : quotient);
}

/* A square wave of 1 kHz on an offset keeps its height and loses the offset; in any blocks; the extremes saturate. */
static void check_dc(void) {
    enum { COUNT = 16000, OFFSET = -100000000, HEIGHT = 3000000 };
    static int32_t whole[COUNT];
    static int32_t parts[COUNT];
    for (int i = 0; i < COUNT; ++i) {
        whole[i] = parts[i] = OFFSET + (i / 8 % 2 == 0 ? HEIGHT : -HEIGHT);
    }
    ew_pcm_dc_t one = {0};
    ew_pcm_dc_t many = {0};
    CHECK(ew_pcm_remove_dc(&one, whole, COUNT) == EW_OK);
    for (int i = 0; i < COUNT; i += i == 0 ? 1 : 153) {
        const int end = i == 0 ? 1 : i + 153;
        CHECK(ew_pcm_remove_dc(&many, parts + i, (size_t)((end > COUNT ? COUNT : end) - i)) == EW_OK);
    }
    CHECK(memcmp(whole, parts, sizeof whole) == 0);
    CHECK(whole[0] == 0);
    for (int i = COUNT / 2; i < COUNT; ++i) {
        const int32_t size = whole[i] < 0 ? -whole[i] : whole[i];
        CHECK(size > HEIGHT - HEIGHT / 20 && size < HEIGHT + HEIGHT / 20);
    }
    int32_t extremes[] = {INT32_MIN, INT32_MAX};
    ew_pcm_dc_t fresh = {0};
    CHECK(ew_pcm_remove_dc(&fresh, extremes, 2) == EW_OK);
    CHECK(extremes[0] == 0 && extremes[1] == INT32_MAX);
    CHECK(ew_pcm_remove_dc(NULL, extremes, 2) == EW_ERROR_NULL);
    CHECK(ew_pcm_remove_dc(&fresh, NULL, 2) == EW_ERROR_NULL);
}

int main(void) {
    const int32_t words[] = {0,     1,      -1,        255,       -256,      32767,    -32768,   65535,
                             65536, -65536, INT32_MAX, INT32_MIN, 0x7fff000, -8388608, 12345678, -987654321};
    enum { COUNT = sizeof words / sizeof *words };
    for (uint32_t gain = 0; gain <= EW_PCM_MAX_GAIN_SHIFT; ++gain) {
        int16_t samples[COUNT];
        int32_t shared[COUNT];
        memcpy(shared, words, sizeof words);
        CHECK(ew_pcm_from_words(words, COUNT, gain, samples) == EW_OK);
        CHECK(ew_pcm_from_words(shared, COUNT, gain, (int16_t *)shared) == EW_OK);
        for (int i = 0; i < COUNT; ++i) {
            CHECK(samples[i] == by_division(words[i], gain));
        }
        CHECK(memcmp(samples, shared, sizeof samples) == 0);
    }
    check_dc();
    int16_t sample;
    CHECK(ew_pcm_from_words(words, 1, EW_PCM_MAX_GAIN_SHIFT + 1, &sample) == EW_ERROR_ARGUMENT);
    CHECK(ew_pcm_from_words(NULL, 1, 0, &sample) == EW_ERROR_NULL);
    CHECK(ew_pcm_from_words(words, 1, 0, NULL) == EW_ERROR_NULL);
    return 0;
}
