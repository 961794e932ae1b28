/* SPDX-License-Identifier: Apache-2.0 */
/* What happens on a detection: an output is on for a while. Replace the bodies with what your device should do. */
#include "action.h"

#include <stdbool.h>

#include "driver/gpio.h"
#include "esp_check.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/semphr.h"
#include "led_strip.h"
#include "sdkconfig.h"

static const char *const TAG = "action";

static esp_timer_handle_t off_timer;
static StaticSemaphore_t output_memory;
static SemaphoreHandle_t output;

#if CONFIG_EDGEWAKE_LED_WS2812
static led_strip_handle_t strip;

static esp_err_t set_output(bool on) {
    ESP_RETURN_ON_ERROR(led_strip_set_pixel(strip, 0, 0, 0, on ? 32 : 0), TAG, "no such pixel");
    return led_strip_refresh(strip);
}

static esp_err_t open_output(void) {
    const led_strip_config_t config = {.strip_gpio_num = CONFIG_EDGEWAKE_LED_GPIO, .max_leds = 1};
    const led_strip_rmt_config_t rmt = {.resolution_hz = 10 * 1000 * 1000};
    return led_strip_new_rmt_device(&config, &rmt, &strip);
}
#elif CONFIG_EDGEWAKE_LED_PIN
#if CONFIG_EDGEWAKE_LED_ACTIVE_LOW
#define LEVEL_ON 0
#else
#define LEVEL_ON 1
#endif

static esp_err_t set_output(bool on) {
    return gpio_set_level((gpio_num_t)CONFIG_EDGEWAKE_LED_GPIO, on ? LEVEL_ON : !LEVEL_ON);
}

static esp_err_t open_output(void) {
    ESP_RETURN_ON_ERROR(gpio_reset_pin((gpio_num_t)CONFIG_EDGEWAKE_LED_GPIO), TAG, "no such pin");
    return gpio_set_direction((gpio_num_t)CONFIG_EDGEWAKE_LED_GPIO, GPIO_MODE_OUTPUT);
}
#else
static esp_err_t set_output(bool on) {
    (void)on;
    return ESP_OK;
}

static esp_err_t open_output(void) {
    return ESP_OK;
}
#endif

/* esp_timer's task: it may have taken the timer from its list just before a detection starts it again, and come here
 * afterwards. The timer runs then, and the output stays on. */
static void switch_off(void *argument) {
    (void)argument;
    xSemaphoreTake(output, portMAX_DELAY);
    if (!esp_timer_is_active(off_timer)) {
        (void)set_output(false);
    }
    xSemaphoreGive(output);
}

esp_err_t action_init(void) {
    output = xSemaphoreCreateMutexStatic(&output_memory);
    ESP_RETURN_ON_ERROR(open_output(), TAG, "the output does not open");
    ESP_RETURN_ON_ERROR(set_output(false), TAG, "the output cannot be set");
    const esp_timer_create_args_t arguments = {.callback = switch_off, .name = "edgewake_off"};
    return esp_timer_create(&arguments, &off_timer);
}

void action_detected(void *context, const edgewake_detection_t *detection) {
    (void)context;
    (void)detection;
    xSemaphoreTake(output, portMAX_DELAY);
    /* A detection while the output is on starts its time again; stopping a timer that is not running is no error. */
    (void)esp_timer_stop(off_timer);
    if (esp_timer_start_once(off_timer, 1000ull * CONFIG_EDGEWAKE_LED_MS) != ESP_OK) {
        ESP_LOGE(TAG, "no timer to switch the output off");
    } else if (set_output(true) != ESP_OK) {
        ESP_LOGE(TAG, "the output cannot be set");
    }
    xSemaphoreGive(output);
}
