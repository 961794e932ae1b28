/* SPDX-License-Identifier: Apache-2.0 */
/* ESP-IDF as far as the firmware uses it, on POSIX threads: the firmware's own code runs unchanged.
 *
 * usage: firmware AUDIO.s16 [flood | losses | no-driver]. Exit status 0 when all of it was processed, 3 when detection did not start. */
#include "host.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "driver/gpio.h"
#include "driver/i2c_master.h"
#include "driver/i2s_pdm.h"
#include "esp_codec_dev_defaults.h"
#include "esp_cpu.h"
#include "esp_event.h"
#include "esp_log.h"
#include "esp_ota_ops.h"
#include "esp_partition.h"
#include "esp_rom_sys.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/semphr.h"
#include "freertos/task.h"
#include "led_strip.h"
#include "sdkconfig.h"

void app_main(void);

#define MHZ 240
#define PARTITION_BYTES 0x20000

bool host_flood;
int64_t host_busy_us;

#define GAIN (CONFIG_EDGEWAKE_GAIN_PRESET + CONFIG_EDGEWAKE_GAIN_CHANGE)

/* Each read overwrites a DMA block, or fails without audio. */
static bool losses;
static bool no_driver;

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

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000000000ull * (uint64_t)now.tv_sec + (uint64_t)now.tv_nsec;
}

static unsigned milliseconds(void) {
    static uint64_t start;
    if (start == 0) {
        start = nanoseconds();
    }
    return (unsigned)((nanoseconds() - start) / 1000000);
}

void host_log(char level, const char *tag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    flockfile(stdout);
    if (getenv("HOST_IDF_LOG") == NULL) {
        printf("%c (%s) ", level, tag);
        vprintf(format, arguments);
        printf("\n");
    } else {
        /* As ESP-IDF writes it to a terminal. */
        printf("\033[0;32m%c (%u) %s: ", level, milliseconds(), tag);
        vprintf(format, arguments);
        printf("\033[0m\r\n");
    }
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

TaskHandle_t xTaskGetCurrentTaskHandle(void) {
    return self;
}

UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t xTask) {
    return xTask == NULL ? 1000 : 2000;
}

esp_cpu_cycle_count_t esp_cpu_get_cycle_count(void) {
    return (esp_cpu_cycle_count_t)(nanoseconds() * MHZ / 1000);
}

uint32_t esp_rom_get_cpu_ticks_per_us(void) {
    return MHZ;
}

esp_err_t esp_ota_mark_app_valid_cancel_rollback(void) {
    host_log('I', "ota", "the application is valid");
    return ESP_OK;
}

