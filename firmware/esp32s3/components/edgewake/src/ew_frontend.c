/* SPDX-License-Identifier: Apache-2.0 */
/* Log-mel features: equal int16 samples give equal uint16 features on every machine, in any chunking.
 *
 * A frame takes nine steps: window, block scaling, FFT (ew_fft.c: 3, 4), filterbank, square root, noise reduction, gain
 * control, logarithm. Each is TensorFlow Lite Micro's "micro frontend", bit for bit. */
#include "ew_frontend.h"

#include <string.h>

#include "ew_fft.h"
#include "ew_internal.h"

struct ew_frontend {
    const ew_frontend_tables_t *tables;
    uint32_t used;    /* samples in `input` */
    int16_t *input;   /* [window_samples] */
    bool complements; /* the two weights of each bin add up to 1 */
    ew_fft_tables_t fft;
    int16_t *windowed;  /* [fft_size], scratch up to window_samples, then zeros */
    ew_bin_t *bins;     /* [fft_size/2], scratch */
    uint32_t *signal;   /* [channels], scratch */
    uint32_t *estimate; /* [channels], noise estimate, smoothing_bits fraction bits */
};

/* ---------------------------------------------- Memory and state ---------------------------------------------- */

/* Where each array lies in the caller's memory: offsets in bytes, multiples of EW_ALIGNMENT. */
typedef struct {
    size_t input, windowed, bins, twiddles, real_twiddles, signal, estimate, bytes;
} layout_t;

static layout_t layout_of(const ew_frontend_tables_t *t) {
    layout_t layout;
    layout.input = ew_align(sizeof(struct ew_frontend));
    layout.windowed = layout.input + ew_align(t->window_samples * sizeof(int16_t));
    layout.bins = layout.windowed + ew_align(t->fft_size * sizeof(int16_t));
    layout.twiddles = layout.bins + ew_align(t->fft_size / 2 * sizeof(ew_bin_t));
    layout.real_twiddles = layout.twiddles + ew_align(t->fft_size / 8 * 3 * sizeof(ew_twiddle_t));
    layout.signal = layout.real_twiddles + ew_align(t->fft_size / 4 * sizeof(ew_twiddle_t));
    layout.estimate = layout.signal + ew_align(t->channels * sizeof(uint32_t));
    layout.bytes = layout.estimate + ew_align(t->channels * sizeof(uint32_t));
    return layout;
}

static bool complete(const ew_frontend_tables_t *t) {
    return t->window != NULL && t->fft_order != NULL && t->fft_twiddles != NULL && t->real_twiddles != NULL &&
           t->bands != NULL && t->weights != NULL && t->unweights != NULL && t->log_lut != NULL &&
           (t->pcan == 0 || t->gain_lut != NULL);
}

static bool in_range(const ew_frontend_tables_t *t) {
    const uint32_t one = 1u << EW_FRONTEND_NOISE_BITS;
    return t->fft_size >= EW_FRONTEND_MIN_FFT && t->fft_size <= EW_FRONTEND_MAX_FFT &&
           (t->fft_size & (t->fft_size - 1)) == 0 && t->window_samples >= 1 && t->window_samples <= t->fft_size &&
           t->step_samples >= 1 && t->step_samples <= t->window_samples && t->channels >= 1 &&
           t->channels <= EW_FRONTEND_MAX_CHANNELS && t->smoothing_bits < 32 && t->even_smoothing <= one &&
           t->odd_smoothing <= one && t->min_signal_remaining <= one && t->snr_shift < 64 && t->correction_bits < 32 &&
           t->scale_shift <= 10;
}

static bool bands_ascend(const ew_frontend_tables_t *t) {
    for (uint32_t band = 0; band <= t->channels; ++band) {
        if (t->bands[band] > t->bands[band + 1]) {
            return false;
        }
    }
    return t->bands[0] >= 1 && t->bands[t->channels + 1] <= t->fft_size / 2 && t->bands[0] < t->bands[t->channels + 1];
}

size_t ew_frontend_size(const ew_frontend_tables_t *tables) {
    if (tables == NULL || !complete(tables) || !in_range(tables) || !bands_ascend(tables)) {
        return 0;
    }
    return layout_of(tables).bytes;
}

