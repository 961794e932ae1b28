/* SPDX-License-Identifier: Apache-2.0 */
/* Images of any bytes are refused, or everything that they give lies inside of them and is safe to run; nothing is
 * written to them. Most are made whole here and then changed, with or without a new checksum and structure. */
#include "ew_image.h"

#include "ew_sha256.h"
#include "model.h"

enum { ROOM = 16384 };

typedef struct {
    uint8_t *bytes; /* ROOM of them, aligned */
    ew_image_header_t header;
    uint32_t used;
} draft_t;

static void append(draft_t *draft, ew_image_section_t which, const void *data, size_t bytes) {
    CHECK(draft->used + bytes + EW_ALIGNMENT <= ROOM);
    memcpy(draft->bytes + draft->used, data, bytes);
    draft->header.sections[which].offset = draft->used;
    draft->header.sections[which].bytes = (uint32_t)bytes;
    draft->used = (draft->used + (uint32_t)bytes + EW_ALIGNMENT - 1) / EW_ALIGNMENT * EW_ALIGNMENT;
}

static void append_any(draft_t *draft, ew_image_section_t which, input_t *input, size_t bytes) {
    void *data = filled(input, bytes, 64);
    append(draft, which, data, bytes);
    free(data);
}

/* A whole image, whose model is bytes with one place of each width. */
static void make(draft_t *draft, input_t *input) {
    const ew_frontend_tables_t *t = &EW_FRONTEND_TABLES;
    const uint32_t steps = 1 + take_byte(input) % 4, frames = steps * 2;
    const uint32_t low = take_word(input) % 256;
    uint16_t probabilities[256];
    const ew_pipeline_config_t pipeline = take_config(input, probabilities);
    const ew_image_header_t header = {
        .magic = {'e', 'd', 'g', 'e', 'w', 'a', 'k', 'e'},
        .version = EW_IMAGE_VERSION,
        .kind = EW_IMAGE_TFLITE,
        .sample_rate = EW_FRONTEND_SAMPLE_RATE,
        .window_samples = t->window_samples,
        .step_samples = t->step_samples,
        .fft_size = t->fft_size,
        .noise_reduction = t->noise_reduction,
        .smoothing_bits = t->smoothing_bits,
        .even_smoothing = t->even_smoothing,
        .odd_smoothing = t->odd_smoothing,
        .min_signal_remaining = t->min_signal_remaining,
        .pcan = t->pcan,
        .snr_shift = t->snr_shift,
        .correction_bits = t->correction_bits,
        .scale_shift = t->scale_shift,
        .frames_per_step = 2,
        .channels = CHANNELS,
        .multiplier = pipeline.multiplier,
        .shift = pipeline.shift,
        .zero_point = pipeline.zero_point,
        .window = pipeline.window,
        .cutoff_sum = pipeline.cutoff_sum,
        .refractory_steps = pipeline.refractory_steps,
    };
    draft->header = header;
    memset(draft->header.sha256, 'a', sizeof header.sha256);
    draft->used = (sizeof header + EW_ALIGNMENT - 1) / EW_ALIGNMENT * EW_ALIGNMENT;
    append(draft, EW_IMAGE_PHRASE, "hey", 4);
    const uint32_t bytes = take_byte(input) % 200, first = bytes / 3, second = (first * 2 + 3) / 4 * 4;
    append_any(draft, EW_IMAGE_MODEL, input, bytes);
    const ew_image_numbers_t numbers[2] = {
        {first, second > first && second <= bytes ? second - first : 0, 1, -128, 127},
        {second <= bytes ? second : first / 4 * 4 + 4, second <= bytes ? (bytes - second) / 4 : 0, 4,
         (int32_t)(low << 24), INT32_MAX},
    };
    append(draft, EW_IMAGE_NUMBERS, numbers, second <= bytes ? sizeof numbers : sizeof *numbers);
    append(draft, EW_IMAGE_PROBABILITIES, probabilities, sizeof probabilities);
    const size_t bins = (size_t)t->bands[CHANNELS + 1] - t->bands[0];
    append(draft, EW_IMAGE_WINDOW, t->window, t->window_samples * sizeof *t->window);
    append(draft, EW_IMAGE_BANDS, t->bands, (CHANNELS + 2) * sizeof *t->bands);
    append(draft, EW_IMAGE_FRONTEND_WEIGHTS, t->weights, bins * sizeof *t->weights);
    append(draft, EW_IMAGE_UNWEIGHTS, t->unweights, bins * sizeof *t->unweights);
    append(draft, EW_IMAGE_GAIN_LUT, t->gain_lut, t->pcan ? EW_FRONTEND_GAIN_ENTRIES * sizeof *t->gain_lut : 0);
    append(draft, EW_IMAGE_LOG_LUT, t->log_lut, EW_FRONTEND_LOG_ENTRIES * sizeof *t->log_lut);
    append_any(draft, EW_IMAGE_SAMPLES, input, 2 * (t->window_samples + t->step_samples * (size_t)(frames - 1)));
    append_any(draft, EW_IMAGE_FEATURES, input, frames * CHANNELS * sizeof(uint16_t));
    append_any(draft, EW_IMAGE_OUTPUTS, input, steps);
    append_any(draft, EW_IMAGE_SUMS, input, steps * sizeof(uint32_t));
    append_any(draft, EW_IMAGE_DETECTIONS, input, steps);
    draft->header.bytes = draft->used;
}

