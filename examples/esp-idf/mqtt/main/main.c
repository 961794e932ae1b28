/* SPDX-License-Identifier: Apache-2.0 */
/* Each detection is an MQTT message, {"phrase": "...", "probability": 0.9876}; while offline it is kept and sent later. */
#include <inttypes.h>
#include <stdio.h>

#include "esp_err.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "mqtt_client.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"
#include "sdkconfig.h"

#include "edgewake.h"

static void on_detection(void *argument, esp_event_base_t base, int32_t id, void *data) {
    (void)base;
    (void)id;
    const edgewake_detection_t *detection = data;
    /* The phrase has no quotation marks: it is words. */
    char message[160];
    snprintf(message, sizeof message, "{\"phrase\": \"%s\", \"probability\": %" PRIu32 ".%04" PRIu32 "}",
             detection->phrase, detection->probability / 10000, detection->probability % 10000);
    esp_mqtt_client_enqueue(argument, CONFIG_EDGEWAKE_MQTT_TOPIC, message, 0, 1, 0, true);
}

void app_main(void) {
    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(example_connect());

    const esp_mqtt_client_config_t config = {.broker.address.uri = CONFIG_EDGEWAKE_MQTT_BROKER};
    esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);
    ESP_ERROR_CHECK(esp_mqtt_client_start(client));
    ESP_ERROR_CHECK(esp_event_handler_register(EDGEWAKE_EVENT, EDGEWAKE_EVENT_DETECTED, on_detection, client));
    ESP_ERROR_CHECK(edgewake_start(NULL, NULL));
}