size_t ew_frontend_tables_size(void) {
    return sizeof(ew_frontend_tables_t);
}

/* Whether the weights of a bin in its two channels always add up to 1: nearly so, since each was rounded by itself. */
static bool weights_complement(const ew_frontend_tables_t *t) {
    const uint32_t n = (uint32_t)(t->bands[t->channels + 1] - t->bands[0]);
    for (uint32_t bin = 0; bin < n; ++bin) {
        if (t->weights[bin] + t->unweights[bin] != 1 << EW_FRONTEND_FILTER_BITS) {
            return false;
        }
    }
    return true;
}

/* Values of the table of a complex transform of n values: m blocks of n/4m along time until 16 moments are left, then m
 * along frequency. */
static uint32_t twiddle_count(uint32_t n) {
    uint32_t count = 0;
    for (uint32_t m = (n & 0x55555555u) == 0 ? 2 : 4; m < n; m *= 4) {
        count += 6 * (16 * m < n ? n / 4 : m);
    }
    return count;
}

/* Twiddles in RAM, in the order in which they are read: from flash they cost more than the transform. Those of the last
 * stage, int16[3 powers][re, im][m], end the table. */
static void collect_twiddles(const ew_frontend_tables_t *t, ew_twiddle_t *twiddles, ew_twiddle_t *real_twiddles) {
    const uint32_t m = t->fft_size / 8;
    const int16_t *last = t->fft_twiddles + twiddle_count(t->fft_size / 2) - 6 * m;
    for (uint32_t k = 0; k < m; ++k) {
        for (uint32_t power = 0; power < 3; ++power, ++twiddles) {
            twiddles->re = last[2 * power * m + k];
            twiddles->im = last[(2 * power + 1) * m + k];
        }
    }
    for (uint32_t k = 0; k < 2 * m; ++k) {
        real_twiddles[k].re = t->real_twiddles[k];
        real_twiddles[k].im = t->real_twiddles[2 * m + k];
    }
}

ew_status_t ew_frontend_init(void *memory, size_t bytes, const ew_frontend_tables_t *tables, ew_frontend_t **frontend) {
    if (memory == NULL || tables == NULL || frontend == NULL) {
        return EW_ERROR_NULL;
    }
    const size_t needed = ew_frontend_size(tables);
    if (needed == 0) {
        return EW_ERROR_ARGUMENT;
    }
    if (bytes < needed) {
        return EW_ERROR_MEMORY;
    }
    if ((uintptr_t)memory % EW_ALIGNMENT != 0) {
        return EW_ERROR_ALIGNMENT;
    }
    const layout_t layout = layout_of(tables);
    uint8_t *base = memory;
    ew_frontend_t *fe = memory;
    fe->tables = tables;
    fe->input = (int16_t *)(void *)(base + layout.input);
    fe->windowed = (int16_t *)(void *)(base + layout.windowed);
    fe->bins = (ew_bin_t *)(void *)(base + layout.bins);
    ew_twiddle_t *twiddles = (ew_twiddle_t *)(void *)(base + layout.twiddles);
    ew_twiddle_t *real_twiddles = (ew_twiddle_t *)(void *)(base + layout.real_twiddles);
    fe->signal = (uint32_t *)(void *)(base + layout.signal);
    fe->estimate = (uint32_t *)(void *)(base + layout.estimate);
    fe->complements = weights_complement(tables);
    collect_twiddles(tables, twiddles, real_twiddles);
    fe->fft.size = tables->fft_size;
    fe->fft.twiddles = twiddles;
    fe->fft.real_twiddles = real_twiddles;
    memset(fe->windowed, 0, tables->fft_size * sizeof(*fe->windowed));
    *frontend = fe;
    return ew_frontend_reset(fe);
}

ew_status_t ew_frontend_reset(ew_frontend_t *frontend) {
    if (frontend == NULL) {
        return EW_ERROR_NULL;
    }
    frontend->used = 0;
    memset(frontend->input, 0, frontend->tables->window_samples * sizeof(*frontend->input));
    memset(frontend->estimate, 0, frontend->tables->channels * sizeof(*frontend->estimate));
    return EW_OK;
}

