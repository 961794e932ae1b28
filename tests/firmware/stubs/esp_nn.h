/* SPDX-License-Identifier: Apache-2.0 */
/* What the generated C calls of ESP-NN 1.2.3, with its signatures, computed as its headers say, one value at a time. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

typedef struct data_dims {
    int32_t width, height, channels, extra;
} data_dims_t;
typedef struct data_2d {
    int32_t width, height;
} data_2d_t;
typedef struct act_params {
    int32_t min, max;
} act_params_t;
typedef struct quant_data {
    int32_t *shift, *mult;
} quant_data_t;
typedef struct conv_params {
    int32_t in_offset, out_offset;
    data_2d_t stride, padding, dilation;
    act_params_t activation;
} conv_params_t;
typedef struct dw_conv_params {
    int32_t in_offset, out_offset, ch_mult;
    data_2d_t stride, padding, dilation;
    act_params_t activation;
} dw_conv_params_t;

/* gemmlowp's formulas in 64 bits, apart from those of ew_kernels.h. */
static int8_t esp_nn_given(int32_t sum, int32_t multiplier, int32_t shift, int32_t offset, act_params_t limits) {
    int64_t value = (int64_t)sum * (shift > 0 ? (int64_t)1 << shift : 1) * multiplier;
    value += value >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);
    value /= (int64_t)1 << 31;
    if (shift < 0) {
        const int64_t half = (int64_t)1 << (-shift - 1);
        value = (value >= 0 ? value + half : value - half) / ((int64_t)1 << -shift);
    }
    value += offset;
    return (int8_t)(value < limits.min ? limits.min : value > limits.max ? limits.max : value);
}

static inline void esp_nn_conv_s8(const data_dims_t *input_dims, const int8_t *input, const data_dims_t *filter_dims,
                                  const int8_t *filter, const int32_t *bias, const data_dims_t *output_dims,
                                  int8_t *output, const conv_params_t *p, const quant_data_t *quant) {
    assert(input_dims->width == 1 && input_dims->height == 1 && filter_dims->width == 1 && filter_dims->height == 1);
    assert(filter_dims->channels == input_dims->channels && p->stride.width == 1 && p->padding.width == 0);
    for (int32_t o = 0; o < output_dims->channels; ++o) {
        int32_t sum = bias[o];
        for (int32_t i = 0; i < input_dims->channels; ++i) {
            sum += (input[i] + p->in_offset) * filter[o * input_dims->channels + i];
        }
        output[o] = esp_nn_given(sum, quant->mult[o], quant->shift[o], p->out_offset, p->activation);
    }
}

static int16_t *esp_nn_scratch;

static inline void esp_nn_set_depthwise_conv_scratch_buf(void *buffer) {
    esp_nn_scratch = (int16_t *)buffer;
}

static inline void esp_nn_depthwise_conv_s8(const data_dims_t *input_dims, const int8_t *input,
                                            const data_dims_t *filter_dims, const int8_t *filter, const int32_t *bias,
                                            const data_dims_t *output_dims, int8_t *output, const dw_conv_params_t *p,
                                            const quant_data_t *quant) {
    const int32_t width = input_dims->channels, steps = input_dims->width * input_dims->height;
    assert(filter_dims->width * filter_dims->height == steps && output_dims->channels == width && p->ch_mult == 1);
    assert((uintptr_t)esp_nn_scratch % 16 == 0);
    /* The scratch that esp_nn_get_depthwise_conv_scratch_size_esp32s3 asks for, used up to its last byte. */
    int16_t *const wide_filter = esp_nn_scratch, *const wide_input = esp_nn_scratch + steps * width + 16;
    for (int32_t i = 0; i < steps * width; ++i) {
        wide_filter[i] = filter[i];
        wide_input[i] = (int16_t)(input[i] + p->in_offset);
    }
    for (int32_t channel = 0; channel < width; ++channel) {
        int32_t sum = bias[channel];
        for (int32_t step = 0; step < steps; ++step) {
            sum += wide_input[step * width + channel] * wide_filter[step * width + channel];
        }
        output[channel] = esp_nn_given(sum, quant->mult[channel], quant->shift[channel], p->out_offset, p->activation);
    }
}

static inline void esp_nn_avg_pool_s8(const int8_t *input, const uint16_t input_wd, const uint16_t input_ht,
                                      int8_t *output, const uint16_t output_wd, const uint16_t output_ht,
                                      const uint16_t stride_wd, const uint16_t stride_ht, const uint16_t filter_wd,
                                      const uint16_t filter_ht, const uint16_t pad_wd, const uint16_t pad_ht,
                                      const int32_t activation_min, const int32_t activation_max,
                                      const uint16_t channels) {
    assert(output_wd == 1 && output_ht == 1 && stride_wd == 1 && stride_ht == 1 && pad_wd == 0 && pad_ht == 0);
    assert(filter_wd == input_wd && filter_ht == input_ht && activation_min == -128 && activation_max == 127);
    const int32_t count = input_wd * input_ht;
    for (int32_t channel = 0; channel < channels; ++channel) {
        int32_t sum = 0;
        for (int32_t i = 0; i < count; ++i) {
            sum += input[i * channels + channel];
        }
        output[channel] = (int8_t)((sum > 0 ? sum + count / 2 : sum - count / 2) / count);
    }
}
