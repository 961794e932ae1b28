/* SPDX-License-Identifier: Apache-2.0 */
/* The generated network as an ew_infer_fn: its constants stay in flash or, by Kconfig, are copied to RAM. */
#include <stddef.h>
#include <string.h>

#include "sdkconfig.h"

#include "ew_network.h"
#include "model.h"

static ew_network_t network;
static const ew_network_constants_t *constants;

ew_status_t model_init(const ew_wakeword_t *wakeword) {
    if (wakeword->model_bytes != sizeof *constants) {
        return EW_ERROR_ARGUMENT;
    }
    constants = (const void *)wakeword->model;
#if CONFIG_EDGEWAKE_WEIGHTS_RAM
    static ew_network_constants_t copy;
    memcpy(&copy, wakeword->model, sizeof copy);
    constants = &copy;
#endif
    return model_reset();
}

ew_status_t model_reset(void) {
    ew_network_reset(&network, constants);
    return EW_OK;
}

ew_status_t model_infer(void *context, const int8_t *features, int8_t *output) {
    (void)context;
    *output = ew_network_step(&network, constants, features);
    return EW_OK;
}
