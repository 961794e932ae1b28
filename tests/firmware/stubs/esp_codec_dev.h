/* SPDX-License-Identifier: Apache-2.0 */
/* What the firmware uses of espressif/esp_codec_dev 1.5.2: order and further members of the structures are not the real
 * ones. idf_check.sh compiles against the real headers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct audio_codec_if_t audio_codec_if_t;
typedef struct audio_codec_data_if_t audio_codec_data_if_t;
typedef struct audio_codec_ctrl_if_t audio_codec_ctrl_if_t;
typedef void *esp_codec_dev_handle_t;

typedef enum {
    ESP_CODEC_DEV_TYPE_IN = 1,
} esp_codec_dev_type_t;

#define ESP_CODEC_DEV_OK 0

typedef struct {
    esp_codec_dev_type_t dev_type;
    const audio_codec_if_t *codec_if;
    const audio_codec_data_if_t *data_if;
} esp_codec_dev_cfg_t;

typedef struct {
    uint8_t bits_per_sample;
    uint8_t channel;
    uint16_t channel_mask;
    uint32_t sample_rate;
} esp_codec_dev_sample_info_t;

esp_codec_dev_handle_t esp_codec_dev_new(esp_codec_dev_cfg_t *codec_dev_cfg);
int esp_codec_dev_open(esp_codec_dev_handle_t codec, esp_codec_dev_sample_info_t *fs);
int esp_codec_dev_set_in_gain(esp_codec_dev_handle_t codec, float db_value);