/* --------------------------------------------- The steps of a frame --------------------------------------------- */

/* Position of the highest set bit, counted from 1; 0 for 0. */
static inline uint32_t msb32(uint32_t x) {
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

/* Steps 1 and 2: windowed[i] = (input[i] * window[i]) >> 12, and by how many bits the largest magnitude can be shifted
 * left, whose msb is that of the union of bits. The reference takes the magnitude in 16 bits, so that -32768 counts as
 * 0, and shifts in 16 bits, so that it becomes 0. */
EW_CLONES static uint32_t apply_window(const int16_t *restrict input, const int16_t *restrict window, uint32_t n,
                                       int16_t *restrict windowed) {
    uint32_t bits = 0;
    EW_UNROLLED
    for (uint32_t i = 0; i < n; ++i) {
        const int32_t y = (input[i] * window[i]) >> EW_FRONTEND_WINDOW_BITS;
        windowed[i] = (int16_t)y;
        bits |= (uint32_t)(y < 0 ? -y : y);
    }
    const uint32_t shift = 15 - msb32(bits & 0x7FFFu);
    if (bits > 0x7FFFu && shift != 0) {
        for (uint32_t i = 0; i < n; ++i) {
            windowed[i] = windowed[i] == INT16_MIN ? 0 : windowed[i];
        }
    }
    return shift;
}

/* Integer square root, exact, by multiplications only. */

/* 2^15 / sqrt((i + 64.5) / 256), rounded: the reciprocal root of a mantissa in [1/4, 1) from its top 8
 * bits. */
static const uint16_t SEEDS[192] = {
    65281, 64781, 64292, 63814, 63347, 62889, 62442, 62004, 61575, 61154, 60742, 60339, 59943, 59555, 59175, 58801,
    58435, 58075, 57722, 57376, 57035, 56700, 56372, 56049, 55731, 55419, 55112, 54810, 54513, 54221, 53933, 53650,
    53371, 53097, 52826, 52560, 52298, 52040, 51785, 51535, 51288, 51044, 50804, 50567, 50333, 50103, 49876, 49652,
    49430, 49212, 48997, 48784, 48574, 48367, 48163, 47961, 47761, 47564, 47370, 47178, 46988, 46800, 46615, 46432,
    46251, 46072, 45895, 45720, 45547, 45376, 45207, 45040, 44875, 44711, 44550, 44390, 44232, 44075, 43920, 43767,
    43615, 43465, 43316, 43169, 43024, 42879, 42737, 42595, 42456, 42317, 42180, 42044, 41910, 41776, 41644, 41514,
    41384, 41256, 41129, 41003, 40878, 40754, 40631, 40510, 40390, 40270, 40152, 40035, 39919, 39803, 39689, 39576,
    39464, 39352, 39242, 39133, 39024, 38916, 38810, 38704, 38599, 38494, 38391, 38289, 38187, 38086, 37986, 37887,
    37788, 37690, 37593, 37497, 37401, 37307, 37213, 37119, 37027, 36935, 36843, 36753, 36663, 36573, 36485, 36397,
    36309, 36222, 36136, 36051, 35966, 35882, 35798, 35715, 35632, 35550, 35469, 35388, 35307, 35228, 35148, 35070,
    34991, 34914, 34837, 34760, 34684, 34608, 34533, 34458, 34384, 34310, 34237, 34164, 34092, 34020, 33949, 33878,
    33807, 33737, 33668, 33599, 33530, 33461, 33393, 33326, 33259, 33192, 33126, 33060, 32994, 32929, 32864, 32800,
};

static inline uint32_t high_word(uint32_t a, uint32_t b) {
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

/* A seed good to 8 bits, one Newton step for the reciprocal root (16 bits) and one for the root (30 bits) leave an error
 * of a few units, which the two loops remove; they make the root of x, rounded down, exact whatever came before. What
 * remains then says how to round. */
uint32_t ew_frontend_sqrt(uint64_t x) {
    if (x == 0) {
        return 0;
    }
    const uint32_t high = (uint32_t)(x >> 32), low = (uint32_t)x;
    const uint32_t shift = (high != 0 ? 32 - msb32(high) : 64 - msb32(low)) & ~1u;
    const uint32_t mantissa = shift == 0   ? high
                              : shift < 32 ? high << shift | low >> (32 - shift)
                                           : low << (shift - 32);
    const uint32_t seed = SEEDS[(mantissa >> 24) - 64];
    const uint32_t inverse = high_word(2 * seed, (3u << 30) - high_word(seed * seed, mantissa));
    const uint32_t coarse = high_word(mantissa, inverse << 15) << 2;
    const int32_t error = (int32_t)(mantissa - high_word(coarse, coarse));
    const uint32_t refined = coarse + (uint32_t)(int32_t)(((int64_t)error * (int32_t)inverse) >> 16);
    uint32_t root = (error > 0 && refined < coarse ? UINT32_MAX : refined) >> (shift / 2);
    int64_t rest = (int64_t)(x - (uint64_t)root * root);
    while (rest < 0) {
        --root;
        rest += 2 * (int64_t)root + 1;
    }
    while (rest > 2 * (int64_t)root) {
        rest -= 2 * (int64_t)root + 1;
        ++root;
    }
    const uint32_t limit = high != 0 ? UINT32_MAX : UINT16_MAX;
    return root + (rest > (int64_t)root && root != limit ? 1u : 0u);
}

/* Steps 5 and 6: signal[c] = root of the sum of energy x weight over the two bands of the channel c, shifted back. Every
 * bin lies between two channels and is shared by them: a channel is the unweighted part of its own band, carried over,
 * plus the weighted part of the next one. */

/* Bins whose products of 16 and 13 bits can be summed in 32. */
#define SUMMABLE 16u

/* A sum of energies x weights, low + 2^16 high. The halves have 16 bits, since such products are one instruction on any
 * 32-bit processor, and their sums need no carry. */
typedef struct {
    uint32_t low, high;
} halves_t;

static inline uint64_t whole(halves_t sum) {
    return ((uint64_t)sum.high << 16) + sum.low;
}

static inline void add_product(halves_t *sum, uint32_t energy, uint16_t weight) {
    sum->low += (uint32_t)(uint16_t)energy * weight;
    sum->high += (energy >> 16) * weight;
}

EW_CLONES static void filterbank(const ew_frontend_t *fe, uint32_t shift) {
    const ew_frontend_tables_t *t = fe->tables;
    const ew_bin_t *bin = fe->bins + t->bands[0];
    const uint16_t *weight = t->weights, *unweight = t->unweights;
    uint64_t rising, falling = 0;
    for (uint32_t band = 0; band <= t->channels; ++band) {
        const ew_bin_t *const end = fe->bins + t->bands[band + 1];
        rising = falling;
        falling = 0;
        while (bin != end) {
            const ew_bin_t *const stop = end - bin < (ptrdiff_t)SUMMABLE ? end : bin + SUMMABLE;
            halves_t weighted = {0, 0}, unweighted = {0, 0};
            if (fe->complements) {
                halves_t energy = {0, 0};
                for (; bin != stop; ++bin, ++weight) {
                    add_product(&weighted, bin->energy, *weight);
                    add_product(&energy, bin->energy, 1);
                }
                unweighted.low = (energy.low << EW_FRONTEND_FILTER_BITS) - weighted.low;
                unweighted.high = (energy.high << EW_FRONTEND_FILTER_BITS) - weighted.high;
            } else {
                for (; bin != stop; ++bin, ++weight, ++unweight) {
                    add_product(&weighted, bin->energy, *weight);
                    add_product(&unweighted, bin->energy, *unweight);
                }
            }
            rising += whole(weighted);
            falling += whole(unweighted);
        }
        if (band != 0) {
            fe->signal[band - 1] = ew_frontend_sqrt(rising) >> shift;
        }
    }
}

/* Step 7: update the noise estimate and, where configured, subtract it from the signal in place. */

/* (a x + b y) / 2^14, rounded down, modulo 2^32; a and b are at most 2^14 and add up to that, or b is 0. Products of 16
 * bits, as above. */
static inline uint32_t mixed(uint32_t x, uint32_t a, uint32_t y, uint32_t b) {
    const uint32_t low = (uint32_t)(uint16_t)x * a + (uint32_t)(uint16_t)y * b;
    return (((x >> 16) * a + (y >> 16) * b) << (16 - EW_FRONTEND_NOISE_BITS)) + (low >> EW_FRONTEND_NOISE_BITS);
}

static void reduce_noise(const ew_frontend_tables_t *tables, uint32_t *signal, uint32_t *estimate) {
    const uint32_t one = 1u << EW_FRONTEND_NOISE_BITS;
    const uint32_t bits = tables->smoothing_bits;
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t factor = (channel & 1) != 0 ? tables->odd_smoothing : tables->even_smoothing;
        const uint32_t value = signal[channel];
        const uint32_t up = value << bits;
        const uint32_t noise = mixed(up, factor, estimate[channel], one - factor);
        estimate[channel] = noise;
        if (tables->noise_reduction != 0) {
            const uint32_t floor_value = mixed(value, tables->min_signal_remaining, 0, 0);
            const uint32_t subtracted = (up - (noise < up ? noise : up)) >> bits;
            signal[channel] = subtracted > floor_value ? subtracted : floor_value;
        }
    }
}

/* Step 8: per-channel automatic gain control (PCAN). */
#define SNR_BITS 12
#define OUTPUT_BITS 6
#define FRACTION_BITS 10

/* The gain at noise level x: y0 + a1 t + a2 t^2 within an octave, t in Q10. Intermediate sums wrap at 32
 * bits, the result at 16. */
static uint32_t gain_at(uint32_t x, const int16_t *lut) {
    if (x <= 2) {
        return (uint32_t)lut[x];
    }
    const uint32_t octave = msb32(x);
    const int16_t *entry = lut + 4 * octave - 6;
    const uint32_t t =
        (octave <= FRACTION_BITS ? x << (FRACTION_BITS + 1 - octave) : x >> (octave - FRACTION_BITS - 1)) &
        ((1u << FRACTION_BITS) - 1);
    const int32_t square = (entry[2] * (int32_t)t) >> 5;
    const uint32_t slope = (uint32_t)square + ((uint32_t)entry[1] << 5);
    const int32_t rise = (int32_t)(slope * t + (1u << 14)) >> 15;
    return (uint32_t)(int16_t)(rise + entry[0]);
}

/* Quadratic below an SNR of 2, linear above. */
static uint32_t shrink(uint32_t snr) {
    if (snr < (2u << SNR_BITS)) {
        return (snr * snr) >> (2 + 2 * SNR_BITS - OUTPUT_BITS);
    }
    return (snr >> (SNR_BITS - OUTPUT_BITS)) - (1u << OUTPUT_BITS);
}

/* The low word of x >> shift, 0 to 63: a 64-bit shift by a variable is a call on the board. */
static inline uint32_t shifted(uint64_t x, uint32_t shift) {
    const uint32_t high = (uint32_t)(x >> 32), low = (uint32_t)x;
    return shift >= 32 ? high >> (shift - 32) : shift == 0 ? low : high << (32 - shift) | low >> shift;
}

static void control_gain(const ew_frontend_tables_t *tables, uint32_t *signal, const uint32_t *estimate) {
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t gain = gain_at(estimate[channel], tables->gain_lut);
        signal[channel] = shrink(shifted((uint64_t)signal[channel] * gain, tables->snr_shift));
    }
}