/* Bit by bit, where the core takes half a byte at a time. */
static uint32_t crc_of(const uint8_t *bytes, size_t n) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < 8 * n; ++i) {
        const uint32_t bit = (crc ^ (uint32_t)(bytes[i / 8] >> i % 8)) & 1;
        crc = crc >> 1 ^ (bit ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* What the firmware would have to be compiled for to take this model; false where its places lead outside. */
static bool structure_of(const uint8_t *bytes, const ew_image_header_t *h, uint8_t *digest) {
    const uint32_t at = h->sections[EW_IMAGE_MODEL].offset, size = h->sections[EW_IMAGE_MODEL].bytes;
    const uint32_t table = h->sections[EW_IMAGE_NUMBERS].offset, length = h->sections[EW_IMAGE_NUMBERS].bytes;
    if (at > ROOM || size > ROOM - at || table > ROOM || length > ROOM - table) {
        return false;
    }
    uint8_t number[ROOM] = {0};
    for (uint32_t i = 0; i + sizeof(ew_image_numbers_t) <= length; i += sizeof(ew_image_numbers_t)) {
        ew_image_numbers_t place;
        memcpy(&place, bytes + table + i, sizeof place);
        for (uint64_t j = 0; j < (uint64_t)place.count * place.width && place.offset + j < size; ++j) {
            number[place.offset + j] = 1;
        }
    }
    ew_sha256_t hash;
    ew_sha256_init(&hash);
    ew_sha256_update(&hash, bytes + table, length);
    for (uint32_t i = 0; i < size; ++i) {
        if (!number[i]) {
            ew_sha256_update(&hash, bytes + at + i, 1);
        }
    }
    ew_sha256_finish(&hash, digest);
    return true;
}

/* All that an accepted image promises; `bytes` has exactly `size`. */
static void use(const uint8_t *bytes, size_t size, const ew_image_limits_t *limits, const ew_wakeword_t *wakeword) {
    ew_image_header_t h;
    memcpy(&h, bytes, sizeof h);
    CHECK(h.bytes <= size && strlen(wakeword->phrase) < EW_IMAGE_MAX_PHRASE_BYTES);
    uint32_t sum = 0;
    for (size_t i = 0; i < wakeword->model_bytes; ++i) {
        sum += wakeword->model[i];
    }
    const uint8_t *table = bytes + h.sections[EW_IMAGE_NUMBERS].offset;
    for (uint32_t i = 0; i < h.sections[EW_IMAGE_NUMBERS].bytes; i += sizeof(ew_image_numbers_t)) {
        ew_image_numbers_t place;
        memcpy(&place, table + i, sizeof place);
        for (uint32_t j = 0; j < place.count; ++j) {
            int32_t value = 0;
            memcpy(&value, wakeword->model + place.offset + j * place.width, place.width);
            value = place.width == 1 ? (int8_t)value : value;
            CHECK(value >= place.low && value <= place.high);
        }
    }
    void *memory = block(limits->work_bytes);
    model_t model = {.state = 1 + sum, .step_bytes = h.frames_per_step * h.channels};
    const ew_selftest_result_t result =
        ew_selftest_run(memory, ew_selftest_size(wakeword->tables, &wakeword->pipeline), wakeword->tables,
                        &wakeword->pipeline, infer, &model, &wakeword->golden);
    CHECK(result.stage != EW_SELFTEST_STATUS);
    /* Past the first wrong golden value too. */
    const ew_golden_t *golden = &wakeword->golden;
    for (size_t i = 0; i < golden->frame_count * h.channels; ++i) {
        sum += golden->features[i];
    }
    for (size_t i = 0; i < golden->step_count; ++i) {
        sum += (uint32_t)golden->outputs[i] + golden->sums[i] + golden->detections[i];
    }
    model.state = sum;
    ew_pipeline_t *pipeline = NULL;
    CHECK(ew_pipeline_init(memory, limits->work_bytes, wakeword->tables, &wakeword->pipeline, infer, &model,
                           &pipeline) == EW_OK);
    for (size_t i = 0, taken = 0; i < golden->sample_count; i += taken) {
        ew_step_t step;
        CHECK(ew_pipeline_process(pipeline, golden->samples + i, golden->sample_count - i, &taken, &step) == EW_OK);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t input = {data, size};
    const uint8_t kind = take_byte(&input);
    draft_t draft;
    draft.bytes = calloc(1, ROOM);
    CHECK(draft.bytes != NULL);
    ew_image_limits_t limits = {
        .kind = EW_IMAGE_TFLITE,
        .sample_rate = EW_FRONTEND_SAMPLE_RATE,
        .frames_per_step = 2,
        .channels = CHANNELS,
        .work_bytes = kind & 1 ? 4096 : 8192,
        .tables = &EW_FRONTEND_TABLES,
    };
    make(&draft, &input);
    if (kind & 2) {
        /* Words of the header, which decide what is read. */
        uint32_t *words = (uint32_t *)(void *)&draft.header;
        for (uint8_t left = take_byte(&input) % 4; left > 0; --left) {
            const size_t place = take_byte(&input) % (sizeof draft.header / sizeof *words);
            words[place] = take_byte(&input) % 2 ? words[place] + take_byte(&input) - 128u : take_word(&input);
        }
    }
    memcpy(draft.bytes, &draft.header, sizeof draft.header);
    if (kind & 4) {
        for (uint8_t left = take_byte(&input) % 8; left > 0; --left) {
            draft.bytes[take_word(&input) % draft.used] = take_byte(&input);
        }
        memcpy(&draft.header, draft.bytes, sizeof draft.header);
    }
    bool known = structure_of(draft.bytes, &draft.header, limits.structure);
    known = known && (kind & 24) != 24; /* a structure that is another */
    if (known) {
        memcpy(draft.header.structure, limits.structure, sizeof limits.structure);
        memcpy(draft.bytes, &draft.header, sizeof draft.header);
    } else {
        memset(limits.structure, 0, sizeof limits.structure);
    }
    const size_t behind = offsetof(ew_image_header_t, version);
    if ((kind & 96) != 96 && draft.header.bytes >= behind && draft.header.bytes <= ROOM) {
        draft.header.crc = crc_of(draft.bytes + behind, draft.header.bytes - behind);
        memcpy(draft.bytes, &draft.header, sizeof draft.header);
    }
    /* As much room as there is, or less. */
    const size_t room = kind & 128 ? take_word(&input) % (draft.used + 1) : draft.used;
    uint8_t *image = block(room); /* aligned as malloc aligns */
    memcpy(image, draft.bytes, room);
    ew_frontend_tables_t tables;
    ew_wakeword_t wakeword;
    const ew_image_fault_t fault = ew_image_open(image, room, &limits, &tables, &wakeword);
    CHECK(ew_image_fault_name(fault) != NULL && ew_image_open(image + 1, 0, &limits, &tables, &wakeword) != 0);
    if (fault == EW_IMAGE_OK) {
        CHECK(known && ew_image_check_header((const void *)image, room, &limits) == EW_IMAGE_OK);
        use(image, room, &limits, &wakeword);
    } else {
        /* What was not changed is taken. */
        const bool whole = (kind & 6) == 0 && known && (kind & 96) != 96 && room == draft.used && kind & 1;
        CHECK(!whole || fault == EW_IMAGE_BAD_NUMBER || fault == EW_IMAGE_BAD_PIPELINE ||
              fault == EW_IMAGE_TOO_LITTLE_MEMORY);
    }
    CHECK(memcmp(image, draft.bytes, room) == 0);
    free(image);
    free(draft.bytes);
    return 0;
}
