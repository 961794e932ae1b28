/* SPDX-License-Identifier: Apache-2.0 */
/* A firmware's model, by either backend: the result of its golden vectors; then of each step output and instructions. */
#include "model.h"
#include "ew_golden.h"
#include "ew_model_config.h"
#include "ew_model_data.h"
#include "ew_model_frontend.h"
#include "ew_selftest.h"
#include "sim.h"

static const ew_pipeline_config_t CONFIG = EW_MODEL_PIPELINE_CONFIG;
static uint8_t work[EW_MODEL_WORK_BYTES] __attribute__((aligned(EW_ALIGNMENT)));
static int8_t features[EW_MODEL_FRAMES_PER_STEP * EW_MODEL_CHANNELS] __attribute__((aligned(16)));

int main(void) {
    const ew_wakeword_t wakeword = {.model = ew_model_data, .model_bytes = EW_MODEL_DATA_SIZE};
    if (model_init(&wakeword) != EW_OK) {
        return 1;
    }
    const ew_selftest_result_t result =
        ew_selftest_run(work, sizeof work, ew_model_frontend_tables(), &CONFIG, model_infer, NULL, &EW_GOLDEN);
    sim_write(&result, sizeof result);
    if (model_reset() != EW_OK) {
        return 2;
    }
    uint32_t steps;
    sim_read(&steps, sizeof steps);
    for (; steps != 0; --steps) {
        sim_read(features, sizeof features);
        int8_t logit = 0;
        const uint32_t began = sim_now();
        const ew_status_t status = model_infer(NULL, features, &logit);
        const uint32_t took = sim_now() - began;
        if (status != EW_OK) {
            return 3;
        }
        const int32_t wide = logit;
        sim_write(&wide, sizeof wide);
        sim_write(&took, sizeof took);
    }
    return 0;
}