/* Step 9: natural logarithm in Q(scale_shift), saturated to uint16, with a correction table of 128 segments. */
#define LOG_BITS 16
#define SEGMENT_BITS 7
#define LN2 45426u /* ln(2) in Q16 */

/* ln(x) in Q(scale_shift), x >= 2. log2's fraction is the mantissa plus a correction, interpolated between
 * table entries. */
static uint32_t log_of(uint32_t x, uint32_t scale_shift, const uint16_t *lut) {
    const uint32_t integer = msb32(x) - 1;
    const uint32_t rest = x - (1u << integer);
    const uint32_t mantissa = integer < LOG_BITS ? rest << (LOG_BITS - integer) : rest >> (integer - LOG_BITS);
    const uint32_t segment = mantissa >> (LOG_BITS - SEGMENT_BITS);
    const int32_t within = (int32_t)(mantissa & ((1u << (LOG_BITS - SEGMENT_BITS)) - 1));
    const int32_t base = lut[segment];
    const int32_t correction = base + (((lut[segment + 1] - base) * within) >> LOG_BITS);
    const uint32_t log2 = (integer << LOG_BITS) + mantissa + (uint32_t)correction;
    const uint32_t half = 1u << (LOG_BITS - 1);
    const uint32_t natural = (log2 >> LOG_BITS) * LN2 + (((log2 & 0xFFFFu) * LN2 + half) >> LOG_BITS);
    return ((natural << scale_shift) + half) >> LOG_BITS;
}

