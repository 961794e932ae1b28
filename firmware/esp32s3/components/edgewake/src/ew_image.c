/* SPDX-License-Identifier: Apache-2.0 */
/* An image is read in place, and only if it is whole and fits the firmware. */
#include "ew_image.h"

#include <stdbool.h>
#include <string.h>

#include "ew_internal.h"
#include "ew_sha256.h"

/* CRC-32, reflected, of the polynomial 0x04C11DB7: a table of 16 entries, half a byte at a time. */
static uint32_t crc32_of(const uint8_t *bytes, size_t n) {
    static const uint32_t TABLE[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; ++i) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ TABLE[crc & 15];
        crc = crc >> 4 ^ TABLE[crc & 15];
    }
    return ~crc;
}

/* What is read of an image: its header, copied, since it decides what is read. */
typedef struct {
    const uint8_t *bytes;
    ew_image_header_t header;
} image_t;

static const void *section(const image_t *image, ew_image_section_t which) {
    return image->bytes + image->header.sections[which].offset;
}

static size_t bytes_of(const image_t *image, ew_image_section_t which) {
    return image->header.sections[which].bytes;
}

static bool sections_lie_inside(const ew_image_header_t *header) {
    for (uint32_t i = 0; i < EW_IMAGE_SECTIONS; ++i) {
        const uint32_t offset = header->sections[i].offset, bytes = header->sections[i].bytes;
        if (offset % EW_ALIGNMENT != 0 || offset < sizeof *header || offset > header->bytes ||
            bytes > header->bytes - offset) {
            return false;
        }
    }
    return true;
}

