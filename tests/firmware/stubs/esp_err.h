/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures as in ESP-IDF 5.3, components/esp_common/include/esp_err.h. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef int esp_err_t;

#define ESP_OK 0
#define ESP_FAIL -1
#define ESP_ERR_NO_MEM 0x101
#define ESP_ERR_INVALID_ARG 0x102
#define ESP_ERR_INVALID_STATE 0x103
#define ESP_ERR_INVALID_SIZE 0x104
#define ESP_ERR_NOT_FOUND 0x105
#define ESP_ERR_TIMEOUT 0x107
#define ESP_ERR_INVALID_CRC 0x109

#define ESP_ERROR_CHECK(x)                                                                                             \
    do {                                                                                                               \
        if ((x) != ESP_OK) {                                                                                           \
            __builtin_trap();                                                                                          \
        }                                                                                                              \
    } while (0)

const char *esp_err_to_name(esp_err_t code);

#ifdef __cplusplus
}
#endif
