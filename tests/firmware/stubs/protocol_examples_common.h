/* SPDX-License-Identifier: Apache-2.0 */
/* Signature as in ESP-IDF 5.3, examples/common_components/protocol_examples_common. */
#pragma once

#include "esp_err.h"

esp_err_t example_connect(void);
