/* SPDX-License-Identifier: Apache-2.0 */
/* A generated network, step by step: the outputs of all layers where they are traced, the logit, and instructions. */
#include "ew_network.h"
#include "sim.h"

static ew_network_t network;
static int8_t features[EW_NETWORK_INPUTS] EW_ALIGNED;
#ifdef EW_NETWORK_TRACE
static int8_t trace[1 << 13];
#endif

int main(void) {
    uint32_t steps;
    sim_read(&steps, sizeof steps);
    ew_network_reset(&network, &EW_NETWORK_CONSTANTS);
    for (uint32_t step = 0; step < steps; ++step) {
        sim_read(features, sizeof features);
#ifdef EW_NETWORK_TRACE
        network.trace = trace;
#endif
        const uint32_t began = sim_now();
        const int32_t logit = ew_network_step(&network, &EW_NETWORK_CONSTANTS, features);
        const uint32_t took = sim_now() - began;
#ifdef EW_NETWORK_TRACE
        sim_write(trace, (size_t)(network.trace - trace));
        (void)logit;
        (void)took;
#else
        sim_write(&logit, sizeof logit);
        sim_write(&took, sizeof took);
#endif
    }
    return 0;
}
