/* SPDX-License-Identifier: Apache-2.0 */
/* Time and 64-bit products of each part of a frame, for frames of given samples; counts.py makes counts of them. */
#include <stdbool.h>

#include "ew_frontend.h"
#include "frontend_tables.h"
#include "sim.h"
#include "sim_parts.h"

typedef struct {
    uint32_t ticks, products;
} spent_t;

static spent_t spent[SIM_PARTS];
static enum sim_part present;
static uint32_t since, products;

void sim_part(enum sim_part part) {
    spent[present].ticks += sim_now() - since;
    spent[present].products += sim_products - products;
    present = part;
    products = sim_products;
    since = sim_now();
}

/* Input: count of frames, then the samples of the first window, then those of each further frame. */
int main(void) {
    static uint8_t memory[1 << 15] __attribute__((aligned(EW_ALIGNMENT)));
    int16_t samples[EW_FRONTEND_WINDOW_SAMPLES] __attribute__((aligned(EW_ALIGNMENT)));
    uint16_t features[EW_FRONTEND_CHANNELS];
    ew_frontend_t *frontend;
    uint32_t frames;
    if (ew_frontend_init(memory, sizeof memory, &EW_FRONTEND_TABLES, &frontend) != EW_OK) {
        return 1;
    }
    sim_read(&frames, sizeof frames);
    for (size_t n = EW_FRONTEND_WINDOW_SAMPLES; frames-- != 0; n = EW_FRONTEND_STEP_SAMPLES) {
        size_t consumed;
        bool ready;
        sim_read(samples, n * sizeof *samples);
        for (int part = 0; part < SIM_PARTS; ++part) {
            spent[part] = (spent_t){0, 0};
        }
        present = SIM_PART_samples;
        products = sim_products;
        since = sim_now();
        (void)ew_frontend_process(frontend, samples, n, &consumed, features, &ready);
        sim_part(SIM_PART_samples);
        if (consumed != n || !ready) {
            return 2;
        }
        sim_write(spent, sizeof spent);
    }
    return 0;
}
