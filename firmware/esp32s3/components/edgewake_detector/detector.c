/* SPDX-License-Identifier: Apache-2.0 */
/* Two tasks, one on each core, with a ring buffer between them: capture never waits for inference. */
#include "detector.h"

#include <inttypes.h>
#include <stdbool.h>

#include "esp_check.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

#include "detection.h"
#include "ew_model_config.h"
#include "ew_pipeline.h"
#include "ew_ring.h"
#include "level.h"
#include "memory.h"
#include "microphone.h"
#include "model.h"
#include "timing.h"

#if EW_MODEL_NETWORK
#define RING_SAMPLES EW_NETWORK_RING_SAMPLES
#define INFERENCE_STACK_BYTES EW_NETWORK_STACK_BYTES
#else
#define RING_SAMPLES EW_RING_SAMPLES
#define INFERENCE_STACK_BYTES EW_INFERENCE_STACK_BYTES
#endif

#define CAPTURE_CORE 0
#define INFERENCE_CORE 1
/* Above everything that may take longer than the DMA buffers last, 40 ms. */
#define CAPTURE_PRIORITY 10
#define INFERENCE_PRIORITY 5

_Static_assert(sizeof(StaticTask_t) <= EW_TASK_CONTROL_BYTES, "EW_TASK_CONTROL_BYTES in memory.h is too small");

static const char *const TAG = "detector";

static StackType_t capture_stack[EW_CAPTURE_STACK_BYTES / sizeof(StackType_t)];
static StackType_t inference_stack[INFERENCE_STACK_BYTES / sizeof(StackType_t)];
static StaticTask_t capture_control;
static StaticTask_t inference_control;
static TaskHandle_t capture_task;
static TaskHandle_t inference_task;

static bool stops;
static bool stopped;

static int16_t ring_samples[RING_SAMPLES];
static ew_ring_t ring;

/* At most one line a second of each kind: at 115,200 baud a line takes 8 ms of the task that logs it. */
static bool may_log(int64_t *next_us) {
    const int64_t now_us = esp_timer_get_time();
    if (now_us < *next_us) {
        return false;
    }
    *next_us = now_us + 1000000;
    return true;
}

static void capture(void *argument) {
    (void)argument;
    static int16_t block[EW_BLOCK_SAMPLES];
    for (;;) {
        size_t count = 0;
        const esp_err_t error = microphone_read(block, &count);
        if (error != ESP_OK) {
            static int64_t next_us;
            if (may_log(&next_us)) {
                ESP_LOGE(TAG, "microphone: %s after %u of %u samples", esp_err_to_name(error), (unsigned)count,
                         (unsigned)EW_BLOCK_SAMPLES);
            }
            /* A driver that fails at once must not take the core from everything else. */
            vTaskDelay(pdMS_TO_TICKS(10));
        }
        ew_ring_write(&ring, block, count);
        xTaskNotifyGive(inference_task);
        level_add(block, count);
    }
}

static void report_losses(void) {
    static uint32_t reported_lost;
    static uint32_t reported_overruns;
    static int64_t next_us;
    const uint32_t lost = ew_ring_lost(&ring);
    const uint32_t overruns = microphone_overruns();
    if ((lost != reported_lost || overruns != reported_overruns) && may_log(&next_us)) {
        ESP_LOGW(TAG, "audio lost since start: %" PRIu32 " samples before inference, %" PRIu32 " DMA blocks", lost,
                 overruns);
        reported_lost = lost;
        reported_overruns = overruns;
    }
}

static void restart(ew_pipeline_t *pipeline) {
    if (model_reset() != EW_OK || ew_pipeline_reset(pipeline) != EW_OK) {
        ESP_LOGE(TAG, "the model cannot be reset; detection ends");
        vTaskSuspend(NULL);
    }
}

static void infer(void *argument) {
    ew_pipeline_t *pipeline = argument;
    static int16_t block[EW_BLOCK_SAMPLES];
    for (;;) {
        ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
        if (__atomic_load_n(&stops, __ATOMIC_ACQUIRE)) {
            __atomic_store_n(&stopped, true, __ATOMIC_RELEASE);
            vTaskSuspend(NULL);
        }
        timing_begin();
        const ew_status_t status = ew_pipeline_drain(pipeline, &ring, block, EW_BLOCK_SAMPLES, detection_report, NULL);
        if (status != EW_OK) {
            static int64_t next_us;
            if (may_log(&next_us)) {
                ESP_LOGE(TAG, "inference failed with status %d; model and pipeline start again", (int)status);
            }
            restart(pipeline);
        }
        report_losses();
        if (timing_end()) {
            ESP_LOGI(TAG, "stacks: %u of %u B of capture, %u of %u B of inference were never used",
                     (unsigned)uxTaskGetStackHighWaterMark(capture_task), (unsigned)EW_CAPTURE_STACK_BYTES,
                     (unsigned)uxTaskGetStackHighWaterMark(NULL), (unsigned)INFERENCE_STACK_BYTES);
        }
    }
}

static TaskHandle_t start(TaskFunction_t function, const char *name, uint32_t stack_bytes, void *argument,
                          UBaseType_t priority, StackType_t *stack, StaticTask_t *control, BaseType_t core) {
    return xTaskCreateStaticPinnedToCore(function, name, stack_bytes, argument, priority, stack, control, core);
}

esp_err_t detector_start(ew_pipeline_t *pipeline) {
    if (ew_ring_init(&ring, ring_samples, RING_SAMPLES) != EW_OK) {
        return ESP_ERR_INVALID_ARG;
    }
    ESP_RETURN_ON_ERROR(microphone_open(EW_MODEL_SAMPLE_RATE), TAG, "the microphone does not open");
    /* The reader first: the writer notifies it. */
    inference_task = start(infer, "edgewake_infer", INFERENCE_STACK_BYTES, pipeline, INFERENCE_PRIORITY,
                           inference_stack, &inference_control, INFERENCE_CORE);
    if (inference_task == NULL) {
        return ESP_FAIL;
    }
    capture_task = start(capture, "edgewake_capture", EW_CAPTURE_STACK_BYTES, NULL, CAPTURE_PRIORITY, capture_stack,
                         &capture_control, CAPTURE_CORE);
    return capture_task == NULL ? ESP_FAIL : ESP_OK;
}

bool detector_stop(void) {
    if (inference_task == NULL) {
        return true;
    }
    if (xTaskGetCurrentTaskHandle() == inference_task) {
        return false;
    }
    __atomic_store_n(&stops, true, __ATOMIC_RELEASE);
    xTaskNotifyGive(inference_task);
    while (!__atomic_load_n(&stopped, __ATOMIC_ACQUIRE)) {
        vTaskDelay(1);
    }
    return true;
}