static void take_logarithm(const ew_frontend_tables_t *tables, const uint32_t *signal, uint16_t *features) {
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t value = signal[channel] << tables->correction_bits;
        const uint32_t result = value > 1 ? log_of(value, tables->scale_shift, tables->log_lut) : 0;
        features[channel] = (uint16_t)(result < UINT16_MAX ? result : UINT16_MAX);
    }
}

/* --------------------------------------------- Frames from samples ---------------------------------------------- */

static void frame_features(ew_frontend_t *fe, uint16_t *features) {
    const ew_frontend_tables_t *t = fe->tables;
    EW_PART(window);
    const uint32_t shift = apply_window(fe->input, t->window, t->window_samples, fe->windowed);
    ew_fft_energy(&fe->fft, fe->windowed, shift, fe->bins, t->bands[0], t->bands[t->channels + 1] - 1u);
    EW_PART(filterbank);
    filterbank(fe, shift);
    EW_PART(noise);
    reduce_noise(t, fe->signal, fe->estimate);
    EW_PART(gain);
    if (t->pcan != 0) {
        control_gain(t, fe->signal, fe->estimate);
    }
    EW_PART(logarithm);
    take_logarithm(t, fe->signal, features);
    EW_PART(samples);
}

ew_status_t ew_frontend_process(ew_frontend_t *frontend, const int16_t *samples, size_t n, size_t *consumed,
                                uint16_t *features, bool *ready) {
    if (frontend == NULL || (samples == NULL && n != 0) || consumed == NULL || features == NULL || ready == NULL) {
        return EW_ERROR_NULL;
    }
    const ew_frontend_tables_t *t = frontend->tables;
    const uint32_t missing = t->window_samples - frontend->used;
    const uint32_t taken = n < missing ? (uint32_t)n : missing;
    if (taken != 0) {
        memcpy(frontend->input + frontend->used, samples, taken * sizeof(*samples));
    }
    frontend->used += taken;
    *consumed = taken;
    *ready = frontend->used == t->window_samples;
    if (*ready) {
        const uint32_t kept = t->window_samples - t->step_samples;
        frame_features(frontend, features);
        memmove(frontend->input, frontend->input + t->step_samples, kept * sizeof(*frontend->input));
        frontend->used = kept;
    }
    return EW_OK;
}

ew_status_t ew_frontend_run(ew_frontend_t *frontend, const int16_t *samples, size_t n, uint16_t *features,
                            size_t capacity, size_t *frames) {
    if (frontend == NULL || (samples == NULL && n != 0) || (features == NULL && capacity != 0) || frames == NULL) {
        return EW_ERROR_NULL;
    }
    const ew_frontend_tables_t *t = frontend->tables;
    const size_t missing = t->window_samples - frontend->used;
    size_t done = 0;
    *frames = 0;
    /* Frame f ends f steps after the first one; compared by multiplication, since small cores have no
     * divider. */
    if (n >= missing && capacity < n && n - missing >= (uint64_t)capacity * t->step_samples) {
        return EW_ERROR_MEMORY;
    }
    while (n != 0) {
        uint16_t spare[1];
        bool ready;
        size_t consumed;
        uint16_t *row = done < capacity ? features + done * t->channels : spare;
        const ew_status_t status = ew_frontend_process(frontend, samples, n, &consumed, row, &ready);
        if (status != EW_OK) {
            return status;
        }
        samples += consumed;
        n -= consumed;
        done += ready ? 1u : 0u;
    }
    *frames = done;
    return EW_OK;
}