ew_image_fault_t ew_image_check_header(const ew_image_header_t *header, size_t size, const ew_image_limits_t *limits) {
    static const uint8_t ERASED[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (size < sizeof *header) {
        return EW_IMAGE_BAD_SIZE;
    }
    if (memcmp(header->magic, ERASED, sizeof ERASED) == 0) {
        return EW_IMAGE_ERASED;
    }
    if (memcmp(header->magic, EW_IMAGE_MAGIC, sizeof header->magic) != 0) {
        return EW_IMAGE_OTHER_MAGIC;
    }
    if (header->version != EW_IMAGE_VERSION) {
        return EW_IMAGE_OTHER_VERSION;
    }
    if (header->bytes < sizeof *header || header->bytes > size) {
        return EW_IMAGE_BAD_SIZE;
    }
    if (header->kind != limits->kind) {
        return EW_IMAGE_OTHER_KIND;
    }
    if (memcmp(header->structure, limits->structure, sizeof header->structure) != 0) {
        return EW_IMAGE_OTHER_STRUCTURE;
    }
    /* Windows that are longer, or closer to each other, would take more time than there is. */
    const ew_frontend_tables_t *own = limits->tables;
    if (header->sample_rate != limits->sample_rate || header->channels != limits->channels ||
        header->frames_per_step != limits->frames_per_step || header->fft_size != own->fft_size ||
        header->window_samples > own->window_samples || header->step_samples < own->step_samples) {
        return EW_IMAGE_OTHER_AUDIO;
    }
    return EW_IMAGE_OK;
}

static bool is_phrase(const char *text, size_t bytes) {
    if (bytes < 2 || bytes > EW_IMAGE_MAX_PHRASE_BYTES || text[bytes - 1] != '\0') {
        return false;
    }
    for (size_t i = 0; i < bytes - 1; ++i) {
        /* Zeros would cut the text off, and the rest of the control characters would steer a terminal. */
        if ((uint8_t)text[i] < ' ' || text[i] == '\x7f') {
            return false;
        }
    }
    return true;
}

static bool is_hexadecimal(const char *digits, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        if (!((digits[i] >= '0' && digits[i] <= '9') || (digits[i] >= 'a' && digits[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

static bool in_range(const uint8_t *values, const ew_image_numbers_t *numbers) {
    for (uint32_t i = 0; i < numbers->count; ++i) {
        int32_t value;
        if (numbers->width == 1) {
            value = (int8_t)values[i];
        } else {
            memcpy(&value, values + 4 * (size_t)i, sizeof value);
        }
        if (value < numbers->low || value > numbers->high) {
            return false;
        }
    }
    return true;
}

/* The structure's hash first: only then can places and ranges be trusted. */
static ew_image_fault_t check_model(const image_t *image, const ew_image_limits_t *limits) {
    const uint8_t *model = section(image, EW_IMAGE_MODEL);
    const ew_image_numbers_t *all = section(image, EW_IMAGE_NUMBERS);
    const size_t bytes = bytes_of(image, EW_IMAGE_MODEL), count = bytes_of(image, EW_IMAGE_NUMBERS) / sizeof *all;
    if (count * sizeof *all != bytes_of(image, EW_IMAGE_NUMBERS)) {
        return EW_IMAGE_BAD_SECTION;
    }
    ew_sha256_t hash;
    ew_sha256_init(&hash);
    ew_sha256_update(&hash, (const uint8_t *)(const void *)all, count * sizeof *all);
    size_t position = 0;
    for (size_t i = 0; i < count; ++i) {
        const ew_image_numbers_t *numbers = &all[i];
        if ((numbers->width != 1 && numbers->width != 4) || numbers->offset % numbers->width != 0 ||
            numbers->offset < position || numbers->offset > bytes ||
            numbers->count > (bytes - numbers->offset) / numbers->width) {
            return EW_IMAGE_BAD_NUMBER;
        }
        ew_sha256_update(&hash, model + position, numbers->offset - position);
        position = numbers->offset + (size_t)numbers->count * numbers->width;
    }
    ew_sha256_update(&hash, model + position, bytes - position);
    uint8_t digest[EW_IMAGE_STRUCTURE_BYTES];
    ew_sha256_finish(&hash, digest);
    if (memcmp(digest, limits->structure, sizeof digest) != 0) {
        return EW_IMAGE_OTHER_STRUCTURE;
    }
    for (size_t i = 0; i < count; ++i) {
        if (!in_range(model + all[i].offset, &all[i])) {
            return EW_IMAGE_BAD_NUMBER;
        }
    }
    return EW_IMAGE_OK;
}

/* Of tables whose arrays have their sizes: what the frontend's arithmetic relies on. */
static bool at_most_one(const ew_frontend_tables_t *tables, size_t bins) {
    for (uint32_t i = 0; i < tables->window_samples; ++i) {
        const int32_t one = 1 << EW_FRONTEND_WINDOW_BITS;
        if (tables->window[i] < -one || tables->window[i] > one) {
            return false;
        }
    }
    for (size_t i = 0; i < bins; ++i) {
        const uint32_t one = 1u << EW_FRONTEND_FILTER_BITS;
        if (tables->weights[i] > one || tables->unweights[i] > one) {
            return false;
        }
    }
    return true;
}

static bool read_frontend(const image_t *image, const ew_frontend_tables_t *own, ew_frontend_tables_t *tables) {
    const ew_image_header_t *h = &image->header;
    const bool gain = h->pcan != 0;
    const ew_frontend_tables_t read = {
        .hash = (uint64_t)h->frontend_hash[1] << 32 | h->frontend_hash[0],
        .window_samples = h->window_samples,
        .step_samples = h->step_samples,
        .fft_size = h->fft_size,
        .channels = h->channels,
        .window = section(image, EW_IMAGE_WINDOW),
        .fft_order = own->fft_order,
        .fft_twiddles = own->fft_twiddles,
        .real_twiddles = own->real_twiddles,
        .bands = section(image, EW_IMAGE_BANDS),
        .weights = section(image, EW_IMAGE_FRONTEND_WEIGHTS),
        .unweights = section(image, EW_IMAGE_UNWEIGHTS),
        .noise_reduction = h->noise_reduction,
        .smoothing_bits = h->smoothing_bits,
        .even_smoothing = h->even_smoothing,
        .odd_smoothing = h->odd_smoothing,
        .min_signal_remaining = h->min_signal_remaining,
        .pcan = h->pcan,
        .snr_shift = h->snr_shift,
        .gain_lut = gain ? section(image, EW_IMAGE_GAIN_LUT) : NULL,
        .correction_bits = h->correction_bits,
        .scale_shift = h->scale_shift,
        .log_lut = section(image, EW_IMAGE_LOG_LUT),
    };
    /* The arrays' sizes before ew_frontend_size() reads the bands, and the bands before they give a size. */
    if (h->channels > EW_FRONTEND_MAX_CHANNELS || h->window_samples > EW_FRONTEND_MAX_FFT ||
        bytes_of(image, EW_IMAGE_WINDOW) != h->window_samples * sizeof *read.window ||
        bytes_of(image, EW_IMAGE_BANDS) != (h->channels + 2) * sizeof *read.bands ||
        bytes_of(image, EW_IMAGE_GAIN_LUT) != (gain ? EW_FRONTEND_GAIN_ENTRIES * sizeof *read.gain_lut : 0) ||
        bytes_of(image, EW_IMAGE_LOG_LUT) != EW_FRONTEND_LOG_ENTRIES * sizeof *read.log_lut ||
        ew_frontend_size(&read) == 0) {
        return false;
    }
    const size_t bins = (size_t)read.bands[h->channels + 1] - read.bands[0];
    if (bytes_of(image, EW_IMAGE_FRONTEND_WEIGHTS) != bins * sizeof *read.weights ||
        bytes_of(image, EW_IMAGE_UNWEIGHTS) != bins * sizeof *read.unweights || !at_most_one(&read, bins)) {
        return false;
    }
    *tables = read;
    return true;
}

static bool read_golden(const image_t *image, ew_golden_t *golden) {
    const ew_image_header_t *h = &image->header;
    const size_t frame = h->channels * sizeof *golden->features, steps = bytes_of(image, EW_IMAGE_OUTPUTS);
    golden->samples = section(image, EW_IMAGE_SAMPLES);
    golden->sample_count = bytes_of(image, EW_IMAGE_SAMPLES) / sizeof *golden->samples;
    golden->features = section(image, EW_IMAGE_FEATURES);
    golden->frame_count = bytes_of(image, EW_IMAGE_FEATURES) / frame;
    golden->outputs = section(image, EW_IMAGE_OUTPUTS);
    golden->sums = section(image, EW_IMAGE_SUMS);
    golden->detections = section(image, EW_IMAGE_DETECTIONS);
    golden->step_count = steps;
    return steps > 0 && golden->frame_count > 0 &&
           bytes_of(image, EW_IMAGE_SAMPLES) == golden->sample_count * sizeof *golden->samples &&
           bytes_of(image, EW_IMAGE_FEATURES) == golden->frame_count * frame &&
           bytes_of(image, EW_IMAGE_SUMS) == steps * sizeof *golden->sums &&
           bytes_of(image, EW_IMAGE_DETECTIONS) == steps;
}

ew_image_fault_t ew_image_open(const void *bytes, size_t size, const ew_image_limits_t *limits,
                               ew_frontend_tables_t *tables, ew_wakeword_t *wakeword) {
    if (size < sizeof(ew_image_header_t) || (uintptr_t)bytes % EW_ALIGNMENT != 0) {
        return EW_IMAGE_BAD_SIZE;
    }
    image_t image = {.bytes = bytes};
    const ew_image_header_t *h = &image.header;
    memcpy(&image.header, bytes, sizeof image.header);
    ew_image_fault_t fault = ew_image_check_header(h, size, limits);
    if (fault != EW_IMAGE_OK) {
        return fault;
    }
    const size_t behind = offsetof(ew_image_header_t, version);
    if (crc32_of(image.bytes + behind, h->bytes - behind) != h->crc) {
        return EW_IMAGE_BAD_CRC;
    }
    if (!sections_lie_inside(h)) {
        return EW_IMAGE_BAD_SECTION;
    }
    if (!is_phrase(section(&image, EW_IMAGE_PHRASE), bytes_of(&image, EW_IMAGE_PHRASE)) ||
        !is_hexadecimal(h->sha256, sizeof h->sha256)) {
        return EW_IMAGE_BAD_PHRASE;
    }
    fault = check_model(&image, limits);
    if (fault != EW_IMAGE_OK) {
        return fault;
    }
    if (!read_frontend(&image, limits->tables, tables)) {
        return EW_IMAGE_BAD_FRONTEND;
    }
    const ew_wakeword_t read = {
        .phrase = section(&image, EW_IMAGE_PHRASE),
        .sha256 = (const char *)image.bytes + offsetof(ew_image_header_t, sha256),
        .model = section(&image, EW_IMAGE_MODEL),
        .model_bytes = bytes_of(&image, EW_IMAGE_MODEL),
        .tables = tables,
        .pipeline =
            {
                .frames_per_step = h->frames_per_step,
                .channels = h->channels,
                .multiplier = h->multiplier,
                .shift = h->shift,
                .zero_point = h->zero_point,
                .window = h->window,
                .cutoff_sum = h->cutoff_sum,
                .refractory_steps = h->refractory_steps,
                .probabilities = section(&image, EW_IMAGE_PROBABILITIES),
            },
    };
    const size_t needed = ew_selftest_size(tables, &read.pipeline);
    if (needed == 0 || h->cutoff_sum == 0 ||
        bytes_of(&image, EW_IMAGE_PROBABILITIES) != 256 * sizeof *read.pipeline.probabilities) {
        return EW_IMAGE_BAD_PIPELINE;
    }
    if (needed > limits->work_bytes) {
        return EW_IMAGE_TOO_LITTLE_MEMORY;
    }
    ew_golden_t golden;
    if (!read_golden(&image, &golden)) {
        return EW_IMAGE_BAD_GOLDEN;
    }
    *wakeword = read;
    wakeword->golden = golden;
    return EW_IMAGE_OK;
}

const char *ew_image_fault_name(ew_image_fault_t fault) {
    switch (fault) {
    case EW_IMAGE_OK:
        return "nothing is wrong";
    case EW_IMAGE_ERASED:
        return "there is none";
    case EW_IMAGE_OTHER_MAGIC:
        return "it is no edgewake.bin";
    case EW_IMAGE_OTHER_VERSION:
        return "its format has another version";
    case EW_IMAGE_OTHER_KIND:
        return "it is for the other backend";
    case EW_IMAGE_OTHER_STRUCTURE:
        return "its model has other layers than this firmware was compiled for";
    case EW_IMAGE_OTHER_AUDIO:
        return "its frontend takes other audio, or more time, than this firmware was compiled for";
    case EW_IMAGE_BAD_SIZE:
        return "it is cut off";
    case EW_IMAGE_BAD_CRC:
        return "its checksum differs";
    case EW_IMAGE_BAD_SECTION:
        return "a section is not inside of it";
    case EW_IMAGE_BAD_PHRASE:
        return "its phrase or its name is no text";
    case EW_IMAGE_BAD_NUMBER:
        return "a number of the model is out of range";
    case EW_IMAGE_BAD_FRONTEND:
        return "a table of the frontend is out of range";
    case EW_IMAGE_BAD_PIPELINE:
        return "a setting of the detection is out of range";
    case EW_IMAGE_BAD_GOLDEN:
        return "its golden vectors are incomplete";
    case EW_IMAGE_TOO_LITTLE_MEMORY:
        return "it needs more memory than this firmware was compiled with";
    }
    return "unknown fault";
}
