/* SPDX-License-Identifier: Apache-2.0 */
/* An I2S microphone as a stream of int16 samples; DMA blocks that were lost are counted. */
#include "microphone.h"

#include <stdbool.h>
#include <string.h>

#include "driver/i2s_std.h"
#include "esp_check.h"
#include "sdkconfig.h"

#include "ew_pcm.h"
#include "memory.h"

#define READ_TIMEOUT_MS 1000

#if CONFIG_EDGEWAKE_I2S_WIDTH_32
typedef int32_t slot_t;
#define SLOT_WIDTH I2S_DATA_BIT_WIDTH_32BIT
#else
typedef int16_t slot_t;
#define SLOT_WIDTH I2S_DATA_BIT_WIDTH_16BIT
#endif

#if CONFIG_EDGEWAKE_I2S_SLOT_LEFT
#define SLOT_MASK I2S_STD_SLOT_LEFT
#else
#define SLOT_MASK I2S_STD_SLOT_RIGHT
#endif

static const char *const TAG = "microphone";

static i2s_chan_handle_t channel;
static uint32_t overruns;

static bool on_overrun(i2s_chan_handle_t handle, i2s_event_data_t *event, void *context) {
    (void)handle;
    (void)event;
    (void)context;
    __atomic_fetch_add(&overruns, 1, __ATOMIC_RELAXED);
    return false;
}

/* `count` slots at the start of `words` become one word each, in its upper bits; backwards, since both share memory. */
static void widen(int32_t *words, size_t count) {
    for (size_t i = sizeof(slot_t) < sizeof(int32_t) ? count : 0; i-- > 0;) {
        slot_t slot;
        memcpy(&slot, (const char *)words + i * sizeof slot, sizeof slot);
        words[i] = (int32_t)((uint32_t)slot << (32 - 8 * sizeof slot));
    }
}

esp_err_t microphone_open(uint32_t sample_rate) {
    i2s_chan_config_t channel_config = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    channel_config.dma_desc_num = EW_DMA_DESCRIPTORS;
    channel_config.dma_frame_num = EW_BLOCK_SAMPLES;
    ESP_RETURN_ON_ERROR(i2s_new_channel(&channel_config, NULL, &channel), TAG, "no I2S channel is free");

    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(sample_rate),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(SLOT_WIDTH, I2S_SLOT_MODE_MONO),
        .gpio_cfg =
            {
                .mclk = I2S_GPIO_UNUSED,
                .bclk = (gpio_num_t)CONFIG_EDGEWAKE_I2S_BCLK_GPIO,
                .ws = (gpio_num_t)CONFIG_EDGEWAKE_I2S_WS_GPIO,
                .dout = I2S_GPIO_UNUSED,
                .din = (gpio_num_t)CONFIG_EDGEWAKE_I2S_DIN_GPIO,
            },
    };
    /* The default mask is both slots, and then mono reception takes the first one. */
    config.slot_cfg.slot_mask = SLOT_MASK;
    ESP_RETURN_ON_ERROR(i2s_channel_init_std_mode(channel, &config), TAG, "I2S refuses the configuration");

    const i2s_event_callbacks_t callbacks = {.on_recv_q_ovf = on_overrun};
    ESP_RETURN_ON_ERROR(i2s_channel_register_event_callback(channel, &callbacks, NULL), TAG, "no callback");
    return i2s_channel_enable(channel);
}

esp_err_t microphone_read(int16_t *samples, size_t *count) {
    static int32_t words[EW_BLOCK_SAMPLES];
    size_t bytes = 0;
    const esp_err_t error =
        i2s_channel_read(channel, words, sizeof(slot_t) * EW_BLOCK_SAMPLES, &bytes, READ_TIMEOUT_MS);
    *count = bytes / sizeof(slot_t);
    widen(words, *count);
    if (ew_pcm_from_words(words, *count, CONFIG_EDGEWAKE_GAIN_SHIFT, samples) != EW_OK) {
        return ESP_ERR_INVALID_ARG;
    }
    return error;
}

uint32_t microphone_overruns(void) {
    return __atomic_load_n(&overruns, __ATOMIC_RELAXED);
}