/* The file that HOST_PARTITION names, behind erased flash: nobody can write to where it is mapped. */
static uint8_t *flash;
static const esp_partition_t PARTITION = {
    .type = ESP_PARTITION_TYPE_DATA, .subtype = 0x40, .size = PARTITION_BYTES, .label = "edgewake"};

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype,
                                                const char *label) {
    const char *path = getenv("HOST_PARTITION");
    if (path == NULL || type != PARTITION.type || subtype != PARTITION.subtype || strcmp(label, PARTITION.label) != 0) {
        return NULL;
    }
    if (flash == NULL) {
        flash = mmap(NULL, PARTITION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(flash, 0xff, PARTITION_BYTES);
        FILE *file = fopen(path, "rb");
        if (file != NULL) {
            (void)!fread(flash, 1, PARTITION_BYTES, file);
            fclose(file);
        }
        mprotect(flash, PARTITION_BYTES, PROT_READ);
    }
    return &PARTITION;
}

esp_err_t esp_partition_mmap(const esp_partition_t *partition, size_t offset, size_t size,
                             esp_partition_mmap_memory_t memory, const void **out_ptr,
                             esp_partition_mmap_handle_t *out_handle) {
    if (offset > partition->size || size > partition->size - offset || memory != ESP_PARTITION_MMAP_DATA) {
        return ESP_ERR_INVALID_ARG;
    }
    *out_ptr = flash + offset;
    *out_handle = 1;
    return ESP_OK;
}

void esp_partition_munmap(esp_partition_mmap_handle_t handle) {
    (void)handle;
}

/* Zeros alone can be written, and whole sectors be erased, as flash has it; the file keeps it. */
static esp_err_t change_flash(size_t offset, const uint8_t *data, size_t size) {
    if (offset > PARTITION_BYTES || size > PARTITION_BYTES - offset || (data == NULL && (offset | size) % 4096 != 0)) {
        return ESP_ERR_INVALID_SIZE;
    }
    mprotect(flash, PARTITION_BYTES, PROT_READ | PROT_WRITE);
    for (size_t i = 0; i < size; i++) {
        flash[offset + i] = data == NULL ? 0xff : flash[offset + i] & data[i];
    }
    mprotect(flash, PARTITION_BYTES, PROT_READ);
    FILE *file = fopen(getenv("HOST_PARTITION"), "wb");
    const bool kept = file != NULL && fwrite(flash, 1, PARTITION_BYTES, file) == PARTITION_BYTES;
    return file != NULL && fclose(file) == 0 && kept ? ESP_OK : ESP_FAIL;
}

esp_err_t esp_partition_write(const esp_partition_t *partition, size_t dst_offset, const void *src, size_t size) {
    (void)partition;
    return change_flash(dst_offset, src, size);
}

esp_err_t esp_partition_erase_range(const esp_partition_t *partition, size_t offset, size_t size) {
    (void)partition;
    return change_flash(offset, NULL, size);
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

void host_run_timer(void) {
    timer_callback(timer_argument);
}

bool esp_timer_is_active(esp_timer_handle_t timer) {
    (void)timer;
    return timer_runs;
}

int64_t esp_timer_get_time(void) {
    return host_busy_us + (int64_t)audio_position * 1000000 / 16000;
}

SemaphoreHandle_t xSemaphoreCreateMutexStatic(StaticSemaphore_t *pxMutexBuffer) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    return pxMutexBuffer == NULL ? NULL : (SemaphoreHandle_t)(void *)&mutex;
}

BaseType_t xSemaphoreTake(SemaphoreHandle_t xSemaphore, TickType_t xBlockTime) {
    (void)xBlockTime;
    return pthread_mutex_lock((pthread_mutex_t *)(void *)xSemaphore) == 0;
}

BaseType_t xSemaphoreGive(SemaphoreHandle_t xSemaphore) {
    return pthread_mutex_unlock((pthread_mutex_t *)(void *)xSemaphore) == 0;
}

static uint32_t pixel[3];
static int strip_pin;

esp_err_t led_strip_new_rmt_device(const led_strip_config_t *led_config, const led_strip_rmt_config_t *rmt_config,
                                   led_strip_handle_t *ret_strip) {
    strip_pin = led_config->strip_gpio_num;
    *ret_strip = (led_strip_handle_t)(void *)pixel;
    return rmt_config->resolution_hz > 0 && led_config->max_leds == 1 ? ESP_OK : ESP_ERR_INVALID_ARG;
}

esp_err_t led_strip_set_pixel(led_strip_handle_t strip, uint32_t index, uint32_t red, uint32_t green, uint32_t blue) {
    (void)strip;
    pixel[0] = red;
    pixel[1] = green;
    pixel[2] = blue;
    return index == 0 ? ESP_OK : ESP_ERR_INVALID_ARG;
}

esp_err_t led_strip_refresh(led_strip_handle_t strip) {
    (void)strip;
    host_log('I', "led", "%d = %d", strip_pin, pixel[0] + pixel[1] + pixel[2] > 0);
    return ESP_OK;
}

esp_err_t i2c_new_master_bus(const i2c_master_bus_config_t *bus_config, i2c_master_bus_handle_t *ret_bus_handle) {
    host_log('I', "i2c", "SDA %d, SCL %d", (int)bus_config->sda_io_num, (int)bus_config->scl_io_num);
    *ret_bus_handle = (i2c_master_bus_handle_t)(void *)pixel;
    return ESP_OK;
}

const audio_codec_ctrl_if_t *audio_codec_new_i2c_ctrl(audio_codec_i2c_cfg_t *i2c_cfg) {
    return i2c_cfg->bus_handle;
}

const audio_codec_data_if_t *audio_codec_new_i2s_data(audio_codec_i2s_cfg_t *i2s_cfg) {
    return i2s_cfg->rx_handle;
}

const audio_codec_if_t *es7210_codec_new(es7210_codec_cfg_t *codec_cfg) {
    return (const audio_codec_if_t *)(const void *)codec_cfg->ctrl_if;
}

esp_codec_dev_handle_t esp_codec_dev_new(esp_codec_dev_cfg_t *codec_dev_cfg) {
    return (void *)codec_dev_cfg->data_if;
}

/* It enables the channel. */
int esp_codec_dev_open(esp_codec_dev_handle_t codec, esp_codec_dev_sample_info_t *fs) {
    host_log('I', "codec", "%u Hz, %u bits, %u channel", (unsigned)fs->sample_rate, fs->bits_per_sample, fs->channel);
    return i2s_channel_enable(codec);
}

int esp_codec_dev_set_in_gain(esp_codec_dev_handle_t codec, float db_value) {
    (void)codec;
    return db_value > 0 ? ESP_CODEC_DEV_OK : 1;
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
    host_log('I', "i2s", "%u Hz, %d bits, slot %d, pins %d %d %d %d", (unsigned)std_cfg->clk_cfg.sample_rate_hz,
             (int)std_cfg->slot_cfg.data_bit_width, (int)std_cfg->slot_cfg.slot_mask, (int)std_cfg->gpio_cfg.mclk,
             (int)std_cfg->gpio_cfg.bclk, (int)std_cfg->gpio_cfg.ws, (int)std_cfg->gpio_cfg.din);
    return ESP_OK;
}

esp_err_t i2s_channel_init_pdm_rx_mode(i2s_chan_handle_t handle, const i2s_pdm_rx_config_t *pdm_rx_cfg) {
    (void)handle;
    host_log('I', "pdm", "%u Hz, %d bits, slot %d, pins %d %d", (unsigned)pdm_rx_cfg->clk_cfg.sample_rate_hz,
             (int)pdm_rx_cfg->slot_cfg.data_bit_width, (int)pdm_rx_cfg->slot_cfg.slot_mask,
             (int)pdm_rx_cfg->gpio_cfg.clk, (int)pdm_rx_cfg->gpio_cfg.din);
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
    static bool enabled;
    (void)handle;
    if (enabled) {
        return ESP_ERR_INVALID_STATE;
    }
    enabled = true;
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
    if (no_driver) {
        audio_position += size / sizeof(int32_t);
        *bytes_read = 0;
        return ESP_FAIL;
    }
    if (losses || (host_flood && !overflow_reported)) {
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
        const int32_t word = sample * (1 << (16 - GAIN));
        const int16_t narrow = (int16_t)(sample >> GAIN);
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
    losses = count > 2 && strcmp(arguments[2], "losses") == 0;
    no_driver = count > 2 && strcmp(arguments[2], "no-driver") == 0;
    app_main();
    if (task_count == 0) {
        return 3;
    }
    host_wait_for_end_of_audio();
    wait_until_idle();
    if (timer_runs) {
        timer_runs = false;
        host_run_timer();
    }
    return 0;
}
