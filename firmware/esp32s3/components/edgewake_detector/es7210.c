/* SPDX-License-Identifier: Apache-2.0 */
/* An ES7210 codec whose first microphone is the left slot of an I2S channel. */
#include "sdkconfig.h"

#if CONFIG_EDGEWAKE_CODEC_ES7210
#include "driver/i2c_master.h"
#include "esp_check.h"
#include "esp_codec_dev.h"
#include "esp_codec_dev_defaults.h"

#include "es7210.h"

#define I2C_PORT 0
#define MCLK_MULTIPLE 256
#define AMPLIFIER_DB 30.0f

static const char *const TAG = "es7210";

/* As ESP-IDF's example i2s_es7210_tdm does, with two microphones: from three on the codec sends TDM. */
esp_err_t es7210_open(i2s_chan_handle_t channel, uint32_t sample_rate) {
    const i2c_master_bus_config_t bus_config = {
        .i2c_port = I2C_PORT,
        .sda_io_num = (gpio_num_t)CONFIG_EDGEWAKE_I2C_SDA_GPIO,
        .scl_io_num = (gpio_num_t)CONFIG_EDGEWAKE_I2C_SCL_GPIO,
        .clk_source = I2C_CLK_SRC_DEFAULT,
        .glitch_ignore_cnt = 7,
        .flags.enable_internal_pullup = true,
    };
    i2c_master_bus_handle_t bus = NULL;
    ESP_RETURN_ON_ERROR(i2c_new_master_bus(&bus_config, &bus), TAG, "no I2C bus");

    audio_codec_i2c_cfg_t control_config = {.port = I2C_PORT, .addr = ES7210_CODEC_DEFAULT_ADDR, .bus_handle = bus};
    audio_codec_i2s_cfg_t data_config = {.port = I2S_NUM_0, .rx_handle = channel, .tx_handle = NULL};
    es7210_codec_cfg_t codec_config = {
        .ctrl_if = audio_codec_new_i2c_ctrl(&control_config),
        .master_mode = false,
        .mic_selected = ES7210_SEL_MIC1 | ES7210_SEL_MIC2,
        .mclk_src = ES7210_MCLK_FROM_PAD,
        .mclk_div = MCLK_MULTIPLE,
    };
    esp_codec_dev_cfg_t device_config = {
        .dev_type = ESP_CODEC_DEV_TYPE_IN,
        .codec_if = es7210_codec_new(&codec_config),
        .data_if = audio_codec_new_i2s_data(&data_config),
    };
    ESP_RETURN_ON_FALSE(device_config.codec_if != NULL, ESP_FAIL, TAG, "does not answer at SDA %d, SCL %d",
                        CONFIG_EDGEWAKE_I2C_SDA_GPIO, CONFIG_EDGEWAKE_I2C_SCL_GPIO);
    esp_codec_dev_handle_t device = esp_codec_dev_new(&device_config);
    ESP_RETURN_ON_FALSE(device != NULL, ESP_ERR_NO_MEM, TAG, "no memory");
    esp_codec_dev_sample_info_t format = {.bits_per_sample = 16, .channel = 1, .sample_rate = sample_rate};
    ESP_RETURN_ON_FALSE(esp_codec_dev_open(device, &format) == ESP_CODEC_DEV_OK, ESP_FAIL, TAG, "does not open");
    ESP_RETURN_ON_FALSE(esp_codec_dev_set_in_gain(device, AMPLIFIER_DB) == ESP_CODEC_DEV_OK, ESP_FAIL, TAG, "no gain");
    return ESP_OK;
}
#endif
