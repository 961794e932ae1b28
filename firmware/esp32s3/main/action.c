/* SPDX-License-Identifier: Apache-2.0 */
/* What happens on a detection: an output is on for a while. Replace the bodies with what your device should do. */
#include "action.h"

#include "driver/gpio.h"
#include "esp_check.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "sdkconfig.h"

#if CONFIG_EDGEWAKE_LED_ACTIVE_LOW
#define LEVEL_ON 0
#else
#define LEVEL_ON 1
#endif

static const char *const TAG = "edgewake";
static const gpio_num_t OUTPUT = (gpio_num_t)CONFIG_EDGEWAKE_LED_GPIO;

static esp_timer_handle_t off_timer;

static void switch_off(void *argument) {
    (void)argument;
    gpio_set_level(OUTPUT, !LEVEL_ON);
}

esp_err_t action_init(void) {
    ESP_RETURN_ON_ERROR(gpio_reset_pin(OUTPUT), TAG, "no such pin");
    ESP_RETURN_ON_ERROR(gpio_set_direction(OUTPUT, GPIO_MODE_OUTPUT), TAG, "not an output");
    ESP_RETURN_ON_ERROR(gpio_set_level(OUTPUT, !LEVEL_ON), TAG, "cannot be set");
    const esp_timer_create_args_t arguments = {.callback = switch_off, .name = "edgewake_off"};
    return esp_timer_create(&arguments, &off_timer);
}

void action_detected(void *context, const edgewake_detection_t *detection) {
    (void)context;
    (void)detection;
    gpio_set_level(OUTPUT, LEVEL_ON);
    /* An event while the output is on starts its time again; stopping a timer that is not running is no error. */
    (void)esp_timer_stop(off_timer);
    if (esp_timer_start_once(off_timer, 1000ull * CONFIG_EDGEWAKE_LED_MS) != ESP_OK) {
        switch_off(NULL);
        ESP_LOGE(TAG, "no timer to switch the output off");
    }
}
