/* SPDX-License-Identifier: Apache-2.0 */
/* An I2S or PDM microphone as a stream of int16 samples; DMA blocks that were lost are counted. */
#include "microphone.h"

#include <stdbool.h>
#include <string.h>

#include "sdkconfig.h"

#if CONFIG_EDGEWAKE_PDM
#include "driver/i2s_pdm.h"
#else
#include "driver/i2s_std.h"
#endif
#include "esp_check.h"
#if CONFIG_EDGEWAKE_I2S_DELAY
#include "soc/i2s_reg.h"
#endif

#include "es7210.h"
#include "ew_pcm.h"
#include "memory.h"

#define READ_TIMEOUT_MS 1000

/* PDM is received by the first port alone, and the delay is a register of a port. */
#define PORT I2S_NUM_0

#if CONFIG_EDGEWAKE_I2S_WIDTH_16 || CONFIG_EDGEWAKE_PDM || CONFIG_EDGEWAKE_CODEC_ES7210
typedef int16_t slot_t;
#define SLOT_WIDTH I2S_DATA_BIT_WIDTH_16BIT
#else
typedef int32_t slot_t;
#define SLOT_WIDTH I2S_DATA_BIT_WIDTH_32BIT
#endif

#if CONFIG_EDGEWAKE_PDM && CONFIG_EDGEWAKE_I2S_SLOT_RIGHT
#define SLOT_MASK I2S_PDM_SLOT_RIGHT
#elif CONFIG_EDGEWAKE_PDM
#define SLOT_MASK I2S_PDM_SLOT_LEFT
#elif CONFIG_EDGEWAKE_I2S_SLOT_RIGHT
#define SLOT_MASK I2S_STD_SLOT_RIGHT
#else
#define SLOT_MASK I2S_STD_SLOT_LEFT
#endif

#if CONFIG_EDGEWAKE_CODEC_ES7210
#define MCLK ((gpio_num_t)CONFIG_EDGEWAKE_I2S_MCLK_GPIO)
#else
#define MCLK I2S_GPIO_UNUSED
#endif

#define GAIN_WANTED (CONFIG_EDGEWAKE_GAIN_PRESET + CONFIG_EDGEWAKE_GAIN_CHANGE)
#define GAIN_SHIFT ((uint32_t)(GAIN_WANTED < 0 ? 0 : GAIN_WANTED))

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

#if CONFIG_EDGEWAKE_PDM
static esp_err_t init_mode(uint32_t sample_rate) {
    i2s_pdm_rx_config_t config = {
        .clk_cfg = I2S_PDM_RX_CLK_DEFAULT_CONFIG(sample_rate),
        .slot_cfg = I2S_PDM_RX_SLOT_DEFAULT_CONFIG(SLOT_WIDTH, I2S_SLOT_MODE_MONO),
        .gpio_cfg =
            {
                .clk = (gpio_num_t)CONFIG_EDGEWAKE_I2S_BCLK_GPIO,
                .din = (gpio_num_t)CONFIG_EDGEWAKE_I2S_DIN_GPIO,
            },
    };
    config.slot_cfg.slot_mask = SLOT_MASK;
    return i2s_channel_init_pdm_rx_mode(channel, &config);
}
#else
static esp_err_t init_mode(uint32_t sample_rate) {
    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(sample_rate),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(SLOT_WIDTH, I2S_SLOT_MODE_MONO),
        .gpio_cfg =
            {
                .mclk = MCLK,
                .bclk = (gpio_num_t)CONFIG_EDGEWAKE_I2S_BCLK_GPIO,
                .ws = (gpio_num_t)CONFIG_EDGEWAKE_I2S_WS_GPIO,
                .dout = I2S_GPIO_UNUSED,
                .din = (gpio_num_t)CONFIG_EDGEWAKE_I2S_DIN_GPIO,
            },
    };
    /* The default mask is both slots, and then mono reception takes the first one. */
    config.slot_cfg.slot_mask = SLOT_MASK;
    ESP_RETURN_ON_ERROR(i2s_channel_init_std_mode(channel, &config), TAG, "standard mode");
#if CONFIG_EDGEWAKE_I2S_DELAY
    REG_SET_FIELD(I2S_RX_TIMING_REG(PORT), I2S_RX_SD_IN_DM, 2); /* 2: by the falling edge */
#endif
    return ESP_OK;
}
#endif

esp_err_t microphone_open(uint32_t sample_rate) {
    i2s_chan_config_t channel_config = I2S_CHANNEL_DEFAULT_CONFIG(PORT, I2S_ROLE_MASTER);
    channel_config.dma_desc_num = EW_DMA_DESCRIPTORS;
    channel_config.dma_frame_num = EW_BLOCK_SAMPLES;
    ESP_RETURN_ON_ERROR(i2s_new_channel(&channel_config, NULL, &channel), TAG, "I2S port 0 is not free");
    ESP_RETURN_ON_ERROR(init_mode(sample_rate), TAG, "I2S refuses the configuration");
    const i2s_event_callbacks_t callbacks = {.on_recv_q_ovf = on_overrun};
    ESP_RETURN_ON_ERROR(i2s_channel_register_event_callback(channel, &callbacks, NULL), TAG, "no callback");
#if CONFIG_EDGEWAKE_CODEC_ES7210
    return es7210_open(channel, sample_rate);
#else
    return i2s_channel_enable(channel);
#endif
}

esp_err_t microphone_read(int16_t *samples, size_t *count) {
    static int32_t words[EW_BLOCK_SAMPLES];
    size_t bytes = 0;
    const esp_err_t error =
        i2s_channel_read(channel, words, sizeof(slot_t) * EW_BLOCK_SAMPLES, &bytes, READ_TIMEOUT_MS);
    *count = bytes / sizeof(slot_t);
    widen(words, *count);
#if CONFIG_EDGEWAKE_REMOVE_DC
    static ew_pcm_dc_t dc;
    if (ew_pcm_remove_dc(&dc, words, *count) != EW_OK) {
        return ESP_ERR_INVALID_ARG;
    }
#endif
    if (ew_pcm_from_words(words, *count, GAIN_SHIFT, samples) != EW_OK) {
        return ESP_ERR_INVALID_ARG;
    }
    return error;
}

uint32_t microphone_overruns(void) {
    return __atomic_load_n(&overruns, __ATOMIC_RELAXED);
}
