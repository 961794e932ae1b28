/* SPDX-License-Identifier: Apache-2.0 */
/* Measured time of the frontend and of the model, by the processor's cycle counter. */
#include "timing.h"

#include <inttypes.h>
#include <string.h>

#include "esp_cpu.h"
#include "esp_log.h"
#include "esp_rom_sys.h"
#include "sdkconfig.h"

#include "ew_model_config.h"
#include "memory.h"
#include "model.h"

#define REPORT_FRAMES (CONFIG_EDGEWAKE_REPORT_SECONDS * EW_MODEL_SAMPLE_RATE / EW_MODEL_STEP_SAMPLES)

static const char *const TAG = "timing";

/* Cycles of what was measured since the last report. */
typedef struct {
    uint64_t sum;
    uint32_t count;
    uint32_t least;
    uint32_t most;
} figure_t;

static struct {
    figure_t frame;
    figure_t step;
    uint32_t mark;    /* since when the frontend runs */
    uint32_t pending; /* its cycles since the last inference */
} measured;

_Static_assert(sizeof measured <= EW_TIMING_BYTES, "EW_TIMING_BYTES in memory.h is too small");

static void add(figure_t *figure, uint32_t cycles) {
    figure->least = figure->count == 0 || cycles < figure->least ? cycles : figure->least;
    figure->most = cycles > figure->most ? cycles : figure->most;
    figure->sum += cycles;
    figure->count++;
}

static unsigned mean(const figure_t *figure) {
    return (unsigned)(figure->sum / figure->count);
}

void timing_begin(void) {
    measured.mark = esp_cpu_get_cycle_count();
}

ew_status_t timing_infer(void *context, const int8_t *features, int8_t *output) {
    const uint32_t start = esp_cpu_get_cycle_count();
    add(&measured.frame, (measured.pending + start - measured.mark) / EW_MODEL_FRAMES_PER_STEP);
    measured.pending = 0;
    const ew_status_t status = model_infer(context, features, output);
    measured.mark = esp_cpu_get_cycle_count();
    add(&measured.step, measured.mark - start);
    return status;
}

bool timing_end(void) {
    measured.pending += esp_cpu_get_cycle_count() - measured.mark;
    if (REPORT_FRAMES == 0 || measured.step.count * EW_MODEL_FRAMES_PER_STEP < REPORT_FRAMES) {
        return false;
    }
    ESP_LOGI(TAG,
             "frontend %u cycles a frame (%" PRIu32 " to %" PRIu32 "), step %u cycles (%" PRIu32 " to %" PRIu32
             "), %" PRIu32 " steps at %" PRIu32 " MHz",
             mean(&measured.frame), measured.frame.least, measured.frame.most, mean(&measured.step),
             measured.step.least, measured.step.most, measured.step.count, esp_rom_get_cpu_ticks_per_us());
    memset(&measured.frame, 0, sizeof measured.frame);
    memset(&measured.step, 0, sizeof measured.step);
    return true;
}
