/* SPDX-License-Identifier: Apache-2.0 */
/* As ESP-IDF 5.3's examples/protocols/mqtt call esp-mqtt, a submodule whose sources were not at hand. */
#pragma once

#include <stdbool.h>

#include "esp_err.h"

typedef struct esp_mqtt_client *esp_mqtt_client_handle_t;

typedef struct {
    struct {
        struct {
            const char *uri;
        } address;
    } broker;
} esp_mqtt_client_config_t;

esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t *config);
esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t client);
int esp_mqtt_client_enqueue(esp_mqtt_client_handle_t client, const char *topic, const char *data, int len, int qos,
                            int retain, bool store);
