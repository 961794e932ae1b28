/* SPDX-License-Identifier: Apache-2.0 */
/* ESP-IDF as far as the firmware uses it, on POSIX threads: the firmware's own code runs unchanged.
 *
 * usage: firmware AUDIO.s16 [flood]. Exit status 0 when all of it was processed, 3 when detection did not start. */
#include "host.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/gpio.h"
#include "driver/i2s_std.h"
#include "esp_event.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"

void app_main(void);

bool host_flood;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

struct tskTaskControlBlock {
    TaskFunction_t function;
    void *argument;
    pthread_t thread;
    uint32_t notifications;
    bool waits;
};

static struct tskTaskControlBlock tasks[4];
static int task_count;
static __thread struct tskTaskControlBlock *self;

static int16_t *audio;
static size_t audio_samples;
static size_t audio_position;
static bool audio_ended;
static bool overflow_reported;
static i2s_isr_callback_t on_overflow;

static esp_event_handler_t event_handler;
static void *event_argument;
static bool event_loop;

static esp_timer_cb_t timer_callback;
static void *timer_argument;
static bool timer_runs;

void host_log(char level, const char *tag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    flockfile(stdout);
    printf("%c (%s) ", level, tag);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    funlockfile(stdout);
    va_end(arguments);
}

const char *esp_err_to_name(esp_err_t code) {
    return code == ESP_ERR_TIMEOUT ? "ESP_ERR_TIMEOUT" : code == ESP_OK ? "ESP_OK" : "ESP_FAIL";
}

bool host_detects(void) {
    return task_count > 0;
}

static void *run_task(void *argument) {
    self = argument;
    self->function(self->argument);
    return NULL;
}

TaskHandle_t xTaskCreateStaticPinnedToCore(TaskFunction_t pxTaskCode, const char *const pcName,
                                           const uint32_t ulStackDepth, void *const pvParameters,
                                           UBaseType_t uxPriority, StackType_t *const puxStackBuffer,
                                           StaticTask_t *const pxTaskBuffer, const BaseType_t xCoreID) {
    if (puxStackBuffer == NULL || pxTaskBuffer == NULL) {
        return NULL;
    }
    struct tskTaskControlBlock *task = &tasks[task_count++];
    task->function = pxTaskCode;
    task->argument = pvParameters;
    host_log('I', "task", "%s stack %u priority %u core %d", pcName, (unsigned)ulStackDepth, uxPriority, xCoreID);
    return pthread_create(&task->thread, NULL, run_task, task) == 0 ? task : NULL;
}

