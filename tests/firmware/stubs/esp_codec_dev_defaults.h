/* SPDX-License-Identifier: Apache-2.0 */
/* As esp_codec_dev.h beside this. */
#pragma once

#include "esp_codec_dev.h"

#define ES7210_CODEC_DEFAULT_ADDR 0x80
#define ES7210_SEL_MIC1 1
#define ES7210_SEL_MIC2 2

typedef enum {
    ES7210_MCLK_FROM_PAD,
} es7210_mclk_src_t;

typedef struct {
    const audio_codec_ctrl_if_t *ctrl_if;
    bool master_mode;
    uint8_t mic_selected;
    es7210_mclk_src_t mclk_src;
    uint16_t mclk_div;
} es7210_codec_cfg_t;

typedef struct {
    uint8_t port;
    uint8_t addr;
    void *bus_handle;
} audio_codec_i2c_cfg_t;

typedef struct {
    uint8_t port;
    void *rx_handle;
    void *tx_handle;
} audio_codec_i2s_cfg_t;

const audio_codec_ctrl_if_t *audio_codec_new_i2c_ctrl(audio_codec_i2c_cfg_t *i2c_cfg);
const audio_codec_data_if_t *audio_codec_new_i2s_data(audio_codec_i2s_cfg_t *i2s_cfg);
const audio_codec_if_t *es7210_codec_new(es7210_codec_cfg_t *codec_cfg);
