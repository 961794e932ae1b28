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
    uint32_t used;      /* samples in `input` */
    int16_t *input;     /* [window_samples] */
    int16_t *work;      /* [2 fft_size], scratch */
    uint32_t *energy;   /* [fft_size/2 + 1], scratch */
    uint64_t *power;    /* [channels], scratch */
    uint32_t *signal;   /* [channels], scratch */
    uint32_t *estimate; /* [channels], noise estimate, smoothing_bits fraction bits */
};

/* ---------------------------------------------- Memory and state ---------------------------------------------- */

/* Where each array lies in the caller's memory: offsets in bytes, multiples of EW_ALIGNMENT. */
typedef struct {
    size_t input, work, energy, power, signal, estimate, bytes;
} layout_t;

static layout_t layout_of(const ew_frontend_tables_t *t) {
    layout_t layout;
    layout.input = ew_align(sizeof(struct ew_frontend));
    layout.work = layout.input + ew_align(t->window_samples * sizeof(int16_t));
    layout.energy = layout.work + ew_align(2 * (size_t)t->fft_size * sizeof(int16_t));
    layout.power = layout.energy + ew_align((t->fft_size / 2 + 1) * sizeof(uint32_t));
    layout.signal = layout.power + ew_align(t->channels * sizeof(uint64_t));
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
    fe->work = (int16_t *)(void *)(base + layout.work);
    fe->energy = (uint32_t *)(void *)(base + layout.energy);
    fe->power = (uint64_t *)(void *)(base + layout.power);
    fe->signal = (uint32_t *)(void *)(base + layout.signal);
    fe->estimate = (uint32_t *)(void *)(base + layout.estimate);
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

/* Step 1: windowed[i] = (input[i] * window[i]) >> 12. Returns the msb of the largest magnitude, which is the msb of the
 * union of bits; -32768 counts as 0, since the reference takes the magnitude in 16 bits. */
EW_CLONES static uint32_t apply_window(const int16_t *restrict input, const int16_t *restrict window, uint32_t n,
                                       int16_t *restrict windowed) {
    uint16_t bits = 0;
    for (uint32_t i = 0; i < n; ++i) {
        const int16_t y = (int16_t)((input[i] * window[i]) >> EW_FRONTEND_WINDOW_BITS);
        windowed[i] = y;
        bits = (uint16_t)(bits | (uint16_t)(y < 0 ? -y : y));
    }
    return msb32(bits & 0x7FFFu);
}

/* Step 2: shift left (wrapping at 16 bits), zero-pad to fft_size, split.
 *   split  int16[fft_size]: even samples, then odd samples */
EW_CLONES static void scale_and_split(const int16_t *restrict windowed, uint32_t n, uint32_t shift, uint32_t fft_size,
                                      int16_t *restrict split) {
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

/* Step 5: power[c] = sum of energy x weight over the two bands of the channel c. Every bin lies between two channels
 * and is shared by them: a channel is the unweighted part of its own band, carried over, plus the weighted part of the
 * next one. */
EW_CLONES static void filterbank(const ew_frontend_tables_t *tables, const uint32_t *energy, uint64_t *power) {
    const uint16_t *restrict bands = tables->bands;
    const uint32_t first = bands[0];
    const uint16_t *restrict weights = tables->weights, *restrict unweights = tables->unweights;
    uint64_t carried = 0;
    energy += first;
    for (uint32_t bin = 0; bin < bands[1] - first; ++bin) {
        carried += (uint64_t)energy[bin] * unweights[bin];
    }
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t end = bands[channel + 2] - first;
        uint64_t weighted = carried, unweighted = 0;
        for (uint32_t bin = bands[channel + 1] - first; bin < end; ++bin) {
            weighted += (uint64_t)energy[bin] * weights[bin];
            unweighted += (uint64_t)energy[bin] * unweights[bin];
        }
        power[channel] = weighted;
        carried = unweighted;
    }
}

/* Step 6: integer square root, exact, by multiplications only. */

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

/* floor(sqrt(x)), x > 0. A seed good to 8 bits, one Newton step for the reciprocal root (16 bits) and one for
 * the root (30 bits) leave an error of a few units, which the two loops remove; they make the result exact
 * whatever came before. */
static uint32_t floor_sqrt(uint64_t x) {
    const uint32_t high = (uint32_t)(x >> 32);
    const uint32_t msb = high != 0 ? 32 + msb32(high) : msb32((uint32_t)x);
    const uint32_t shift = (64 - msb) & ~1u;
    const uint64_t scaled = x << shift;
    const uint32_t mantissa = (uint32_t)(scaled >> 32);
    const uint32_t seed = SEEDS[(mantissa >> 24) - 64];
    const uint32_t product = (uint32_t)(((uint64_t)(seed * seed) * mantissa) >> 32);
    const uint32_t inverse = (uint32_t)(((uint64_t)seed * ((3u << 30) - product)) >> 31);
    const uint32_t coarse = (uint32_t)(((uint64_t)mantissa * inverse) >> 15);
    const int64_t error = (int64_t)(scaled - (uint64_t)coarse * coarse);
    const uint64_t refined = (uint64_t)((int64_t)coarse + (((error >> 32) * (int64_t)inverse) >> 16));
    uint32_t root = (uint32_t)(refined < UINT32_MAX ? refined : UINT32_MAX) >> (shift / 2);
    while ((uint64_t)root * root > x) {
        --root;
    }
    while (x - (uint64_t)root * root > 2 * (uint64_t)root) {
        ++root;
    }
    return root;
}

uint32_t ew_frontend_sqrt(uint64_t x) {
    if (x == 0) {
        return 0;
    }
    const uint32_t root = floor_sqrt(x);
    const uint32_t limit = (x >> 32) != 0 ? UINT32_MAX : UINT16_MAX;
    return root + (x - (uint64_t)root * root > root && root != limit ? 1u : 0u);
}

/* Step 7: update the noise estimate and, where configured, subtract it from the signal in place. */
static void reduce_noise(const ew_frontend_tables_t *tables, uint32_t *signal, uint32_t *estimate) {
    const uint32_t one = 1u << EW_FRONTEND_NOISE_BITS;
    const uint32_t bits = tables->smoothing_bits;
    const uint32_t smoothing[2] = {tables->even_smoothing, tables->odd_smoothing};
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t factor = smoothing[channel & 1];
        const uint32_t value = signal[channel];
        const uint32_t up = value << bits;
        const uint32_t noise = (uint32_t)(((uint64_t)up * factor + (uint64_t)estimate[channel] * (one - factor)) >>
                                          EW_FRONTEND_NOISE_BITS);
        estimate[channel] = noise;
        if (tables->noise_reduction != 0) {
            const uint32_t floor_value =
                (uint32_t)(((uint64_t)value * tables->min_signal_remaining) >> EW_FRONTEND_NOISE_BITS);
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

static void control_gain(const ew_frontend_tables_t *tables, uint32_t *signal, const uint32_t *estimate) {
    for (uint32_t channel = 0; channel < tables->channels; ++channel) {
        const uint32_t gain = gain_at(estimate[channel], tables->gain_lut);
        signal[channel] = shrink((uint32_t)(((uint64_t)signal[channel] * gain) >> tables->snr_shift));
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
    const uint32_t natural = (uint32_t)(((uint64_t)LN2 * log2 + half) >> LOG_BITS);
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
    const ew_fft_tables_t fft = {t->fft_size, t->fft_order, t->fft_twiddles, t->real_twiddles};
    int16_t *windowed = fe->work + t->fft_size;
    const uint32_t shift = 15 - apply_window(fe->input, t->window, t->window_samples, windowed);
    scale_and_split(windowed, t->window_samples, shift, t->fft_size, fe->work);
    ew_fft_energy(&fft, fe->work, fe->energy, t->bands[0], t->bands[t->channels + 1] - 1u);
    filterbank(t, fe->energy, fe->power);
    for (uint32_t channel = 0; channel < t->channels; ++channel) {
        fe->signal[channel] = ew_frontend_sqrt(fe->power[channel]) >> shift;
    }
    reduce_noise(t, fe->signal, fe->estimate);
    if (t->pcan != 0) {
        control_gain(t, fe->signal, fe->estimate);
    }
    take_logarithm(t, fe->signal, features);
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