BaseType_t xTaskGenericNotify(TaskHandle_t xTaskToNotify, UBaseType_t uxIndexToNotify, uint32_t ulValue,
                              eNotifyAction eAction, uint32_t *pulPreviousNotificationValue) {
    (void)uxIndexToNotify;
    (void)ulValue;
    (void)pulPreviousNotificationValue;
    pthread_mutex_lock(&lock);
    if (eAction == eIncrement) {
        xTaskToNotify->notifications++;
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return pdTRUE;
}

uint32_t ulTaskGenericNotifyTake(UBaseType_t uxIndexToWaitOn, BaseType_t xClearCountOnExit, TickType_t xTicksToWait) {
    (void)uxIndexToWaitOn;
    (void)xTicksToWait;
    pthread_mutex_lock(&lock);
    while (self->notifications == 0) {
        self->waits = true;
        pthread_cond_broadcast(&changed);
        pthread_cond_wait(&changed, &lock);
    }
    self->waits = false;
    const uint32_t count = self->notifications;
    self->notifications = xClearCountOnExit ? 0 : count - 1;
    pthread_mutex_unlock(&lock);
    return count;
}

void vTaskDelay(const TickType_t xTicksToDelay) {
    usleep(1000 * xTicksToDelay);
}

void vTaskSuspend(TaskHandle_t xTaskToSuspend) {
    (void)xTaskToSuspend;
    for (;;) {
        pause();
    }
}

esp_err_t gpio_reset_pin(gpio_num_t gpio_num) {
    return gpio_num >= 0 && gpio_num < GPIO_NUM_MAX ? ESP_OK : ESP_ERR_INVALID_ARG;
}

esp_err_t gpio_set_direction(gpio_num_t gpio_num, gpio_mode_t mode) {
    (void)gpio_num;
    return mode == GPIO_MODE_OUTPUT ? ESP_OK : ESP_ERR_INVALID_ARG;
}

esp_err_t gpio_set_level(gpio_num_t gpio_num, uint32_t level) {
    host_log('I', "gpio", "%d = %u", (int)gpio_num, (unsigned)level);
    return ESP_OK;
}

esp_err_t esp_event_loop_create_default(void) {
    event_loop = true;
    return ESP_OK;
}

esp_err_t esp_event_handler_register(esp_event_base_t event_base, int32_t event_id, esp_event_handler_t handler,
                                     void *event_handler_arg) {
    host_log('I', "event", "%s %d has a subscriber", event_base, (int)event_id);
    event_handler = handler;
    event_argument = event_handler_arg;
    return ESP_OK;
}

esp_err_t esp_event_post(esp_event_base_t event_base, int32_t event_id, const void *event_data, size_t event_data_size,
                         TickType_t ticks_to_wait) {
    (void)ticks_to_wait;
    if (!event_loop) {
        return ESP_ERR_INVALID_STATE;
    }
    char copy[64];
    if (event_data_size > sizeof copy) {
        return ESP_ERR_INVALID_ARG;
    }
    memcpy(copy, event_data, event_data_size);
    if (event_handler != NULL) {
        event_handler(event_argument, event_base, event_id, copy);
    }
    return ESP_OK;
}

esp_err_t esp_timer_create(const esp_timer_create_args_t *create_args, esp_timer_handle_t *out_handle) {
    timer_callback = create_args->callback;
    timer_argument = create_args->arg;
    *out_handle = (esp_timer_handle_t)(void *)&timer_callback;
    return ESP_OK;
}

esp_err_t esp_timer_start_once(esp_timer_handle_t timer, uint64_t timeout_us) {
    (void)timer;
    if (timer_runs) {
        return ESP_ERR_INVALID_STATE;
    }
    timer_runs = true;
    host_log('I', "timer", "%llu us", (unsigned long long)timeout_us);
    return ESP_OK;
}

esp_err_t esp_timer_stop(esp_timer_handle_t timer) {
    (void)timer;
    const bool ran = timer_runs;
    timer_runs = false;
    return ran ? ESP_OK : ESP_ERR_INVALID_STATE;
}

esp_err_t i2s_new_channel(const i2s_chan_config_t *chan_cfg, i2s_chan_handle_t *ret_tx_handle,
                          i2s_chan_handle_t *ret_rx_handle) {
    (void)chan_cfg;
    if (ret_tx_handle != NULL || ret_rx_handle == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    *ret_rx_handle = (i2s_chan_handle_t)(void *)&audio;
    return ESP_OK;
}

esp_err_t i2s_channel_init_std_mode(i2s_chan_handle_t handle, const i2s_std_config_t *std_cfg) {
    (void)handle;
    host_log('I', "i2s", "%u Hz, %d bits, slot %d", (unsigned)std_cfg->clk_cfg.sample_rate_hz,
             (int)std_cfg->slot_cfg.data_bit_width, (int)std_cfg->slot_cfg.slot_mask);
    return ESP_OK;
}

esp_err_t i2s_channel_register_event_callback(i2s_chan_handle_t handle, const i2s_event_callbacks_t *callbacks,
                                              void *user_data) {
    (void)handle;
    (void)user_data;
    on_overflow = callbacks->on_recv_q_ovf;
    return ESP_OK;
}

esp_err_t i2s_channel_enable(i2s_chan_handle_t handle) {
    (void)handle;
    return ESP_OK;
}

/* Every sample that was given is through the pipeline. */
static void wait_until_idle(void) {
    pthread_mutex_lock(&lock);
    while (!(tasks[0].waits && tasks[0].notifications == 0)) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void end_audio(void) {
    pthread_mutex_lock(&lock);
    audio_ended = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pause();
}

void host_wait_for_end_of_audio(void) {
    pthread_mutex_lock(&lock);
    while (!audio_ended) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

esp_err_t i2s_channel_read(i2s_chan_handle_t handle, void *dest, size_t size, size_t *bytes_read, uint32_t timeout_ms) {
    (void)timeout_ms;
    if (!host_flood) {
        wait_until_idle();
    }
    if (audio_position == audio_samples) {
        end_audio();
    }
    if (host_flood && !overflow_reported) {
        i2s_event_data_t event = {NULL, size};
        on_overflow(handle, &event, NULL);
        overflow_reported = true;
    }
#if CONFIG_EDGEWAKE_I2S_WIDTH_32
    const size_t width = sizeof(int32_t);
#else
    const size_t width = sizeof(int16_t);
#endif
    size_t count = size / width;
    if (count > audio_samples - audio_position) {
        count = audio_samples - audio_position;
    }
    for (size_t i = 0; i < count; i++) {
        /* What a microphone of lower gain would have sent. */
        const int32_t sample = audio[audio_position + i];
        const int32_t word = sample * (1 << (16 - CONFIG_EDGEWAKE_GAIN_SHIFT));
        const int16_t narrow = (int16_t)(sample >> CONFIG_EDGEWAKE_GAIN_SHIFT);
        memcpy((char *)dest + i * width, width == sizeof word ? (const void *)&word : (const void *)&narrow, width);
    }
    audio_position += count;
    *bytes_read = count * width;
    return *bytes_read == size ? ESP_OK : ESP_ERR_TIMEOUT;
}

static void read_audio(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        exit(2);
    }
    audio_samples = (size_t)ftell(file) / sizeof *audio;
    rewind(file);
    audio = malloc(audio_samples * sizeof *audio);
    if (audio == NULL || fread(audio, sizeof *audio, audio_samples, file) != audio_samples) {
        exit(2);
    }
    fclose(file);
}

int main(int count, char **arguments) {
    if (count < 2) {
        return 2;
    }
    read_audio(arguments[1]);
    host_flood = count > 2 && strcmp(arguments[2], "flood") == 0;
    app_main();
    if (task_count == 0) {
        return 3;
    }
    host_wait_for_end_of_audio();
    wait_until_idle();
    if (timer_runs) {
        timer_callback(timer_argument);
    }
    return 0;
}
