/* SPDX-License-Identifier: Apache-2.0 */
/* What happens on a detection: an output is on for a while. Replace the bodies with what your device should do. */
#include "action.h"

#include "driver/gpio.h"
#include "esp_check.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "sdkconfig.h"

#include "ew_model_config.h"

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

void action_detected(void *context, const ew_step_t *step) {
    (void)context;
    /* In units of 0.01 %: a sum is up to 65535 steps of probability, of up to 64 steps. */
    const unsigned share = (unsigned)((uint64_t)step->sum * 10000 / (EW_PROBABILITY_ONE * EW_MODEL_WINDOW));
    /* Apart, since milliseconds would pass 32 bits after 49 days. */
    const unsigned seconds = (unsigned)(step->sample_index / EW_MODEL_SAMPLE_RATE);
    const unsigned ms = (unsigned)(step->sample_index % EW_MODEL_SAMPLE_RATE * 1000 / EW_MODEL_SAMPLE_RATE);
    ESP_LOGI(TAG, "detected \"%s\" at %u.%03u s, probability %u.%02u %%", EW_MODEL_PHRASE, seconds, ms, share / 100,
             share % 100);
    gpio_set_level(OUTPUT, LEVEL_ON);
    /* An event while the output is on starts its time again; stopping a timer that is not running is no error. */
    (void)esp_timer_stop(off_timer);
    if (esp_timer_start_once(off_timer, 1000ull * CONFIG_EDGEWAKE_LED_MS) != ESP_OK) {
        switch_off(NULL);
        ESP_LOGE(TAG, "no timer to switch the output off");
    }
}
