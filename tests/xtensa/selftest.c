/* SPDX-License-Identifier: Apache-2.0 */
/* The golden vectors of a firmware project through frontend, pipeline and generated network, as at boot. */
#include "ew_golden.h"
#include "ew_model_config.h"
#include "ew_model_frontend.h"
#include "ew_network.h"
#include "ew_selftest.h"
#include "sim.h"

static const ew_pipeline_config_t CONFIG = EW_MODEL_PIPELINE_CONFIG;
static uint8_t work[EW_MODEL_WORK_BYTES] __attribute__((aligned(EW_ALIGNMENT)));
static ew_network_t network;

static ew_status_t infer(void *context, const int8_t *features, int8_t *output) {
    *output = ew_network_step(context, &EW_NETWORK_CONSTANTS, features);
    return EW_OK;
}

int main(void) {
    ew_network_reset(&network, &EW_NETWORK_CONSTANTS);
    const ew_selftest_result_t result =
        ew_selftest_run(work, sizeof work, ew_model_frontend_tables(), &CONFIG, infer, &network, &EW_GOLDEN);
    sim_write(&result, sizeof result);
    return 0;
}
